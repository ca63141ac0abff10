"""An encoder: a network that estimates the latent vectors of images in one pass.

It is trained on the generator's own images, whose vectors are known, so it needs no photos and no third-party
weights. As in iGAN (Zhu et al. 2016), the optimisation starts from its estimate.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from engine.device import exact_float32
from gan.inversion.coordinates import to_z
from gan.networks import CONVOLUTION, LAYERS, LEAK, Generator
from images.tiles import to_float, to_uint8

WIDTHS = (32, 64, 128, 256)
MAX_SIDE = 48
"""Larger images are reduced to this side: a start needs no fine detail."""
STEPS = 800
BATCH_SIZE = 64
LEARNING_RATE = 2e-3
"""Maximum learning rate of the one-cycle schedule (Smith and Topin 2018)."""
TYPICAL = 0.95
"""Root mean square of an estimate of u; of the prior it is 1, with a standard deviation of 0.07."""
AUGMENTED_SHARE = 0.5
"""Share of the training images that are augmented, to imitate how photos differ from generated images."""

Progress = Callable[[float], None]
"""Called with the share that is done, from 0 to 1. What it raises cancels the work."""


class Encoder(nn.Module):
    """Images to latent vectors: four 5x5 stride-2 convolutions with batch norm, then a linear layer.

    Args:
        latent_size: values in a latent vector.
        image_size: side of the images in pixels, a multiple of 16.
    """

    def __init__(self, latent_size: int, image_size: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for inputs, outputs in pairwise((3, *WIDTHS)):
            layers += [nn.Conv2d(inputs, outputs, **CONVOLUTION, bias=False), nn.BatchNorm2d(outputs)]
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
        """As `forward`, without gradients and of a length that is typical of the prior.

        A regression that is uncertain answers with the mean, the more so on photos, and images of short
        vectors are unlike all that the generator was trained to make.
        """
        with torch.no_grad(), exact_float32():
            u = self(images)
            return TYPICAL * u / u.square().mean(1, keepdim=True).sqrt().clamp(min=1e-3)


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
            images = _augment(images, random)
        loss = F.mse_loss(to_z(encoder(images)), z)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        progress((step + 1) / steps)
    return encoder.eval()


def _augment(images: Tensor, random: torch.Generator) -> Tensor:
    """Augment some of the images [B, 3, S, S], in [-1, 1], to imitate how photos differ from generated ones.

    Colours, contrast and sharpness change, noise is added, and a part is covered with one of another image.
    """
    count, _, side, _ = images.shape

    def uniform(low: float, high: float, *shape: int) -> Tensor:
        values = torch.rand(count, *shape, generator=random) * (high - low) + low
        return values.to(images.device)

    changed = images * uniform(0.8, 1.2, 1, 1, 1) * uniform(0.95, 1.05, 3, 1, 1)
    changed = changed + uniform(-0.15, 0.15, 1, 1, 1)
    blurred = F.interpolate(F.avg_pool2d(changed, 2), scale_factor=2.0, mode="bilinear")
    changed = torch.lerp(changed, blurred, uniform(0, 1, 1, 1, 1))
    noise = torch.randn(images.shape, generator=random).to(images.device)
    changed = changed + noise * uniform(0, 0.08, 1, 1, 1)
    places = torch.arange(side, device=images.device)
    centre, half = uniform(0, side, 2, 1, 1), uniform(0, side / 4, 2, 1, 1)
    rows = (places[:, None] - centre[:, :1]).abs() < half[:, :1]
    columns = (places - centre[:, 1:]).abs() < half[:, 1:]
    changed = torch.where(rows & columns, changed.roll(1, 0), changed)
    return torch.where(uniform(0, 1, 1, 1, 1) < AUGMENTED_SHARE, changed, images).clamp(-1, 1)
