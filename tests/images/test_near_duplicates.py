import numpy as np
import pytest
from PIL import Image, ImageFilter

from engine.png import from_pillow, to_pillow
from images.near_duplicates import difference_hash, grey_cells, near_duplicate_groups

RNG = np.random.default_rng(0)


def random_photo():
    """A random image with large areas, uint8 [3, 96, 96]."""
    small = Image.fromarray(RNG.integers(0, 256, (8, 8, 3), np.uint8))
    return from_pillow(small.resize((96, 96), Image.Resampling.BICUBIC))


PHOTO = random_photo()


def changed(image, change):
    return from_pillow(change(to_pillow(image)))


def groups(*images):
    return near_duplicate_groups([grey_cells(image) for image in images])


def test_hash_by_hand():
    ramp = np.tile(np.linspace(0, 255, 130).astype(np.uint8), (3, 130, 1))
    assert difference_hash(ramp) == 2**144 - 1  # the right neighbour is always lighter
    assert difference_hash(ramp[:, :, ::-1]) == 0


@pytest.mark.parametrize(
    "change",
    [
        lambda image: image.resize((80, 80), Image.Resampling.LANCZOS),
        lambda image: image.filter(ImageFilter.GaussianBlur(1)),
        lambda image: image.point(lambda level: level * 0.8 + 20),
        lambda image: image.crop((1, 1, 96, 96)),
    ],
)
def test_copies_and_other_photos(change):
    images = [random_photo() for _ in range(40)]
    assert groups(*images) == []
    assert groups(*images[:20], PHOTO, *images[20:], changed(PHOTO, change)) == [[20, 41]]


def test_groups_are_transitive():
    images = [changed(PHOTO, lambda image, n=n: image.crop((n, 0, 96, 96))) for n in range(5)]
    assert (difference_hash(images[0]) ^ difference_hash(images[4])).bit_count() > 10
    assert groups(*images) == [[0, 1, 2, 3, 4]]


def test_images_without_structure_are_no_near_duplicates():
    ramp = np.tile(np.linspace(0, 200, 32).astype(np.uint8), (3, 32, 1))
    assert groups(ramp, ramp // 2, ramp.transpose(0, 2, 1), ramp.transpose(0, 2, 1) + 9) == []
    assert groups(*(np.full((3, 32, 32), level, np.uint8) for level in (0, 0, 90))) == []


def test_few_images():
    assert groups() == groups(PHOTO) == []


def test_ten_thousand_images_take_seconds():
    import time

    cells = [*RNG.integers(0, 256, (10_800, 12, 13), np.uint8)]
    cells[10_000] = cells[7] // 2
    start = time.process_time()
    assert near_duplicate_groups(cells) == [[7, 10_000]]
    assert time.process_time() - start < 4
