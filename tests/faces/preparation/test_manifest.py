import numpy as np
import pytest

from engine.errors import UserError
from faces.preparation.manifest import COLUMNS, Manifest, Row

NAMES = ["plain.jpg", 'with space, comma and "quote".jpg', "日本/ü é.png", "line\nbreak.png", "raw\udcff.jpg"]


def test_rows_round_trip(tmp_path):
    path = tmp_path / "manifest.csv"
    manifest = Manifest(path)
    for index, name in enumerate(NAMES):
        manifest.add([Row(name, str(index), verdict="kept", file=f"faces/{name}"), Row(name, str(index))])
    reread = Manifest(path)
    assert reread.rows == manifest.rows
    assert reread.done() == {(name, index) for index, name in enumerate(NAMES)}


def test_last_job_of_an_unfinished_manifest_is_removed(tmp_path):
    path = tmp_path / "manifest.csv"
    manifest = Manifest(path)
    manifest.add([Row("a.jpg", "0")])
    manifest.add([Row("b.mp4", "0"), Row("b.mp4", "0", frame="2")])
    manifest.add([Row("b.mp4", "1"), Row("b.mp4", "1", frame="9")])
    reread = Manifest(path)
    reread.remove_last_job({("a.jpg", 0), ("b.mp4", 0), ("b.mp4", 1)})
    assert reread.done() == {("a.jpg", 0), ("b.mp4", 0)}
    assert len(reread.rows) == 3
    assert Manifest(path).rows == reread.rows


def test_removing_a_job_removes_only_its_crops(tmp_path):
    path = tmp_path / "out" / "manifest.csv"
    removed = ["faces/b/1.jpg-0.jpg", "left_out/b/1.jpg-1.jpg"]
    foreign = ["../mine.jpg", "faces/../mine.jpg", "mine.jpg", str(tmp_path / "mine.jpg"), "faces"]
    kept_files = ["faces/a.jpg-0.jpg", "faces/b/mine.jpg", *foreign[:-1]]
    for name in [*removed, *kept_files]:
        (path.parent / name).parent.mkdir(parents=True, exist_ok=True)
        (path.parent / name).touch()
    manifest = Manifest(path)
    manifest.add([Row("a.jpg", "0", verdict="kept", file="faces/a.jpg-0.jpg")])
    manifest.add([Row("b/1.jpg", "0", file=name) for name in [*removed, *foreign, "", "faces/deleted.jpg"]])
    reread = Manifest(path)
    reread.remove_last_job({("b/1.jpg", 0)})
    assert reread.done() == {("a.jpg", 0)}
    assert not any((path.parent / name).exists() for name in removed)
    assert all((path.parent / name).exists() for name in kept_files)


def test_last_job_that_cannot_be_repeated_is_kept(tmp_path):
    path = tmp_path / "manifest.csv"
    (tmp_path / "faces").mkdir()
    (tmp_path / "faces" / "a.jpg-0.jpg").touch()
    Manifest(path).add([Row("a.jpg", "0", verdict="kept", file="faces/a.jpg-0.jpg")])
    reread = Manifest(path)
    reread.remove_last_job({("b.jpg", 0)})
    assert reread.done() == {("a.jpg", 0)}
    assert (tmp_path / "faces" / "a.jpg-0.jpg").exists()


@pytest.mark.parametrize("seed", range(20))
def test_truncated_manifest_can_be_resumed(tmp_path, seed):
    path = tmp_path / "manifest.csv"
    manifest = Manifest(path)
    for index, name in enumerate(NAMES):
        manifest.add([Row(name, str(index), verdict="kept"), Row(name, str(index), verdict="too small")])
    whole = path.read_bytes()
    header = len(",".join(COLUMNS)) + 2
    cut = int(np.random.default_rng(seed).integers(header, len(whole)))
    path.write_bytes(whole[:cut])
    reread = Manifest(path)
    reread.remove_last_job({(name, index) for index, name in enumerate(NAMES)})
    assert reread.rows == manifest.rows[: len(reread.rows)]
    assert len(reread.rows) % 2 == 0
    reread.add([Row("next.jpg", "0")])
    assert Manifest(path).rows == reread.rows


def test_other_table_is_rejected(tmp_path):
    path = tmp_path / "manifest.csv"
    path.write_text("a,b\n1,2\n")
    with pytest.raises(UserError, match="does not have the columns"):
        Manifest(path)
