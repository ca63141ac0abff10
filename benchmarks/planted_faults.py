"""Plant faults in real faces, and see which of them a run's discriminator minds.

    python benchmarks/planted_faults.py [RUN] [--checkpoint 3000]

A generator is only taught to avoid what its discriminator minds. Prints a Markdown table: for each fault how
far D's answer (the lead of the logit for real ones) falls, over how far it falls from real to generated
faces; and the share of faces for which it falls at all. The faces are those held out from the run, where
there are enough; the generated ones are drawn by the weights of the last training step, as D saw them.
Patches of another face are what negatives are made of (gan/negatives.py): a run with those has seen such.
"""

from __future__ import annotations

import copy
import sys
from collections.abc import Callable
from dataclasses import dataclass
from math import ceil
from pathlib import Path

import torch
from torch import Tensor
from torchvision.transforms.v2.functional import gaussian_blur

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from engine.checkpoint import load_selected
from engine.cli import parse
from engine.errors import UserError, run_script
from engine.settings import at_least
from gan.config import read_info
from gan.generator import check_networks
from gan.latent.vectors import draw
from gan.losses import GENERATED, REAL
from gan.metrics.references import load_reference
from gan.negatives import AMOUNTS, blend
from gan.networks import Discriminator, make_networks
from gan.options import RunArguments
from images.tiles import to_float

BATCH = 64


@dataclass(frozen=True)
class FaultChoice(RunArguments):
    """Which run, and on how many faces."""

    checkpoint: str | None = None
    """Step or file of the checkpoint, `best` or `newest`; the best if none is named."""
    count: int = 256
    """Faces; fewer where the run held out fewer."""
    seed: int = 0
    """Of the faces, their faults and the generated ones."""

    def __post_init__(self) -> None:
        at_least(self, 2, "count")
        at_least(self, 0, "seed")


def main() -> None:
    """Load, spoil, ask, print. Raises `UserError` where the run or its images are not there."""
    choice = parse(FaultChoice, description=__doc__)
    run = choice.folder()
    info = read_info(run)
    path, state = load_selected(run, choice.checkpoint)
    check_networks(run, info.settings, path, state)
    generator, discriminator = make_networks(info.settings)
    generator.load_state_dict(state["generator"])
    discriminator.load_state_dict(state["discriminator"])
    faces = load_reference(info, None).faces
    held_out = len(faces.held_out) >= BATCH
    rows = faces.held_out if held_out else faces.pool
    random = torch.Generator().manual_seed(choice.seed)
    rows = rows[torch.randperm(len(rows), generator=random)[: choice.count].numpy()]
    if len(rows) < 2:
        raise UserError("the run's folder holds fewer than two images")
    told = f"{len(rows)} {'held-out faces' if held_out else 'faces, most of them trained on'}"
    real = to_float(torch.from_numpy(faces.images[rows]))
    latents = torch.from_numpy(draw(len(real), info.settings.latent_size, choice.seed))
    with torch.no_grad():
        fakes = torch.cat([generator(z) for z in latents.split(BATCH)])
    of_real, of_fakes = lead(discriminator, real), lead(discriminator, fakes)
    gap = of_real.mean() - of_fakes.mean()
    if gap <= 0:
        raise UserError("D believes in generated faces as much as in real ones: it goes by nothing")
    print(f"step {state['step']:,}, {told}; for generated ones D's answer is {gap:.1f} lower\n")
    print("| fault | D's answer falls by, of that | for so many faces |\n|---|---|---|")
    for name, spoil in FAULTS.items():
        fall = of_real - lead(discriminator, spoil(real, random))
        print(f"| {name} | {fall.mean() / gap:.2f} | {(fall > 0).float().mean():.2f} |")


@torch.no_grad()
def lead(discriminator: Discriminator, images: Tensor) -> Tensor:
    """By how much [N] the logit for real images leads; batch norm takes the statistics of each batch."""
    judge = copy.deepcopy(discriminator)  # in training each look moves spectral norm's estimate
    logits = torch.cat([judge(part) for part in images.tensor_split(ceil(len(images) / BATCH))])
    return logits[:, REAL] - logits[:, GENERATED]


def spots(images: Tensor, random: torch.Generator, size: float) -> Tensor:
    """A soft spot for each image, float [N, 1, S, S] in [0, 0.8], of a size in sides, in the middle part."""
    count, side = len(images), images.shape[-1]
    place = (torch.arange(side) + 0.5) / side
    down, across = (0.2 + 0.6 * torch.rand(2, count, 1, generator=random)).unbind()
    near = [torch.exp(-((place - centre) ** 2) / (2 * size**2)) for centre in (down, across)]
    return 0.8 * (near[0][:, None, :, None] * near[1][:, None, None, :])


def left_side(images: Tensor) -> Tensor:
    """1 on the left, 0 on the right, soft between: float [S]."""
    side = images.shape[-1]
    return torch.sigmoid((0.5 - (torch.arange(side) + 0.5) / side) * 24)


def blurred(images: Tensor, share: float) -> Tensor:
    """By a Gaussian whose standard deviation is a share of the side."""
    sigma = share * images.shape[-1]
    reach = max(1, min(round(3 * sigma), images.shape[-1] // 2 - 1))
    return gaussian_blur(images, [2 * reach + 1] * 2, [sigma] * 2)


def blended(images: Tensor, random: torch.Generator) -> Tensor:
    """With patches of the next one, as negatives are."""
    return blend(images, images.roll(1, 0), torch.rand(len(images), AMOUNTS, generator=random))


def noisy(images: Tensor, random: torch.Generator) -> Tensor:
    """With noise of 10 levels of 255."""
    return (images + 10 / 127.5 * torch.randn(images.shape, generator=random)).clamp(-1, 1)


def spotted(images: Tensor, random: torch.Generator, shade: float) -> Tensor:
    """With three soft spots of a shade in [-1, 1]."""
    for _ in range(3):
        images = torch.lerp(images, torch.full_like(images, shade), spots(images, random, 1 / 20))
    return images


FAULTS: dict[str, Callable[[Tensor, torch.Generator], Tensor]] = {
    "noise of 10 levels": noisy,
    "blurred, a pixel of 96": lambda images, _: blurred(images, 1 / 96),
    "contrast by 0.7": lambda images, _: 0.7 * images,
    "contrast by 1.4": lambda images, _: (1.4 * images).clamp(-1, 1),
    "three dark spots": lambda images, random: spotted(images, random, -0.8),
    "three light spots": lambda images, random: spotted(images, random, 0.8),
    "one side smeared": lambda images, _: torch.lerp(images, blurred(images, 1 / 24), left_side(images)),
    "halves of two faces": lambda images, _: torch.lerp(images, images.roll(1, 0), left_side(images)),
    "patches of another face": blended,
}


if __name__ == "__main__":
    run_script(main)
