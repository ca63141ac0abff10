"""A training step as tutorials write it, the baseline of `benchmarks.train_speed`.

Float32, contiguous tensors, torch's own layers; D and then G; Adam with its default implementation; a
DataLoader that decodes files; five values read back in every step.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader, RandomSampler
from torchvision import transforms
from torchvision.datasets import ImageFolder

from gan.config import Settings
from gan.networks import Discriminator, Generator


def textbook_step(settings: Settings, folder: str, device: str) -> Callable[[], None]:
    """A function that makes the next step.

    Args:
        settings: sizes of networks, images and batch, D's normalisation and head scale,
            learning rate and beta2.
        folder: of images, the only one in its parent folder.
        device: where to compute.
    """
    generator, discriminator = _torch_networks(settings, device)
    options = {"lr": settings.learning_rate, "betas": (0.5, settings.beta2)}
    generator_optimizer = torch.optim.Adam(generator.parameters(), **options)
    discriminator_optimizer = torch.optim.Adam(discriminator.parameters(), **options)
    batches = _batches(folder, settings)

    def step() -> None:
        real = next(batches).to(device)
        ones = torch.ones(len(real), dtype=torch.int64, device=device)
        discriminator.zero_grad()
        logits = discriminator(real)
        loss_real = cross_entropy(logits, ones)
        loss_real.backward()
        logits.softmax(1)[:, 1].mean().item()
        fake = generator(torch.rand(len(real), settings.latent_size, device=device) * 2 - 1)
        logits = discriminator(fake.detach())
        loss_fake = cross_entropy(logits, 1 - ones)
        loss_fake.backward()
        logits.softmax(1)[:, 1].mean().item()
        discriminator_optimizer.step()
        generator.zero_grad()
        logits = discriminator(fake)
        loss = cross_entropy(logits, ones)
        loss.backward()
        logits.softmax(1)[:, 1].mean().item()
        generator_optimizer.step()
        (loss_real + loss_fake).item(), loss.item()

    return step


def _torch_networks(settings: Settings, device: str) -> tuple[nn.Module, nn.Module]:
    """The project's networks made of torch's layers, for contiguous tensors."""

    class Scale(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x * settings.head_scale

    def torch_layer(layer: nn.Module) -> nn.Module:
        geometry = {"kernel_size": 5, "stride": 2, "padding": 2}
        if isinstance(layer, nn.Conv2d):
            return nn.Conv2d(layer.in_channels, layer.out_channels, bias=layer.bias is not None, **geometry)
        if isinstance(layer, nn.ConvTranspose2d):
            geometry |= {"output_padding": 1, "bias": layer.bias is not None}
            return nn.ConvTranspose2d(layer.in_channels, layer.out_channels, **geometry)
        if isinstance(layer, nn.GroupNorm):
            return nn.GroupNorm(layer.num_groups, layer.num_channels)
        return layer

    generator = Generator(settings.generator_widths, settings.latent_size, settings.image_size)
    generator_layers = [
        generator.project,
        nn.Unflatten(1, generator.first_shape),
        *map(torch_layer, generator.layers),
    ]
    discriminator = Discriminator(settings.discriminator_widths, settings.image_size, settings.normalisation)
    discriminator_layers = [
        *map(torch_layer, discriminator.layers),
        nn.Flatten(),
        discriminator.head,
        Scale(),
    ]
    return nn.Sequential(*generator_layers).to(device), nn.Sequential(*discriminator_layers).to(device)


def _batches(folder: str, settings: Settings) -> Iterator[Tensor]:
    """Batches float32 [B, 3, S, S] in [-1, 1], decoded from the files each time; a million images in all."""
    size = settings.image_size
    steps = [
        *(transforms.Resize(size), transforms.CenterCrop(size), transforms.RandomHorizontalFlip()),
        *(transforms.ToTensor(), transforms.Normalize([0.5] * 3, [0.5] * 3)),
    ]
    files = ImageFolder(str(Path(folder).parent), transforms.Compose(steps))
    sampler = RandomSampler(files, replacement=True, num_samples=10**6)
    for images, _ in DataLoader(files, settings.batch_size, sampler=sampler, num_workers=2):
        yield images
