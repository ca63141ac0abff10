"""The two networks of a DCGAN (Radford et al. 2015) for square images of 32 to 256 pixels."""

from __future__ import annotations

from itertools import pairwise
from typing import get_args

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize
from torch.nn.utils.parametrizations import spectral_norm

from gan.config import Normalisation, Settings
from gan.fast_conv.layers import Conv2d, ConvTranspose2d

LEAK = 0.2
WEIGHT_STD = 0.02
LAYERS = 4
"""Stride-2 layers in either network; the first feature map is 2**LAYERS times smaller than the image."""


def make_networks(settings: Settings) -> tuple[Generator, Discriminator]:
    """The networks that a run's settings describe, with new weights from torch's global generator."""
    size = settings.image_size
    return (
        Generator(settings.generator_widths, settings.latent_size, size),
        Discriminator(settings.discriminator_widths, size, settings.normalisation, settings.head_scale),
    )


class Generator(nn.Module):
    """Latent vectors to images: a linear layer, then four 5x5 stride-2 transposed convolutions.

    Every layer but the last is followed by batch norm and ReLU, the last by tanh.

    Args:
        widths: channels of the first feature map and after each transposed convolution but the last.
        latent_size: values in a latent vector.
        image_size: side of the images in pixels, a multiple of 16.
    """

    def __init__(
        self, widths: tuple[int, int, int, int], latent_size: int = 100, image_size: int = 96
    ) -> None:
        super().__init__()
        self.latent_size = latent_size
        self.image_size = image_size
        self.first_shape = (widths[0], image_size // 2**LAYERS, image_size // 2**LAYERS)
        self.project = nn.Linear(latent_size, self.first_shape[0] * self.first_shape[1] ** 2, bias=False)
        layers: list[nn.Module] = [nn.BatchNorm2d(widths[0]), nn.ReLU(inplace=True)]
        for inputs, outputs in pairwise(widths):
            # Batch norm subtracts the mean, so a bias before it would be a weight without effect.
            layers.append(ConvTranspose2d(inputs, outputs, bias=False))
            layers += [nn.BatchNorm2d(outputs), nn.ReLU(inplace=True)]
        layers += [ConvTranspose2d(widths[-1], 3, bias=True), nn.Tanh()]
        self.layers = nn.Sequential(*layers)
        self.apply(_initialise)

    def forward(self, z: Tensor) -> Tensor:
        """Latent vectors [B, latent_size] to images [B, 3, S, S] in [-1, 1]."""
        # Its gradient has come the longest way and suffers most from bfloat16; float32 costs little here.
        with torch.autocast(z.device.type, enabled=False):
            features = self.project(z).view(-1, *self.first_shape)
        return self.layers(features.contiguous(memory_format=torch.channels_last))


class Discriminator(nn.Module):
    """Images to two logits: four 5x5 stride-2 convolutions and a linear head.

    Each convolution is followed by the chosen normalisation and leaky ReLU (0.2).

    Args:
        widths: channels after each convolution.
        image_size: side of the images in pixels, a multiple of 16.
        normalisation: `batch` norm after every convolution; `batch-but-first`, the DCGAN paper's
            form, which leaves it out of the first because of oscillation; `layer` norm (Ba et al.
            2016) after all but the first, which treats each image by itself; `spectral` norm of the
            convolutions' weights (Miyato et al. 2018); or `none`.
        head_scale: factor on the logits. The head sums over thousands of features, so a step of
            Adam, which moves each of its weights by about the learning rate, moves the logits by
            whole units; a factor below 1 tames that without touching the learning rate.
    """

    def __init__(
        self,
        widths: tuple[int, int, int, int] = (64, 128, 256, 512),
        image_size: int = 96,
        normalisation: Normalisation = "batch",
        head_scale: float = 1.0,
    ) -> None:
        super().__init__()
        if normalisation not in get_args(Normalisation):
            raise ValueError(f"normalisation must be one of {get_args(Normalisation)}, not {normalisation!r}")
        self.head_scale = head_scale
        layers: list[nn.Module] = []
        for index, (inputs, outputs) in enumerate(zip((3, *widths[:-1]), widths, strict=True)):
            batch_norm = normalisation == "batch" or (normalisation == "batch-but-first" and index > 0)
            layers.append(Conv2d(inputs, outputs, bias=not batch_norm))
            if batch_norm:
                layers.append(nn.BatchNorm2d(outputs))
            elif normalisation == "layer" and index > 0:
                layers.append(LayerNorm(outputs))
            layers.append(nn.LeakyReLU(LEAK, inplace=True))
        self.layers = nn.Sequential(*layers)
        self.head = nn.Linear(widths[-1] * (image_size // 2**LAYERS) ** 2, 2)
        self.apply(_initialise)
        if normalisation == "spectral":
            for layer in self.layers:
                if isinstance(layer, nn.Conv2d):
                    spectral_norm(layer)

    @property
    def has_batch_norm(self) -> bool:
        """Whether an image's logits depend on the others in its batch, as with batch norm."""
        return any(isinstance(layer, nn.BatchNorm2d) for layer in self.layers)

    def forward(self, images: Tensor) -> Tensor:
        """Images [B, 3, S, S] in [-1, 1] to logits [B, 2]: 0 = generated, 1 = from the data set."""
        with parametrize.cached():
            # Spectral norms are small differences of large sums: estimated in float32, then cached.
            with torch.autocast(images.device.type, enabled=False):
                for layer in self.layers:
                    getattr(layer, "weight", None)
            features = self.layers(images.contiguous(memory_format=torch.channels_last))
        # In float32 too: bfloat16 would round a logit of 10 to steps of 0.06.
        with torch.autocast(images.device.type, enabled=False):
            return self.head(features.flatten(1).to(self.head.weight.dtype)) * self.head_scale


class LayerNorm(nn.GroupNorm):
    """Layer norm of an image's features, over all channels and places, with a scale and shift a channel."""

    def __init__(self, channels: int) -> None:
        super().__init__(1, channels)

    def forward(self, features: Tensor) -> Tensor:
        """[B, C, H, W] to the same, mean 0 and variance 1 in each image before the scale and shift."""
        if features.device.type == "cpu":
            return super().forward(features)
        return self.written_out(features)

    def written_out(self, features: Tensor) -> Tensor:
        """The same for a GPU, where torch's own would leave channels_last and, under autocast, bfloat16."""
        variance, mean = torch.var_mean(features.float(), (1, 2, 3), correction=0, keepdim=True)
        scale = (variance + self.eps).rsqrt() * self.weight[:, None, None]
        return ((features - mean) * scale + self.bias[:, None, None]).to(features.dtype)


def _initialise(module: nn.Module) -> None:
    if isinstance(module, nn.Conv2d | nn.ConvTranspose2d | nn.Linear):
        nn.init.trunc_normal_(module.weight, std=WEIGHT_STD, a=-2 * WEIGHT_STD, b=2 * WEIGHT_STD)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
