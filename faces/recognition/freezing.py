"""Freezing layers of a backbone, and caching what the frozen layers compute."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from engine.device import exact_float32
from engine.progress import ProgressBar
from faces.backbone import Backbone
from images.tiles import to_float

BATCH_SIZE = 32


def layer_before_last_block(backbone: Backbone) -> str:
    """The last layer before the last block of convolutions.

    The block starts with the last part of the body that contains other modules or, if all parts are single
    layers as in a VGG, after the last pooling or strided convolution.
    """
    names, children = backbone.layer_names, list(backbone.body.named_children())
    blocks = [name for name, part in children if name in names and list(part.children())]
    if blocks:
        return names[names.index(blocks[-1]) - 1]
    last = max(index for index, (name, _) in enumerate(children) if name in names)
    start = max(index for index, (_, part) in enumerate(children[: last + 1]) if _downsamples(part))
    return next(name for name, _ in reversed(children[:start]) if name in names)


def _downsamples(part: nn.Module) -> bool:
    return isinstance(part, nn.MaxPool2d) or (isinstance(part, nn.Conv2d) and part.stride != (1, 1))


def unfreeze(backbone: Backbone, stage: int, stages: int) -> None:
    """Make the last layers trainable: none in the first stage, all in the last one.

    Args:
        backbone: changed in place.
        stage: stage of the run, from 0.
        stages: number of stages; with 1, all layers are trainable.
    """
    names = backbone.layer_names
    frozen = 0 if stages == 1 else round(len(names) * (1 - stage / (stages - 1)))
    backbone.freeze(names[frozen - 1] if frozen else None)


class FrozenFeatures:
    """Outputs of the frozen layers for images and their mirror images, computed once.

    Args:
        backbone: on its device.
        last: the last frozen layer, one of `backbone.layer_names`.
        images: uint8 [N, 3, S, S].

    Attributes:
        remaining_layers: the layers after the frozen ones.
    """

    @torch.inference_mode()
    def __init__(self, backbone: Backbone, last: str, images: NDArray[np.uint8]) -> None:
        children, names = list(backbone.body.named_children()), backbone.layer_names
        cut = next(index for index, (name, _) in enumerate(children) if name == last) + 1
        # Include layers without weights: poolings make the features smaller.
        while cut < len(children) and children[cut][0] not in names:
            cut += 1
        frozen = nn.Sequential(*(part for _, part in children[:cut]))
        self.remaining_layers = nn.Sequential(*(part for _, part in children[cut:]))
        device = next(backbone.parameters()).device
        training = backbone.training
        backbone.eval()
        features = []
        starts = ProgressBar(range(0, len(images), BATCH_SIZE), "frozen layers", unit=" batches")
        with exact_float32():
            for start in starts:
                batch = to_float(torch.from_numpy(np.array(images[start : start + BATCH_SIZE])).to(device))
                both = [frozen(backbone.normalize(view)).cpu() for view in (batch, batch.flip(-1))]
                features.append(torch.stack(both, 1))
        backbone.train(training)
        self._features = torch.cat(features)

    def __call__(self, rows: NDArray[np.int64], mirrored: Tensor) -> Tensor:
        """Features of some images, float32 [B, C, H, W] on the CPU.

        Args:
            rows: int64 [B].
            mirrored: bool [B], whether to use the mirror image.
        """
        return self._features[torch.from_numpy(rows), mirrored.long().cpu()]
