"""The two networks of a DCGAN (Radford et al. 2015) for square images of 32 to 256 pixels.

Everything else reaches the networks through `make_generator` and `make_discriminator`. Another network
needs only another class here: a generator with the attributes `latent_size` and `image_size`, a discriminator
with `independent` that returns two logits for each pack of images. That suffices for training, sampling
and evaluation. Unnamed directions, .onnx files and the explorer's page also read `project`, `first_shape`
and `layers` of `Generator`.
"""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn

from gan.config import Normalisation, Settings

LEAK = 0.2
INITIAL_STD = 0.02
"""Standard deviation of the initial weights (Radford et al. 2015)."""
LAYERS = 4
"""Stride-2 layers in either network: the smallest feature map is 2**LAYERS times smaller than the image."""
CONVOLUTION = {"kernel_size": 5, "stride": 2, "padding": 2}


def make_generator(settings: Settings) -> Generator:
    """The generator that a run's settings describe, with weights from torch's global random state."""
    return Generator(
        settings.generator_widths, settings.latent_size, settings.image_size, std_before_norms(settings)
    )


def make_discriminator(settings: Settings) -> Discriminator:
    """The discriminator that a run's settings describe, with weights from torch's global random state."""
    return Discriminator(
        settings.discriminator_widths,
        settings.image_size,
        settings.normalisation,
        settings.head_scale,
        settings.pack,
        std_before_norms(settings),
    )


def std_before_norms(settings: Settings) -> float:
    """Standard deviation of the initial weights of the layers that a norm follows.

    A norm cancels the scale of the weights before it: only their relative change matters, which in a step of
    Adam is about the learning rate divided by their standard deviation. So smaller weights learn faster. On
    photos that was not better with every seed (docs/recipes.md).
    """
    return INITIAL_STD / 2 if settings.preset == "quick" else INITIAL_STD


class Generator(nn.Module):
    """Latent vectors to images: a linear layer, then four 5x5 stride-2 transposed convolutions.

    Batch norm and ReLU follow every layer but the last, tanh follows the last.

    Args:
        widths: channels of the first feature map and after each transposed convolution but the last.
        latent_size: values in a latent vector.
        image_size: side of the images in pixels, a multiple of 16.
        std_before_norms: standard deviation of the initial weights before batch norm.
    """

    def __init__(
        self,
        widths: tuple[int, int, int, int],
        latent_size: int = 100,
        image_size: int = 96,
        std_before_norms: float = INITIAL_STD,
    ) -> None:
        super().__init__()
        self.latent_size = latent_size
        self.image_size = image_size
        side = image_size // 2**LAYERS
        self.first_shape = (widths[0], side, side)
        self.project = nn.Linear(latent_size, widths[0] * side**2, bias=False)
        layers: list[nn.Module] = [nn.BatchNorm2d(widths[0]), nn.ReLU(inplace=True)]
        for inputs, outputs in pairwise(widths):
            # Batch norm subtracts the mean, so a bias before it would have no effect.
            layers += [
                nn.ConvTranspose2d(inputs, outputs, **CONVOLUTION, output_padding=1, bias=False),
                nn.BatchNorm2d(outputs),
                nn.ReLU(inplace=True),
            ]
        layers += [nn.ConvTranspose2d(widths[-1], 3, **CONVOLUTION, output_padding=1), nn.Tanh()]
        self.layers = nn.Sequential(*layers)
        _initialise(self, std_before_norms)

    def forward(self, z: Tensor) -> Tensor:
        """Latent vectors [B, latent_size] to images [B, 3, S, S] in [-1, 1]."""
        # The gradient has come the longest way here and suffers most from bfloat16; float32 costs little.
        with torch.autocast(z.device.type, enabled=False):
            features = self.project(z).view(-1, *self.first_shape)
        return self.layers(features.contiguous(memory_format=torch.channels_last))


class Discriminator(nn.Module):
    """Packs of images to two logits: four 5x5 stride-2 convolutions and a linear head.

    A pack is several images, all real or all generated, that D judges as one, with their channels side by
    side (PacGAN, Lin et al. 2018), which lets it detect mode collapse. The chosen normalisation and leaky
    ReLU (0.2) follow each convolution.

    Args:
        widths: channels after each convolution.
        image_size: side of the images in pixels, a multiple of 16.
        normalisation: `batch` norm after every convolution (Ioffe and Szegedy 2015); `layer` norm after
            all but the first (Ba et al. 2016), which normalises each pack by itself; or `none`.
        head_scale: factor on the logits. The head sums over thousands of features, so one step of Adam,
            which moves each weight by about the learning rate, moves the logits by whole units. A factor
            below 1 reduces that without changing the learning rate.
        pack: images in a pack.
        std_before_norms: standard deviation of the initial weights before a normalisation.
    """

    def __init__(
        self,
        widths: tuple[int, int, int, int] = (64, 128, 256, 512),
        image_size: int = 96,
        normalisation: Normalisation = "batch",
        head_scale: float = 1.0,
        pack: int = 1,
        std_before_norms: float = INITIAL_STD,
    ) -> None:
        super().__init__()
        self.head_scale = head_scale
        self.pack = pack
        self.independent = normalisation != "batch"
        """Whether a pack's logits depend on its own images alone."""
        layers: list[nn.Module] = []
        for index, (inputs, outputs) in enumerate(pairwise((3 * pack, *widths))):
            layers.append(nn.Conv2d(inputs, outputs, **CONVOLUTION, bias=normalisation != "batch"))
            if normalisation == "batch":
                layers.append(nn.BatchNorm2d(outputs))
            elif normalisation == "layer" and index > 0:
                layers.append(LayerNorm(outputs))
            layers.append(nn.LeakyReLU(LEAK, inplace=True))
        self.layers = nn.Sequential(*layers)
        self.head = nn.Linear(widths[-1] * (image_size // 2**LAYERS) ** 2, 2)
        _initialise(self, std_before_norms)

    def forward(self, images: Tensor) -> Tensor:
        """Images [B, 3, S, S] in [-1, 1] to logits [B / pack, 2]: 0 = generated, 1 = real.

        Consecutive images form a pack; B is a multiple of `pack`.
        """
        packs = images.reshape(-1, self.pack * images.shape[1], *images.shape[2:])
        features = self.layers(packs.contiguous(memory_format=torch.channels_last))
        # In float32: bfloat16 would round a logit of 10 to steps of 0.06.
        with torch.autocast(images.device.type, enabled=False):
            return self.head(features.flatten(1).to(self.head.weight.dtype)) * self.head_scale


class LayerNorm(nn.GroupNorm):
    """Layer norm over all channels and positions of a sample (a pack), with a scale and shift per channel."""

    def __init__(self, channels: int) -> None:
        super().__init__(1, channels)

    def forward(self, features: Tensor) -> Tensor:
        """[B, C, H, W] to the same, with mean 0 and variance 1 in each sample before the scale and shift."""
        if features.device.type == "cpu":
            return super().forward(features)
        return self.composed(features)

    def composed(self, features: Tensor) -> Tensor:
        """The same for a GPU, where nn.GroupNorm would leave channels_last and, under autocast, bfloat16."""
        variance, mean = torch.var_mean(features.float(), (1, 2, 3), correction=0, keepdim=True)
        scale = (variance + self.eps).rsqrt() * self.weight[:, None, None]
        return ((features - mean) * scale + self.bias[:, None, None]).to(features.dtype)


def _initialise(network: nn.Module, std_before_norms: float) -> None:
    """Draw initial weights from normal distributions, cut off at two standard deviations; biases are 0."""
    leaves = [module for module in network.modules() if not any(module.children())]
    for layer, following in pairwise([*leaves, nn.Identity()]):
        if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d | nn.Linear):
            normalised = isinstance(following, nn.BatchNorm2d | LayerNorm)
            std = std_before_norms if normalised else INITIAL_STD
            nn.init.trunc_normal_(layer.weight, std=std, a=-2 * std, b=2 * std)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
