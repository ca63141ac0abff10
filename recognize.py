"""Who is it, or what: name the faces in photos by a trained classifier, or by a gallery of people."""

from __future__ import annotations

from engine.cli import parse
from engine.errors import run_script
from faces.recognition.options import (
    CalibrateChoice,
    Command,
    EnrollChoice,
    IdentifyChoice,
    ListChoice,
    PredictChoice,
    RemoveChoice,
)


def main() -> int:
    """Parse the command line, do what it asks for, print what came of it."""
    choice = parse(Command, description=__doc__)
    from faces.recognition.calibrate import calibrate
    from faces.recognition.commands import enroll, identify, list_people, predict, remove

    match choice:
        case PredictChoice():
            told = predict(choice)
        case IdentifyChoice():
            told = identify(choice)
        case EnrollChoice():
            told = enroll(choice)
        case ListChoice():
            told = list_people(choice)
        case RemoveChoice():
            told = remove(choice)
        case CalibrateChoice():
            told = calibrate(choice)
    return told.show()


if __name__ == "__main__":
    run_script(main)
