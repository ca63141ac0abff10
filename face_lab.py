"""Run any script of the lab: `face-lab train-gan FOLDER` is `python train_gan.py FOLDER`."""

from __future__ import annotations

import ast
import sys
from importlib import import_module, metadata, util
from pathlib import Path
from shutil import get_terminal_size
from textwrap import fill

from engine.errors import UserError, run_script


def main() -> int | None:
    """Run the script that the first argument names; list all scripts for --help."""
    name, *arguments = sys.argv[1:] or ["--help"]
    scripts = find_scripts()
    if name in ("-h", "--help"):
        columns = get_terminal_size().columns
        print(
            fill("usage: face-lab SCRIPT [ARGUMENTS]  (face-lab SCRIPT --help lists its arguments)", columns)
        )
        print()
        for script, path in scripts.items():
            docstring = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
            print(
                fill(
                    f"  {script:<18}  {docstring.partition(chr(10))[0]}", columns, subsequent_indent=" " * 22
                )
            )
        return 0
    if name not in scripts:
        raise UserError(f"there is no script {name}; face-lab --help lists them")
    sys.argv = [f"face-lab {name}", *arguments]
    return import_module(scripts[name].stem).main()


def find_scripts() -> dict[str, Path]:
    """The installed scripts by name, such as train-gan. Nothing is imported.

    Raises:
        UserError: the project is not installed.
    """
    try:
        modules = sorted((metadata.distribution("face-lab").read_text("top_level.txt") or "").split())
    except metadata.PackageNotFoundError:
        raise UserError(
            "the project is not installed: pip install -e . does that, or run a script itself, as in "
            "python train_gan.py FOLDER"
        ) from None
    specs = (util.find_spec(module) for module in modules if module != "face_lab")
    files = (Path(spec.origin) for spec in specs if spec and spec.origin)
    return {file.stem.replace("_", "-"): file for file in files if file.name != "__init__.py"}


def run() -> None:
    """Entry point of the command `face-lab`."""
    run_script(main)


if __name__ == "__main__":
    run()
