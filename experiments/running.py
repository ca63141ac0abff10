"""Start the project's scripts from an experiment, and train each of its runs only once."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from types import FrameType
from typing import IO, Any

from engine.errors import UserError
from engine.runs import RunInfo, checkpoints, gave_up, step_of
from engine.settings import changed, flag
from engine.signals import SIGNALS

ROOT = Path(__file__).resolve().parent.parent


def call_script(
    script: str, *arguments: object, out: IO[str] | int | None = None, success: Collection[int] = (0,)
) -> None:
    """Run a script to its end, and let it save and exit by itself after Ctrl-C.

    Args:
        script: file name, relative to the project's root.
        arguments: of its command line.
        out: destination of its standard output; None for this process's own.
        success: exit codes that are no failure.

    Raises:
        UserError: the script ended with another exit code.
    """
    sys.stdout.flush()  # what this process printed comes first
    command = [sys.executable, str(ROOT / script), *map(str, arguments)]
    # In a session of its own the script gets each signal once, from this process and not from the terminal.
    with subprocess.Popen(command, stdout=out, start_new_session=True) as process:

        def forward(number: int, frame: FrameType | None) -> None:
            process.send_signal(number)

        handlers = {
            number: signal.signal(number, forward)
            for number in SIGNALS
            if signal.getsignal(number) is not signal.SIG_IGN
        }
        try:
            code = process.wait()
        finally:
            for number, handler in handlers.items():
                signal.signal(number, handler)
    if code not in success:
        raise UserError(
            f"{script} ended with exit code {code}, see above; if it was only stopped, run the same command "
            "again to continue"
        )


def train_once(
    script: str,
    arguments: Sequence[object],
    settings: Any,
    read_info: Callable[[Path], RunInfo],
    free: Collection[str],
    *,
    success: Collection[int] = (0,),
) -> Path | None:
    """The finished run with these settings: an existing one, a resumed one, or a new one.

    A run is identified by its name, folder and image size. Where the number of steps may differ, a run with
    more steps is ignored: it would be compared at a different step from the rest.

    Args:
        script: training script.
        arguments: of its command line for a new run.
        settings: that these arguments give.
        read_info: reads a run's config.json.
        free: settings that may differ.
        success: exit codes that are no failure.

    Returns:
        The run; None if it failed before its first checkpoint.

    Raises:
        UserError: the script failed or was stopped, or the run of that name has other settings.
    """
    run = _find(settings, read_info, free)
    if run is None:
        call_script(script, *arguments, out=sys.stderr, success=success)
        return _find(settings, read_info, free)
    if step_of(checkpoints(run)[-1]) < settings.steps and not gave_up(run):
        call_script(script, "--resume", run, "--steps", settings.steps, out=sys.stderr, success=success)
    return run


def _find(settings: Any, read_info: Callable[[Path], RunInfo], free: Collection[str]) -> Path | None:
    for run in sorted(settings.output.glob("*")):
        if not (run / "config.json").exists() or not checkpoints(run):
            continue
        existing = read_info(run).settings
        key = ("name", "folder", "image_size")
        if any(getattr(existing, name) != getattr(settings, name) for name in key):
            continue
        if "steps" in free and step_of(checkpoints(run)[-1]) > settings.steps:
            continue
        if differences := changed(existing, settings, free):
            flags = ", ".join(map(flag, differences))
            raise UserError(f"{run} was trained with a different {flags}; give another folder with --output")
        return run
    return None
