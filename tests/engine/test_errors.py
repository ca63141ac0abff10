import os
import signal
import subprocess
import sys
import time

import pytest

from engine.errors import UserError, run_script
from tests.conftest import ROOT


def exit_code_of(main) -> int:
    with pytest.raises(SystemExit) as stop:
        run_script(main)
    return stop.value.code


def test_a_user_error_is_one_line_and_code_2(capsys):
    def main():
        raise UserError("no such run:\n  give\tanother")

    assert exit_code_of(main) == 2
    output = capsys.readouterr()
    assert output.err == "error: no such run: give another\n"
    assert output.out == ""


def test_a_file_name_does_not_control_the_terminal(capsys):
    def main():
        raise UserError("no photo or folder a\x1b[2J\udcff\u2028b 顔.jpg")

    exit_code_of(main)
    assert capsys.readouterr().err == "error: no photo or folder a\\x1b[2J\\udcff b 顔.jpg\n"


@pytest.mark.parametrize(("result", "code"), [(None, 0), (0, 0), (130, 130)])
def test_the_exit_code_is_the_result_of_main(result, code, capsys):
    assert exit_code_of(lambda: result) == code
    assert capsys.readouterr().err == ""


def test_a_bug_keeps_its_traceback():
    def main():
        raise KeyError("a bug")

    with pytest.raises(KeyError):
        run_script(main)


def test_ctrl_c_during_the_imports_of_a_script_prints_no_traceback(tmp_path):
    # A module in the place of a library that scripts import presses Ctrl-C.
    (tmp_path / "numpy.py").write_text("import os, signal\nos.kill(os.getpid(), signal.SIGINT)\n")
    script = [sys.executable, str(ROOT / "sample.py")]
    environment = os.environ | {"PYTHONPATH": str(tmp_path)}
    process = subprocess.run(script, env=environment, capture_output=True, text=True, check=False)
    assert process.stderr == "interrupted\n"
    assert process.returncode in (-signal.SIGINT, 128 + signal.SIGINT)


def test_a_lack_of_memory_is_one_line_and_code_2(capsys):
    def exhaust_memory() -> None:
        bytearray(2**62)

    assert exit_code_of(exhaust_memory) == 2
    assert capsys.readouterr().err.startswith("error: not enough memory: request fewer")


def test_only_rank_0_prints_the_error(monkeypatch, capsys):
    def main():
        raise UserError("no such flag")

    monkeypatch.setattr(time, "sleep", lambda seconds: None)
    for rank, lines in (("0", 1), ("1", 0)):
        monkeypatch.setenv("RANK", rank)
        assert exit_code_of(main) == 2
        assert capsys.readouterr().err.count("error: no such flag") == lines
