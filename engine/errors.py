"""Mistakes of the user, reported in one line. Anything else is a bug and keeps its traceback."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable

from engine.output import one_line, protect_output

OUT_OF_MEMORY = "not enough memory: request fewer or smaller images, or --device cpu if a GPU is full"


class UserError(Exception):
    """A mistake of the user. The message is one line: what is wrong, where, and what to do."""


def missing_extra(subject: str, extra: str, error: Exception) -> UserError:
    """The error to raise if an optional dependency is not installed.

    Args:
        subject: what needs it, with the verb: "an MP4 needs".
        extra: the extra of this package that installs it.
        error: the import error.
    """
    package = f"-e '.[{extra}]'"
    return UserError(
        f"{subject} the extra '{extra}': pip install {package}, or uv pip install {package} ({error})"
    )


def is_out_of_memory(error: BaseException) -> bool:
    """Whether the CPU or a GPU ran out of memory. Imports nothing."""
    # torch raises a plain RuntimeError if the CPU's memory is exhausted.
    is_torch = type(error).__name__ == "OutOfMemoryError" or "DefaultCPUAllocator" in str(error)
    return isinstance(error, MemoryError) or (isinstance(error, RuntimeError) and is_torch)


def run_script(main: Callable[[], int | None]) -> None:
    """Run a script's `main` and exit with the code it returns.

    A `UserError` or a lack of memory is printed as one line on standard error and exits with code 2; Ctrl-C
    exits with code 130. If torchrun started several processes, only rank 0 prints the error. Output that
    cannot be written is dropped; see `engine.output.protect_output`.
    """
    protect_output()
    try:
        code = main()
    except (UserError, MemoryError, RuntimeError) as error:
        if not isinstance(error, UserError) and not is_out_of_memory(error):
            raise
        message = str(error) if isinstance(error, UserError) else OUT_OF_MEMORY
        if os.environ.get("RANK", "0") == "0":
            print(f"error: {one_line(' '.join(message.split()))}", file=sys.stderr)
        else:
            time.sleep(1)  # torchrun ends all processes once one has ended: let rank 0 print first
        code = 2
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        code = 128 + signal.SIGINT
    sys.exit(code or 0)
