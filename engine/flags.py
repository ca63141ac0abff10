"""Flags from the fields of a dataclass, in the groups of --help.

tyro shows a nested dataclass as a group, but settings are side by side in config.json and in the programs. So
the fields of a dataclass are distributed to one dataclass per group while a command line is parsed.
"""

from __future__ import annotations

import types
from dataclasses import MISSING, Field, dataclass, field, fields, make_dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Generic, TypeVar, Union, get_args, get_origin, get_type_hints

from tyro.conf import OmitArgPrefixes, Positional, arg
from tyro.constructors import ConstructorRegistry, PrimitiveConstructorSpec, PrimitiveTypeInfo

from engine.settings import documentation, field_groups, flag, shown_default

Options = TypeVar("Options")

METAVARS: dict[type, tuple[str, str]] = {
    int: ("N", "an integer"),
    float: ("X", "a number"),
    str: ("NAME", "text"),
    Path: ("PATH", "a path"),
}
"""Placeholder of a value in --help, and what it is. A field with another placeholder is annotated with
`tyro.conf.arg(metavar=...)`."""

_UNIONS = (Union, types.UnionType)
_GROUP = "_group_"
"""Beginning of the names of fields that are groups."""

registry = ConstructorRegistry()
"""Converts values, with the placeholders of `METAVARS`."""


@registry.primitive_rule
def _rule(info: PrimitiveTypeInfo) -> PrimitiveConstructorSpec | None:
    if info.type not in METAVARS:
        return None
    metavar, kind = METAVARS[info.type]

    def convert(words: list[str]) -> Any:
        try:
            return info.type(words[0])
        except ValueError:
            raise ValueError(f"{words[0]!r} is not {kind}") from None

    return PrimitiveConstructorSpec(
        nargs=1,
        metavar=metavar,
        instance_from_str=convert,
        is_instance=lambda value: isinstance(value, (int, float) if info.type is float else info.type),
        str_from_instance=lambda value: [str(value)],
    )


@registry.primitive_rule
def _optional_rule(info: PrimitiveTypeInfo) -> PrimitiveConstructorSpec | None:
    """`X | None` is written like X: None is only a default."""
    others = [one for one in get_args(info.type) if one is not types.NoneType]
    if info.type_origin not in _UNIONS or len(others) != 1:
        return None
    spec = ConstructorRegistry.get_primitive_spec(PrimitiveTypeInfo.make(others[0], info.markers))
    if not isinstance(spec, PrimitiveConstructorSpec):
        return None
    return replace(
        spec,
        is_instance=lambda value: value is None or spec.is_instance(value),
        str_from_instance=lambda value: [] if value is None else spec.str_from_instance(value),
    )


@dataclass(frozen=True)
class GroupedOptions(Generic[Options]):
    """What tyro parses, and how its result becomes an instance of the options.

    Attributes:
        type: a dataclass with a field for each group, or a union of these, as sub-commands.
        flags: all flags in alphabetical order, such as --flip, --no-flip and --steps.
        several: those flags that take any number of values.
        commands: the sub-commands; empty if there are none.
        has_positional: whether any argument is given without a flag.
    """

    type: Any
    flags: tuple[str, ...]
    several: frozenset[str]
    commands: tuple[str, ...]
    has_positional: bool
    _options_of: dict[type, type[Options]]

    def options(self, parsed: Any) -> Options:
        """The options, from what tyro returned."""
        values: dict[str, Any] = {}
        for name, value in vars(parsed).items():
            values.update(vars(value) if name.startswith(_GROUP) else {name: value})
        return self._options_of[type(parsed)](**values)


def group(options: Any, default: Any = None) -> GroupedOptions:
    """Distribute the flags of a dataclass, or of a union of them, to the groups in its `GROUPS`.

    Args:
        options: a dataclass whose fields are the flags, or a union of several, annotated as sub-commands.
        default: instance with the defaults; those of the dataclass if None.
    """
    if get_origin(options) not in _UNIONS:
        grouped = _grouped(options, default)
        names = _flags(options), _several(options)
        return GroupedOptions(grouped, *names, (), _has_positional(options), {grouped: options})
    options_of: dict[type, type] = {}
    commands: dict[str, Any] = {}
    for command in get_args(options):
        command_type, annotation = get_args(command)
        grouped = _grouped(command_type, None)
        options_of[grouped] = command_type
        commands[annotation.name] = Annotated[grouped, annotation]
    grouped = Union[tuple(commands.values())]  # noqa: UP007 - any number of types
    types_here = options_of.values()
    names = _flags(*types_here), _several(*types_here)
    return GroupedOptions(grouped, *names, tuple(commands), _has_positional(*types_here), options_of)


def _flags(*options: type) -> tuple[str, ...]:
    flags: set[str] = set()
    for one in options:
        hints = get_type_hints(one, include_extras=True)
        for name in (member.name for member in fields(one)):
            annotations = get_args(hints[name])
            if Positional not in annotations:
                flags |= {flag(name), flag(f"no_{name}")}
                flags.update(*(getattr(annotation, "aliases", None) or () for annotation in annotations))
    return tuple(sorted(flags))


def _has_positional(*options: type) -> bool:
    hints = (hint for one in options for hint in get_type_hints(one, include_extras=True).values())
    return any(Positional in get_args(hint) for hint in hints)


def _several(*options: type) -> frozenset[str]:
    """Flags whose values are a tuple of any length."""
    flags: set[str] = set()
    for one in options:
        plain, annotated = get_type_hints(one), get_type_hints(one, include_extras=True)
        for name in (member.name for member in fields(one)):
            kinds = (plain[name], *get_args(plain[name]))  # also of `tuple[...] | None`
            several = any(get_origin(kind) is tuple and Ellipsis in get_args(kind) for kind in kinds)
            if several and Positional not in get_args(annotated[name]):
                flags.add(flag(name))
    return frozenset(flags)


def _grouped(options: type, default: Any) -> type:
    hints = get_type_hints(options, include_extras=True)
    helps = documentation(options)
    groups = field_groups(options)
    members = {
        one.name: _member(one, hints[one.name], helps.get(one.name), default) for one in fields(options)
    }
    top = [members[one.name] for one in fields(options) if Positional in get_args(hints[one.name])]
    taken = {name for name, _, _ in top}
    for number, (title, names) in enumerate(groups.items()):
        rest = [members[one.name] for one in names if one.name not in taken]
        if not title:
            top += rest
        elif rest:
            nested = make_dataclass(f"{_GROUP}{number}", rest, kw_only=True)
            top.append((f"{_GROUP}{number}", Annotated[nested, OmitArgPrefixes, arg(name=title)], field()))
    grouped = make_dataclass(options.__name__, top, kw_only=True)
    grouped.__doc__ = options.__doc__
    return grouped


def _member(one: Field, hint: Any, help_text: str | None, default: Any) -> tuple[str, Any, Any]:
    """Name, type and default of a field, as `make_dataclass` takes them, with help for tyro."""
    value = getattr(default, one.name) if default is not None else one.default
    if value is MISSING and one.default_factory is not MISSING:
        value = one.default_factory()
    shown = "" if value is MISSING else shown_default(value)
    help_config = arg(help=help_text, help_behavior_hint=f"(default: {shown})" if shown else "")
    return one.name, Annotated[hint, help_config], field() if value is MISSING else field(default=value)
