"""The network that finds landmarks: a backbone, and one linear layer to the coordinates."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from faces.backbone import Backbone

PLACES = 4
"""The map of features is averaged to at most so many places a side. With its places kept apart a layer
reads off where something is; averaged into one, as for classification, it would have to be told."""
INSIDE = 0.02
"""Mean places nearer than this to a crop's edge, or outside, begin this far inside."""


class LandmarkNetwork(nn.Module):
    """Crops to landmarks.

    Args:
        backbone: its name; see `faces.backbone`.
        count: K, the number of landmarks.
        image_size: side S of the crops in pixels.
    """

    def __init__(self, backbone: str, count: int, image_size: int) -> None:
        super().__init__()
        self.backbone = Backbone(backbone)
        channels, _, side = self.backbone.map_shape(image_size)
        places = min(side, PLACES)
        self.pool = nn.AdaptiveAvgPool2d(places)
        self.head = nn.Linear(channels * places**2, 2 * count)
        nn.init.normal_(self.head.weight, std=0.01 * self.head.in_features**-0.5)

    def begin_at(self, mean: Tensor) -> None:
        """Have it answer with these mean places, float [K, 2] in fractions, before it has learnt anything."""
        with torch.no_grad():
            self.head.bias.copy_(torch.logit(mean.clamp(INSIDE, 1 - INSIDE)).flatten())

    def forward(self, images: Tensor) -> Tensor:
        """Crops, float [B, 3, S, S] in [-1, 1], to points, float [B, K, 2] in (0, 1), fractions of S."""
        features = self.pool(self.backbone(images)).flatten(1)
        return self.head(features).sigmoid().unflatten(1, (-1, 2))
