from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from gan.config import Settings, preset_settings
from gan.summary import summary
from images.dataset import ImageDataset
from images.exclude import Excluded

CPU = torch.device("cpu")
SETTINGS = replace(
    Settings(),
    batch_size=96,
    generator_widths=(250, 150, 90, 54),
    pack=1,
    normalisation="none",
    precision="float32",
)


@pytest.fixture(autouse=True)
def _zero_weights(monkeypatch):
    """Skip drawing millions of weights that are only counted."""
    monkeypatch.setattr(nn.init, "trunc_normal_", lambda weight, **_: nn.init.zeros_(weight))


def faces(size: int, *, mapped: bool = False) -> ImageDataset:
    return ImageDataset(
        images=np.zeros((1200, 3, size, size), np.uint8),
        files=[f"{index}.png" for index in range(1200)],
        fingerprints=np.arange(1200, dtype=np.uint64),
        digest="0",
        skipped=[("broken.jpg", "cut short"), ("empty.png", "empty")],
        duplicates=5,
        mapped=mapped,
        folder=Path("/faces of mine"),
        from_cache=False,
        held_out=np.arange(1200) < 60,
        split_keys=np.arange(1200, dtype=np.uint64),
        near_duplicates=0,
        excluded=Excluded(),
    )


def lines(settings: Settings, data: ImageDataset) -> list[str]:
    return summary(settings, CPU, data).splitlines()


def layers(text: list[str]) -> list[tuple[str, str, int]]:
    """Type, output shape and parameters of each layer."""
    rows = [line.split() for line in text if line.startswith("  ")]
    return [(row[0], " ".join(row[1:-1]), int(row[-1].replace(",", ""))) for row in rows]


def test_every_layer_is_listed_with_its_output_and_parameters():
    text = lines(SETTINGS, faces(96))
    generator = [
        ("Linear", "9000", 900_000),
        ("BatchNorm2d", "250 x 6 x 6", 500),
        ("ReLU", "250 x 6 x 6", 0),
        ("ConvTranspose2d", "150 x 12 x 12", 937_500),
        ("BatchNorm2d", "150 x 12 x 12", 300),
        ("ReLU", "150 x 12 x 12", 0),
        ("ConvTranspose2d", "90 x 24 x 24", 337_500),
        ("BatchNorm2d", "90 x 24 x 24", 180),
        ("ReLU", "90 x 24 x 24", 0),
        ("ConvTranspose2d", "54 x 48 x 48", 121_500),
        ("BatchNorm2d", "54 x 48 x 48", 108),
        ("ReLU", "54 x 48 x 48", 0),
        ("ConvTranspose2d", "3 x 96 x 96", 4_053),
        ("Tanh", "3 x 96 x 96", 0),
    ]
    discriminator = [
        ("Conv2d", "64 x 48 x 48", 4_864),
        ("LeakyReLU", "64 x 48 x 48", 0),
        ("Conv2d", "128 x 24 x 24", 204_928),
        ("LeakyReLU", "128 x 24 x 24", 0),
        ("Conv2d", "256 x 12 x 12", 819_456),
        ("LeakyReLU", "256 x 12 x 12", 0),
        ("Conv2d", "512 x 6 x 6", 3_277_312),
        ("LeakyReLU", "512 x 6 x 6", 0),
        ("Linear", "2", 36_866),
    ]
    assert layers(text) == generator + discriminator
    assert "parameters: 2,301,641 in the generator, 4,343,426 in the discriminator" in text


def test_batch_norms_of_the_discriminator_are_listed():
    rows = layers(lines(preset_settings("textbook"), faces(96)))[14:]
    assert [layer for layer, _, _ in rows] == ["Conv2d", "BatchNorm2d", "LeakyReLU"] * 4 + ["Linear"]
    assert rows[1] == ("BatchNorm2d", "64 x 48 x 48", 128)


def test_memory_equals_a_count_by_hand():
    of_generator, of_discriminator = 2_301_641, 4_343_426
    # Weights, gradients and two moments of both, and the averaged generator, 4 bytes each.
    weights = 4 * (4 * (of_generator + of_discriminator) + of_generator)
    # Outputs kept for the backward pass: of the linear layer, each convolution, batch norm and tanh, but not
    # of the activations, which are in place.
    generator = 2 * (9000 + 150 * 144 + 90 * 576 + 54 * 2304 + 3 * 9216)
    discriminator = 64 * 2304 + 128 * 576 + 256 * 144 + 512 * 36 + 2
    outputs = 4 * (96 * (generator + 2 * discriminator) + 24 * discriminator)  # 24 negatives
    images = 1200 * 3 * 96 * 96
    mib = [f"{size / 1024**2:,.0f} MiB" for size in (weights, outputs, images)]
    assert mib == ["110 MiB", "400 MiB", "32 MiB"]
    (memory,) = [line for line in lines(SETTINGS, faces(96)) if line.startswith("memory: ")]
    assert memory == (
        "memory: 110 MiB of weights, gradients, moments and averages, 400 MiB of layer outputs, "
        "32 MiB of images in memory"
    )


def test_a_pack_is_one_input_of_the_discriminator():
    text = lines(replace(SETTINGS, pack=2), faces(96))
    assert layers(text)[14] == ("Conv2d", "64 x 48 x 48", 9_664)  # 2 x 3 channels in
    assert any("286 MiB of layer outputs" in line for line in text)  # D keeps half of its 228 of 400


def test_layer_outputs_are_those_of_one_process():
    assert "100 MiB of layer outputs" in summary(SETTINGS, CPU, faces(96), processes=4)  # a quarter of 400


def test_memory_depends_on_precision_average_and_mapping():
    settings = replace(SETTINGS, precision="bfloat16", ema_half_life=0.0)
    (memory,) = [line for line in lines(settings, faces(96, mapped=True)) if line.startswith("memory: ")]
    # 4 * 4 * 6,645,067 bytes, and half of the outputs.
    assert memory == (
        "memory: 101 MiB of weights, gradients, moments and averages, 200 MiB of layer outputs, "
        "32 MiB of images mapped from disk"
    )


@pytest.mark.parametrize("size", [32, 128])
def test_data_and_device_are_listed(size):
    text = lines(replace(Settings(), image_size=size, precision="bfloat16"), faces(size))
    counts = "60 of them held out, 2 files skipped, 5 exact duplicates"
    assert f"data: 1,200 images in {Path('/faces of mine')}, {counts}" in text
    assert text[-1] == "device: cpu, bfloat16"
    assert layers(text)[13] == ("Tanh", f"3 x {size} x {size}", 0)
