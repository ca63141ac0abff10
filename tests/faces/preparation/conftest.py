"""Photos of drawn faces, what the script makes of them, and a video."""

import numpy as np
import pytest
from PIL import Image

from tests.faces.photos import photo, save_photo
from tests.faces.preparation.prepared import SOURCES, contents
from tests.in_process import succeed


@pytest.fixture(scope="session")
def photos(tmp_path_factory):
    """Six photos, each with another face, and files that are none; do not change it."""
    folder = tmp_path_factory.mktemp("photos")
    for number, name in enumerate(SOURCES):
        save_photo(folder / name, number)
    (folder / "notes.txt").write_text("no photo")
    (folder / "broken.jpg").write_bytes(b"\xff\xd8\xff" + bytes(50))
    (folder / "empty.jpg").touch()
    Image.new("RGB", (60, 50), "white").save(folder / "nobody.png")
    return folder


@pytest.fixture(scope="session")
def made(photos, tmp_path_factory):
    """What the script made of them; do not change it."""
    out = tmp_path_factory.mktemp("made") / "out"
    before = contents(photos)
    told = succeed("prepare_faces.py", photos, out, "--workers", 0)
    assert contents(photos) == before
    return told, out


@pytest.fixture
def video(tmp_path):
    """Four seconds at 5 frames a second: a face, another one, and a broken video beside it."""
    cv2 = pytest.importorskip("cv2", reason="needs the extra 'photos'")
    folder = tmp_path / "in"
    folder.mkdir()
    writer = cv2.VideoWriter(str(folder / "my film.avi"), cv2.VideoWriter_fourcc(*"MJPG"), 5, (220, 180))
    for number in (1, 3):
        frame = np.moveaxis(photo(number)[0][::-1], 0, -1)
        for _ in range(10):
            writer.write(np.ascontiguousarray(frame))
    writer.release()
    (folder / "broken.mp4").write_bytes(bytes(1000))
    return folder
