"""Cut the faces out of a folder of photos and videos: found, turned upright, squared, checked.

The crops go to OUT/faces, on which train_gan.py can be started; those that were left out to OUT/left_out.
OUT/manifest.csv tells of each why, and two contact sheets show a hundred of either. Stopped, it goes on where
it was when started with the same words.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from faces.prepare.choice import PrepareChoice
from gan.command import parse
from gan.errors import run_script

LANDMARKS = Path("outputs/landmarks")
"""Folder of runs, in which that of --landmarks is sought by its name or number."""


def main() -> int:
    """Parse the command line, cut out the faces, say what came of them."""
    choice = parse(PrepareChoice, description=__doc__)
    from faces.prepare.run import prepare
    from gan.runs import find_trained

    if choice.landmarks is not None:
        network = find_trained(choice.landmarks, LANDMARKS, "train_landmarks.py FOLDER")
        choice = replace(choice, landmarks=network)
    summary = prepare(choice)
    print("\n".join(summary.lines()))
    return summary.exit_code


if __name__ == "__main__":
    run_script(main)
