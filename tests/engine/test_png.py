import numpy as np
import pytest
from PIL import Image

from engine.png import from_pillow, load_png, read_text, save_png, to_pillow


def noise(height: int = 8, width: int | None = None) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (3, height, width or height), dtype=np.uint8)


def test_pillow_round_trip():
    image = noise(5, 7)
    assert to_pillow(image).size == (7, 5)
    assert np.array_equal(from_pillow(to_pillow(image)), image)


def test_image_and_text_round_trip(tmp_path):
    image = noise(9, 13)
    file = tmp_path / "new folder" / "лицо.png"
    save_png(file, image, {"step": 1200, "run": "0007-顔-é", "seed": 0})
    assert np.array_equal(load_png(file), image)
    assert read_text(file) == {"run": "0007-顔-é", "seed": "0", "step": "1200"}
    assert list(read_text(file)) == ["run", "seed", "step"]
    with Image.open(file) as stored:
        assert stored.format == "PNG"


def test_text_that_is_not_utf8_is_escaped(tmp_path):
    save_png(tmp_path / "a.png", noise(), {"latents": "\udcff.npy"})
    assert read_text(tmp_path / "a.png") == {"latents": r"\udcff.npy"}


def test_files_do_not_depend_on_the_order_of_keys(tmp_path):
    save_png(tmp_path / "a.png", noise(), {"a": 1, "b": 2})
    save_png(tmp_path / "b.png", noise(), {"b": 2, "a": 1})
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()


def test_failure_keeps_the_existing_file(tmp_path):
    save_png(tmp_path / "a.png", noise())
    before = (tmp_path / "a.png").read_bytes()
    with pytest.raises((TypeError, ValueError)):
        save_png(tmp_path / "a.png", noise().astype(np.float64))
    assert (tmp_path / "a.png").read_bytes() == before
    assert [file.name for file in tmp_path.iterdir()] == ["a.png"]


def test_invalid_or_missing_file(tmp_path):
    (tmp_path / "a.png").write_bytes(b"no image")
    for read in (load_png, read_text):
        with pytest.raises(OSError, match=r"a\.png"):
            read(tmp_path / "a.png")
        with pytest.raises(OSError, match=r"b\.png"):
            read(tmp_path / "b.png")
