import signal
import subprocess
import sys

import pytest

from engine.errors import UserError
from engine.lock import locked
from tests.conftest import ROOT


def test_a_run_is_written_by_one_process_at_a_time(tmp_path):
    with (
        locked(tmp_path),
        pytest.raises(UserError, match=f"another process is training in {tmp_path}"),
        locked(tmp_path),
    ):
        pass
    with locked(tmp_path):
        pass


def test_other_runs_are_free_meanwhile(tmp_path):
    (tmp_path / "other").mkdir()
    with locked(tmp_path), locked(tmp_path / "other"):
        pass


def test_an_error_lets_go_of_it_and_stays_what_it_is(tmp_path):
    with pytest.raises(TimeoutError, match="mine"), locked(tmp_path):
        raise TimeoutError("mine")
    with locked(tmp_path):
        pass


def test_a_killed_process_holds_nothing(tmp_path):
    program = (
        "import sys; from pathlib import Path; from engine.lock import locked\n"
        "with locked(Path(sys.argv[1])): print('held', flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program, tmp_path],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as other:
        assert other.stdout.readline() == "held\n"
        with pytest.raises(UserError, match="another process"), locked(tmp_path):
            pass
        other.kill()
        assert other.wait() == -signal.SIGKILL
    with locked(tmp_path):
        pass


def test_a_run_that_is_no_folder_is_one_line(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="cannot be written to: "), locked(tmp_path / "file"):
        pass
