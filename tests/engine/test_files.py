import os
import signal
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from engine import files
from engine.files import (
    atomic_write,
    is_file,
    is_folder,
    remove_partial_files,
    sha256_of,
    shorten_stem,
)


def names_in(folder) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize("old", [None, "old"])
def test_the_new_file_replaces_the_old(tmp_path, old):
    path = tmp_path / "ein Ort" / "顔.json"
    if old:
        path.parent.mkdir()
        path.write_text(old)
    with atomic_write(path) as temporary:
        assert temporary.parent == path.parent
        assert temporary.suffix == ".json"
        temporary.write_text("new")
        assert not path.exists() if old is None else path.read_text() == "old"
    assert path.read_text() == "new"
    assert names_in(path.parent) == ["顔.json"]


def refuse_at_first(monkeypatch, times: int) -> list[str]:
    """Let replacing a file fail, as Windows does while another process reads it."""
    refused, replace = [], Path.replace

    def busy(self: Path, target: Path) -> Path:
        if len(refused) < times:
            refused.append(self.name)
            raise PermissionError(13, "Access is denied")
        return replace(self, target)

    monkeypatch.setattr(Path, "replace", busy)
    return refused


def test_windows_waits_until_nobody_reads_the_old_file(tmp_path, monkeypatch):
    monkeypatch.setattr(files, "REPLACES_OPEN_FILES", False)
    refused = refuse_at_first(monkeypatch, 3)
    with atomic_write(tmp_path / "best.pt") as temporary:
        temporary.write_text("new")
    assert len(refused) == 3
    assert names_in(tmp_path) == ["best.pt"]
    monkeypatch.setattr(files, "_PATIENCE", 0.0)
    refuse_at_first(monkeypatch, 100)
    with pytest.raises(PermissionError), atomic_write(tmp_path / "best.pt") as temporary:
        temporary.write_text("newer")
    assert (tmp_path / "best.pt").read_text() == "new"
    assert names_in(tmp_path) == ["best.pt"]


@pytest.mark.parametrize("stem", ["x" * 250, "顔" * 83, "😀" * 62])
def test_the_longest_name_of_a_file_system(tmp_path, stem):
    path = tmp_path / f"{stem}.png"
    with atomic_write(path) as temporary:
        assert temporary.suffix == ".png"
        temporary.write_text("new")
    assert names_in(tmp_path) == [path.name]


def test_a_long_name_is_cut_between_characters_and_stays_unique():
    names = ["é" * 120 + end for end in "aAb"]
    short = [shorten_stem(name) for name in names]
    assert len({name.casefold() for name in short}) == 3
    assert all(len(os.fsencode(name)) <= 200 and name.startswith("é" * 90) for name in short)
    assert shorten_stem("é" * 100) == "é" * 100
    assert shorten_stem("é", marked=True).startswith("é~")


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit])
def test_an_exception_keeps_the_old_file(tmp_path, error):
    path = tmp_path / "a.txt"
    path.write_text("old")

    def write() -> None:
        with atomic_write(str(path)) as temporary:
            temporary.write_text("half of the n")
            raise error

    with pytest.raises(error):
        write()
    assert path.read_text() == "old"
    assert names_in(tmp_path) == ["a.txt"]


def test_a_failed_write_keeps_the_old_file(tmp_path):
    resource = pytest.importorskip("resource", reason="only Unix limits file sizes")
    path = tmp_path / "a.bin"
    path.write_bytes(b"old")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, hard))
        with pytest.raises(OSError, match="too large"), atomic_write(path) as temporary:
            temporary.write_bytes(bytes(100_000))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, handler)
    assert path.read_bytes() == b"old"
    assert names_in(tmp_path) == ["a.bin"]


def test_a_failed_move_leaves_no_file(tmp_path):
    path = tmp_path / "taken"
    path.mkdir()
    with pytest.raises(OSError, match="directory"), atomic_write(path) as temporary:
        temporary.write_text("new")
    assert names_in(tmp_path) == ["taken"]


@pytest.mark.parametrize("name", ["a.txt", "a [1] *?.b.txt", "no ending", "ü" * 110 + ".jpg"])
def test_a_kill_keeps_the_old_file_and_leaves_a_removable_one(tmp_path, name):
    path = tmp_path / name
    path.write_text("old")
    others = {".a-0123456789ab.png", ".a-0123456789a.txt", ".a-b-0123456789ab.txt", "a-0123456789ab.txt"}
    for other in others:
        (tmp_path / other).touch()
    program = (
        "import os, signal, sys; from engine.files import atomic_write\n"
        "with atomic_write(sys.argv[1]) as temporary:\n"
        "    temporary.write_text('half of the n'); os.kill(os.getpid(), signal.SIGKILL)"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run([sys.executable, "-c", program, path], env=environment, check=False)
    assert done.returncode != 0
    assert path.read_text() == "old"
    assert len(list(tmp_path.iterdir())) == len(others) + 2
    remove_partial_files([path])
    assert {other.name for other in tmp_path.iterdir()} == others | {name}


def test_a_missing_folder_has_no_partial_files(tmp_path):
    remove_partial_files([tmp_path / "nowhere" / "a.txt"])


@pytest.mark.skipif(os.name == "nt", reason="only Unix has these permissions")
@pytest.mark.parametrize(("umask", "mode"), [(0o022, 0o644), (0o077, 0o600), (0o002, 0o664)])
def test_permissions_are_those_of_a_new_file(tmp_path, umask, mode):
    before = os.umask(umask)
    try:
        with atomic_write(tmp_path / "a") as temporary:
            temporary.write_text("new")
        assert os.umask(umask) == umask
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "a").stat().st_mode) == mode


def test_only_durable_files_are_flushed_to_disk(tmp_path, monkeypatch):
    flushes = []
    monkeypatch.setattr(os, "fsync", flushes.append)
    with atomic_write(tmp_path / "a", durable=False) as temporary:
        temporary.write_text("new")
    assert (tmp_path / "a").read_text() == "new"
    assert flushes == []
    with atomic_write(tmp_path / "a") as temporary:
        temporary.write_text("newer")
    assert len(flushes) == 1


def test_the_digest_of_a_missing_file_is_empty(tmp_path):
    (tmp_path / "a").write_bytes(b"abc")  # the example of FIPS 180-2, appendix B.1
    assert sha256_of(tmp_path / "a") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    assert sha256_of(tmp_path) == sha256_of(tmp_path / "missing") == ""


def test_a_name_that_is_too_long_is_neither_a_file_nor_a_folder(tmp_path):
    assert (is_file(tmp_path), is_folder(tmp_path)) == (False, True)
    assert not is_file(tmp_path / ("x" * 5000))
    assert not is_folder(tmp_path / ("x" * 5000))
