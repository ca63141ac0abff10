import numpy as np
import pytest

from faces.prepare.manifest import COLUMNS, Manifest, Row
from gan.errors import UserError

NAMES = ["plain.jpg", 'with space, comma and "quote".jpg', "日本/ü é.png", "line\nbreak.png", "raw\udcff.jpg"]


def test_rows_come_back_as_they_were(tmp_path):
    path = tmp_path / "manifest.csv"
    manifest = Manifest(path, whole=False)
    for index, name in enumerate(NAMES):
        manifest.add([Row(name, str(index), verdict="kept", file=f"faces/{name}"), Row(name, str(index))])
    again = Manifest(path, whole=True)
    assert again.rows == manifest.rows
    assert again.done() == {(name, index) for index, name in enumerate(NAMES)}


def test_what_was_not_finished_loses_its_last_job(tmp_path):
    path = tmp_path / "manifest.csv"
    manifest = Manifest(path, whole=False)
    manifest.add([Row("a.jpg", "0")])
    manifest.add([Row("b.mp4", "0"), Row("b.mp4", "0", frame="2")])
    manifest.add([Row("b.mp4", "1"), Row("b.mp4", "1", frame="9")])
    again = Manifest(path, whole=False)
    assert again.done() == {("a.jpg", 0), ("b.mp4", 0)}
    assert len(again.rows) == 3
    assert Manifest(path, whole=True).rows == again.rows


@pytest.mark.parametrize("seed", range(20))
def test_a_file_cut_short_anywhere_can_be_gone_on_with(tmp_path, seed):
    path = tmp_path / "manifest.csv"
    manifest = Manifest(path, whole=False)
    for index, name in enumerate(NAMES):
        manifest.add([Row(name, str(index), verdict="kept"), Row(name, str(index), verdict="too small")])
    whole = path.read_bytes()
    header = len(",".join(COLUMNS)) + 2
    cut = int(np.random.default_rng(seed).integers(header, len(whole)))
    path.write_bytes(whole[:cut])
    again = Manifest(path, whole=False)
    assert again.rows == manifest.rows[: len(again.rows)]
    assert len(again.rows) % 2 == 0
    again.add([Row("next.jpg", "0")])
    assert Manifest(path, whole=True).rows == again.rows


def test_one_that_was_deleted_is_begun_anew(tmp_path):
    path = tmp_path / "manifest.csv"
    Manifest(path, whole=True).add([Row("a.jpg", "0")])
    assert Manifest(path, whole=True).done() == {("a.jpg", 0)}


def test_another_table_is_refused(tmp_path):
    path = tmp_path / "manifest.csv"
    path.write_text("a,b\n1,2\n")
    with pytest.raises(UserError, match="other columns"):
        Manifest(path, whole=True)
