"""ArcFace (Deng et al. 2019): classes as directions on a hypersphere, separated by an angular margin.

The angle between two embeddings measures how similar two faces are, also for people outside the training set.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

SCALE = 30.0
"""Factor on the cosines before the softmax."""
MARGIN = 0.5
"""Angle in radians added to the angle to the true class."""
MIN_SINE_SQUARED = 1e-12
"""Lower values are clamped: the root's gradient would be infinite at a cosine of 1 or -1."""


class ArcFaceHead(nn.Module):
    """The last layer of a network trained by ArcFace: a direction for each class.

    Args:
        feature_size: D, values in a feature vector.
        class_count: C.
        scale: s in the paper.
        margin: m in the paper [radians], in [0, pi).
        easy_margin: add the margin only to angles below a right angle. Otherwise, add it wherever the sum is
            at most pi, and beyond that lower the cosine by m sin m, so that it keeps falling.

    Raises:
        ValueError: the scale is not positive, or the margin is out of range.
    """

    def __init__(
        self,
        feature_size: int,
        class_count: int,
        *,
        scale: float = SCALE,
        margin: float = MARGIN,
        easy_margin: bool = False,
    ) -> None:
        super().__init__()
        if not (0 < scale < math.inf and 0 <= margin < math.pi):
            raise ValueError(f"scale {scale} must be positive, and margin {margin} in [0, pi)")
        self.scale, self.margin, self.easy_margin = scale, margin, easy_margin
        self.weight = nn.Parameter(torch.empty(class_count, feature_size))
        nn.init.xavier_uniform_(self.weight)

    def forward(self, features: Tensor, labels: Tensor | None = None) -> Tensor:
        """Compute logits. Each feature vector is normalised first.

        Args:
            features: float [B, D].
            labels: int64 [B], the true classes, whose angles get the margin; None for no margin, as in
                evaluation.

        Returns:
            float [B, C], in [-scale, scale] without labels.
        """
        # Rounding can push the product of two unit vectors beyond 1.
        cosine = F.linear(F.normalize(features), F.normalize(self.weight)).clamp(-1, 1)
        if labels is None or self.margin == 0:
            return self.scale * cosine
        true = cosine.gather(1, labels[:, None])
        return self.scale * cosine.scatter(1, labels[:, None], self._add_margin(true))

    def _add_margin(self, cosine: Tensor) -> Tensor:
        """cos(angle + margin), extended so that it falls over all angles."""
        sine = (1 - cosine.square()).clamp(min=MIN_SINE_SQUARED).sqrt()
        shifted = cosine * math.cos(self.margin) - sine * math.sin(self.margin)
        if self.easy_margin:
            return torch.where(cosine > 0, shifted, cosine)
        # Above a margin of 2.3 the usual m sin(m) is too small, and the logit would rise where both meet.
        beyond = cosine - max(self.margin * math.sin(self.margin), 1 - math.cos(self.margin))
        return torch.where(cosine >= math.cos(math.pi - self.margin), shifted, beyond)
