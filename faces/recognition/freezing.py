"""Which layers of a backbone learn, and which stay as they are; what frozen layers make of images."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from tqdm import tqdm

from engine.device import exact_float32
from faces.backbone import Backbone
from images.tiles import to_float

BATCH = 32


def layer_before_last_block(backbone: Backbone) -> str:
    """The last layer before the last block of convolutions.

    That begins with the last part of the body that has parts itself or, where all are single layers as in a
    VGG, after the last pooling or stride.
    """
    names, children = backbone.layer_names, list(backbone.body.named_children())
    blocks = [name for name, part in children if name in names and list(part.children())]
    if blocks:
        return names[names.index(blocks[-1]) - 1]
    last = max(place for place, (name, _) in enumerate(children) if name in names)
    begin = max(place for place, (_, part) in enumerate(children[: last + 1]) if _makes_smaller(part))
    return next(name for name, _ in reversed(children[:begin]) if name in names)


def _makes_smaller(part: nn.Module) -> bool:
    return isinstance(part, nn.MaxPool2d) or (isinstance(part, nn.Conv2d) and part.stride != (1, 1))


def unfreeze(backbone: Backbone, stage: int, stages: int) -> None:
    """Let the last layers learn: none in the first of the stages, and all in the last; in place.

    Args:
        backbone: of which a share of the parts that have weights is frozen.
        stage: from 0.
        stages: how many there are; with 1, all layers learn.
    """
    names = backbone.layer_names
    frozen = 0 if stages == 1 else round(len(names) * (1 - stage / (stages - 1)))
    backbone.freeze(names[frozen - 1] if frozen else None)


class FrozenFeatures:
    """What the frozen layers make of images and of their mirror images, computed once.

    Args:
        backbone: on its device.
        last: its last frozen layer, one of its `layers`.
        images: uint8 [N, 3, S, S].

    Attributes:
        rest: the layers after those.
    """

    @torch.inference_mode()
    def __init__(self, backbone: Backbone, last: str, images: NDArray[np.uint8]) -> None:
        children = list(backbone.body.named_children())
        weighty = backbone.layer_names
        cut = next(place for place, (name, _) in enumerate(children) if name == last) + 1
        # Poolings after the last frozen weights make the maps smaller, and learn nothing either.
        while cut < len(children) and children[cut][0] not in weighty:
            cut += 1
        frozen = nn.Sequential(*(part for _, part in children[:cut]))
        self.remaining_layers = nn.Sequential(*(part for _, part in children[cut:]))
        device = next(backbone.parameters()).device
        training = backbone.training
        backbone.eval()
        maps = []
        with exact_float32():
            for first in tqdm(range(0, len(images), BATCH), "frozen layers", unit=" batches", disable=None):
                batch = to_float(torch.from_numpy(np.array(images[first : first + BATCH])).to(device))
                both = [frozen(backbone.normalize(view)).cpu() for view in (batch, batch.flip(-1))]
                maps.append(torch.stack(both, 1))
        backbone.train(training)
        self._maps = torch.cat(maps)

    def __call__(self, rows: NDArray[np.int64], mirrored: Tensor) -> Tensor:
        """The maps of some images, float32 [B, C, H, W] on the CPU.

        Args:
            rows: int64 [B].
            mirrored: bool [B], whether the mirror image's is taken.
        """
        return self._maps[torch.from_numpy(rows), mirrored.long().cpu()]
