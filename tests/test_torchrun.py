"""train_gan.py under torchrun: by its own agent, whose processes are forked so that torch is loaded once."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from torch.distributed.elastic.multiprocessing import DefaultLogsSpecs
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
from torch.distributed.launcher.api import LaunchConfig, elastic_launch

from engine.errors import run_script
from engine.runs import checkpoints
from gan.trainer import Trainer
from tests.conftest import ROOT, TINY
from tests.run_contents import assert_same_run, read_config, steps
from tests.together import warm_up

WORDS = (*TINY, "--steps", 9)


def die_at(step: int, rank: int) -> None:
    """Let this process, if it has that rank, be killed in the middle of a step of its first life."""
    whole = Trainer.step

    def dying(self: Trainer) -> None:
        if (self.step_count, self.world.rank, os.environ["TORCHELASTIC_RESTART_COUNT"]) == (step, rank, "0"):
            os.kill(os.getpid(), signal.SIGKILL)
        whole(self)

    Trainer.step = dying


def launched(*words: object, restarts: int = 0, die: tuple[int, int] | None = None) -> None:
    """Have torchrun's agent run the script in two processes, which write what they tell to files."""

    def entry() -> None:
        import train_gan

        name = "-".join(os.environ[name] for name in ("TORCHELASTIC_RESTART_COUNT", "RANK"))
        sys.stdout = Path(f"{name}.out").open("w", buffering=1)  # noqa: SIM115, for all that follows
        sys.stderr = Path(f"{name}.err").open("w", buffering=1)  # noqa: SIM115
        if die:
            die_at(*die)
        sys.argv = ["train_gan.py", *map(str, words)]
        try:
            run_script(train_gan.main)
        except SystemExit as end:
            if end.code:
                os._exit(end.code)

    started = LaunchConfig(
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
    elastic_launch(started, entry)()


def told_of_mistakes() -> list[str]:
    """Lines that any process in any of its lives wrote of a mistake."""
    lines = [line for path in Path().glob("*.err") for line in path.read_text().splitlines()]
    return [line for line in lines if line.startswith("error: ")]


@pytest.fixture
def here(tmp_path, monkeypatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_killed_process_ends_all_in_a_line_and_a_restart_goes_on_bit_for_bit(pictures, here):
    launched(pictures, *WORDS, "--name", "straight")
    launched(pictures, *WORDS, "--name", "killed", restarts=1, die=(7, 0))
    straight, killed = sorted(Path("outputs").iterdir())
    assert_same_run(straight, killed)
    assert steps(checkpoints(killed))[-1] == 9
    assert read_config(killed)["environment"]["processes"] == 2
    (line,) = told_of_mistakes()
    assert "another process of this training has ended" in line
    assert f"--resume {killed.absolute()} goes on" in line
    assert f"going on with {killed.absolute()}" in (here / "1-0.out").read_text()
    assert not (here / "1-1.out").read_text()


def test_without_restarts_it_ends_soon_with_a_good_checkpoint(pictures, here, train, capsys):
    start = time.monotonic()
    with pytest.raises(ChildFailedError):
        launched(pictures, *WORDS, "--no-sync-batch-norm", "--accumulate", 2, die=(5, 1))
    assert time.monotonic() - start < 30  # of which not even a second goes into the end
    (run,) = Path("outputs").iterdir()
    assert len(told_of_mistakes()) == 1
    assert steps(checkpoints(run))[-1] == 4
    capsys.readouterr()
    assert train("--resume", "--steps", 6) == 0
    told = capsys.readouterr().out
    assert "processes was 2 and is now 1" in told
    assert "batch norm's statistics are now over 4 images, each part of a process's share" in told
    assert steps(checkpoints(run))[-1] == 6


def test_mistakes_are_one_line(tmp_path):
    """By the command itself; a mistake in the words is found before torch is loaded."""
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", ROOT / "train_gan.py"]
    command += ["--stpes", "3"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    lines = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1
    assert "--stpes" in lines[0]
    assert done.returncode == 1  # torchrun's own
    assert "exitcode  : 2" in done.stderr
