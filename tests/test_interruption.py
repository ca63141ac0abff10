"""A run that is killed or stopped by a signal, and resumes bit for bit."""

import os
import pty
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from engine.runs import checkpoints, sample_grids, step_of
from gan.trainer import Trainer
from tests.conftest import ROOT, TINY, VARIANTS
from tests.run_contents import (
    assert_same_run,
    count_event_file_times,
    newest_run,
    read_config,
    read_metrics,
    steps,
)

UNEVEN = ("--batch-size", 14, "--log-every", 3, "--sample-every", 6, "--checkpoint-every", 5)
"""With 24 images: no checkpoint coincides with a log or the end of an epoch."""

RUN = "import train_gan; from engine.errors import run_script; run_script(train_gan.main)"
"""What train_gan.py does."""


class Killed(BaseException):
    """Stands for the end of the process."""


def kill_at(kill_step: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Interrupt the run in this step, once."""
    original = Trainer.step

    def step(self: Trainer) -> None:
        original(self)
        if self.step_count == kill_step:
            monkeypatch.setattr(Trainer, "step", original)
            raise Killed

    monkeypatch.setattr(Trainer, "step", step)


@pytest.mark.parametrize("form", VARIANTS)
def test_a_killed_run_resumes_bit_for_bit(pictures, train, monkeypatch, form):
    count_event_file_times(monkeypatch)
    arguments = (pictures, *VARIANTS[form], *UNEVEN, "--steps", 16)
    train(*arguments, "--name", "straight")
    kill_at(14, monkeypatch)
    with pytest.raises(Killed):
        train(*arguments, "--name", "killed")
    straight, killed = sorted(Path("outputs").iterdir())
    assert steps(checkpoints(killed)) == [5, 10]
    assert read_metrics(killed)[-1]["step"] == 12  # after the checkpoint: to be removed
    assert steps(sample_grids(killed)) == [0, 6, 12]
    with (killed / "metrics.jsonl").open("a") as file:
        file.write('{"step": 13, "loss/dis')
    assert train("--resume") == 0
    assert_same_run(straight, killed)
    assert read_config(killed)["settings"] == read_config(straight)["settings"] | {"name": "killed"}


def start(
    *arguments: object, folder: Path, program: str | None = None, output: int = subprocess.PIPE
) -> subprocess.Popen[str]:
    """Start train_gan.py in a process of its own, with standard output and error into `output`."""
    script = ["-c", program] if program else [ROOT / "train_gan.py"]
    return subprocess.Popen(
        [sys.executable, *script, *map(str, arguments)],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=output,
        stderr=output,
        text=True,
    )


def wait_until(condition: Callable[[], bool], process: subprocess.Popen[str]) -> None:
    for _ in range(6_000):
        if condition():
            return
        assert process.poll() is None, process.communicate()
        time.sleep(0.02)
    raise AssertionError("timed out")


def run_in(folder: Path) -> Path | None:
    return max((folder / "outputs").glob("0*"), default=None)


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_kill_9_and_a_resume_give_the_same_run(pictures, train, tmp_path, precision):
    arguments = (pictures, *UNEVEN, "--sample-every", 80, "--precision", precision)
    arguments = (*arguments, "--checkpoint-every", 100, "--steps", 200)
    program = f"from gan import generator; generator.STATISTICS_BATCHES = 1; {RUN}"  # as `train` has it
    process = start(*TINY, *arguments, folder=tmp_path, program=program)

    def is_past_the_checkpoint() -> bool:
        run = run_in(tmp_path)
        if run is None or not checkpoints(run):
            return False
        logged = (run / "metrics.jsonl").read_text().rpartition('{"step": ')[2].partition(",")[0]
        return logged.isdigit() and int(logged) > 100

    wait_until(is_past_the_checkpoint, process)
    process.kill()
    assert process.wait() == -signal.SIGKILL
    process.communicate()
    killed = run_in(tmp_path)
    assert steps(checkpoints(killed)) == [100]
    assert train("--resume", killed) == 0
    assert train(*arguments) == 0
    assert_same_run(newest_run(), killed)
    assert steps(checkpoints(killed)) == [100, 200]
    assert not list((killed / "checkpoints").glob(".*"))


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_ctrl_c_and_sigterm_finish_the_step_and_save(pictures, train, tmp_path, number, code):
    process = start(pictures, *TINY, "--checkpoint-every", 100_000, "--steps", 100_000, folder=tmp_path)
    wait_until(lambda: (run := run_in(tmp_path)) is not None and bool(sample_grids(run)), process)
    process.send_signal(number)
    out, error = process.communicate(timeout=60)
    assert process.returncode == code
    assert "Traceback" not in error
    run = run_in(tmp_path)
    (checkpoint,) = checkpoints(run)
    assert f"saved in {checkpoint.relative_to(tmp_path)}" in out
    assert step_of(checkpoint) == steps(sample_grids(run))[-1]
    assert train("--resume", run, "--steps", step_of(checkpoint) + 1) == 0
    assert step_of(checkpoints(run)[-1]) == step_of(checkpoint) + 1


def dying_pipe() -> tuple[int, int]:
    """As `| tee log`, which Ctrl-C ends as well."""
    return os.pipe()


def dying_terminal() -> tuple[int, int]:
    """A terminal that is closed."""
    return pty.openpty()


def full_disk() -> tuple[int, int]:
    """Nobody reads it, and nobody can write to it."""
    return os.open(os.devnull, os.O_RDONLY), os.open("/dev/full", os.O_WRONLY)


@pytest.mark.parametrize(
    ("open_output", "number", "code"),
    [
        (dying_pipe, signal.SIGINT, 130),
        (dying_pipe, signal.SIGHUP, 129),
        (dying_terminal, signal.SIGHUP, 129),
        (full_disk, signal.SIGTERM, 143),
        (full_disk, None, 0),
    ],
)
def test_a_run_whose_output_is_dead_is_saved(pictures, tmp_path, open_output, number, code):
    reader, writer = open_output()
    end = (100_000, 100_000) if number else (1_000, 3)
    process = start(
        *(pictures, *TINY, "--checkpoint-every", end[0], "--steps", end[1]), folder=tmp_path, output=writer
    )
    os.close(writer)
    # Read as tee does, as a full pipe would block the run.
    thread = threading.Thread(target=lambda: os.read(reader, 1), daemon=True)
    thread.start()
    wait_until(lambda: number is None or len(grids(tmp_path)) > 1, process)
    thread.join()
    os.close(reader)
    steps_before = len(grids(tmp_path))
    if number:
        wait_until(lambda: len(grids(tmp_path)) > steps_before + 1, process)  # it writes and writes
        process.send_signal(number)
    assert process.wait(60) == code
    (checkpoint,) = checkpoints(run_in(tmp_path))
    assert number is None or step_of(checkpoint) == step_of(grids(tmp_path)[-1])


def grids(folder: Path) -> list[Path]:
    run = run_in(folder)
    return sample_grids(run) if run else []


def test_a_second_ctrl_c_exits_at_once(pictures, tmp_path):
    program = (
        "import time; from pathlib import Path; from gan.trainer import Trainer\n"
        "def step(self): Path('stepping').touch(); time.sleep(600)\n"
        f"Trainer.step = step; {RUN}"
    )
    process = start(pictures, *TINY, folder=tmp_path, program=program)
    wait_until((tmp_path / "stepping").exists, process)
    process.send_signal(signal.SIGINT)
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(0.5)
    process.send_signal(signal.SIGINT)
    assert process.wait(20) == -signal.SIGINT
    process.communicate()


def test_ctrl_c_is_acknowledged_while_a_library_call_keeps_python_busy(pictures, tmp_path):
    program = (
        "import hashlib; from pathlib import Path; from gan.trainer import Trainer\n"
        "original = Trainer.step\n"
        "def step(self):\n"
        "    original(self); Path('stepping').touch()\n"
        "    hashlib.pbkdf2_hmac('sha256', b'', b'', 8_000_000); Path('stepped').touch()\n"
        f"Trainer.step = step; {RUN}"
    )
    process = start(pictures, *TINY, "--checkpoint-every", 1000, folder=tmp_path, program=program)
    wait_until((tmp_path / "stepping").exists, process)
    process.send_signal(signal.SIGINT)
    line = next(line for line in process.stderr if "Ctrl-C" in line)
    assert not (tmp_path / "stepped").exists()
    assert line == ("Ctrl-C: finishing this step, then saving; Ctrl-C now exits at once, without saving\n")
    process.communicate(timeout=60)
    assert process.returncode == 130


def test_a_second_ctrl_c_ends_a_library_call_that_never_returns(pictures, tmp_path):
    program = (
        "import hashlib; from pathlib import Path; from gan.trainer import Trainer\n"
        "def step(self): Path('stepping').touch(); hashlib.pbkdf2_hmac('sha256', b'', b'', 2_000_000_000)\n"
        f"Trainer.step = step; {RUN}"
    )
    process = start(pictures, *TINY, folder=tmp_path, program=program)
    wait_until((tmp_path / "stepping").exists, process)
    for _ in range(2):
        process.send_signal(signal.SIGINT)
        time.sleep(0.5)
    assert process.wait(20) == 130
    process.communicate()


def test_a_signal_that_is_sent_twice_counts_once(pictures, tmp_path):
    """As by `timeout`; and a terminal that is closed sends SIGHUP by the shell and by the kernel."""
    for number, pause in [(signal.SIGTERM, 0), (signal.SIGHUP, 0.5)]:
        folder = tmp_path / number.name
        folder.mkdir()
        program = (
            "import time; from pathlib import Path; from gan.trainer import Trainer\n"
            "original = Trainer.step\n"
            "def step(self): original(self); Path('stepping').touch(); time.sleep(1)\n"
            f"Trainer.step = step; {RUN}"
        )
        process = start(pictures, *TINY, "--checkpoint-every", 1000, folder=folder, program=program)
        wait_until((folder / "stepping").exists, process)
        process.send_signal(number)
        time.sleep(pause)
        process.send_signal(number)
        process.communicate(timeout=60)
        assert process.returncode == 128 + number
        assert len(checkpoints(run_in(folder))) == 1
