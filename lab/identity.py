"""Edits that keep a person's identity, as a recogniser sees it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from engine.device import exact_float32
from faces.recognition.augment import central_input
from faces.recognition.recognizer import Recognizer
from gan.generator import LoadedGenerator
from gan.inversion.coordinates import to_u, to_z
from gan.inversion.lbfgs import minimize
from gan.latent.regression import orthonormal
from gan.latent.vectors import Latents

IDENTITY_WEIGHT = 60.0
"""Weight of 1 - cosine similarity, against half the squared length of the correction."""
EVALUATIONS = 60
TOLERANCE = 1e-3


def keep_identity(
    generator: LoadedGenerator,
    recognizer: Recognizer,
    fitted: Latents,
    edited: Latents,
    directions: Sequence[NDArray[np.float64]],
) -> Latents:
    """Correct edited vectors so that the recogniser finds the person of the fitted ones again.

    The correction is as short as it can be and orthogonal to the directions of the edit in the Gaussian
    coordinate, so an edit of strength 2 stays one of strength 2.

    Args:
        generator: makes the images.
        recognizer: whose embeddings identify people; it should not have found the directions.
        fitted: before the edit, float32 [N, latent_size].
        edited: after it.
        directions: along which the edit went, each [latent_size], of length 1.

    Returns:
        float32 [N, latent_size], in [-1, 1].
    """
    network = generator.network.requires_grad_(False)
    device = next(network.parameters()).device
    recognizer.network.requires_grad_(False)
    basis = torch.from_numpy(orthonormal(np.stack(directions)).T.astype(np.float32)).to(device)
    start = to_u(torch.from_numpy(edited).to(device))

    def corrected(correction: Tensor, rows: Tensor) -> Tensor:
        return start[rows] + correction - correction @ basis @ basis.T

    def objective(correction: Tensor, rows: Tensor) -> Tensor:
        images = network(to_z(corrected(correction, rows)))
        similarity = (_embeddings(recognizer, images) * wanted[rows]).sum(1)
        return IDENTITY_WEIGHT * (1 - similarity) + correction.square().sum(1) / 2

    with exact_float32():
        with torch.no_grad():
            wanted = _embeddings(recognizer, network(torch.from_numpy(fitted).to(device)))
        correction, _ = minimize(objective, torch.zeros_like(start), EVALUATIONS, TOLERANCE)
        rows = torch.arange(len(start), device=device)
        return to_z(corrected(correction, rows)).cpu().numpy()


def _embeddings(recognizer: Recognizer, images: Tensor) -> Tensor:
    """As `Recognizer.embeddings`, of images [B, 3, S, S] in [-1, 1] and differentiable: [B, D]."""
    assert recognizer.settings.image_size is not None, "settings are resolved"
    levels = (images + 1) * 127.5
    side = (recognizer.side,) * 2
    resized = F.interpolate(levels, side, mode="bilinear", antialias=True)
    crops = central_input(resized, recognizer.settings.image_size)
    return F.normalize(recognizer.network.features(crops.contiguous(memory_format=torch.channels_last)))
