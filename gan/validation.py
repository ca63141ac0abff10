"""Scores on held-out images during training."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from gan.latent.vectors import draw
from gan.metrics.distribution import kid, precision_recall_density_coverage
from gan.metrics.features import extract, random_space
from gan.metrics.pixels import QUANTIZATION_STEP, pairwise_distances
from gan.trainer import SAMPLES, Trainer

MAX_IMAGES = 500
"""Real and generated images that are compared: enough to rank checkpoints, while still fast."""
MAX_DISCRIMINATED = 200
"""Training and held-out images that D is evaluated on."""
MIN_IMAGES = 16
"""Held-out images below which a score would be noise."""
NEIGHBOURS = 5


class Validator:
    """Scores a trainer's current networks.

    The generated images always come from the same latent vectors, the first of them those of the run's sample
    grid, and the real images are always the same: scores differ only if the networks do.

    Args:
        images: the data set, uint8 [N, 3, S, S].
        held_out: bool [N], images never trained on, at least `MIN_IMAGES`.
        device: where to compute features, which are then compared on the CPU.
    """

    def __init__(
        self, images: NDArray[np.uint8], held_out: NDArray[np.bool_], device: torch.device | None = None
    ) -> None:
        self._held_out = _subset(images, held_out, MAX_IMAGES)
        discriminated = min(MAX_DISCRIMINATED, int(held_out.sum()), int((~held_out).sum()))
        self._discriminated = [_subset(images, mask, discriminated) for mask in (~held_out, held_out)]
        self._space = random_space(device=device or torch.device("cpu"))
        self._features = extract(self._space, self._held_out)
        self._real_distance = float(pairwise_distances(_subset(images, held_out, SAMPLES)).mean())

    def scores(self, trainer: Trainer) -> dict[str, float]:
        """All scores by name.

        - `score/kid`: kernel inception distance (Binkowski et al. 2018) on the embedded random features; 0 on
          average for another set of real images.
        - `score/kid_raw`: the same for the weights of the last step instead of their average. Where it is
          much higher, G circles from style to style instead of settling, which the average hides.
        - `score/coverage`: the share in [0, 1] of held-out images with a generated image nearer than their
          fifth neighbour (Naeem et al. 2020).
        - `score/recall`: the share in [0, 1] of held-out images that are nearer to a generated image than
          its own fifth neighbour (Kynkäänniemi et al. 2019). Near 0, faces are of a few types or blurred,
          even where coverage is high.
        - `score/diversity`: mean distance of two faces of the sample grid relative to two real ones; missing
          where all real ones are the same.
        - `probability/trained`, `probability/held_out`: means of D(x) over training and over held-out images.
          Where the first is higher, D has memorised its images.
        """
        settings = trainer.settings
        latents = draw(max(len(self._held_out), SAMPLES), settings.latent_size, settings.seed)
        fakes = trainer.generate(torch.from_numpy(latents))
        features = extract(self._space, fakes[: len(self._held_out)])
        trained, unseen = map(trainer.mean_probability_real, self._discriminated)
        neighbourhood = precision_recall_density_coverage(self._features, features, NEIGHBOURS)
        scores = {
            "score/kid": kid(self._features, features).mean,
            "score/coverage": neighbourhood.coverage,
            "score/recall": neighbourhood.recall,
            "probability/trained": trained,
            "probability/held_out": unseen,
        }
        if settings.ema_half_life:
            raw = trainer.generate(torch.from_numpy(latents[: len(self._held_out)]), raw=True)
            scores["score/kid_raw"] = kid(self._features, extract(self._space, raw)).mean
        if self._real_distance > QUANTIZATION_STEP:
            distance = float(pairwise_distances(fakes[:SAMPLES]).mean())
            scores["score/diversity"] = distance / self._real_distance
        return scores


def _subset(images: NDArray[np.uint8], mask: NDArray[np.bool_], maximum: int) -> NDArray[np.uint8]:
    """At most `maximum` of the selected images, from all over the set: neighbours are often much alike."""
    indices = np.flatnonzero(mask)
    return images[indices[np.linspace(0, len(indices) - 1, min(maximum, len(indices))).astype(int)]]
