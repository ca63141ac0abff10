"""Scripts of the project that a benchmark starts, and that have time to end well whatever it is told."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path
from types import FrameType
from typing import IO

from engine.signals import SIGNALS

ROOT = Path(__file__).resolve().parent.parent


def run_to_end(script: str, *words: object, out: IO[str] | int | None = None) -> int:
    """Run a script, such as a training, to its end, which it has time to reach after Ctrl-C too.

    Args:
        script: its name.
        words: of its command line.
        out: where its standard output goes; None for this process's own.

    Returns:
        Its exit code.
    """
    command = [sys.executable, str(ROOT / script), *map(str, words)]
    # In a session of its own it gets no signal from the terminal: each reaches it once, by this process.
    with subprocess.Popen(command, stdout=out, start_new_session=True) as running:

        def pass_on(number: int, frame: FrameType | None) -> None:
            running.send_signal(number)

        before = {
            number: signal.signal(number, pass_on)
            for number in SIGNALS
            if signal.getsignal(number) is not signal.SIG_IGN
        }
        try:
            return running.wait()
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
