"""Who is it, or what: name the faces in photos by a trained classifier, or by a gallery of people."""

from __future__ import annotations

from engine.cli import parse
from engine.errors import run_script
from faces.recognition.options import (
    CalibrateArguments,
    Command,
    EnrollArguments,
    IdentifyArguments,
    ListArguments,
    PredictArguments,
    RemoveArguments,
)


def main() -> int:
    """Parse the command line, do what it asks for, print what came of it."""
    choice = parse(Command, description=__doc__)
    from faces.recognition.calibrate import calibrate
    from faces.recognition.commands import enroll, identify, list_people, predict, remove

    match choice:
        case PredictArguments():
            told = predict(choice)
        case IdentifyArguments():
            told = identify(choice)
        case EnrollArguments():
            told = enroll(choice)
        case ListArguments():
            told = list_people(choice)
        case RemoveArguments():
            told = remove(choice)
        case CalibrateArguments():
            told = calibrate(choice)
    return told.show()


if __name__ == "__main__":
    run_script(main)
