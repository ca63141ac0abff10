"""Cut the faces out of a folder of photos and videos: found, turned upright, squared, checked.

The crops go to OUT/faces, on which train_gan.py can be started; those that were left out to OUT/left_out.
OUT/manifest.csv tells of each why, and two contact sheets show a hundred of either. Stopped, it goes on where
it was when started with the same words.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from engine.cli import parse
from engine.errors import run_script
from faces.preparation.options import PrepareChoice

LANDMARKS = Path("outputs/landmarks")
"""Folder of runs, in which that of --landmarks is sought by its name or number."""


def main() -> int:
    """Parse the command line, cut out the faces, say what came of them."""
    choice = parse(PrepareChoice, description=__doc__)
    from engine.runs import find_run_or_checkpoint
    from faces.preparation.folder import prepare

    if choice.landmarks is not None:
        network = find_run_or_checkpoint(choice.landmarks, LANDMARKS, "train_landmarks.py FOLDER")
        choice = replace(choice, landmarks=network)
    summary = prepare(choice)
    print("\n".join(summary.lines()))
    return summary.exit_code


if __name__ == "__main__":
    run_script(main)
