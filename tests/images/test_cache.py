import os
import time

import numpy as np
import pytest

from images.cache import CacheEntry, CacheIndex

IMAGES = np.random.default_rng(0).integers(0, 256, (5, 3, 8, 8), np.uint8)
INDEX = CacheIndex({"\udcff.png": "broken"}, np.array([0, 1, 2**63, 2**63, 2**64 - 1], np.uint64), "d1ce")


def decode(store):
    for row, image in enumerate(IMAGES):
        store(row, image)
    return INDEX


@pytest.fixture
def entry(tmp_path):
    def entry(folder=tmp_path / "faces", size=8, state="one"):
        return CacheEntry(tmp_path / "cache", folder, size, state)

    return entry


def contents(tmp_path):
    return sorted(path.name for path in (tmp_path / "cache").iterdir())


def test_round_trip(entry):
    entry().write(9, decode)
    images, index = entry().read()
    assert np.array_equal(images, IMAGES)
    assert (index.skipped, index.digest) == (INDEX.skipped, INDEX.digest)
    assert index.fingerprints.dtype == np.uint64
    assert np.array_equal(index.fingerprints, INDEX.fingerprints)
    assert isinstance(images, np.memmap)


def test_array_is_a_plain_npy_file(entry, tmp_path):
    entry().write(1000, decode)
    [path] = (tmp_path / "cache").glob("*.npy")
    assert np.array_equal(np.load(path), IMAGES)


def test_missing_entry_is_none(entry):
    assert entry().read() is None


def test_folders_sizes_and_states_have_separate_entries(entry, tmp_path):
    entry().write(5, decode)
    assert entry(folder=tmp_path / "other").read() is None
    assert entry(size=16).read() is None
    assert entry(state="two").read() is None


def test_new_state_replaces_the_old_at_every_size(entry, tmp_path):
    entry(folder=tmp_path / "other").write(5, decode)
    entry(size=8, state="one").write(5, decode)
    others = contents(tmp_path)
    entry(size=8, state="two").write(5, decode)
    assert len(contents(tmp_path)) == len(others) == 4
    assert entry(folder=tmp_path / "other").read()
    assert entry(state="two").read()


def test_sizes_of_the_same_state_coexist(entry, tmp_path):
    entry().write(5, decode)
    entry(size=16).write(0, lambda store: CacheIndex({}, np.array([], np.uint64), ""))
    assert entry().read()
    assert entry(size=16).read()[0].shape == (0, 3, 16, 16)


@pytest.mark.parametrize("suffix", [".npy", ".json"])
@pytest.mark.parametrize("damage", ["missing", "empty", "cut", "garbage"])
def test_damaged_entry_is_none_and_can_be_rewritten(entry, tmp_path, suffix, damage):
    entry().write(5, decode)
    [path] = (tmp_path / "cache").glob(f"*{suffix}")
    content = path.read_bytes()
    path.unlink()
    if damage != "missing":
        path.write_bytes({"empty": b"", "cut": content[:-20], "garbage": b'{"files": 3}'}[damage])
    assert entry().read() is None
    entry().write(5, decode)
    assert np.array_equal(entry().read()[0], IMAGES)


def test_interrupted_write_keeps_the_old_entry(entry, tmp_path):
    entry(state="one").write(5, decode)
    before = contents(tmp_path)

    def interrupted(store):
        store(0, IMAGES[0])
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        entry(state="two").write(5, interrupted)
    assert contents(tmp_path) == before


def test_abandoned_partial_files_are_removed(entry, tmp_path):
    entry().write(5, decode)
    [array] = (tmp_path / "cache").glob("*.npy")
    old, young = array.with_name(f".{array.stem}-old.npy"), array.with_name(f".{array.stem}-young.npy")
    for path in (old, young):
        path.touch()
    os.utime(old, (time.time() - 7200,) * 2)
    entry(state="two").write(5, decode)
    assert not old.exists()
    assert young.exists()


def test_concurrent_writers(entry):
    def decode_while_another_writes(store):
        entry().write(5, decode)
        return decode(store)

    entry().write(5, decode_while_another_writes)
    assert np.array_equal(entry().read()[0], IMAGES)


@pytest.mark.skipif(os.name == "nt", reason="Windows does not remove open files")
def test_mapped_array_survives_removal_of_its_entry(entry):
    entry(state="one").write(5, decode)
    images, _ = entry(state="one").read()
    entry(state="two").write(5, decode)
    assert entry(state="one").read() is None
    assert np.array_equal(images, IMAGES)


@pytest.mark.parametrize("name", ["ü 日本 [a]*?", "\udcff\udcfe", "x" * 200, "..."])
def test_folder_names(entry, tmp_path, name):
    folder = tmp_path / name
    entry(folder=folder).write(5, decode)
    entry(folder=folder, state="two").write(5, decode)
    assert len(contents(tmp_path)) == 2


def test_insufficient_disk_space_is_an_error_before_decoding(entry, tmp_path):
    with pytest.raises(OSError, match="No space left"):
        entry().write(10**15, decode)
    assert contents(tmp_path) == []
