"""Plant faults in real faces, and measure which of them a run's discriminator penalises.

    python -m experiments.planted_faults [RUN] [--checkpoint 3000]

A generator only learns to avoid what its discriminator penalises. The script prints a Markdown table with a
row for each fault: by how much D's margin, its logit for "real" minus that for "generated", falls, relative
to its fall from real to generated faces, and the share of packs of faces for which it falls at all. The faces
are the run's held-out ones if there are enough. The generated ones are from the weights of the last training
step, as D saw them. Patches of another face are the negatives of gan/negatives.py, so a run with negatives
was trained on such pictures.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from math import ceil

import torch
from torch import Tensor
from torchvision.transforms.v2.functional import gaussian_blur

from engine.checkpoint import load_selected
from engine.cli import parse
from engine.errors import UserError, run_script
from engine.settings import at_least
from gan.config import read_info
from gan.generator import check_networks
from gan.latent.vectors import draw
from gan.losses import real_margin
from gan.metrics.references import load_reference
from gan.negatives import NUMBERS_PER_IMAGE, blend
from gan.networks import Discriminator, make_discriminator, make_generator
from gan.options import RunArguments
from images.tiles import to_float

BATCH = 64


@dataclass(frozen=True)
class FaultArguments(RunArguments):
    """Which run, and how many faces."""

    checkpoint: str | None = None
    """Step or file of the checkpoint, `best` or `newest`; the best if none is named."""
    count: int = 256
    """Number of faces; fewer if the run has fewer held-out ones."""
    seed: int = 0
    """Seed of the choice of faces, their faults and the generated faces."""

    def __post_init__(self) -> None:
        at_least(self, 2, "count")
        at_least(self, 0, "seed")


def main() -> None:
    """Load, plant faults, print. Raises `UserError` if the run or its images are missing."""
    arguments = parse(FaultArguments, description=__doc__)
    run = arguments.folder()
    info = read_info(run)
    path, state = load_selected(run, arguments.checkpoint)
    check_networks(run, info.settings, path, state)
    generator, discriminator = make_generator(info.settings), make_discriminator(info.settings)
    generator.load_state_dict(state["generator"])
    discriminator.load_state_dict(state["discriminator"])
    faces = load_reference(info, None).faces
    held_out = len(faces.held_out) >= BATCH
    rows = faces.held_out if held_out else faces.pool
    random = torch.Generator().manual_seed(arguments.seed)
    pack = info.settings.pack
    count = min(arguments.count, len(rows)) // pack * pack
    rows = rows[torch.randperm(len(rows), generator=random)[:count].numpy()]
    if count < 2:
        raise UserError(f"the run's folder holds fewer than {max(2, pack)} images")
    kind = "held-out faces" if held_out else "faces, most of them trained on"
    real = to_float(torch.from_numpy(faces.images[rows]))
    latents = torch.from_numpy(draw(len(real), info.settings.latent_size, arguments.seed))
    with torch.no_grad():
        fakes = torch.cat([generator(z) for z in latents.split(BATCH)])
    real_margin = margin(discriminator, real)
    gap = real_margin.mean() - margin(discriminator, fakes).mean()
    if gap <= 0:
        raise UserError("D rates generated faces as highly as real ones, so falls cannot be compared")
    print(f"step {state['step']:,}, {len(rows)} {kind}; D's margin is {gap:.1f} lower for generated faces\n")
    print("| fault | fall of D's margin, relative to that | share of packs with a fall |\n|---|---|---|")
    for name, plant in FAULTS.items():
        fall = real_margin - margin(discriminator, plant(real, random))
        print(f"| {name} | {fall.mean() / gap:.2f} | {(fall > 0).float().mean():.2f} |")


@torch.no_grad()
def margin(discriminator: Discriminator, images: Tensor) -> Tensor:
    """The logit for "real" minus that for "generated" of each pack [N / pack].

    Batch norm uses the statistics of each batch.
    """
    discriminator = copy.deepcopy(discriminator)  # a forward pass in training mode changes its state
    packs = images.unflatten(0, (-1, discriminator.pack))
    parts = packs.tensor_split(ceil(len(images) / BATCH))
    return real_margin(torch.cat([discriminator(part.flatten(0, 1)) for part in parts]))


def spots(images: Tensor, random: torch.Generator, size: float) -> Tensor:
    """A soft spot for each image, in its middle part.

    Args:
        images: float [N, C, S, S], for their shape.
        random: generator of the places.
        size: standard deviation of the spot as a share of the side.

    Returns:
        float [N, 1, S, S] in [0, 0.8].
    """
    count, side = len(images), images.shape[-1]
    position = (torch.arange(side) + 0.5) / side
    y, x = (0.2 + 0.6 * torch.rand(2, count, 1, generator=random)).unbind()
    rows, columns = (torch.exp(-((position - centre) ** 2) / (2 * size**2)) for centre in (y, x))
    return 0.8 * (rows[:, None, :, None] * columns[:, None, None, :])


def left_side(images: Tensor) -> Tensor:
    """Weights float [S] that fall smoothly from 1 on the left to 0 on the right."""
    side = images.shape[-1]
    return torch.sigmoid((0.5 - (torch.arange(side) + 0.5) / side) * 24)


def blur(images: Tensor, share: float) -> Tensor:
    """Gaussian blur with a standard deviation in shares of the side."""
    sigma = share * images.shape[-1]
    radius = max(1, min(round(3 * sigma), images.shape[-1] // 2 - 1))
    return gaussian_blur(images, [2 * radius + 1] * 2, [sigma] * 2)


def blend_next(images: Tensor, random: torch.Generator) -> Tensor:
    """Patches of the next image, as in a negative."""
    return blend(images, images.roll(1, 0), torch.rand(len(images), NUMBERS_PER_IMAGE, generator=random))


def add_noise(images: Tensor, random: torch.Generator) -> Tensor:
    """Gaussian noise with a standard deviation of 10 levels of 255."""
    return (images + 10 / 127.5 * torch.randn(images.shape, generator=random)).clamp(-1, 1)


def add_spots(images: Tensor, random: torch.Generator, shade: float) -> Tensor:
    """Three soft spots of a shade in [-1, 1]."""
    for _ in range(3):
        images = torch.lerp(images, torch.full_like(images, shade), spots(images, random, 1 / 20))
    return images


FAULTS: dict[str, Callable[[Tensor, torch.Generator], Tensor]] = {
    "noise of 10 levels": add_noise,
    "blurred, a pixel of 96": lambda images, _: blur(images, 1 / 96),
    "contrast by 0.7": lambda images, _: 0.7 * images,
    "contrast by 1.4": lambda images, _: (1.4 * images).clamp(-1, 1),
    "three dark spots": lambda images, random: add_spots(images, random, -0.8),
    "three light spots": lambda images, random: add_spots(images, random, 0.8),
    "one side smeared": lambda images, _: torch.lerp(images, blur(images, 1 / 24), left_side(images)),
    "halves of two faces": lambda images, _: torch.lerp(images, images.roll(1, 0), left_side(images)),
    "patches of another face": blend_next,
}
"""Functions from images, float [N, 3, S, S] in [-1, 1], to images with the fault."""


if __name__ == "__main__":
    run_script(main)
