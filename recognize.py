"""Who is it, or what: name the faces in photos by a trained classifier, or by a gallery of people."""

from __future__ import annotations

from faces.recognition.choices import (
    CalibrateChoice,
    Command,
    EnrollChoice,
    IdentifyChoice,
    ListChoice,
    PredictChoice,
    RemoveChoice,
)
from gan.command import parse
from gan.errors import run_script


def main() -> int:
    """Parse the command line, do what it asks for, print what came of it."""
    choice = parse(Command, description=__doc__)
    from faces.recognition.calibrating import calibrate
    from faces.recognition.naming import enroll, identify, list_people, predict, remove

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
