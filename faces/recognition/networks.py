"""The networks that tell classes: each turns an image into a vector of features, and that into logits."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn

from faces.backbone import Backbone
from faces.recognition.arcface import ArcFaceHead
from faces.recognition.settings import ClassifierSettings
from faces.updater import decayed_parameters

WIDTHS = (32, 64, 128, 256)
"""Channels after each convolution of the network for learning from scratch."""
HIDDEN = (1024, 256)
"""Units of its fully connected layers before the classes."""
MOST_MAP = 4
"""A larger map of features is averaged down to so many a side before the fully connected layer."""
HEAD_UNITS, DROPOUT = 256, 0.5
"""Of the new head on a pretrained network."""


class Classifier(nn.Module, ABC):
    """A network that tells classes.

    Attributes:
        length: D, values in the vector of features.
        classes: C.
    """

    length: int
    classes: int

    @abstractmethod
    def features(self, images: Tensor) -> Tensor:
        """Images, float [B, 3, S, S] in [-1, 1], to vectors, float [B, D]."""

    @abstractmethod
    def logits(self, features: Tensor, labels: Tensor | None = None) -> Tensor:
        """Vectors to logits, float [B, C]; the right classes, int64 [B], are for losses with a margin."""

    def decayed_parameters(self) -> list[nn.Parameter]:
        """The weights on which weight decay acts: all but biases and norms."""
        return decayed_parameters(self.parameters())

    def forward(self, images: Tensor) -> Tensor:
        """Images, float [B, 3, S, S] in [-1, 1], to logits, float [B, C]."""
        return self.logits(self.features(images))


class ScratchNetwork(Classifier):
    """Four times a 3x3 convolution and a 3x3 max pooling that halves the size, then three connected layers.

    10,088,544 weights at 96 pixels and 5 classes, biases not counted. Each image is standardize first.

    Args:
        classes: C.
        size: side S of the images in pixels.
    """

    def __init__(self, classes: int, size: int) -> None:
        super().__init__()
        self.classes, self.length = classes, HIDDEN[1]
        layers: list[nn.Module] = []
        before = 3
        for width in WIDTHS:
            layers += [nn.Conv2d(before, width, 3, padding=1), nn.ReLU(), nn.MaxPool2d(3, 2, padding=1)]
            before, size = width, math.ceil(size / 2)
        self.body = nn.Sequential(*layers)
        self.hidden = nn.Sequential(
            *(nn.Flatten(), nn.Linear(before * size**2, HIDDEN[0]), nn.ReLU()),
            *(nn.Linear(*HIDDEN), nn.ReLU()),
        )
        self.head = nn.Linear(HIDDEN[1], classes)
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
    """A backbone with a new head: 256 units, dropout of half of them, the classes.

    Args:
        backbone: whose map of features is averaged down to at most 4 x 4.
        classes: C.
        size: side S of the images in pixels.
    """

    def __init__(self, backbone: Backbone, classes: int, size: int) -> None:
        super().__init__()
        self.classes, self.length, self.backbone = classes, HEAD_UNITS, backbone
        channels, *sides = backbone.map_shape(size)
        side = min(MOST_MAP, *sides)
        self.hidden = nn.Sequential(
            *(nn.AdaptiveAvgPool2d(side), nn.Flatten()),
            *(nn.Linear(channels * side**2, HEAD_UNITS), nn.ReLU()),
        )
        self.dropout, self.head = nn.Dropout(DROPOUT), nn.Linear(HEAD_UNITS, classes)

    def features(self, images: Tensor) -> Tensor:
        """See `Classifier`."""
        return self.features_from_map(self.backbone(images))

    def features_from_map(self, features: Tensor) -> Tensor:
        """As `features`, from the backbone's map, float [B, C, H, W]."""
        return self.hidden(features)

    def logits(self, features: Tensor, labels: Tensor | None = None) -> Tensor:
        """See `Classifier`."""
        return self.head(self.dropout(features))


class EmbeddingNetwork(Classifier):
    """A backbone, the mean of its map, and a vector of which the direction tells who it is.

    Args:
        backbone: any.
        length: D, values in the vector.
        head: of D values to C classes: ArcFace's, or a linear layer for plain softmax.
    """

    def __init__(self, backbone: Backbone, length: int, head: ArcFaceHead | nn.Linear) -> None:
        super().__init__()
        self.length, self.classes = length, len(head.weight)
        self.backbone, self.head = backbone, head
        self.embedding = nn.Linear(backbone.channels, length, bias=False)
        self.norm = nn.BatchNorm1d(length)

    def features(self, images: Tensor) -> Tensor:
        """See `Classifier`."""
        return self.norm(self.embedding(self.backbone(images).mean((2, 3))))

    def logits(self, features: Tensor, labels: Tensor | None = None) -> Tensor:
        """See `Classifier`."""
        return self.head(features, labels) if isinstance(self.head, ArcFaceHead) else self.head(features)


def make_network(settings: ClassifierSettings, classes: int) -> Classifier:
    """The network that resolved settings ask for, with random weights from torch's generator.

    Raises:
        UserError: there is no backbone of that name.
    """
    assert settings.image_size is not None, "settings are resolved"
    if settings.method == "scratch":
        return ScratchNetwork(classes, settings.image_size)
    assert settings.backbone is not None, "settings are resolved"
    backbone = Backbone(settings.backbone)
    if settings.method == "finetune":
        return FinetuneNetwork(backbone, classes, settings.image_size)
    if settings.loss == "softmax":
        return EmbeddingNetwork(backbone, settings.embedding, nn.Linear(settings.embedding, classes))
    head = ArcFaceHead(
        settings.embedding,
        classes,
        scale=settings.scale,
        margin=settings.margin,
        easy_margin=settings.easy_margin,
    )
    return EmbeddingNetwork(backbone, settings.embedding, head)


def standardize(images: Tensor) -> Tensor:
    """Each image, [B, 3, H, W], less its mean and over its standard deviation.

    An even image is not blown up: the deviation counts as a level of 255 at least, over the root of the
    number of values.
    """
    deviation, mean = torch.std_mean(images, (1, 2, 3), correction=0, keepdim=True)
    least = 2 / 255 / images[0].numel() ** 0.5
    return (images - mean) / deviation.clamp(min=least)
