"""The landmark network: a backbone and one linear layer to the coordinates."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from faces.backbone import Backbone

MAX_POOLED_SIDE = 4
"""The feature map is average-pooled to at most this side. Global pooling, as for classification, would remove
the positions that the linear layer needs."""
EDGE_MARGIN = 0.02
"""Initial points are at least this far inside the crop's edge."""


class LandmarkNetwork(nn.Module):
    """Face crops to landmarks.

    Args:
        backbone: name; see `faces.backbone`.
        count: K, the number of landmarks.
        image_size: side S of the crops in pixels.
    """

    def __init__(self, backbone: str, count: int, image_size: int) -> None:
        super().__init__()
        self.backbone = Backbone(backbone)
        channels, _, side = self.backbone.map_shape(image_size)
        pooled = min(side, MAX_POOLED_SIDE)
        self.pool = nn.AdaptiveAvgPool2d(pooled)
        self.head = nn.Linear(channels * pooled**2, 2 * count)
        nn.init.normal_(self.head.weight, std=0.01 * self.head.in_features**-0.5)

    def start_at(self, mean: Tensor) -> None:
        """Set the bias so that the untrained network predicts about `mean`, float [K, 2] in fractions."""
        with torch.no_grad():
            self.head.bias.copy_(torch.logit(mean.clamp(EDGE_MARGIN, 1 - EDGE_MARGIN)).flatten())

    def forward(self, images: Tensor) -> Tensor:
        """Crops, float [B, 3, S, S] in [-1, 1], to points, float [B, K, 2] in (0, 1), fractions of S."""
        features = self.pool(self.backbone(images)).flatten(1)
        return self.head(features).sigmoid().unflatten(1, (-1, 2))
