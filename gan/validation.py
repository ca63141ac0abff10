"""How good a run is while it trains: its generator and its discriminator against held-out images."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from gan.latent.vectors import draw
from gan.metrics.distribution import kid, precision_recall_density_coverage
from gan.metrics.features import extract, random_space
from gan.metrics.pixels import QUANTIZATION_STEP, pairwise_distances
from gan.trainer import SAMPLES, Trainer

MOST = 500
"""Images of either kind that are compared: enough to rank checkpoints, and quick."""
JUDGED = 200
"""Images of either kind that D is asked about."""
FEWEST = 16
"""Held-out images below which a score would be chance."""
NEIGHBOURS = 5
RANKED_BY = "score/kid"
"""The score by which the best networks are chosen; less is better."""


class Scorer:
    """Scores a trainer's present networks.

    The generated images are always from the same latent vectors, the first of them those of the run's
    sample grid, and the real ones always the same: scores differ only where the networks do.

    Args:
        images: the data set, uint8 [N, 3, S, S].
        held: bool [N], those never trained on, at least `FEWEST`.
        device: where to compute features and their distances.
    """

    def __init__(
        self, images: NDArray[np.uint8], held: NDArray[np.bool_], device: torch.device | None = None
    ) -> None:
        self._held = _some_of(images, held, MOST)
        self._judged = min(JUDGED, int(held.sum()), int((~held).sum()))
        self._trained = _some_of(images, ~held, self._judged)
        self._space = random_space(device=device or torch.device("cpu"))
        self._held_features = extract(self._space, self._held)
        self._spread = float(pairwise_distances(self._held[:SAMPLES]).mean())

    def scores(self, trainer: Trainer) -> dict[str, float]:
        """The names and values of all scores, as they stand in the curves.

        - `score/kid`: kernel inception distance (Binkowski et al. 2018) on the embedded random
          features; 0 is as near as another set of real images.
        - `score/coverage`: the share in [0, 1] of held-out images that have a generated one nearer than
          their fifth neighbour (Naeem et al. 2020).
        - `score/diversity`: mean distance of two faces of the sample grid over that of two real ones,
          left out where the real ones are all the same.
        - `probability/trained`, `probability/held_out`: means of D(x) over images trained on and never
          seen. Where the first is higher, D knows its images by heart.
        """
        settings = trainer.settings
        latents = draw(max(len(self._held), SAMPLES), settings.latent_size, settings.seed)
        fakes = trainer.generate(torch.from_numpy(latents))
        features = extract(self._space, fakes[: len(self._held)])
        neighbourhood = precision_recall_density_coverage(self._held_features, features, NEIGHBOURS)
        scores = {
            RANKED_BY: kid(self._held_features, features).mean,
            "score/coverage": neighbourhood.coverage,
            "probability/trained": trainer.belief(self._trained),
            "probability/held_out": trainer.belief(self._held[: self._judged]),
        }
        if self._spread > QUANTIZATION_STEP:
            scores["score/diversity"] = float(pairwise_distances(fakes[:SAMPLES]).mean()) / self._spread
        return scores


def _some_of(images: NDArray[np.uint8], which: NDArray[np.bool_], most: int) -> NDArray[np.uint8]:
    """At most so many of the images chosen, from all over the set: neighbours are often much alike."""
    chosen = np.flatnonzero(which)
    return images[chosen[np.linspace(0, len(chosen) - 1, min(most, len(chosen))).astype(int)]]
