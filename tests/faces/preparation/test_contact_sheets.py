"""Contact sheets, and crops that the user rejects by the numbers on them."""

import csv
import json
import os
import shutil

import numpy as np
import pytest
from PIL import Image

from engine.png import load_png
from faces.preparation.contact_sheets import save_sheets
from faces.preparation.manifest import Row
from tests.faces.photos import photo, save_photo
from tests.faces.preparation.helpers import (
    contents,
    crops,
    prepare_here,
    read_manifest,
    save_photos,
    verdicts,
)
from tests.in_process import call, refusal

pytest.importorskip("cv2", reason="needs the extra 'photos'")


def by_source(out):
    return {row["source"]: row for row in read_manifest(out)}


@pytest.fixture
def three(tmp_path):
    """A folder of three photos, and its crops, numbered 1 to 3."""
    folder, out = tmp_path / "in", tmp_path / "out"
    for number in (1, 3, 5):
        save_photo(folder / f"{number}.png", number)
    prepare_here(folder, out)
    return folder, out


def test_numbers_are_below_the_crops(prepared):
    _, out = prepared
    sheet = load_png(out / "kept.png")
    assert sheet.shape[2] == 10 * 114 - 2
    rows = [row for row in read_manifest(out) if row["file"]]
    assert [row["number"] for row in rows] == ["1", "2", "3", "4", "5", "6"]
    for index, row in enumerate(rows):
        columns = slice(114 * index, 114 * index + 112)
        np.testing.assert_array_equal(sheet[:, :112, columns], load_png(out / row["file"]))
        assert (sheet[:, 112:, columns] < 128).any()
    assert (sheet[:, :, 6 * 114 :] == 255).all()
    assert not (out / "left_out.png").exists()


def save_crops(folder, count, size=16):
    for index in range(count):
        Image.new("RGB", (size, size), (index, 0, 0)).save(folder / f"{index}.png")
    return [
        Row(f"{index}", "0", verdict="kept", file=f"{index}.png", number=str(index + 1))
        for index in range(count)
    ]


def reds(path, width=48, crop=16):
    sheet = load_png(path)
    height = (sheet.shape[1] + 2) // 10
    red, green = (sheet[channel, crop // 2 :: height, width // 2 :: width + 2].ravel() for channel in (0, 1))
    return red[green == 0].tolist()


def test_many_crops_take_several_pages(tmp_path):
    rows = save_crops(tmp_path, 130)
    save_sheets(tmp_path, "kept", rows, 16)
    assert reds(tmp_path / "kept.png") == list(range(100))
    second = load_png(tmp_path / "kept-2.png")
    assert second[0, 8, 24::50].tolist() == list(range(100, 110))
    save_sheets(tmp_path, "kept", rows[:50], 16)
    assert not (tmp_path / "kept-2.png").exists()
    save_sheets(tmp_path, "kept", [], 16)
    assert not (tmp_path / "kept.png").exists()


def test_more_crops_than_pages_hold_are_selected_at_random(tmp_path, monkeypatch):
    monkeypatch.setattr("faces.preparation.contact_sheets.MAX_PAGES", 1)
    save_sheets(tmp_path, "kept", save_crops(tmp_path, 130), 16)
    shown = reds(tmp_path / "kept.png")
    assert len({*shown}) == 100
    assert shown == sorted(shown)
    assert shown[-1] > 119
    assert not (tmp_path / "kept-2.png").exists()


def test_rejected_crops_stay_out_and_numbers_stay(three):
    folder, out = three
    output = call("prepare_faces.py", folder, out, "--workers", 0, "--reject", 1, 3)
    assert output.code == 0
    assert output.lines[:2] == [f"3 faces, 1 of them kept in {out / 'faces'}", "  2 rejected"]
    assert "2 crops rejected; --restore with the numbers undoes that" in output.lines
    expected = ["faces/3.png-0.jpg", "left_out/1.png-0.jpg", "left_out/5.png-0.jpg"]
    assert crops(out) == expected
    assert {row["source"]: row["number"] for row in read_manifest(out)} == {
        "1.png": "1",
        "3.png": "2",
        "5.png": "3",
    }
    sheet = load_png(out / "kept.png")
    assert np.array_equal(sheet[:, :112, :112], load_png(out / expected[0]))
    assert (sheet[:, :, 112:] == 255).all()
    before = contents(out)
    assert prepare_here(folder, out).idle
    assert contents(out) == before
    # Neither a new photo nor a new time of the file brings it back.
    save_photo(folder / "7.png", 7)
    os.utime(folder / "1.png", (1e9, 1e9))
    assert prepare_here(folder, out).new == 2
    assert crops(out) == sorted([*expected, "faces/7.png-0.jpg"])
    assert (by_source(out)["1.png"]["verdict"], by_source(out)["1.png"]["number"]) == ("rejected", "1")
    assert by_source(out)["7.png"]["number"] == "4"


def test_rejected_crops_can_be_restored(three):
    folder, out = three
    before = contents(out)
    prepare_here(folder, out, reject=(2,))
    summary = prepare_here(folder, out, restore=(2,))
    assert "1 crop restored" in summary.lines()
    after = contents(out)
    assert after.keys() == before.keys()
    assert all(after[name][0] == before[name][0] for name in after if name != "prepare.json")


def test_near_duplicates_of_a_rejected_crop_stay_out(tmp_path):
    folder, out = save_photos(tmp_path, photo(1)[0], photo(1)[0]), tmp_path / "out"
    prepare_here(folder, out)
    kept = next(row for row in read_manifest(out) if row["verdict"] == "kept")
    prepare_here(folder, out, reject=(int(kept["number"]),))
    assert verdicts(out) == {"rejected": 1, "near-copy": 1}
    shutil.copy(folder / "0.png", folder / "2.png")
    prepare_here(folder, out)
    assert verdicts(out) == {"rejected": 1, "near-copy": 2}


def test_wrong_numbers_change_nothing(three):
    folder, out = three
    before = contents(out)
    for arguments, expected in (
        (("--reject", 2, 58), "no crop has the number 58: the sheets kept.png"),
        (("--restore", 0), "no crop has the number 0"),
        (("--reject", 2, "--restore", 2), "--reject and --restore both name the crop 2"),
        (("--reject", "two"), "two"),
    ):
        assert expected in refusal("prepare_faces.py", folder, out, "--workers", 0, *arguments)
    assert contents(out) == before


def test_crops_left_out_for_another_reason_cannot_be_rejected(tmp_path):
    folder, out = save_photos(tmp_path, photo(1)[0], photo(1)[0]), tmp_path / "out"
    prepare_here(folder, out)
    (copy,) = (row["number"] for row in read_manifest(out) if row["verdict"] == "near-copy")
    line = refusal("prepare_faces.py", folder, out, "--workers", 0, "--reject", copy)
    assert f"crop {copy} was left out already (near-copy)" in line


def test_crops_of_an_earlier_version_are_numbered(three):
    folder, out = three
    with (out / "manifest.csv").open(encoding="utf-8", newline="") as file:
        rows = [row[:-2] for row in csv.reader(file)]
    with (out / "manifest.csv").open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows(rows)
    state = json.loads((out / "prepare.json").read_text(encoding="utf-8"))
    state = {name: value for name, value in state.items() if name not in ("next_number", "rejected")}
    (out / "prepare.json").write_text(json.dumps(state), encoding="utf-8")
    (out / "kept.png").unlink()
    assert prepare_here(folder, out).idle
    assert [row["number"] for row in read_manifest(out)] == ["1", "2", "3"]
    assert (out / "kept.png").exists()


def test_excluded_photos_are_left_out_also_later(three):
    folder, out = three
    (folder / "thumbs").mkdir()
    shutil.copy(folder / "1.png", folder / "thumbs" / "2.png")
    flags = ("--workers", 0, "--exclude", "thumbs", "5.*", "*.bmp")
    output = call("prepare_faces.py", folder, out, *flags)
    assert output.code == 0
    assert output.lines[-3:] == [
        "1 image and 1 folder excluded by --exclude",
        "--exclude '*.bmp' matches no image or folder",
        "removed the crops of 1 photo, now excluded",
    ]
    assert crops(out) == ["faces/1.png-0.jpg", "faces/3.png-0.jpg"]
    assert prepare_here(folder, out).idle
    assert prepare_here(folder, out, exclude=("thumbs/",)).new == 1
    assert prepare_here(folder, out).new == 0
    assert prepare_here(folder, out, exclude=()).new == 1
    assert verdicts(out) == {"kept": 4}


def test_everything_excluded_is_one_line(tmp_path):
    folder = save_photos(tmp_path, photo(1)[0])
    line = refusal("prepare_faces.py", folder, tmp_path / "out", "--exclude", "*")
    assert line.endswith(f"no photo or video in {folder}; 1 image excluded by --exclude")
    assert "the pattern '' is empty" in refusal("prepare_faces.py", folder, tmp_path / "out", "--exclude", "")


def test_numbers_of_removed_crops_are_not_given_again(three):
    folder, out = three
    prepare_here(folder, out, exclude=("5.png",))
    prepare_here(folder, out)
    save_photo(folder / "7.png", 7)
    prepare_here(folder, out)
    assert {source: row["number"] for source, row in by_source(out).items()} == {
        "1.png": "1",
        "3.png": "2",
        "7.png": "4",
    }


def test_rejected_crops_of_photos_that_were_excluded_stay_out(three):
    folder, out = three
    prepare_here(folder, out, reject=(1, 3))
    prepare_here(folder, out, exclude=("1.png", "5.png"))
    assert crops(out) == ["faces/3.png-0.jpg"]
    prepare_here(folder, out, exclude=("5.png",))
    assert by_source(out)["1.png"]["verdict"] == "rejected"
    assert by_source(out)["1.png"]["number"] == "1"
    # A restored one is forgotten.
    prepare_here(folder, out, restore=(1,))
    prepare_here(folder, out, exclude=("1.png",))
    prepare_here(folder, out, exclude=())
    assert {source: row["verdict"] for source, row in by_source(out).items()} == {
        "1.png": "kept",
        "3.png": "kept",
        "5.png": "rejected",
    }


def test_rejected_crop_of_a_changed_photo_survives_a_kill(three, monkeypatch):
    folder, out = three
    prepare_here(folder, out, reject=(2,))
    os.utime(folder / "3.png", (1e9, 1e9))

    class Killed(BaseException):
        pass

    def die(*_):
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr("faces.preparation.folder.process_job", die)
        with pytest.raises(Killed):
            prepare_here(folder, out)
    prepare_here(folder, out)
    assert verdicts(out) == {"kept": 2, "rejected": 1}
    assert by_source(out)["3.png"]["number"] == "2"


@pytest.mark.parametrize("damage", [{"next_number": "x", "rejected": 3}, {"rejected": [1, {"file": None}]}])
def test_damaged_records_are_ignored(three, damage):
    folder, out = three
    state = json.loads((out / "prepare.json").read_text(encoding="utf-8"))
    (out / "prepare.json").write_text(json.dumps(state | damage), encoding="utf-8")
    save_photo(folder / "7.png", 7)
    prepare_here(folder, out)
    assert by_source(out)["7.png"]["number"] == "4"
