"""Backbones: the convolutions of a network that was made for another task, or a small one for a CPU.

A backbone turns images into a map of features; what is learnt from the map is the caller's. Any of
torchvision's that end in such a map will do, with the weights they learnt from ImageNet or without.
"""

from __future__ import annotations

import re
from collections import OrderedDict
from pathlib import Path
from typing import Any, Self

import torch
import torchvision
from torch import Tensor, nn
from torchvision.models import DenseNet

from engine.errors import UserError

SMALL = "small"
SMALL_WIDTHS = (32, 64, 128, 192)
FAMILIES = (
    *("resnet", "resnext", "wide_resnet", "vgg", "mobilenet", "efficientnet", "convnext", "densenet"),
    *("squeezenet", "shufflenet", "mnasnet", "regnet"),
)
"""Beginnings of the names of torchvision's networks that can be backbones."""
HEADS = ("avgpool", "fc", "classifier")
"""What comes after the convolutions."""
WRAPPERS = ("layers", "trunk_output")
"""What holds the blocks of MNASNet and RegNet, which are layers by themselves in others."""
UNCOUNTED = ".num_batches_tracked"
"""What batch norms did not count when the older of torchvision's weights were made; nothing here needs it."""
DENSE_LAYER = re.compile(r"(denselayer\d+\.(?:norm|conv))\.([12])\.")
"""Names in DenseNet's weights, which end in `norm.1` where the network has `norm1`."""
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""Of ImageNet's colours in [0, 1]: what torchvision's networks expect to be taken off and divided by."""


class Backbone(nn.Module):
    """Images to a map of features.

    Args:
        name: `small`, or that of a network of torchvision.

    Attributes:
        channels: C of the map.

    Raises:
        UserError: there is none of that name.
    """

    def __init__(self, name: str) -> None:
        super().__init__()
        self.name = name
        self.body = _small() if name == SMALL else _convolutions(_torchvision(name))
        self._frozen: list[nn.Module] = []
        self.channels = self.map_shape(64)[0]

    def forward(self, images: Tensor) -> Tensor:
        """Images, float [B, 3, S, S] in [-1, 1], to features, float [B, C, H, W].

        H and W are about S / 16 for the small one and S / 32 for most others.
        """
        return self.body(self.normalize(images))

    @property
    def layer_names(self) -> list[str]:
        """The names of the body's parts that have weights, from the image on."""
        return [name for name, part in self.body.named_children() if _weights(part)]

    @torch.no_grad()
    def map_shape(self, size: int) -> tuple[int, int, int]:
        """C, H and W of the map of features of an image of that side in pixels."""
        training = self.training
        shape = self.eval()(torch.zeros(1, 3, size, size)).shape
        self.train(training)
        return shape[1], shape[2], shape[3]

    def normalize(self, images: Tensor) -> Tensor:
        """Images, float [B, 3, S, S] in [-1, 1], as the body takes them."""
        if self.name == SMALL:
            return images
        mean, std = (images.new_tensor(values)[:, None, None] for values in (MEAN, STD))
        return (images * 0.5 + 0.5 - mean) / std

    def freeze(self, last: str | None) -> None:
        """Keep all layers up to and including one as they are, batch-norm statistics too, and no others.

        Args:
            last: name of a layer inside the body, such as `layer2` of a ResNet, `layer4.0`, or `10` of a
                VGG; None to keep none.

        Raises:
            UserError: there is no such layer, or it has no weights.
        """
        weights = dict(self.body.named_parameters())
        if last is None:
            self.body.requires_grad_(True)
            self._frozen = []
            self.train(self.training)
            return
        ends = [place for place, name in enumerate(weights) if name.startswith(f"{last}.")]
        if not ends:
            raise UserError(
                f"{self.name} has no layer {last} to freeze; it has: {', '.join(self.layer_names)}"
            )
        for place, weight in enumerate(weights.values()):
            weight.requires_grad_(place > ends[-1])
        layers = [layer for layer in self.body.modules() if _weights(layer)]
        self._frozen = [layer for layer in layers if not any(w.requires_grad for w in _weights(layer))]
        self.train(self.training)

    def train(self, mode: bool = True) -> Self:
        """As of any module, but what is frozen stays in evaluation mode."""
        super().train(mode)
        for layer in self._frozen:
            layer.eval()
        return self


def load_weights(backbone: Backbone, weights: str) -> None:
    """Begin with weights that were learnt before.

    Args:
        backbone: of torchvision.
        weights: `imagenet`, which are downloaded unless torch hub's folder of checkpoints holds them, or
            a file with a state dict of the whole network.

    Raises:
        UserError: they cannot be had, or are not of this network; the message names the ways out.
    """
    if backbone.name == SMALL:
        raise UserError(f"there are no weights for the backbone {SMALL}: leave --weights out")
    state = _imagenet(backbone.name) if weights == "imagenet" else _from_file(Path(weights))
    state = {DENSE_LAYER.sub(r"\1\2.", name): weight for name, weight in state.items()}
    network = _torchvision(backbone.name)
    missing = []
    for name, weight in network.state_dict().items():
        learnt = state.get(name)
        if isinstance(learnt, Tensor) and learnt.shape == weight.shape:
            weight.copy_(learnt)
        elif name.partition(".")[0] not in HEADS and not name.endswith(UNCOUNTED):
            missing.append(name)
    if missing:
        raise UserError(
            f"{weights} holds no weights of {backbone.name}: {missing[0]} is missing or another shape"
        )
    backbone.body.load_state_dict(_convolutions(network).state_dict())


def _weights(layer: nn.Module) -> list[nn.Parameter]:
    return list(layer.parameters())


def _small() -> nn.Sequential:
    """Four 3x3 convolutions that halve the size and, after all but the first, one each that does not."""
    layers: list[nn.Module] = []
    before = 3
    for stage, width in enumerate(SMALL_WIDTHS):
        layers += _convolution(before, width, stride=2)
        if stage:
            layers += _convolution(width, width, stride=1)
        before = width
    return nn.Sequential(*layers)


def _convolution(before: int, width: int, stride: int) -> list[nn.Module]:
    convolution = nn.Conv2d(before, width, 3, stride, padding=1, bias=False)
    nn.init.kaiming_normal_(convolution.weight, mode="fan_out", nonlinearity="relu")
    return [convolution, nn.BatchNorm2d(width), nn.ReLU(inplace=True)]


def _torchvision(name: str) -> nn.Module:
    known = torchvision.models.list_models(module=torchvision.models)
    if name not in known or not name.startswith(FAMILIES):
        raise UserError(
            f"there is no backbone {name}: give {SMALL}, or a network of torchvision such as resnet18, "
            f"resnet50 or mobilenet_v3_small (families: {', '.join(FAMILIES)})"
        )
    return torchvision.models.get_model(name, weights=None)


def _convolutions(network: nn.Module) -> nn.Module:
    if isinstance(network, DenseNet):  # whose last ReLU is no module of its features
        named = OrderedDict(network.features.named_children())
        return nn.Sequential(OrderedDict(named, relu5=nn.ReLU(inplace=True)))
    if hasattr(network, "features"):
        return network.features
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    for name, layer in network.named_children():
        if name in HEADS:
            break
        layers.update(layer.named_children() if name in WRAPPERS else {name: layer})
    return nn.Sequential(layers)


def _imagenet(name: str) -> dict[str, Any]:
    url = torchvision.models.get_model_weights(name).DEFAULT.url
    folder = Path(torch.hub.get_dir()) / "checkpoints"
    try:
        return torch.hub.load_state_dict_from_url(url, map_location="cpu", check_hash=True, weights_only=True)
    except Exception as error:  # of the network, of the disk, or of a file that was cut short
        reason = " ".join(str(error).split()) or type(error).__name__
        raise UserError(
            f"the ImageNet weights of {name} cannot be downloaded ({reason}): fetch {url} on another machine "
            f"and put it into {folder}, name a file with --weights FILE, or start from scratch with "
            "--weights none"
        ) from None


def _from_file(path: Path) -> dict[str, Any]:
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except OSError as error:
        raise UserError(f"the weights {path} cannot be opened: {error.strerror or error}") from None
    except Exception:
        # torch's readers answer a file of another kind with nearly any exception there is.
        raise UserError(f"{path} is damaged, or no file of weights") from None
    if not isinstance(state, dict) or not all(isinstance(name, str) for name in state):
        raise UserError(f"{path} holds no state dict")
    return state
