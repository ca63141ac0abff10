"""Photos of drawn faces, the output of prepare_faces.py, and a video."""

import pytest
from PIL import Image

from tests.faces.photos import photo, save_photo
from tests.faces.preparation.helpers import SOURCES, contents, save_video
from tests.in_process import succeed


@pytest.fixture(scope="session")
def photos(tmp_path_factory):
    """Six photos of different faces, and other files; read only."""
    folder = tmp_path_factory.mktemp("photos")
    for number, name in enumerate(SOURCES):
        save_photo(folder / name, number)
    (folder / "notes.txt").write_text("not a photo")
    (folder / "broken.jpg").write_bytes(b"\xff\xd8\xff" + bytes(50))
    (folder / "empty.jpg").touch()
    Image.new("RGB", (60, 50), "white").save(folder / "nobody.png")
    return folder


@pytest.fixture(scope="session")
def prepared(photos, tmp_path_factory):
    """Output of prepare_faces.py for `photos` and its folder; read only."""
    out = tmp_path_factory.mktemp("prepared") / "out"
    before = contents(photos)
    output = succeed("prepare_faces.py", photos, out, "--workers", 0)
    assert contents(photos) == before
    return output, out


@pytest.fixture
def video(tmp_path):
    """Four seconds at 5 frames per second with two faces in turn, and a broken video."""
    folder = tmp_path / "in"
    save_video(folder / "my film.avi", [photo(number)[0] for number in (1, 3) for _ in range(10)])
    (folder / "broken.mp4").write_bytes(bytes(1000))
    return folder
