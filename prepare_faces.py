"""Crop the faces from a folder of photos and videos: detected, aligned and checked.

The crops go to OUT/faces, on which train_gan.py can train, and rejected ones to OUT/left_out.
OUT/manifest.csv lists every face with the reason. The contact sheets OUT/kept*.png and OUT/left_out*.png show
the crops with numbers, by which --reject leaves crops out. If stopped, the same command resumes.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from engine.cli import parse
from engine.errors import run_script
from faces.preparation.options import PrepareArguments

LANDMARK_RUNS = Path("outputs/landmarks")
"""Folder of runs in which --landmarks is looked up by name or number."""


def main() -> int:
    """Parse the command line, crop the faces and print a summary."""
    arguments = parse(PrepareArguments, description=__doc__)
    from engine.runs import find_run_or_checkpoint
    from faces.preparation.folder import prepare

    if arguments.landmarks is not None:
        network = find_run_or_checkpoint(arguments.landmarks, LANDMARK_RUNS, "train_landmarks.py FOLDER")
        arguments = replace(arguments, landmarks=network)
    summary = prepare(arguments)
    print("\n".join(summary.lines()))
    return summary.exit_code


if __name__ == "__main__":
    run_script(main)
