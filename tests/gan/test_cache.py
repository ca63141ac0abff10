import os
import time

import numpy as np
import pytest

from gan.cache import CacheEntry, Index

IMAGES = np.random.default_rng(0).integers(0, 256, (5, 3, 8, 8), np.uint8)
INDEX = Index(
    [f"{row}.png" for row in range(5)], [["\udcff.png", "broken"]], ["0a", "1b", "2c", "2c", "3d"], "d1ce", 1
)
EVERYTHING = 10**9


def decode(keep):
    for row, image in enumerate(IMAGES):
        keep(row, image)
    return INDEX


@pytest.fixture
def entry(tmp_path):
    def entry(folder=tmp_path / "faces", size=8, state="one"):
        return CacheEntry(tmp_path / "cache", folder, size, state)

    return entry


def contents(tmp_path):
    return sorted(path.name for path in (tmp_path / "cache").iterdir())


@pytest.mark.parametrize(
    ("limit", "mapped"), [(EVERYTHING, False), (5 * 3 * 64, False), (5 * 3 * 64 - 1, True)]
)
def test_what_was_written_is_read(entry, limit, mapped):
    entry().write(9, decode)
    images, index = entry().read(limit)
    assert np.array_equal(images, IMAGES)
    assert index == INDEX
    assert isinstance(images, np.memmap) == mapped


def test_the_array_is_a_plain_npy_file(entry, tmp_path):
    entry().write(1000, decode)
    [path] = (tmp_path / "cache").glob("*.npy")
    assert np.array_equal(np.load(path), IMAGES)


def test_nothing_there_is_none(entry):
    assert entry().read(EVERYTHING) is None


def test_folders_sizes_and_states_are_kept_apart(entry, tmp_path):
    entry().write(5, decode)
    assert entry(folder=tmp_path / "other").read(EVERYTHING) is None
    assert entry(size=16).read(EVERYTHING) is None
    assert entry(state="two").read(EVERYTHING) is None


def test_a_new_state_takes_the_place_of_the_old_at_every_size(entry, tmp_path):
    entry(folder=tmp_path / "other").write(5, decode)
    entry(size=8, state="one").write(5, decode)
    others = contents(tmp_path)
    entry(size=8, state="two").write(5, decode)
    assert len(contents(tmp_path)) == len(others) == 4
    assert entry(folder=tmp_path / "other").read(EVERYTHING)
    assert entry(state="two").read(EVERYTHING)


def test_other_sizes_of_the_same_state_stay(entry, tmp_path):
    entry().write(5, decode)
    entry(size=16).write(0, lambda keep: Index([], [], [], "", 0))
    assert entry().read(EVERYTHING)
    assert entry(size=16).read(EVERYTHING)[0].shape == (0, 3, 16, 16)


@pytest.mark.parametrize("suffix", [".npy", ".json"])
@pytest.mark.parametrize("damage", ["missing", "empty", "cut", "garbage"])
@pytest.mark.parametrize("limit", [0, EVERYTHING])
def test_a_damaged_entry_is_none_and_can_be_written_again(entry, tmp_path, suffix, damage, limit):
    entry().write(5, decode)
    [path] = (tmp_path / "cache").glob(f"*{suffix}")
    content = path.read_bytes()
    path.unlink()
    if damage != "missing":
        path.write_bytes({"empty": b"", "cut": content[:-20], "garbage": b'{"files": 3}'}[damage])
    assert entry().read(limit) is None
    entry().write(5, decode)
    assert np.array_equal(entry().read(limit)[0], IMAGES)


def test_an_interrupted_decoding_leaves_nothing_and_the_old_entry(entry, tmp_path):
    entry(state="one").write(5, decode)
    before = contents(tmp_path)

    def interrupted(keep):
        keep(0, IMAGES[0])
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        entry(state="two").write(5, interrupted)
    assert contents(tmp_path) == before


def test_what_a_killed_process_left_is_removed_in_time(entry, tmp_path):
    entry().write(5, decode)
    [array] = (tmp_path / "cache").glob("*.npy")
    old, young = array.with_name(f".{array.stem}-old.npy"), array.with_name(f".{array.stem}-young.npy")
    for path in (old, young):
        path.touch()
    os.utime(old, (time.time() - 7200,) * 2)
    entry(state="two").write(5, decode)
    assert not old.exists()
    assert young.exists()


def test_two_that_write_at_once_both_find_it_right(entry):
    def decode_while_another_does(keep):
        entry().write(5, decode)
        return decode(keep)

    entry().write(5, decode_while_another_does)
    assert np.array_equal(entry().read(EVERYTHING)[0], IMAGES)


@pytest.mark.skipif(os.name == "nt", reason="an open file cannot be removed there, and is not")
def test_a_map_stays_good_when_its_entry_is_removed(entry):
    entry(state="one").write(5, decode)
    images, _ = entry(state="one").read(0)
    entry(state="two").write(5, decode)
    assert entry(state="one").read(0) is None
    assert np.array_equal(images, IMAGES)


@pytest.mark.parametrize("name", ["ü 日本 [a]*?", "\udcff\udcfe", "x" * 200, "..."])
def test_folders_of_any_name(entry, tmp_path, name):
    folder = tmp_path / name
    entry(folder=folder).write(5, decode)
    entry(folder=folder, state="two").write(5, decode)
    assert len(contents(tmp_path)) == 2


def test_a_disk_that_would_be_full_is_an_error_before_anything_is_decoded(entry, tmp_path):
    with pytest.raises(OSError, match="No space left"):
        entry().write(10**15, decode)
    assert contents(tmp_path) == []
