"""Name the faces in photos, by a trained classifier or by a gallery of people."""

from __future__ import annotations

from engine.cli import parse
from engine.errors import run_script
from faces.recognition import options


def main() -> int:
    """Parse the command line, run the command, and print its result."""
    arguments = parse(options.Command, description=__doc__)
    from faces.recognition.calibrate import calibrate
    from faces.recognition.commands import enroll, list_people, remove
    from faces.recognition.naming import identify, predict

    commands = {
        options.PredictArguments: predict,
        options.IdentifyArguments: identify,
        options.EnrollArguments: enroll,
        options.ListArguments: list_people,
        options.RemoveArguments: remove,
        options.CalibrateArguments: calibrate,
    }
    return commands[type(arguments)](arguments).show()


if __name__ == "__main__":
    run_script(main)
