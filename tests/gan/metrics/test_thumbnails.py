"""Thumbnails: what they contain, and that copies stay close to their originals."""

from __future__ import annotations

import io

import numpy as np
import pytest
import torch
from PIL import Image, ImageFilter

from gan.metrics.memorization import close_to_training
from gan.metrics.thumbnails import OFFSETS, thumbnails


def pictures(count: int, side: int, seed: int) -> np.ndarray:
    """Smooth pictures with fine noise, uint8 [N, 3, S, S]."""
    random = np.random.default_rng(seed)
    coarse = random.integers(20, 236, (count, 8, 8, 3), np.uint8)
    smooth = [Image.fromarray(image).resize((side, side), Image.Resampling.BICUBIC) for image in coarse]
    noisy = np.stack([np.asarray(image) for image in smooth]) + random.normal(0, 4, (count, side, side, 3))
    return noisy.round().clip(0, 255).astype(np.uint8).transpose(0, 3, 1, 2)


def with_pillow(images: np.ndarray, function) -> np.ndarray:
    changed = [np.asarray(function(Image.fromarray(image.transpose(1, 2, 0)))) for image in images]
    return np.stack(changed).transpose(0, 3, 1, 2)


def shifted(images: np.ndarray, down: int, right: int) -> np.ndarray:
    """Move images; the edge pixels fill what becomes free."""
    side = images.shape[-1]
    rows, columns = (np.clip(np.arange(side) - step, 0, side - 1) for step in (down, right))
    return images[:, :, rows][..., columns]


def zoomed(image: Image.Image) -> Image.Image:
    edge = 0.02 * image.width
    box = (edge, edge, image.width - edge, image.width - edge)
    return image.resize(image.size, Image.Resampling.BICUBIC, box=box)


def recompressed(image: Image.Image) -> Image.Image:
    file = io.BytesIO()
    image.save(file, "JPEG", quality=50)
    return Image.open(file)


CHANGES = {
    **{
        f"shift {step}": lambda images, step=step: shifted(images, *step)
        for step in ((1, 1), (-2, 1), (2, -2))
    },
    "mirror and shift": lambda images: shifted(images[..., ::-1], 1, -1),
    "zoom": lambda images: with_pillow(images, zoomed),
    "JPEG": lambda images: with_pillow(images, recompressed),
    "blur": lambda images: with_pillow(images, lambda image: image.filter(ImageFilter.GaussianBlur(1))),
}


@pytest.mark.parametrize("side", [64, 96])
@pytest.mark.parametrize("change", CHANGES)
def test_changed_copies_are_close_to_training(side: int, change: str):
    train, held_out = pictures(60, side, 0), pictures(30, side, 1)
    views = thumbnails(CHANGES[change](train), views=True)
    assert close_to_training(views, thumbnails(train)[0], thumbnails(held_out)[0]).value > 0.95


def test_other_images_are_not_close_to_training():
    train, held_out, others = (thumbnails(pictures(60, 64, seed), views=True) for seed in (0, 1, 2))
    assert close_to_training(others, train[0], held_out[0]).value == 0
    assert close_to_training(held_out, train[0], held_out[0], leave_one_out=True).value == 0


def test_a_thumbnail_is_the_resized_central_crop():
    image = pictures(1, 96, 0)
    (thumbnail,) = thumbnails(image)
    crop = torch.from_numpy(image[:, :, 2:-2, 2:-2]).float() / 127.5 - 1
    expected = torch.nn.functional.interpolate(crop, (12, 12), mode="bilinear", antialias=True)
    torch.testing.assert_close(thumbnail, expected.flatten(1), rtol=0, atol=1e-5)


def test_views_are_shifted_crops_and_their_mirror_images():
    image = pictures(1, 96, 0)
    views = thumbnails(image, views=True)
    assert views.shape == (26, 1, 432)
    for view, (down, right) in zip(views, OFFSETS, strict=False):
        torch.testing.assert_close(view, thumbnails(shifted(image, -down, -right))[0], rtol=0, atol=1e-5)
    mirrored = thumbnails(image[..., ::-1])[0]
    torch.testing.assert_close(views[13], mirrored, rtol=0, atol=1e-5)


@pytest.mark.parametrize("side", [16, 32, 50, 256])
def test_any_image_size_gives_thumbnails_of_one_size(side: int):
    assert thumbnails(np.full((3, 3, side, side), 255, np.uint8), views=True).allclose(torch.ones(()))


def test_batches_do_not_change_thumbnails(monkeypatch: pytest.MonkeyPatch):
    images = pictures(10, 32, 0)
    whole = thumbnails(images, views=True)
    monkeypatch.setattr("gan.metrics.thumbnails.BATCH_SIZE", 3)
    torch.testing.assert_close(thumbnails(images, views=True), whole)
