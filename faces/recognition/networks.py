"""Classifiers: networks that map an image to a feature vector, and that to logits."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn

from faces.backbone import Backbone
from faces.recognition.arcface import ArcFaceHead
from faces.recognition.settings import ClassifierSettings
from faces.updater import decayed_parameters

CHANNELS = (32, 64, 128, 256)
"""Channels after each convolution of the network trained from scratch."""
HIDDEN_UNITS = (1024, 256)
"""Units of its hidden fully connected layers."""
MAX_MAP_SIDE = 4
"""Larger feature maps are average-pooled to this side before the fully connected layer."""
HEAD_UNITS, DROPOUT = 256, 0.5
"""The new head on a pretrained network."""


class Classifier(nn.Module, ABC):
    """A network that classifies images.

    Attributes:
        feature_size: D, values in the feature vector.
        class_count: C.
    """

    feature_size: int
    class_count: int

    @abstractmethod
    def features(self, images: Tensor) -> Tensor:
        """Map images, float [B, 3, S, S] in [-1, 1], to feature vectors, float [B, D]."""

    @abstractmethod
    def logits(self, features: Tensor, labels: Tensor | None = None) -> Tensor:
        """Map feature vectors to logits, float [B, C]; losses with a margin need the labels, int64 [B]."""

    def decayed_parameters(self) -> list[nn.Parameter]:
        """The parameters with weight decay: all but biases and norms."""
        return decayed_parameters(self.parameters())

    def forward(self, images: Tensor) -> Tensor:
        """Map images, float [B, 3, S, S] in [-1, 1], to logits, float [B, C]."""
        return self.logits(self.features(images))


class ScratchNetwork(Classifier):
    """Four 3x3 convolutions, each with 3x3 max pooling of stride 2, and three fully connected layers.

    It has 10,088,544 weights at 96 pixels and 5 classes, without biases. Each image is standardised first.

    Args:
        class_count: C.
        size: side S of the images in pixels.
    """

    def __init__(self, class_count: int, size: int) -> None:
        super().__init__()
        self.class_count, self.feature_size = class_count, HIDDEN_UNITS[1]
        layers: list[nn.Module] = []
        previous = 3
        for channels in CHANNELS:
            layers += [nn.Conv2d(previous, channels, 3, padding=1), nn.ReLU(), nn.MaxPool2d(3, 2, padding=1)]
            previous, size = channels, math.ceil(size / 2)
        self.body = nn.Sequential(*layers)
        self.hidden = nn.Sequential(
            *(nn.Flatten(), nn.Linear(previous * size**2, HIDDEN_UNITS[0]), nn.ReLU()),
            *(nn.Linear(*HIDDEN_UNITS), nn.ReLU()),
        )
        self.head = nn.Linear(HIDDEN_UNITS[1], class_count)
        for layer in self.modules():
            if isinstance(layer, nn.Conv2d | nn.Linear) and layer is not self.head:
                nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
                nn.init.zeros_(layer.bias)

    def features(self, images: Tensor) -> Tensor:
        """See `Classifier`."""
        return self.hidden(self.body(standardize(images)))

    def logits(self, features: Tensor, labels: Tensor | None = None) -> Tensor:
        """See `Classifier`."""
        return self.head(features)

    def decayed_parameters(self) -> list[nn.Parameter]:
        """The weights of the two hidden layers."""
        return [layer.weight for layer in self.hidden if isinstance(layer, nn.Linear)]


class FinetuneNetwork(Classifier):
    """A backbone with a new head: 256 units, dropout of 0.5, and the classes.

    Args:
        backbone: its feature map is average-pooled to at most 4 x 4.
        class_count: C.
        size: side S of the images in pixels.
    """

    def __init__(self, backbone: Backbone, class_count: int, size: int) -> None:
        super().__init__()
        self.class_count, self.feature_size, self.backbone = class_count, HEAD_UNITS, backbone
        channels, *sides = backbone.map_shape(size)
        side = min(MAX_MAP_SIDE, *sides)
        self.hidden = nn.Sequential(
            *(nn.AdaptiveAvgPool2d(side), nn.Flatten()),
            *(nn.Linear(channels * side**2, HEAD_UNITS), nn.ReLU()),
        )
        self.dropout, self.head = nn.Dropout(DROPOUT), nn.Linear(HEAD_UNITS, class_count)

    def features(self, images: Tensor) -> Tensor:
        """See `Classifier`."""
        return self.features_from_map(self.backbone(images))

    def features_from_map(self, feature_map: Tensor) -> Tensor:
        """Map the backbone's output, float [B, C, H, W], to feature vectors, float [B, D]."""
        return self.hidden(feature_map)

    def logits(self, features: Tensor, labels: Tensor | None = None) -> Tensor:
        """See `Classifier`."""
        return self.head(self.dropout(features))


class EmbeddingNetwork(Classifier):
    """A backbone, global average pooling, and an embedding whose direction identifies a person.

    Args:
        backbone: any.
        feature_size: D, values in the embedding.
        head: from D values to C classes: ArcFace's, or a linear layer for plain softmax.
    """

    def __init__(self, backbone: Backbone, feature_size: int, head: ArcFaceHead | nn.Linear) -> None:
        super().__init__()
        self.feature_size, self.class_count = feature_size, len(head.weight)
        self.backbone, self.head = backbone, head
        self.embedding = nn.Linear(backbone.channels, feature_size, bias=False)
        self.norm = nn.BatchNorm1d(feature_size)

    def features(self, images: Tensor) -> Tensor:
        """See `Classifier`."""
        return self.norm(self.embedding(self.backbone(images).mean((2, 3))))

    def logits(self, features: Tensor, labels: Tensor | None = None) -> Tensor:
        """See `Classifier`."""
        return self.head(features, labels) if isinstance(self.head, ArcFaceHead) else self.head(features)


def make_network(settings: ClassifierSettings, class_count: int) -> Classifier:
    """Make the network of resolved settings, with random weights from torch's generator.

    Raises:
        UserError: there is no backbone of that name.
    """
    assert settings.image_size is not None, "settings are resolved"
    if settings.method == "scratch":
        return ScratchNetwork(class_count, settings.image_size)
    assert settings.backbone is not None, "settings are resolved"
    backbone = Backbone(settings.backbone)
    if settings.method == "finetune":
        return FinetuneNetwork(backbone, class_count, settings.image_size)
    if settings.loss == "softmax":
        return EmbeddingNetwork(backbone, settings.embedding, nn.Linear(settings.embedding, class_count))
    head = ArcFaceHead(
        settings.embedding,
        class_count,
        scale=settings.scale,
        margin=settings.margin,
        easy_margin=settings.easy_margin,
    )
    return EmbeddingNetwork(backbone, settings.embedding, head)


def standardize(images: Tensor) -> Tensor:
    """Scale each image, [B, 3, H, W], to zero mean and unit standard deviation.

    The standard deviation is at least one level of 255 over the root of the number of values, so that uniform
    images are not amplified.
    """
    deviation, mean = torch.std_mean(images, (1, 2, 3), correction=0, keepdim=True)
    min_deviation = 2 / 255 / images[0].numel() ** 0.5
    return (images - mean) / deviation.clamp(min=min_deviation)
