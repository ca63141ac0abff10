"""From annotated photos to tiles: what is kept, left out, held out, cached and counted."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from engine.errors import UserError
from faces.landmarks import tiles as tiles_module
from faces.landmarks.annotations import Annotations, read_annotations, write_table
from faces.landmarks.tiles import TILE, hold_out, load_tiles, tile_size

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
    write_table(photos / "landmarks.csv", files, np.stack([POINTS] * 10))
    return photos


def load(folder: Path, **changes):
    settings = {"cache": folder.parent / "cache", "workers": 0, "share_held": 0.3} | changes
    return load_tiles(read_annotations(folder), 32, **settings)


def test_a_tile_shows_the_face_with_room_around_it(folder):
    data = load(folder)
    assert data.images.shape == (10, 3, tile_size(32), tile_size(32))
    # The box is 20 wide and high, its centre 20, 22: the first point is half a box to the left and above.
    assert data.points[0, 0] == pytest.approx([0.5 - 0.5 / TILE, 0.5 - 0.5 / TILE])
    x, y = (data.points[0, 0] * tile_size(32)).astype(int)
    assert data.images[9, 0, y, x] > 240
    assert data.images[9, 1, y, x] < 20
    assert data.outside == (0, 0)
    assert data.people == [f"p{number // 2}" for number in range(10)]


def test_people_are_held_out_with_all_their_images_whatever_else_there_is(folder):
    data = load(folder)
    held = {person for person, out in zip(data.people, data.held, strict=True) if out}
    assert len(held) == 2  # of five people, 0.3 of them
    assert set(data.trained) | set(data.held_rows) == set(range(10))
    for person in {*data.people}:
        assert len({out for who, out in zip(data.people, data.held, strict=True) if who == person}) == 1


def test_seven_to_three():
    people = [str(number) for number in range(1000) for _ in range(3)]
    assert hold_out(people, 0.3).sum() == 900
    assert hold_out(["a", "b"], 0.1).sum() == 1


def test_the_second_start_takes_the_cache_and_a_changed_file_does_not(folder, monkeypatch):
    first = load(folder)
    decoded = []
    whole = tiles_module.decode_full
    monkeypatch.setattr(tiles_module, "decode_full", lambda path: decoded.append(path) or whole(path))
    again = load(folder)
    assert not decoded
    assert np.array_equal(first.images, again.images)
    assert first.digest == again.digest
    Image.new("RGB", (60, 40), "blue").save(folder / "p0_0.png")
    changed = load(folder)
    assert len(decoded) == 10
    assert changed.digest != first.digest


def test_other_landmarks_are_another_data_set(folder):
    first = load(folder)
    write_table(folder / "landmarks.csv", first.files, np.stack([POINTS + 1] * 10))
    assert load(folder).digest != first.digest


def test_other_people_held_out_are_another_data_set(folder):
    first = load(folder)
    again = load(folder, share_held=0.1)
    assert not np.array_equal(again.held, first.held)
    assert again.digest != first.digest


def test_bad_images_are_left_out_and_listed(folder):
    (folder / "p1_3.png").write_bytes(b"not an image")
    whole = (folder / "p2_4.png").read_bytes()
    (folder / "p2_4.png").write_bytes(whole[: len(whole) // 2])
    data = load(folder)
    assert len(data.images) == 8
    assert [name for name, _ in data.skipped] == ["p1_3.png", "p2_4.png"]
    assert "p1_3.png" not in data.files
    again = load(folder)
    assert again.skipped == data.skipped
    assert np.array_equal(again.points, data.points)


def test_no_image_at_all_is_one_line(folder):
    for path in folder.glob("*.png"):
        path.write_bytes(b"nothing")
    with pytest.raises(UserError, match=r"no image of .* can be used; the first is p0_0.png"):
        load(folder)


def test_points_outside_their_image_are_counted_and_learnt_where_they_lie(folder):
    places = np.stack([POINTS] * 10)
    places[2, 0] = (-5, 12)
    places[2, 1] = (65, 41)
    places[7, 2] = (20, 40.5)
    write_table(folder / "landmarks.csv", read_annotations(folder).files, places)
    data = load(folder)
    assert data.outside == (3, 2)
    box = 70
    assert data.points[2, 0, 0] == pytest.approx(0.5 - 0.5 / TILE)
    assert data.points[2, 2] == pytest.approx([0.5 + (20 - 30) / box / TILE, 0.5 + (32 - 26.5) / box / TILE])


def test_landmarks_that_cannot_be_of_their_image_are_left_out_and_listed(folder):
    places = np.stack([POINTS] * 11)
    places[3] += 1000
    places[6, 1, 0] = 1e9
    files = [*read_annotations(folder).files, "p3_6.png"]  # another face on the photo of the second slip
    write_table(folder / "landmarks.csv", files, places)
    data = load(folder)
    assert data.skipped == [
        ("p1_3.png", "none of the landmarks lies in it"),
        ("p3_6.png", "the landmarks reach over more than 2 times its longer side"),
    ]
    assert data.files == [*files[:3], *files[4:6], *files[7:]]
    assert data.images.shape[0] == len(data.points) == 9
    assert data.points[-1, 0] == pytest.approx([0.5 - 0.5 / TILE, 0.5 - 0.5 / TILE])
    assert np.array_equal(load(folder).points, data.points)


def test_workers_make_the_same(folder, monkeypatch):
    monkeypatch.setattr(tiles_module, "CHUNK", 3)
    alone = load(folder)
    shutil.rmtree(folder.parent / "cache")
    assert np.array_equal(load(folder, workers=1).images, alone.images)


def test_without_a_cache_it_works_in_memory(folder, capsys):
    (folder.parent / "cache").write_text("a file")
    assert len(load(folder).images) == 10
    assert "cannot write" in capsys.readouterr().err


def test_two_faces_on_one_photo(folder):
    files = ["p0_0.png", "p0_0.png"]
    points = np.stack([POINTS, POINTS + np.array([15, 3])])
    annotations = Annotations(folder, files, points, people=["a", "b"], places=["row 2", "row 3"])
    data = load_tiles(annotations, 32, cache=folder.parent / "cache", workers=0, share_held=0.3)
    assert data.files == files
    assert not np.array_equal(data.images[0], data.images[1])
