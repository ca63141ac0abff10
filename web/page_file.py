"""The explorer page with a generator as one HTML file, which needs no server and no network."""

from __future__ import annotations

import base64
import hashlib
import html
import re
from pathlib import Path

from engine.errors import UserError
from engine.files import atomic_write
from engine.runs import report_write_errors

STATIC = Path(__file__).parent / "static"
EXPLORER = STATIC / "explorer"
MAX_BYTES = 18_000_000
"""Limit on the file's size: most mail servers take 25 MB, and an attachment grows by a third on the way."""

_IMPORT = re.compile(r'^import \{([^}]*)\} from "([^"]+)";$', re.M)
_EXPORT = re.compile(r"^export (?=(?:async )?(?:function\*?|class|const|let) (\w+))", re.M)
_EXPORT_LIST = re.compile(r"export\s*\{([^}]*)\};?\s*$")


def save_page(weights: bytes, title: str, path: Path) -> int:
    """Write the explorer page of a generator.

    Args:
        weights: what `gan.export.page_weights.page_weights` returned.
        title: of the page.
        path: the file to write, or to replace.

    Returns:
        The size of the file in bytes.

    Raises:
        UserError: the page would exceed `MAX_BYTES`, or cannot be written.
    """
    page = explorer_page(weights, title).encode()
    if len(page) > MAX_BYTES:
        raise UserError(
            f"the page would be {len(page) / 1e6:.1f} MB, and the limit is {MAX_BYTES / 1e6:.0f} MB: this "
            "generator is too large for a page; use narrower --generator-widths or smaller images"
        )
    with report_write_errors(path), atomic_write(path) as temporary:
        temporary.write_bytes(page)
    return len(page)


def explorer_page(weights: bytes, title: str) -> str:
    """The explorer page as one file: scripts, styles, kernel and weights are inside.

    Its content security policy forbids every request, and every script and style but its own.
    """
    script = bundle(EXPLORER / "explorer.js")
    style = "\n".join(
        file.read_text(encoding="utf-8")
        for file in (STATIC / "shared" / "shell.css", EXPLORER / "explorer.css")
    )
    policy = "; ".join(
        (
            "default-src 'none'",
            f"script-src {_hash(script)} 'wasm-unsafe-eval'",
            f"style-src {_hash(style)}",
            "worker-src blob:",
            "img-src blob: data:",
            "media-src blob:",
            "base-uri 'none'",
            "form-action 'none'",
        )
    )
    icon = base64.b64encode((STATIC / "shared" / "icon.svg").read_bytes()).decode()
    page = (EXPLORER / "index.html").read_text(encoding="utf-8")
    (main,) = re.findall(r"<main>.*</main>", page, re.S)
    kernel = (EXPLORER / "kernel" / "generator.wasm").read_bytes()
    parts = [
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">',
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        f"<title>{html.escape(title)}</title>",
        f'<link rel="icon" href="data:image/svg+xml;base64,{icon}">',
        f"<style>{style}</style>\n</head>\n<body>",
        f'<header class="site"><span class="brand">{html.escape(title)}</span></header>',
        main,
        _data("worker", bundle(EXPLORER / "worker.js")),
        _data("kernel", base64.b64encode(kernel).decode()),
        _data("weights", base64.b64encode(weights).decode()),
        f'<script type="module">{script}</script>\n</body>\n</html>\n',
    ]
    return "\n".join(parts)


def bundle(entry: Path) -> str:
    """A module and all that it imports as one script.

    Each module becomes a function that is called once and returns its exports. This supports what the modules
    of the page use: named imports, and named exports of declarations.

    Raises:
        ValueError: a module imports or exports in another way, or two modules import each other.
    """
    names: dict[Path, str] = {}
    parts: list[str] = []

    def add(file: Path, importers: tuple[Path, ...] = ()) -> str:
        file = file.resolve()
        if file in importers:
            raise ValueError(f"{file.name} imports itself through {importers[-1].name}")
        if file not in names:
            source = file.read_text(encoding="utf-8")

            def imported(match: re.Match[str]) -> str:
                module = add(file.parent / match[2], (*importers, file))
                return f"const {{{match[1].replace(' as ', ': ')}}} = {module};"

            source = _IMPORT.sub(imported, source)
            exports = _EXPORT.findall(source)
            source = _EXPORT.sub("", source)
            if listed := _EXPORT_LIST.search(source):
                source = source[: listed.start()]
                pairs = [item.split(" as ") for item in listed[1].split(",")]
                exports = [f"{pair[-1].strip()}: {pair[0].strip()}" for pair in pairs]
            if re.search(r"^\s*(import|export)\b", source, re.M) or "</script" in source:
                raise ValueError(f"{file.name} has an import or export that a page's file does not support")
            names[file] = f"module{len(names)}"
            parts.append(
                f"const {names[file]} = (() => {{\n{source}\nreturn {{ {', '.join(exports)} }};\n}})();"
            )
        return names[file]

    add(entry)
    return "\n".join(parts)


def _data(name: str, content: str) -> str:
    return f'<script type="text/plain" id="{name}">{content}</script>'


def _hash(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"
