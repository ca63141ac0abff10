"""What every run needs, whatever the network: runs, checkpoints, logging, devices, processes, signals.

Settings and errors:
    errors: `UserError`, a user's mistake in one line, and `run_script`, which prints it.
    output: standard output and error that never end a script.
    settings: settings as dataclasses: checked, compared, stored as JSON, listed in a table.
    cli, flags: command lines made from those dataclasses.

Files:
    files: atomic writes, safe names, digests.
    png, tensor_file: PNG files with text chunks; reading .safetensors files.
    runs: numbered run folders, and where everything in them is.
    newest: the newest run, unless it is empty or in use.
    lock: one process per run.
    checkpoint: saving and loading, without running code from a file.
    run_logger: TensorBoard, metrics.jsonl and sample grids.

Training:
    setup, loop: from a command line to a trained network.
    budget, signals: when a run stops; progress: bars in a terminal, lines in a log.
    best: which checkpoint has the best score.
    finite: NaN and infinity, detected without synchronising with the device.
    ema: exponential moving averages of the weights.

Hardware:
    device: choice of device and precision.
    cuda_graph: a training step as one CUDA graph.
    distributed, sync_batch_norm: training in several processes.
    worker_pool: CPU work in several processes.

errors, output, settings, cli, flags, files, png, tensor_file, runs, newest, lock, best, budget, signals,
progress and worker_pool work without torch.
"""

import sys
from pathlib import Path
from types import TracebackType


def _is_script() -> bool:
    """Whether the program is one of the project's scripts: others keep their own tracebacks."""
    file = getattr(sys.modules["__main__"], "__file__", None)
    if file is None:
        return False
    path = Path(file).resolve()
    return path.parent == Path(__file__).resolve().parents[1] or path.stem == "face-lab"


def _excepthook(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """Print Ctrl-C while a script imports NumPy and others as `errors.run_script` does later."""
    if issubclass(kind, KeyboardInterrupt):
        print("interrupted", file=sys.stderr)
    else:
        sys.__excepthook__(kind, error, trace)


if _is_script():
    sys.excepthook = _excepthook
