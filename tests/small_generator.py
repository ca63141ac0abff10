"""A small generator with random weights, whose images differ clearly and which inverts in seconds."""

from pathlib import Path

import torch

from gan.config import Settings
from gan.generator import LoadedGenerator, estimate_batch_norm
from gan.networks import make_generator


def small_generator(
    run: Path, *, seed: int = 0, latent_size: int = 10, **settings: object
) -> LoadedGenerator:
    """A generator of 32 px with random weights, as if of this run."""
    described = Settings(
        generator_widths=(16, 12, 8, 6),
        discriminator_widths=(4, 6, 8, 10),
        latent_size=latent_size,
        image_size=32,
        **settings,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = make_generator(described)
        # Weak last filters would give grey images.
        torch.nn.init.normal_(network.layers[-2].weight, std=0.2)
    estimate_batch_norm(network, seed)
    run.mkdir(parents=True, exist_ok=True)
    return LoadedGenerator(network.eval(), run, run / "best.pt", 7, "raw", described)
