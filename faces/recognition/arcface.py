"""ArcFace (Deng et al. 2019): classes as directions on a sphere, told apart by an angle to spare.

What is learnt so needs no class to be useful: the angle between two vectors tells how alike two faces are,
also of people who were never trained on.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

SCALE = 30.0
"""Of the cosines, before softmax."""
MARGIN = 0.5
"""Radians that are added to the angle to the right class."""
SMALLEST_SINE_SQUARED = 1e-12
"""Below this the root's slope is taken to be 0: at a cosine of 1 or -1 it would be infinite."""


class ArcFaceHead(nn.Module):
    """The last layer of a network trained by ArcFace: a direction for each class.

    Args:
        length: D, values in a feature vector.
        classes: C.
        scale: s of the paper.
        margin: m of the paper [radians], in [0, pi).
        easy_margin: add the margin only to angles of less than a right angle. Else it is added wherever the
            sum is at most pi, and beyond that the cosine is lowered by m sin m, so that it never falls less.

    Raises:
        ValueError: the scale is not positive, or the margin out of its range.
    """

    def __init__(
        self,
        length: int,
        classes: int,
        *,
        scale: float = SCALE,
        margin: float = MARGIN,
        easy_margin: bool = False,
    ) -> None:
        super().__init__()
        if not (0 < scale < math.inf and 0 <= margin < math.pi):
            raise ValueError(f"scale {scale} must be positive, and margin {margin} in [0, pi)")
        self.scale, self.margin, self.easy_margin = scale, margin, easy_margin
        self.weight = nn.Parameter(torch.empty(classes, length))
        nn.init.xavier_uniform_(self.weight)

    def forward(self, features: Tensor, labels: Tensor | None = None) -> Tensor:
        """Logits, from features of any length, which is divided out of each vector by itself.

        Args:
            features: float [B, D].
            labels: int64 [B], the right classes, whose angles get the margin; None for none, as outside
                of training.

        Returns:
            float [B, C], in [-scale, scale] without labels.
        """
        # Rounding can make the product of two unit vectors more than 1.
        cosine = F.linear(F.normalize(features), F.normalize(self.weight)).clamp(-1, 1)
        if labels is None or self.margin == 0:
            return self.scale * cosine
        right = cosine.gather(1, labels[:, None])
        return self.scale * cosine.scatter(1, labels[:, None], self._with_margin(right))

    def _with_margin(self, cosine: Tensor) -> Tensor:
        """cos(angle + margin) of cosines, kept falling over all angles."""
        sine = (1 - cosine.square()).clamp(min=SMALLEST_SINE_SQUARED).sqrt()
        shifted = cosine * math.cos(self.margin) - sine * math.sin(self.margin)
        if self.easy_margin:
            return torch.where(cosine > 0, shifted, cosine)
        beyond = cosine - self.margin * math.sin(self.margin)
        return torch.where(cosine >= math.cos(math.pi - self.margin), shifted, beyond)
