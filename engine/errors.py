"""What a user can get wrong, told in one line; anything else is a bug and keeps its traceback."""

from __future__ import annotations

import io
import os
import signal
import sys
import time
from collections.abc import Callable

OUT_OF_MEMORY = (
    "there is not enough memory: ask for fewer or smaller images, or --device cpu where a GPU is full"
)


class UserError(Exception):
    """A mistake of the user's. The message is one line: what is wrong, where, and what to do."""


def missing_extra(what: str, extra: str, missing: Exception) -> UserError:
    """The mistake to raise where `what`, such as "an MP4 needs", wants an extra that is not installed."""
    return UserError(
        f"{what} the extra '{extra}': pip install -e '.[{extra}]', or uv sync --extra {extra} ({missing})"
    )


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error tells of too little memory, of the processor or of a GPU. Nothing is imported."""
    # Of the processor's memory torch tells by a plain RuntimeError.
    named = type(error).__name__ == "OutOfMemoryError" or "DefaultCPUAllocator" in str(error)
    return isinstance(error, MemoryError) or (isinstance(error, RuntimeError) and named)


def run_script(main: Callable[[], int | None]) -> None:
    """Run a script's `main` and leave the interpreter with its exit code.

    A `UserError` is printed as one line on standard error and becomes exit code 2, and so does too little
    memory; Ctrl-C, where a script does nothing better with it, becomes exit code 130. Of several processes
    the first prints it.
    """
    for stream in (sys.stdout, sys.stderr):
        # A path with letters that a redirected stream's encoding lacks must not end the run.
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    try:
        code = main()
    except (UserError, MemoryError, RuntimeError) as error:
        if not isinstance(error, UserError) and not is_out_of_memory(error):
            raise
        told = str(error) if isinstance(error, UserError) else OUT_OF_MEMORY
        if os.environ.get("RANK", "0") == "0":
            print(f"error: {' '.join(told.split())}", file=sys.stderr)
        else:  # one of several processes, all of which torchrun ends when one has ended
            time.sleep(1)
        code = 2
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        code = 128 + signal.SIGINT
    sys.exit(code or 0)
