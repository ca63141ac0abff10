"""Scripts that experiments start."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest

from engine.errors import UserError
from experiments import running
from tests.in_process import ROOT


def test_a_script_receives_ctrl_c_once_and_has_time_to_save(tmp_path):
    (tmp_path / "training.py").write_text(
        "import signal, sys, time\n"
        "def end(number, frame):\n"
        "    time.sleep(1)\n"
        "    print('saved', number, *sys.argv[1:], file=sys.stderr)\n"
        "    sys.exit(128 + number)\n"
        "signal.signal(signal.SIGINT, end)\n"
        "print('started', flush=True); time.sleep(60)\n"
    )
    code = (
        "import sys; from pathlib import Path; from experiments import running\n"
        f"running.ROOT = Path({str(tmp_path)!r})\n"
        "running.call_script('training.py', '--steps', 9, out=sys.stderr, success=(130,))\n"
        "print('returned')\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        cwd=ROOT, start_new_session=True,
    ) as script:  # fmt: skip
        assert script.stderr.readline() == "started\n"
        os.killpg(script.pid, signal.SIGINT)
        out, err = script.communicate(timeout=30)
    assert (out, err) == ("returned\n", "saved 2 --steps 9\n")


def test_a_failure_says_how_to_continue(tmp_path, monkeypatch):
    monkeypatch.setattr(running, "ROOT", tmp_path)
    (tmp_path / "training.py").write_text("raise SystemExit(130)")
    with pytest.raises(UserError, match=r"training.py ended with exit code 130, .* the same command"):
        running.call_script("training.py")
