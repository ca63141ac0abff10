"""Backbones: the convolutions of a network of torchvision, with or without ImageNet weights, or a small one.

A backbone maps images to a feature map; the layers after it are the caller's.
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
SMALL_CHANNELS = (32, 64, 128, 192)
FAMILIES = (
    *("resnet", "resnext", "wide_resnet", "vgg", "mobilenet", "efficientnet", "convnext", "densenet"),
    *("squeezenet", "shufflenet", "mnasnet", "regnet"),
)
"""Prefixes of the names of torchvision's networks that can be backbones."""
HEADS = ("avgpool", "fc", "classifier")
"""Modules after the convolutions."""
WRAPPERS = ("layers", "trunk_output")
"""Modules around the blocks of MNASNet and RegNet; other networks have their blocks at the top level."""
OPTIONAL_BUFFER = ".num_batches_tracked"
"""Missing in torchvision's older weights, and not needed."""
DENSE_LAYER = re.compile(r"(denselayer\d+\.(?:norm|conv))\.([12])\.")
"""Names in DenseNet's weights, with `norm.1` instead of the network's `norm1`."""
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""Mean and standard deviation of ImageNet's colours in [0, 1], by which torchvision's networks expect images
to be normalised."""


class Backbone(nn.Module):
    """Maps images to a feature map.

    Args:
        name: `small`, or the name of a network of torchvision.

    Attributes:
        channels: C of the feature map.

    Raises:
        UserError: there is no backbone of that name.
    """

    def __init__(self, name: str) -> None:
        super().__init__()
        self.name = name
        self.body = _small() if name == SMALL else _convolutions(_torchvision(name))
        self._frozen: list[nn.Module] = []
        self.channels = self.map_shape(64)[0]

    def forward(self, images: Tensor) -> Tensor:
        """Map images, float [B, 3, S, S] in [-1, 1], to features, float [B, C, H, W].

        H and W are about S / 16 for the small backbone, and S / 32 for most others.
        """
        return self.body(self.normalize(images))

    @property
    def layer_names(self) -> list[str]:
        """The names of the body's parts that have weights, from input to output."""
        return [name for name, part in self.body.named_children() if [*part.parameters()]]

    @torch.no_grad()
    def map_shape(self, size: int) -> tuple[int, int, int]:
        """C, H and W of the feature map of an image of this side in pixels."""
        training = self.training
        shape = self.eval()(torch.zeros(1, 3, size, size)).shape
        self.train(training)
        return shape[1], shape[2], shape[3]

    def normalize(self, images: Tensor) -> Tensor:
        """Convert images, float [B, 3, S, S] in [-1, 1], to the input of the body."""
        if self.name == SMALL:
            return images
        mean, std = (images.new_tensor(values)[:, None, None] for values in (MEAN, STD))
        return (images * 0.5 + 0.5 - mean) / std

    def freeze(self, last: str | None) -> None:
        """Freeze the layers up to and including one, with their batch-norm statistics; unfreeze all others.

        Args:
            last: name of a layer in the body, such as `layer2` of a ResNet, `layer4.0`, or `10` of a VGG;
                None to freeze none.

        Raises:
            UserError: there is no such layer, or it has no weights.
        """
        weights = dict(self.body.named_parameters())
        if last is None:
            self.body.requires_grad_(True)
            self._frozen = []
            self.train(self.training)
            return
        indices = [index for index, name in enumerate(weights) if name.startswith(f"{last}.")]
        if not indices:
            raise UserError(
                f"{self.name} has no layer {last} to freeze; it has: {', '.join(self.layer_names)}"
            )
        for index, weight in enumerate(weights.values()):
            weight.requires_grad_(index > indices[-1])
        layers = [layer for layer in self.body.modules() if [*layer.parameters()]]
        self._frozen = [layer for layer in layers if not any(w.requires_grad for w in layer.parameters())]
        self.train(self.training)

    def train(self, mode: bool = True) -> Self:
        """Set the mode, except for frozen layers, which stay in evaluation mode."""
        super().train(mode)
        for layer in self._frozen:
            layer.eval()
        return self


def load_weights(backbone: Backbone, weights: str) -> None:
    """Load pretrained weights.

    Args:
        backbone: a backbone of torchvision.
        weights: `imagenet`, which are downloaded unless they are in torch hub's cache, or a file with a state
            dict of the whole network.

    Raises:
        UserError: the weights are not available, or belong to another network.
    """
    if backbone.name == SMALL:
        raise UserError(f"there are no weights for the backbone {SMALL}: omit --weights")
    state = _imagenet(backbone.name) if weights == "imagenet" else _from_file(Path(weights))
    state = {DENSE_LAYER.sub(r"\1\2.", name): weight for name, weight in state.items()}
    network = _torchvision(backbone.name)
    missing = []
    for name, weight in network.state_dict().items():
        loaded = state.get(name)
        if isinstance(loaded, Tensor) and loaded.shape == weight.shape:
            weight.copy_(loaded)
        elif name.partition(".")[0] not in HEADS and not name.endswith(OPTIONAL_BUFFER):
            missing.append(name)
    if missing:
        raise UserError(
            f"{weights} contains no weights of {backbone.name}: {missing[0]} is missing or has another shape"
        )
    backbone.body.load_state_dict(_convolutions(network).state_dict())


def _small() -> nn.Sequential:
    """Four 3x3 convolutions of stride 2; after all but the first, one of stride 1 each."""
    layers: list[nn.Module] = []
    previous = 3
    for stage, channels in enumerate(SMALL_CHANNELS):
        layers += _convolution(previous, channels, stride=2)
        if stage:
            layers += _convolution(channels, channels, stride=1)
        previous = channels
    return nn.Sequential(*layers)


def _convolution(in_channels: int, out_channels: int, stride: int) -> list[nn.Module]:
    convolution = nn.Conv2d(in_channels, out_channels, 3, stride, padding=1, bias=False)
    nn.init.kaiming_normal_(convolution.weight, mode="fan_out", nonlinearity="relu")
    return [convolution, nn.BatchNorm2d(out_channels), nn.ReLU(inplace=True)]


def _torchvision(name: str) -> nn.Module:
    names = torchvision.models.list_models(module=torchvision.models)
    if name not in names or not name.startswith(FAMILIES):
        raise UserError(
            f"there is no backbone {name}: use {SMALL}, or a network of torchvision such as resnet18, "
            f"resnet50 or mobilenet_v3_small (families: {', '.join(FAMILIES)})"
        )
    return torchvision.models.get_model(name, weights=None)


def _convolutions(network: nn.Module) -> nn.Module:
    if isinstance(network, DenseNet):  # its last ReLU is not among its modules
        children = OrderedDict(network.features.named_children())
        return nn.Sequential(OrderedDict(children, relu5=nn.ReLU(inplace=True)))
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
    except Exception as error:  # no connection, full disk, truncated file
        reason = " ".join(str(error).split()) or type(error).__name__
        raise UserError(
            f"the ImageNet weights of {name} cannot be downloaded ({reason}): download {url} on another "
            f"machine and put it into {folder}, give a file with --weights FILE, or start without, with "
            "--weights none"
        ) from None


def _from_file(path: Path) -> dict[str, Any]:
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except OSError as error:
        raise UserError(f"the weights {path} cannot be opened: {error.strerror or error}") from None
    except Exception:
        # torch.load raises nearly any exception for other files.
        raise UserError(f"{path} is damaged, or contains no weights") from None
    if not isinstance(state, dict) or not all(isinstance(name, str) for name in state):
        raise UserError(f"{path} contains no state dict")
    return state
