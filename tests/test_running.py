"""Scripts that benchmarks start: each has time to end well."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest

from benchmarks import landmark_losses, recognition_runs
from engine.errors import UserError
from tests.in_process import ROOT


def test_a_training_that_is_told_to_stop_has_time_to_save(tmp_path):
    """Ctrl-C, which is for all processes of a terminal, reaches it once, and it is waited for."""
    (tmp_path / "training.py").write_text(
        "import signal, sys, time\n"
        "def end(number, frame):\n"
        "    time.sleep(1)\n"
        "    print('saved', number, *sys.argv[1:], file=sys.stderr)\n"
        "    sys.exit(128 + number)\n"
        "signal.signal(signal.SIGINT, end)\n"
        "print('begun', flush=True); time.sleep(60)\n"
    )
    code = (
        f"import sys; from pathlib import Path; sys.path.insert(0, {str(ROOT)!r})\n"
        f"from benchmarks import running; running.ROOT = Path({str(tmp_path)!r})\n"
        "print(running.run_to_end('training.py', '--steps', 9, out=sys.stderr))\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        start_new_session=True,
    ) as script:  # fmt: skip
        assert script.stderr.readline() == "begun\n"
        os.killpg(script.pid, signal.SIGINT)
        out, err = script.communicate(timeout=30)
    assert (out, err) == ("130\n", "saved 2 --steps 9\n")


@pytest.mark.parametrize(
    ("benchmark", "start"), [(landmark_losses, "_train"), (recognition_runs, "call")], ids=["losses", "runs"]
)
def test_a_benchmark_whose_training_was_stopped_says_how_it_goes_on(monkeypatch, benchmark, start):
    monkeypatch.setattr(benchmark, "run_to_end", lambda *_, **__: 130)
    with pytest.raises(UserError, match="the same command goes on"):
        getattr(benchmark, start)("train_classifier.py", "--resume", "1")
