"""Face crops: cropping, skipped faces, the holdout, the cache and counts."""

import shutil
from pathlib import Path
from unittest import mock

import numpy as np
import pytest
from PIL import Image

from engine.errors import UserError
from faces.landmarks import face_crops
from faces.landmarks.annotations import Annotations, read_annotations, write_landmarks
from faces.landmarks.face_crops import FACE_CROP_SCALE, face_crop_size, holdout_people, load_face_crops
from images.dataset import load_folder

POINTS = np.array([[10.0, 12.0], [30.0, 12.0], [20.0, 32.0]])


@pytest.fixture
def folder(tmp_path) -> Path:
    photos = tmp_path / "photos"
    photos.mkdir()
    files = []
    for number in range(10):
        level = 20 * number
        image = np.full((40, 60, 3), level, np.uint8)
        image[10:14, 8:12] = (255, 0, 0)  # a red spot at the first point
        files.append(f"p{number // 2}_{number}.png")
        Image.fromarray(image).save(photos / files[-1])
    write_landmarks(photos / "landmarks.csv", files, np.stack([POINTS] * 10))
    return photos


def load(folder: Path, **changes):
    settings = {"cache": folder.parent / "cache", "workers": 0, "held_out": 0.3} | changes
    return load_face_crops(read_annotations(folder), 32, **settings)


def test_crop_shows_the_face_with_a_margin(folder):
    data = load(folder)
    assert data.images.shape == (10, 3, face_crop_size(32), face_crop_size(32))
    # The box is 20 wide and high, its centre 20, 22: the first point is half a box to the left and above.
    assert data.points[0, 0] == pytest.approx([0.5 - 0.5 / FACE_CROP_SCALE, 0.5 - 0.5 / FACE_CROP_SCALE])
    x, y = (data.points[0, 0] * face_crop_size(32)).astype(int)
    assert data.images[9, 0, y, x] > 240
    assert data.images[9, 1, y, x] < 20
    assert data.outside == (0, 0)
    assert data.people == [f"p{number // 2}" for number in range(10)]


def test_face_crops_and_whole_images_are_cached_side_by_side(folder):
    """train_gan.py and train_landmarks.py both train on drawn faces by default."""
    cache = folder.parent / "cache"
    for cached in (False, True):
        images = load_folder(folder, 32, cache=cache, workers=0, held_out=0.3)
        assert images.from_cache == cached
        with mock.patch.object(face_crops, "_crop_all", wraps=face_crops._crop_all) as crop_all:
            load(folder)
        assert crop_all.called != cached


def test_people_are_held_out_with_all_their_faces(folder):
    data = load(folder)
    people = {person for person, out in zip(data.people, data.held_out, strict=True) if out}
    assert len(people) == 2  # 0.3 of five people
    assert set(data.training_indices) | set(data.held_out_indices) == set(range(10))
    for person in {*data.people}:
        assert len({out for name, out in zip(data.people, data.held_out, strict=True) if name == person}) == 1


def test_holdout_share():
    people = [str(number) for number in range(1000) for _ in range(3)]
    assert holdout_people(people, 0.3).sum() == 900
    assert holdout_people(["a", "b"], 0.1).sum() == 1


def test_cache_is_used_until_a_file_changes(folder, monkeypatch):
    first = load(folder)
    decoded = []
    decode_full = face_crops.decode_full
    monkeypatch.setattr(face_crops, "decode_full", lambda path: decoded.append(path) or decode_full(path))
    reloaded = load(folder)
    assert not decoded
    assert np.array_equal(first.images, reloaded.images)
    assert first.digest == reloaded.digest
    Image.new("RGB", (60, 40), "blue").save(folder / "p0_0.png")
    changed = load(folder)
    assert len(decoded) == 10
    assert changed.digest != first.digest


def test_digest_depends_on_landmarks(folder):
    first = load(folder)
    write_landmarks(folder / "landmarks.csv", first.files, np.stack([POINTS + 1] * 10))
    assert load(folder).digest != first.digest


def test_digest_depends_on_the_holdout(folder):
    first = load(folder)
    reloaded = load(folder, held_out=0.1)
    assert not np.array_equal(reloaded.held_out, first.held_out)
    assert reloaded.digest != first.digest


def test_unreadable_images_are_skipped(folder):
    (folder / "p1_3.png").write_bytes(b"not an image")
    whole = (folder / "p2_4.png").read_bytes()
    (folder / "p2_4.png").write_bytes(whole[: len(whole) // 2])
    data = load(folder)
    assert len(data.images) == 8
    assert [name for name, _ in data.skipped] == ["p1_3.png", "p2_4.png"]
    assert "p1_3.png" not in data.files
    reloaded = load(folder)
    assert reloaded.skipped == data.skipped
    assert np.array_equal(reloaded.points, data.points)


def test_no_usable_image_is_one_line(folder):
    for path in folder.glob("*.png"):
        path.write_bytes(b"nothing")
    with pytest.raises(UserError, match=r"no image of .* can be used; the first is p0_0.png"):
        load(folder)


def test_points_outside_their_image_are_counted_and_kept(folder):
    points = np.stack([POINTS] * 10)
    points[2, 0] = (-5, 12)
    points[2, 1] = (65, 41)
    points[7, 2] = (20, 40.5)
    write_landmarks(folder / "landmarks.csv", read_annotations(folder).files, points)
    data = load(folder)
    assert data.outside == (3, 2)
    box = 70
    assert data.points[2, 0, 0] == pytest.approx(0.5 - 0.5 / FACE_CROP_SCALE)
    assert data.points[2, 2] == pytest.approx(
        [0.5 + (20 - 30) / box / FACE_CROP_SCALE, 0.5 + (32 - 26.5) / box / FACE_CROP_SCALE]
    )


def test_unmarked_points_have_no_place_in_the_box(folder):
    points = np.stack([POINTS] * 10)
    points[2, 2] = np.nan
    write_landmarks(folder / "landmarks.csv", read_annotations(folder).files, points)
    data = load(folder)
    assert data.outside == (0, 0)
    assert data.facts()["points_unmarked"] == 1
    assert np.isnan(data.points[2]).tolist() == [[False, False], [False, False], [True, True]]
    assert data.points[2, 0] == pytest.approx([0.5 - 0.5 / FACE_CROP_SCALE, 0.5])


def test_impossible_landmarks_are_skipped(folder):
    points = np.stack([POINTS] * 11)
    points[3] += 1000
    points[6, 1, 0] = 1e9
    files = [*read_annotations(folder).files, "p3_6.png"]  # another face in the second such photo
    write_landmarks(folder / "landmarks.csv", files, points)
    data = load(folder)
    assert data.skipped == [
        ("p1_3.png", "all landmarks are outside the image"),
        ("p3_6.png", "the landmarks extend over more than 2 times its longer side"),
    ]
    assert data.files == [*files[:3], *files[4:6], *files[7:]]
    assert data.images.shape[0] == len(data.points) == 9
    assert data.points[-1, 0] == pytest.approx([0.5 - 0.5 / FACE_CROP_SCALE, 0.5 - 0.5 / FACE_CROP_SCALE])
    assert np.array_equal(load(folder).points, data.points)


def test_workers_give_the_same_crops(folder, monkeypatch):
    monkeypatch.setattr(face_crops, "CHUNK_SIZE", 3)
    alone = load(folder)
    shutil.rmtree(folder.parent / "cache")
    assert np.array_equal(load(folder, workers=1).images, alone.images)


def test_unwritable_cache(folder, capsys):
    (folder.parent / "cache").write_text("a file")
    assert len(load(folder).images) == 10
    assert "cannot write" in capsys.readouterr().err


def test_two_faces_per_photo(folder):
    files = ["p0_0.png", "p0_0.png"]
    points = np.stack([POINTS, POINTS + np.array([15, 3])])
    annotations = Annotations(folder, files, points, people=["a", "b"], locations=["row 2", "row 3"])
    data = load_face_crops(annotations, 32, cache=folder.parent / "cache", workers=0, held_out=0.3)
    assert data.files == files
    assert not np.array_equal(data.images[0], data.images[1])
