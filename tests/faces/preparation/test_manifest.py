import numpy as np
import pytest

from engine.errors import UserError
from faces.preparation.manifest import COLUMNS, Manifest, Row

NAMES = ["plain.jpg", 'with space, comma and "quote".jpg', "日本/ü é.png", "line\nbreak.png", "raw\udcff.jpg"]


def test_rows_come_back_as_they_were(tmp_path):
    path = tmp_path / "manifest.csv"
    manifest = Manifest(path)
    for index, name in enumerate(NAMES):
        manifest.add([Row(name, str(index), verdict="kept", file=f"faces/{name}"), Row(name, str(index))])
    again = Manifest(path)
    assert again.rows == manifest.rows
    assert again.done() == {(name, index) for index, name in enumerate(NAMES)}


def test_what_was_not_finished_loses_its_last_job(tmp_path):
    path = tmp_path / "manifest.csv"
    manifest = Manifest(path)
    manifest.add([Row("a.jpg", "0")])
    manifest.add([Row("b.mp4", "0"), Row("b.mp4", "0", frame="2")])
    manifest.add([Row("b.mp4", "1"), Row("b.mp4", "1", frame="9")])
    again = Manifest(path, again={("a.jpg", 0), ("b.mp4", 0), ("b.mp4", 1)})
    assert again.done() == {("a.jpg", 0), ("b.mp4", 0)}
    assert len(again.rows) == 3
    assert Manifest(path).rows == again.rows


def test_the_crops_of_what_is_done_again_go_with_its_rows_and_no_other_file(tmp_path):
    path = tmp_path / "out" / "manifest.csv"
    gone = ["faces/b/1.jpg-0.jpg", "left_out/b/1.jpg-1.jpg"]
    elsewhere = ["../mine.jpg", "faces/../mine.jpg", "mine.jpg", str(tmp_path / "mine.jpg"), "faces"]
    stays = ["faces/a.jpg-0.jpg", "faces/b/mine.jpg", *elsewhere[:-1]]
    for name in [*gone, *stays]:
        (path.parent / name).parent.mkdir(parents=True, exist_ok=True)
        (path.parent / name).touch()
    manifest = Manifest(path)
    manifest.add([Row("a.jpg", "0", verdict="kept", file="faces/a.jpg-0.jpg")])
    manifest.add([Row("b/1.jpg", "0", file=name) for name in [*gone, *elsewhere, "", "faces/deleted.jpg"]])
    assert Manifest(path, again={("b/1.jpg", 0)}).done() == {("a.jpg", 0)}
    assert not any((path.parent / name).exists() for name in gone)
    assert all((path.parent / name).exists() for name in stays)


def test_a_last_job_that_cannot_be_done_again_keeps_what_it_gave(tmp_path):
    path = tmp_path / "manifest.csv"
    (tmp_path / "faces").mkdir()
    (tmp_path / "faces" / "a.jpg-0.jpg").touch()
    Manifest(path).add([Row("a.jpg", "0", verdict="kept", file="faces/a.jpg-0.jpg")])
    assert Manifest(path, again={("b.jpg", 0)}).done() == {("a.jpg", 0)}
    assert (tmp_path / "faces" / "a.jpg-0.jpg").exists()


@pytest.mark.parametrize("seed", range(20))
def test_a_file_cut_short_anywhere_can_be_gone_on_with(tmp_path, seed):
    path = tmp_path / "manifest.csv"
    manifest = Manifest(path)
    for index, name in enumerate(NAMES):
        manifest.add([Row(name, str(index), verdict="kept"), Row(name, str(index), verdict="too small")])
    whole = path.read_bytes()
    header = len(",".join(COLUMNS)) + 2
    cut = int(np.random.default_rng(seed).integers(header, len(whole)))
    path.write_bytes(whole[:cut])
    again = Manifest(path, again={(name, index) for index, name in enumerate(NAMES)})
    assert again.rows == manifest.rows[: len(again.rows)]
    assert len(again.rows) % 2 == 0
    again.add([Row("next.jpg", "0")])
    assert Manifest(path).rows == again.rows


def test_one_that_was_deleted_is_begun_anew(tmp_path):
    path = tmp_path / "manifest.csv"
    Manifest(path).add([Row("a.jpg", "0")])
    assert Manifest(path).done() == {("a.jpg", 0)}


def test_another_table_is_refused(tmp_path):
    path = tmp_path / "manifest.csv"
    path.write_text("a,b\n1,2\n")
    with pytest.raises(UserError, match="other columns"):
        Manifest(path)
