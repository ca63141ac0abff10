"""An encoder: a network that estimates the latent vectors of images in one pass.

It is trained on the generator's own images, whose vectors are known, so it needs no photos and no weights of
others. As in iGAN (Zhu et al. 2016), the optimisation starts from its estimate.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from engine.device import exact_float32
from gan.inversion.coordinates import to_z
from gan.networks import CONVOLUTION, LAYERS, LEAK, Generator, LayerNorm
from images.tiles import to_float, to_uint8

WIDTHS = (32, 64, 128, 256)
MAX_SIDE = 48
"""Larger images are reduced to this side: a start needs no fine detail."""
STEPS = 800
BATCH_SIZE = 64
LEARNING_RATE = 2e-3
"""The largest of the one-cycle schedule (Smith and Topin 2018)."""
MAX_U = 2.5
"""Of an estimate: one value in 80 of the prior is beyond."""
DISTURBED = 0.75
"""Share of the training images that are changed as photos may differ from generated images."""

Progress = Callable[[float], None]
"""Called with the share that is done, from 0 to 1. What it raises cancels the work."""


class Encoder(nn.Module):
    """Images to latent vectors: four 5x5 stride-2 convolutions with layer norm, then a linear layer.

    Args:
        latent_size: values in a latent vector.
        image_size: side of the images in pixels, a multiple of 16.
    """

    def __init__(self, latent_size: int, image_size: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for inputs, outputs in pairwise((3, *WIDTHS)):
            # Not batch norm: the statistics of photos are not those of generated images.
            layers += [nn.Conv2d(inputs, outputs, **CONVOLUTION, bias=False), LayerNorm(outputs)]
            layers.append(nn.LeakyReLU(LEAK, inplace=True))
        self.layers = nn.Sequential(*layers)
        self.side = min(image_size, MAX_SIDE)
        self.head = nn.Linear(WIDTHS[-1] * (self.side // 2**LAYERS) ** 2, latent_size)

    def forward(self, images: Tensor) -> Tensor:
        """Images [B, 3, S, S] in [-1, 1] to estimates of u, [B, latent_size]; see `coordinates`."""
        if images.shape[-1] > self.side:
            images = F.interpolate(images, (self.side,) * 2, mode="bilinear", antialias=True)
        features = self.layers(images.contiguous(memory_format=torch.channels_last))
        return self.head(features.flatten(1))

    def estimate(self, images: Tensor) -> Tensor:
        """As `forward`, without gradients and clamped to +-`MAX_U`."""
        with torch.no_grad(), exact_float32():
            return self(images).clamp(-MAX_U, MAX_U)


def train_encoder(
    generator: Generator, *, steps: int = STEPS, seed: int = 0, progress: Progress = lambda _: None
) -> Encoder:
    """Train an encoder on fresh images of a generator, by the mean squared error of z.

    Args:
        generator: in evaluation mode; its weights are not changed.
        steps: of `BATCH_SIZE` images.
        seed: of the weights and images.
        progress: see `Progress`; called after each step.

    Returns:
        The encoder, in evaluation mode, on the generator's device.
    """
    device = next(generator.parameters()).device
    random = torch.Generator().manual_seed(seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        encoder = Encoder(generator.latent_size, generator.image_size)
    encoder = encoder.to(device, memory_format=torch.channels_last)
    optimizer = torch.optim.Adam(encoder.parameters())
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, LEARNING_RATE, steps, pct_start=0.1)
    for step in range(steps):
        z = torch.rand(BATCH_SIZE, generator.latent_size, generator=random).mul_(2).sub_(1).to(device)
        with torch.no_grad():
            images = to_float(to_uint8(generator(z)))
            images = _disturb(images, random)
        loss = F.mse_loss(to_z(encoder(images)), z)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        progress((step + 1) / steps)
    return encoder.eval()


def _disturb(images: Tensor, random: torch.Generator) -> Tensor:
    """Change some of the images [B, 3, S, S] as photos differ from generated ones, in [-1, 1].

    Colours, contrast and sharpness change; light and shade, and noise, are added; a part is covered with one
    of another image.
    """
    count, _, side, _ = images.shape

    def uniform(low: float, high: float, *shape: int) -> Tensor:
        values = torch.rand(count, *shape, generator=random) * (high - low) + low
        return values.to(images.device)

    def noise(size: int) -> Tensor:
        return torch.randn(count, 3, size, size, generator=random).to(images.device)

    changed = images * uniform(0.75, 1.25, 1, 1, 1) * uniform(0.9, 1.1, 3, 1, 1)
    changed = changed + uniform(-0.2, 0.2, 1, 1, 1)
    blurred = F.interpolate(F.avg_pool2d(changed, 2), scale_factor=2.0, mode="bilinear")
    changed = torch.lerp(changed, blurred, uniform(0, 1, 1, 1, 1))
    shades = F.interpolate(noise(4), side, mode="bicubic")
    changed = changed + shades * uniform(0, 0.25, 1, 1, 1) + noise(side) * uniform(0, 0.08, 1, 1, 1)
    places = torch.arange(side, device=images.device)
    centre, half = uniform(0, side, 2, 1, 1), uniform(0, side / 3, 2, 1, 1)
    rows = (places[:, None] - centre[:, :1]).abs() < half[:, :1]
    columns = (places - centre[:, 1:]).abs() < half[:, 1:]
    changed = torch.where(rows & columns, changed.roll(1, 0), changed)
    return torch.where(uniform(0, 1, 1, 1, 1) < DISTURBED, changed, images).clamp(-1, 1)
