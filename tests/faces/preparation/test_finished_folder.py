"""Another run on a finished folder: new, replaced and deleted files, and other rules."""

import json
import shutil

import numpy as np
import pytest
from PIL import Image

from engine.errors import UserError
from engine.png import load_png
from faces.preparation import cropper
from faces.preparation import folder as preparation
from tests.faces.detection.tiny_yunet import save_other_network, save_tiny_yunet
from tests.faces.photos import save_photo
from tests.faces.preparation.helpers import (
    FarPredictor,
    contents,
    crops,
    output_files,
    prepare_here,
    read_manifest,
    replace_predictor,
    verdicts,
)
from tests.in_process import call

pytest.importorskip("cv2", reason="needs the extra 'photos'")


def test_finished_folder_is_left_unchanged(prepared, photos):
    _, out = prepared
    before = contents(out)
    output = call("prepare_faces.py", photos, out, "--workers", 0)
    assert output.code == 0
    assert output.lines == [f"nothing to do: all 9 photos have been processed into {out}"]
    assert contents(out) == before


def test_other_rules_are_rejected(prepared, photos):
    _, out = prepared
    before = contents(out)
    for arguments, message in (
        (("--size", 96), "started with --size 112, not --size 96"),
        (("--no-upright",), "started with --upright, not --no-upright"),
        (("--near-copy", -1), "--near-copy 24, not --near-copy -1"),
    ):
        output = call("prepare_faces.py", photos, out, *arguments)
        assert output.code == 2
        assert message in output.error
        assert "choose another folder, or delete this one" in output.error
    assert contents(out) == before


def test_changed_landmark_network_is_rejected(tmp_path, monkeypatch):
    folder, out = tmp_path / "in", tmp_path / "out"
    save_photo(folder / "1.png", 1)
    network = tmp_path / "0001-run"
    (network / "checkpoints").mkdir(parents=True)
    (network / "checkpoints" / "best.pt").write_text("one network")
    replace_predictor(monkeypatch, FarPredictor())
    assert prepare_here(folder, out, landmarks=network).new == 1
    (network / "checkpoints" / "step_000002.pt").write_text("another network, which is not the best")
    assert prepare_here(folder, out, landmarks=network).new == 0
    save_photo(folder / "3.png", 3)
    (network / "checkpoints" / "best.pt").write_text("another network")
    before = contents(out)
    with pytest.raises(UserError, match=r"started with another --landmarks: .*0001-run has changed"):
        prepare_here(folder, out, landmarks=network)
    assert contents(out) == before
    # Older folders have no digests.
    note = json.loads((out / "prepare.json").read_text())
    del note["digests"]
    (out / "prepare.json").write_text(json.dumps(note))
    cropper.load_cropper.cache_clear()
    assert prepare_here(folder, out, landmarks=network).new == 1
    (network / "checkpoints" / "best.pt").write_text("a third network")
    with pytest.raises(UserError, match="another --landmarks"):
        prepare_here(folder, out, landmarks=network)


def test_missing_detector_matters_only_for_new_photos(tmp_path):
    pytest.importorskip("onnx", reason="needs onnx to make a small network")
    folder, out, detector = tmp_path / "in", tmp_path / "out", tmp_path / "tiny.onnx"
    save_photo(folder / "1.png", 1)
    save_tiny_yunet(detector)
    assert prepare_here(folder, out, detector=detector).new == 1
    detector.rename(tmp_path / "away.onnx")
    assert prepare_here(folder, out, detector=detector).new == 0
    save_photo(folder / "3.png", 3)
    cropper.load_cropper.cache_clear()
    with pytest.raises(UserError, match=r"no file .*tiny\.onnx"):
        prepare_here(folder, out, detector=detector)
    save_other_network(detector)
    with pytest.raises(UserError, match="was started with another --detector"):
        prepare_here(folder, out, detector=detector)
    (tmp_path / "away.onnx").replace(detector)
    assert prepare_here(folder, out, detector=detector).new == 1


def test_new_photos_are_added(photos, prepared, tmp_path):
    folder, out = tmp_path / "in", tmp_path / "out"
    shutil.copytree(photos, folder)
    late = folder / "two" / "same.png"
    late.rename(tmp_path / "late.png")
    assert prepare_here(folder, out).new == 8
    (tmp_path / "late.png").rename(late)
    summary = prepare_here(folder, out)
    assert (summary.new, summary.done, summary.jobs) == (1, 9, 9)
    assert {name: data for name, data in output_files(out).items() if name != "manifest.csv"} == {
        name: data for name, data in output_files(prepared[1]).items() if name != "manifest.csv"
    }
    assert prepare_here(folder, out).new == 0


def test_unreadable_and_changed_photos_are_tried_again(tmp_path):
    folder, out = tmp_path / "in", tmp_path / "out"
    for number in (1, 3, 5):
        save_photo(folder / f"{number}.png", number)
    shutil.copy(folder / "1.png", tmp_path / "good.png")
    for content in (b"", b"\x89PNG\r\n\x1a\n" + bytes(50)):  # skipped by the listing, and by the decoder
        (folder / "1.png").write_bytes(content)
        shutil.rmtree(out, ignore_errors=True)
        assert prepare_here(folder, out).new == 3
        before = contents(out)
        assert prepare_here(folder, out).new == 0
        assert contents(out) == before
        shutil.copy(tmp_path / "good.png", folder / "1.png")
        summary = prepare_here(folder, out)
        assert (summary.new, summary.unreadable) == (1, {})
        assert verdicts(out) == {"kept": 3}
    # Replaced by a photo with another face, and by one without.
    save_photo(folder / "3.png", 7)
    Image.new("RGB", (60, 50), "white").save(folder / "5.png")
    old = {row["source"]: row for row in read_manifest(out)}
    assert prepare_here(folder, out).new == 2
    rows = {row["source"]: row for row in read_manifest(out)}
    assert rows["1.png"] == old["1.png"]
    assert rows["3.png"]["hash"] != old["3.png"]["hash"]
    assert rows["5.png"]["verdict"] == "no face"
    assert crops(out) == ["faces/1.png-0.jpg", "faces/3.png-0.jpg"]
    assert prepare_here(folder, out).new == 0


def test_crops_of_photos_on_a_disk_that_is_not_mounted_stay(tmp_path):
    folder, out, disk = tmp_path / "in", tmp_path / "out", tmp_path / "disk"
    for number in (1, 3):
        save_photo(disk / f"{number}.png", number)
    save_photo(folder / "5.png", 5)  # on another disk
    for photo in disk.iterdir():
        (folder / photo.name).symlink_to(photo)
    assert prepare_here(folder, out).new == 3
    before, found = crops(out), read_manifest(out)
    disk.rename(tmp_path / "away")
    prepare_here(folder, out)
    assert (crops(out), read_manifest(out)) == (before, found)
    (tmp_path / "away").rename(disk)
    assert prepare_here(folder, out).new == 0
    assert (crops(out), read_manifest(out)) == (before, found)


def test_a_photo_that_another_version_can_read_is_tried_again(tmp_path, monkeypatch):
    folder, out = tmp_path / "in", tmp_path / "out"
    for number in (1, 3):
        save_photo(folder / f"{number}.png", number)

    def process_job(arguments, job):
        if job.source == "1.png":
            return cropper.CropResult([], "an unknown format")
        return cropper.process_job(arguments, job)

    with monkeypatch.context() as patch:
        patch.setattr(preparation, "process_job", process_job)
        assert prepare_here(folder, out).unreadable == {"1.png": "an unknown format"}
    assert prepare_here(folder, out).unreadable == {}
    assert verdicts(out) == {"kept": 2}


def test_a_manifest_without_versions_is_trusted_and_converted(tmp_path):
    folder, out = tmp_path / "in", tmp_path / "out"
    save_photo(folder / "1.png", 1)
    prepare_here(folder, out)
    rows = [line.rsplit(",", 3)[0] for line in (out / "manifest.csv").read_text().splitlines()]
    (out / "manifest.csv").write_text("".join(f"{row}\n" for row in rows))
    assert prepare_here(folder, out).new == 0
    save_photo(folder / "3.png", 3)
    assert prepare_here(folder, out).new == 1
    assert [bool(row["version"]) for row in read_manifest(out)] == [False, True]


def test_deleted_crops_are_not_restored(tmp_path):
    folder, out = tmp_path / "in", tmp_path / "out"
    for number in (0, 1):
        save_photo(folder / f"{number}.png", number)
    prepare_here(folder, out)
    (out / read_manifest(out)[0]["file"]).unlink()
    save_photo(folder / "late.png", 3)
    assert prepare_here(folder, out).new == 1
    assert prepare_here(folder, out).new == 0
    assert not (out / read_manifest(out)[0]["file"]).exists()
    for path in [*out.glob("faces/*"), *out.glob("left_out/*")]:
        path.unlink()
    save_photo(folder / "later.png", 5)
    assert prepare_here(folder, out).new == 1


def test_edited_or_damaged_crops_are_skipped_on_the_sheet(tmp_path):
    folder, out = tmp_path / "in", tmp_path / "out"
    for number in (1, 3):
        save_photo(folder / f"{number}.png", number)
    prepare_here(folder, out, near_copy=-1)
    larger, damaged = (out / row["file"] for row in read_manifest(out))
    Image.new("RGB", (300, 200)).save(larger)
    damaged.write_bytes(b"")
    save_photo(folder / "5.png", 5)
    assert prepare_here(folder, out, near_copy=-1).new == 1
    sheet = load_png(out / "kept.png")
    assert np.array_equal(sheet[:, :112, :112], load_png(out / read_manifest(out)[-1]["file"]))
    assert (sheet[:, :, 112:] == 255).all()


def test_invalid_hash_in_the_manifest_is_one_line(tmp_path):
    folder, out = tmp_path / "in", tmp_path / "out"
    save_photo(folder / "1.png", 1)
    prepare_here(folder, out)
    table = out / "manifest.csv"
    table.write_text(table.read_text().replace(read_manifest(out)[0]["hash"], "1.2E+35"))
    save_photo(folder / "3.png", 3)
    with pytest.raises(UserError, match=r"manifest\.csv, 1\.png: the hash 1\.2E\+35 is invalid; restore it"):
        prepare_here(folder, out)
