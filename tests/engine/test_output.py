"""Output: scripts whose output cannot be written, each in a process of its own, and counted nouns."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from engine import output
from tests.conftest import ROOT

FULL = Path("/dev/full")
PROGRAM = "from engine.errors import run_script\ndef main():\n    {}\nrun_script(main)"


@contextmanager
def dead_pipe() -> Iterator[int]:
    """A pipe whose reader is gone, as after `| head -1`."""
    reader, writer = os.pipe()
    os.close(reader)
    yield writer
    os.close(writer)


def run(*command: object, **streams: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, *map(str, command)], cwd=ROOT, text=True, check=False, **streams)


@pytest.mark.parametrize("script", ["sample.py", "train_gan.py", "recognize.py"])
def test_help_into_a_pipe_that_nobody_reads_ends_quietly(script):
    with dead_pipe() as pipe:
        process = run(ROOT / script, "--help", stdout=pipe, stderr=subprocess.PIPE)
    assert (process.returncode, process.stderr) == (0, "")


@pytest.mark.parametrize("options", [(), ("-u",)])
def test_a_full_disk_is_reported_once(options):
    program = PROGRAM.format("print('a\\n' * 100_000, flush=True); print('b'); return 3")
    with FULL.open("w") as full:
        process = run(*options, "-c", program, stdout=full, stderr=subprocess.PIPE)
    assert process.returncode == 3
    assert process.stderr == "warning: standard output is incomplete: No space left on device\n"


def test_a_progress_bar_does_not_raise():
    program = "from tqdm import tqdm\n    for _ in tqdm(range(9), mininterval=0): pass"
    with dead_pipe() as pipe, FULL.open("w") as full:
        for output in (pipe, full):
            assert run("-c", PROGRAM.format(program), stdout=output, stderr=output).returncode == 0


def test_a_mistake_keeps_its_exit_code():
    with dead_pipe() as pipe:
        assert run(ROOT / "sample.py", "--rows", "0", stdout=pipe, stderr=pipe).returncode == 2


def test_streams_that_the_shell_closed():
    program = PROGRAM.format("from tqdm import tqdm; print('a'); list(tqdm(range(9), mininterval=0))")
    assert run("-c", program, preexec_fn=lambda: os.closerange(1, 3)).returncode == 0


def test_a_full_non_blocking_pipe_is_waited_for():
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    program = PROGRAM.format("print('a' * 200_000)")
    with subprocess.Popen([sys.executable, "-c", program], cwd=ROOT, stdout=writer) as process:
        os.close(writer)
        with os.fdopen(reader) as file:
            assert len(file.read()) == 200_001
        assert process.wait(20) == 0


def test_workers_with_a_dead_output(tmp_path):
    program = (
        "import sys\nfrom engine.errors import run_script\nfrom engine.worker_pool import parallel_map\n"
        "def work(number):\n    print(number, file=sys.stderr, flush=True)\n    return number\n"
        "def main():\n    return sum(parallel_map(work, range(9), 2))\n"
        "if __name__ == '__main__':\n    run_script(main)\n"
    )
    script = tmp_path / "script.py"
    script.write_text(program)
    with dead_pipe() as pipe:
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        assert run(script, stdout=pipe, stderr=pipe, env=environment).returncode == 36


def test_a_line_is_in_a_log_at_once(tmp_path):
    with (tmp_path / "log").open("w") as log:
        print("a line", file=output._protect(log, lambda error: None))
        assert (tmp_path / "log").read_text() == "a line\n"


def test_counted_nouns_are_singular_for_one_only():
    assert [output.counted(count, "photo") for count in (0, 1, 1200)] == [
        "0 photos",
        "1 photo",
        "1,200 photos",
    ]
    assert [output.counted(count, "person", "people") for count in (1, 2)] == ["1 person", "2 people"]
