import signal
import subprocess
import sys
from threading import Timer

import pytest
from filelock import FileLock

from engine.errors import UserError
from engine.lock import LOCK, is_locked, locked
from tests.conftest import ROOT


def test_one_process_at_a_time(tmp_path):
    (tmp_path / "other").mkdir()
    with (
        locked(tmp_path),
        locked(tmp_path / "other"),
        pytest.raises(UserError, match=f"another process is training in {tmp_path}"),
        locked(tmp_path),
    ):
        pass
    with locked(tmp_path):
        pass


def test_whether_a_folder_is_locked(tmp_path):
    assert not is_locked(tmp_path)
    assert not [*tmp_path.iterdir()], "nothing is created"
    with locked(tmp_path):
        assert is_locked(tmp_path)
    assert not is_locked(tmp_path)


def test_a_look_at_the_lock_disturbs_neither_a_start_nor_another_look(tmp_path):
    """As by the training page, which asks again and again."""
    look = FileLock(tmp_path / LOCK, thread_local=False)
    look.acquire()
    Timer(0.005, look.release).start()
    assert not is_locked(tmp_path)
    look.acquire()
    Timer(0.1, look.release).start()
    with locked(tmp_path):
        pass


def test_an_error_releases_the_lock_and_stays_unchanged(tmp_path):
    with pytest.raises(TimeoutError, match="mine"), locked(tmp_path):
        raise TimeoutError("mine")
    with locked(tmp_path):
        pass


def test_a_killed_process_releases_the_lock(tmp_path):
    program = (
        "import sys; from pathlib import Path; from engine.lock import locked\n"
        "with locked(Path(sys.argv[1])): print('locked', flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program, tmp_path],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout.readline() == "locked\n"
        with pytest.raises(UserError, match="another process"), locked(tmp_path):
            pass
        process.kill()
        assert process.wait() == -signal.SIGKILL
    with locked(tmp_path):
        pass


def test_a_file_instead_of_a_folder_is_one_line(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="cannot be written to: "), locked(tmp_path / "file"):
        pass
