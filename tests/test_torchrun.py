"""train_gan.py under torchrun's agent, with forked processes so that torch is loaded only once."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
from torch.distributed.elastic.multiprocessing import DefaultLogsSpecs
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
from torch.distributed.launcher.api import LaunchConfig, elastic_launch

from engine.errors import run_script
from engine.runs import checkpoints
from gan import rollback
from gan.trainer import Trainer
from tests.conftest import ROOT, TINY
from tests.processes import warm_up
from tests.run_contents import assert_same_run, read_config, steps
from tests.small_trainer import set_weight

FLAGS = (*TINY, "--steps", 9)


def die_at(kill_step: int, rank: int) -> None:
    """Kill the process of this rank before this step, unless it was restarted.

    The other process blocks SIGTERM: torchrun might send it before that process has noticed and reported the
    loss, which is what the tests look at.
    """
    original = Trainer.step
    if os.environ["TORCHELASTIC_RESTART_COUNT"] == "0" and os.environ["RANK"] != str(rank):
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})

    def step(self: Trainer) -> None:
        is_restarted = os.environ["TORCHELASTIC_RESTART_COUNT"] != "0"
        if (self.step_count, self.world.rank) == (kill_step, rank) and not is_restarted:
            os.kill(os.getpid(), signal.SIGKILL)
        original(self)

    Trainer.step = step


def collapse() -> None:
    """Let the run fail at step 5, without a rollback."""
    original = Trainer.step

    def step(self: Trainer) -> None:
        original(self)
        if self.step_count == 5:
            set_weight(self.generator.project.weight, float("nan"))

    Trainer.step = step
    rollback.MAX_ROLLBACKS = 0


def launch(
    *arguments: object,
    restarts: int = 0,
    trouble: Callable[[], None] = lambda: None,
    output: int | None = None,
) -> None:
    """Let torchrun's agent run the script in two processes, which write to files or to `output`."""

    def entry() -> None:
        import train_gan

        name = "-".join(os.environ[name] for name in ("TORCHELASTIC_RESTART_COUNT", "RANK"))
        sys.stdout = Path(f"{name}.out").open("w", buffering=1)  # noqa: SIM115, until the process exits
        sys.stderr = Path(f"{name}.err").open("w", buffering=1)  # noqa: SIM115
        if output is not None:
            sys.stdout = sys.stderr = os.fdopen(output, "w", buffering=1)
        trouble()
        sys.argv = ["train_gan.py", *map(str, arguments)]
        try:
            run_script(train_gan.main)
        except SystemExit as stop:
            if stop.code:
                os._exit(stop.code)

    launch_config = LaunchConfig(
        min_nodes=1,
        max_nodes=1,
        nproc_per_node=2,
        rdzv_backend="c10d",
        rdzv_endpoint="localhost:0",
        run_id="test",
        max_restarts=restarts,
        start_method="fork",
        logs_specs=DefaultLogsSpecs("logs"),
    )
    warm_up()
    elastic_launch(launch_config, entry)()


def error_lines() -> list[str]:
    """The error lines of all processes, before and after restarts."""
    lines = [line for path in Path().glob("*.err") for line in path.read_text().splitlines()]
    return [line for line in lines if line.startswith("error: ")]


@pytest.fixture
def working_directory(tmp_path, monkeypatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_restart_after_a_kill_resumes_bit_for_bit(pictures, working_directory):
    launch(pictures, *FLAGS, "--name", "straight")
    launch(pictures, *FLAGS, "--name", "killed", restarts=1, trouble=partial(die_at, 7, 0))
    straight, killed = sorted(Path("outputs").iterdir())
    assert_same_run(straight, killed)
    assert steps(checkpoints(killed))[-1] == 9
    assert read_config(killed)["environment"]["processes"] == 2
    (line,) = error_lines()
    assert "another process of this run has ended" in line
    assert f"--resume {killed.absolute()} continues" in line
    assert f"resuming {killed.absolute()}" in (working_directory / "1-0.out").read_text()
    assert not (working_directory / "1-1.out").read_text()


def test_a_kill_without_restarts_ends_all_soon(pictures, working_directory, train, capsys):
    start = time.monotonic()
    with pytest.raises(ChildFailedError):
        launch(pictures, *FLAGS, trouble=partial(die_at, 5, 1))
    assert time.monotonic() - start < 30  # of which the end takes less than one
    (run,) = Path("outputs").iterdir()
    assert len(error_lines()) == 1
    assert steps(checkpoints(run))[-1] == 4
    capsys.readouterr()
    assert train("--resume", "--steps", 6) == 0
    assert "processes was 2 and is now 1" in capsys.readouterr().out
    assert steps(checkpoints(run))[-1] == 6


def test_a_run_that_gave_up_is_not_trained_again(pictures, working_directory):
    with pytest.raises(ChildFailedError):
        launch(pictures, *FLAGS, restarts=1, trouble=collapse)
    (run,) = Path("outputs").iterdir()
    assert "again after 0 rollbacks" in (working_directory / "0-0.err").read_text()
    (line,) = (working_directory / "1-0.err").read_text().splitlines()
    assert line == f"stopped: {run.absolute()} has given up; a restart would only repeat that"
    assert not (working_directory / "1-0.out").read_text()
    assert steps(checkpoints(run))[-1] == 4


def test_a_dead_output_does_not_stop_the_processes(pictures, working_directory):
    reader, writer = os.pipe()
    os.close(reader)
    launch(pictures, *FLAGS, output=writer)
    os.close(writer)
    (run,) = Path("outputs").iterdir()
    assert steps(checkpoints(run))[-1] == 9


def test_an_invalid_argument_is_one_line(tmp_path):
    """With the command itself, as torch is not loaded before the error."""
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", ROOT / "train_gan.py"]
    command += ["--stpes", "3"]
    process = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    lines = [line for line in process.stderr.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1
    assert "--stpes" in lines[0]
    assert process.returncode == 1  # torchrun's own
    assert "exitcode  : 2" in process.stderr
