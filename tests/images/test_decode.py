import io
import multiprocessing
import os
import signal
import struct
import subprocess
import sys
import time
import warnings
import zlib
from functools import partial
from pathlib import Path

import numpy as np
import psutil
import pytest
from PIL import Image, ImageDraw
from PIL.PngImagePlugin import PngInfo

from engine.errors import UserError
from images.decode import EXIF_TRANSPOSE, UnusableImageError, decode, decode_files, decode_full

RED, GREEN, BLUE, WHITE = (255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255)
LOSSLESS = {"PNG": {}, "WEBP": {"lossless": True}, "BMP": {}, "TIFF": {}, "GIF": {}}
LOSSY = {"JPEG": {"quality": 95, "subsampling": 0}}


def corners(size=64):
    """Red, green / blue, white: all rotations and reflections differ."""
    image = Image.new("RGB", (size, size), RED)
    half = size // 2
    image.paste(GREEN, (half, 0, size, half))
    image.paste(BLUE, (0, half, half, size))
    image.paste(WHITE, (half, half, size, size))
    return image


def planes(image):
    return np.asarray(image.convert("RGB")).transpose(2, 0, 1)


def grey(level, dtype=np.uint8):
    return Image.fromarray(np.full((32, 32), level, dtype))


def assert_colour(pixels, colour, tolerance=0):
    """Assert that every pixel of [3, S, S] has this colour."""
    distance = np.abs(pixels.astype(int) - np.array(colour)[:, None, None])
    assert distance.max() <= tolerance, f"{pixels.reshape(3, -1).T[distance.max(0).argmax()]} is not {colour}"


@pytest.fixture
def save(tmp_path):
    def save(image, name="image.png", **options):
        path = tmp_path / name
        image.save(path, **options)
        return path

    return save


@pytest.mark.parametrize(("form", "options"), (LOSSLESS | LOSSY).items())
@pytest.mark.parametrize("name", ["x.jpg", "X.PNG", "no-suffix", "a b ü 日本.dat"])
def test_format_is_detected_by_content(tmp_path, form, options, name):
    corners().save(tmp_path / name, form, **options)
    pixels = decode(tmp_path / name, 64)
    assert pixels.shape == (3, 64, 64)
    assert pixels.dtype == np.uint8
    assert pixels.flags.c_contiguous
    tolerance = 0 if form in LOSSLESS else 8
    assert np.abs(pixels.astype(int) - planes(corners())).max() <= tolerance


@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP", "TIFF"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation(tmp_path, form, orientation):
    inverse = {6: Image.Transpose.ROTATE_90, 8: Image.Transpose.ROTATE_270}
    turn = inverse.get(orientation, EXIF_TRANSPOSE.get(orientation))
    stored = corners() if turn is None else corners().transpose(turn)
    exif = Image.Exif()
    exif[0x0112] = orientation
    options = (LOSSLESS | LOSSY)[form]
    stored.save(tmp_path / "photo", form, exif=exif.tobytes(), **options)
    assert np.abs(decode(tmp_path / "photo", 64).astype(int) - planes(corners())).max() <= 8


@pytest.mark.parametrize("name", ["camera.dng", "camera.NEF", "camera.cr2"])
def test_camera_raw_is_not_replaced_by_its_thumbnail(tmp_path, name):
    corners(40).save(tmp_path / name, "TIFF")  # as Pillow opens such a file
    for read in (decode_full, partial(decode, size=32)):
        with pytest.raises(UnusableImageError, match="camera raw: export it as JPEG"):
            read(tmp_path / name)


@pytest.mark.parametrize("after_pixels", [False, True])
def test_large_text_chunk(save, after_pixels):
    chunks = PngInfo()
    text = b"comment\0\0" + zlib.compress(b"x" * 8_000_000)
    chunks.add(b"zTXt", text, after_idat=after_pixels)
    exif = Image.Exif()
    exif[0x0112] = 3
    path = save(corners().transpose(Image.Transpose.ROTATE_180), pnginfo=chunks, exif=exif)
    np.testing.assert_array_equal(decode(path, 64), planes(corners()))


@pytest.mark.parametrize("suffix", ["heic", "avif"])
def test_photos_of_phones(tmp_path, suffix, monkeypatch):
    path, exif = tmp_path / f"photo.{suffix}", Image.Exif()
    exif[0x0112] = 6
    stored = corners().transpose(Image.Transpose.ROTATE_90)
    if suffix == "heic":
        heif = pytest.importorskip("pillow_heif", reason="needs the extra 'photos'")
        heif.from_pillow(stored).save(path, quality=95, exif=exif.tobytes())
    else:
        stored.save(path, quality=95, exif=exif)
    assert np.abs(decode(path, 64)[:, 8:24, 8:24].astype(int) - planes(corners())[:, 8:24, 8:24]).max() <= 8
    assert decode_full(path).shape == (3, 64, 64)
    for name in ("AVIF", "HEIF"):
        monkeypatch.setattr(f"images.decode.{name}", False)
    with pytest.raises(UnusableImageError, match=rf"{suffix.upper()} needs the extra 'photos'"):
        decode(path, 64)


def test_unreadable_exif(save):
    path = save(
        corners(), "photo.jpg", exif=b"Exif\0\0II*\0\xff\xff\xff\xff broken", quality=95, subsampling=0
    )
    assert np.abs(decode(path, 64).astype(int) - planes(corners())).max() <= 8


def test_transparency_is_blended_with_white(save):
    pink = Image.new("RGBA", (32, 32), (255, 0, 0, 128))
    assert_colour(decode(save(pink), 32), (255, 127, 127), 1)
    assert_colour(decode(save(pink, "pink.webp", lossless=True), 32), (255, 127, 127), 1)
    assert_colour(decode(save(Image.new("RGBA", (32, 32), (9, 99, 9, 0))), 32), WHITE)
    assert_colour(decode(save(Image.new("LA", (32, 32), (0, 64))), 32), (191, 191, 191), 1)
    assert_colour(decode(save(Image.new("LA", (32, 32), (0, 255))), 32), (0, 0, 0))


def test_transparent_edge_does_not_bleed_hidden_colour(save):
    image = Image.new("RGBA", (300, 300), (255, 0, 0, 0))
    image.paste((0, 0, 0, 255), (0, 0, 150, 300))
    red, green, blue = decode(save(image), 32)
    assert np.array_equal(red, green)
    assert np.array_equal(red, blue)


@pytest.mark.parametrize("name", ["palette.png", "palette.gif"])
def test_palette_transparency(save, name):
    image = Image.new("P", (32, 32), 1)
    image.putpalette([*RED, *BLUE])
    assert_colour(decode(save(image, name), 32), BLUE)
    assert_colour(decode(save(image, name, transparency=1), 32), WHITE)
    assert_colour(decode(save(image, name, transparency=0), 32), BLUE)


def test_palette_with_alpha_values(save):
    image = Image.new("P", (32, 32), 1)
    image.putpalette([*RED, *BLUE])
    assert_colour(decode(save(image, transparency=bytes([0, 128])), 32), (127, 127, 255), 1)


def test_transparent_colour(save):
    assert_colour(decode(save(Image.new("RGB", (32, 32), RED), transparency=RED), 32), WHITE)
    assert_colour(decode(save(grey(80), transparency=80), 32), WHITE)
    assert_colour(decode(save(grey(81), transparency=80), 32), (81, 81, 81))
    assert_colour(decode(save(grey(40000, np.uint16), transparency=40000), 32), WHITE)
    assert_colour(decode(save(grey(40000, np.uint16), transparency=40001), 32), (156,) * 3)


@pytest.mark.parametrize("name", ["grey.png", "grey.tif"])
@pytest.mark.parametrize(("level", "expected"), [(0, 0), (257, 1), (32768, 128), (40000, 156), (65535, 255)])
def test_16_bit_grey_is_scaled_not_clipped(save, name, level, expected):
    assert_colour(decode(save(grey(level, np.uint16), name), 32), (expected,) * 3)


def test_16_bit_grey_big_endian(tmp_path):
    image = grey(40000, ">u2")
    assert image.mode == "I;16B"
    image.save(tmp_path / "big.tif")
    assert_colour(decode(tmp_path / "big.tif", 32), (156,) * 3)


def test_other_modes(save):
    assert_colour(decode(save(grey(77)), 32), (77,) * 3)
    assert_colour(decode(save(grey(77), "grey.jpg"), 32), (77,) * 3, 1)
    assert_colour(decode(save(Image.new("1", (32, 32), 1)), 32), WHITE)
    assert_colour(decode(save(Image.new("1", (32, 32), 0), "bits.tif"), 32), (0, 0, 0))


@pytest.mark.parametrize("name", ["ink.jpg", "ink.tif"])
def test_cmyk(save, name):
    cyan, black, paper = (255, 0, 0, 0), (0, 0, 0, 255), (0, 0, 0, 0)
    assert_colour(decode(save(Image.new("CMYK", (32, 32), cyan), name), 32), (0, 255, 255), 3)
    assert_colour(decode(save(Image.new("CMYK", (32, 32), black), name), 32), (0, 0, 0), 3)
    assert_colour(decode(save(Image.new("CMYK", (32, 32), paper), name), 32), WHITE, 3)


@pytest.mark.parametrize("name", ["film.gif", "film.webp", "film.png", "film.tif"])
def test_first_of_several_frames(save, name):
    frames = [Image.new("RGB", (32, 32), colour) for colour in (RED, GREEN, BLUE)]
    path = save(frames[0], name, save_all=True, append_images=frames[1:])
    assert_colour(decode(path, 32), RED, 2)


def test_centre_square(save):
    wide = Image.new("RGB", (300, 100), RED)
    wide.paste(GREEN, (100, 0, 200, 100))
    wide.paste(BLUE, (200, 0, 300, 100))
    assert_colour(decode(save(wide), 32), GREEN)
    assert_colour(decode(save(wide.transpose(Image.Transpose.ROTATE_90)), 32), GREEN)


def test_resizing_is_antialiased(save):
    checkered = np.indices((960, 960)).sum(0) % 2 * 255
    assert_colour(decode(save(Image.fromarray(checkered.astype(np.uint8))), 96), (127, 127, 127), 2)


def test_large_jpeg_matches_png(save):
    image = Image.radial_gradient("L").resize((1300, 1100)).convert("RGB")
    ImageDraw.Draw(image).ellipse((500, 400, 800, 700), fill=RED)
    large = decode(save(image, "large.jpg", quality=95), 96).astype(int)
    difference = np.abs(large - decode(save(image, "large.png"), 96))
    assert difference.mean() < 1
    assert difference.max() < 40


def reason(path, size=32):
    with pytest.raises(UnusableImageError) as caught:
        decode(path, size)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(("form", "options"), (LOSSLESS | LOSSY).items())
@pytest.mark.parametrize("share", [0.001, 0.3, 0.7])
def test_truncated_file(tmp_path, form, options, share):
    whole = io.BytesIO()
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    Image.fromarray(noise).save(whole, form, **options)
    path = tmp_path / "cut"
    path.write_bytes(whole.getvalue()[: max(1, int(share * len(whole.getvalue())))])
    assert "cannot be decoded" in reason(path) or "not a JPEG" in reason(path)


@pytest.mark.parametrize("size", [32, 96])
def test_truncated_large_jpeg(tmp_path, size):
    whole = io.BytesIO()
    noise = np.random.default_rng(0).integers(0, 256, (400, 400, 3), np.uint8)
    for progressive in (False, True):
        Image.fromarray(noise).save(whole, "JPEG", progressive=progressive)
        (tmp_path / "cut.jpg").write_bytes(whole.getvalue()[: len(whole.getvalue()) // 2])
        assert "truncated" in reason(tmp_path / "cut.jpg", size)


def test_damaged_data(save):
    path = save(corners())
    content = bytearray(path.read_bytes())
    middle = content.index(b"IDAT") + 8
    content[middle : middle + 20] = bytes(20)
    path.write_bytes(content)
    assert "cannot be decoded" in reason(path)


def test_not_an_image(tmp_path):
    (tmp_path / "text.jpg").write_text("no image")
    assert reason(tmp_path / "text.jpg") == "not a JPEG, PNG, WebP, BMP, TIFF, GIF, HEIC or AVIF image"
    (tmp_path / "empty.jpg").touch()
    assert reason(tmp_path / "empty.jpg") == "not a JPEG, PNG, WebP, BMP, TIFF, GIF, HEIC or AVIF image"
    assert "No such file" in reason(tmp_path / "gone.jpg")


def test_formats_with_external_programs_are_not_opened(save):
    assert "not a JPEG" in reason(save(corners(), "page.eps"))


def test_too_small_is_less_than_half_the_size(save):
    tall = Image.new("RGB", (47, 400), RED)
    assert reason(save(tall), 96) == "too small: 47 x 400 px, the shorter side needs 48"
    assert_colour(decode(save(Image.new("RGB", (48, 400), RED)), 96), RED)


def test_decompression_bomb(tmp_path):
    def chunk(kind, content):
        return (
            struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))
        )

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0))
    bomb = b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(bytes(1000))) + chunk(b"IEND", b"")
    (tmp_path / "bomb.png").write_bytes(bomb)
    assert reason(tmp_path / "bomb.png").startswith("too large: more than 178,")


def test_pixels_of_unknown_range(save):
    assert "floating-point" in reason(save(grey(0.5, np.float32), "float.tif"))
    assert "more than 16 bits" in reason(save(Image.new("I", (32, 32), 1_000_000), "long.tif"))


def test_warnings_are_suppressed(save, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 3000)
    palette = Image.new("P", (64, 64), 1)
    palette.putpalette([*RED, *BLUE])
    path = save(palette, transparency=bytes([0, 128]))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        decode(path, 32)


@pytest.fixture
def hundred(tmp_path):
    """A hundred files whose colours are their numbers; every tenth is not an image."""
    paths = []
    for number in range(100):
        path = tmp_path / f"{number:03}.png"
        if number % 10 == 9:
            path.write_bytes(b"nothing")
        else:
            Image.new("RGB", (16, 16), (number, 0, 0)).save(path)
        paths.append(path)
    return paths


@pytest.mark.parametrize("workers", [0, 2])
def test_decode_files_keeps_the_order(hundred, workers):
    results = list(decode_files(hundred, 16, workers))
    assert len(results) == 100
    for number, result in enumerate(results):
        if number % 10 == 9:
            assert result == "not a JPEG, PNG, WebP, BMP, TIFF, GIF, HEIC or AVIF image"
        else:
            assert_colour(result, (number, 0, 0))
    assert not multiprocessing.active_children()


def test_killed_worker(hundred):
    results = decode_files(hundred * 20, 16, workers=1)
    next(results)
    for child in multiprocessing.active_children():
        os.kill(child.pid, signal.SIGKILL)
    with pytest.raises(UserError, match="--workers 0"):
        list(results)


def test_workers_end_with_a_killed_parent(hundred, tmp_path):
    script = tmp_path / "script.py"
    script.write_text(
        "import multiprocessing, os, sys\n"
        "from images.decode import decode_files\n"
        "if __name__ == '__main__':\n"
        "    results = decode_files(sys.argv[1:] * 20, 16, workers=1)\n"
        "    next(results)\n"
        "    print(multiprocessing.active_children()[0].pid, flush=True)\n"
        "    os.kill(os.getpid(), 9)\n"
    )
    root = Path(__file__).parents[2]
    command = [sys.executable, str(script), *map(str, hundred)]
    environment = os.environ | {"PYTHONPATH": str(root)}
    with subprocess.Popen(command, stdout=subprocess.PIPE, env=environment) as parent:
        worker = int(parent.stdout.readline())
    end = time.monotonic() + 10
    while psutil.pid_exists(worker) and psutil.Process(worker).status() != psutil.STATUS_ZOMBIE:
        assert time.monotonic() < end, "the worker is still running"
        time.sleep(0.05)
