"""Backbones: construction, freezing, and pretrained weights."""

import re

import pytest
import torch
import torchvision

from engine.errors import UserError
from faces.backbone import Backbone, load_weights
from faces.landmarks.network import LandmarkNetwork
from faces.recognition.freezing import layer_before_last_block

SMALLEST = "shufflenet_v2_x0_5"
NAMES = ("small", "resnet18", "mobilenet_v3_small", SMALLEST, "squeezenet1_1")


@pytest.fixture(scope="module")
def network() -> torch.nn.Module:
    torch.manual_seed(3)
    return torchvision.models.get_model(SMALLEST, weights=None)


@pytest.mark.parametrize("name", NAMES)
def test_feature_map_and_landmarks(name):
    network = LandmarkNetwork(name, 5, 64).eval()
    images = torch.rand(2, 3, 64, 64) * 2 - 1
    features = network.backbone(images)
    assert features.shape[:2] == (2, network.backbone.channels)
    assert features.ndim == 4
    points = network(images)
    assert points.shape == (2, 5, 2)
    assert ((points > 0) & (points < 1)).all()


def test_landmarks_start_at_the_mean():
    network = LandmarkNetwork("small", 3, 32).eval()
    mean = torch.tensor([[0.2, 0.3], [0.5, 0.6], [-0.1, 0.9]])
    network.begin_at(mean)
    points = network(torch.rand(4, 3, 32, 32))
    expected = mean.clamp(0.02, 0.98).expand(4, 3, 2)
    assert (points - expected).abs().max() < 0.03


def test_unknown_backbone():
    for name in ("resnet19", "vit_b_16", "Small"):
        with pytest.raises(UserError, match=rf"no backbone {name}.*resnet18") as error:
            Backbone(name)
        assert "\n" not in str(error.value)


def test_frozen_layers_do_not_change():
    backbone = Backbone("resnet18")
    backbone.freeze("layer2")
    before = {name: value.clone() for name, value in backbone.body.state_dict().items()}
    optimizer = torch.optim.SGD([w for w in backbone.parameters() if w.requires_grad], lr=0.1)
    backbone.train()
    backbone(torch.rand(4, 3, 64, 64)).square().mean().backward()
    optimizer.step()
    for name, value in backbone.body.state_dict().items():
        frozen = name.startswith(("conv1", "bn1", "layer1", "layer2"))
        assert torch.equal(value, before[name]) == frozen, name


def test_unknown_layer_error_lists_the_layers():
    with pytest.raises(UserError, match=r"no layer layer9.*conv1, bn1, layer1, layer2, layer3, layer4"):
        Backbone("resnet18").freeze("layer9")


def test_weights_from_file(network, tmp_path):
    torch.save(network.state_dict(), tmp_path / "weights.pth")
    backbone = Backbone(SMALLEST)
    load_weights(backbone, str(tmp_path / "weights.pth"))
    images = torch.rand(2, 3, 64, 64)
    mean, std = (torch.tensor(v)[:, None, None] for v in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
    features = torch.nn.Sequential(*[*network.eval().children()][:-1])((images - mean) / std)
    assert torch.allclose(backbone.eval()(images * 2 - 1), features, atol=1e-4)


def test_weights_of_a_network_with_a_features_module(tmp_path):
    network = torchvision.models.squeezenet1_1(weights=None)
    torch.save(network.state_dict(), tmp_path / "weights.pth")
    backbone = Backbone("squeezenet1_1")
    load_weights(backbone, str(tmp_path / "weights.pth"))
    assert torch.equal(backbone.body[0].weight, network.features[0].weight)


def narrow_densenet(name: str, weights: None) -> torch.nn.Module:
    return torchvision.models.DenseNet(growth_rate=4, block_config=(1, 1, 1, 2), num_init_features=8)


def test_densenet_ends_before_the_pooling(monkeypatch, tmp_path):
    monkeypatch.setattr(torchvision.models, "get_model", narrow_densenet)
    network = narrow_densenet("densenet121", None).eval()
    network.classifier = torch.nn.Identity()
    torch.save(network.state_dict(), tmp_path / "weights.pth")
    backbone = Backbone("densenet121").eval()
    load_weights(backbone, str(tmp_path / "weights.pth"))
    assert backbone.body.state_dict().keys() == network.features.state_dict().keys()
    images = torch.rand(2, 3, 64, 64) * 2 - 1
    with torch.no_grad():
        features, pooled = backbone(images), network(backbone.normalize(images))
    assert (network.features(backbone.normalize(images)) < 0).any()
    assert torch.allclose(features.mean((2, 3)), pooled, atol=1e-6)
    backbone.freeze("denseblock2")
    assert not backbone.body.denseblock2.denselayer1.conv1.weight.requires_grad
    assert backbone.body.transition2.conv.weight.requires_grad


def test_old_densenet_weights(monkeypatch, tmp_path):
    """torchvision's files have `norm.1` for `norm1`, and no `num_batches_tracked`."""
    monkeypatch.setattr(torchvision.models, "get_model", narrow_densenet)
    network = narrow_densenet("densenet121", None)
    old = {
        re.sub(r"(denselayer\d\.\w+)(\d)\.", r"\1.\2.", name): weight
        for name, weight in network.state_dict().items()
        if not name.endswith("num_batches_tracked")
    }
    assert "features.denseblock4.denselayer2.conv.1.weight" in old
    torch.save(old, tmp_path / "weights.pth")
    backbone = Backbone("densenet121")
    load_weights(backbone, str(tmp_path / "weights.pth"))
    loaded = backbone.body.state_dict()
    for name, weight in network.features.state_dict().items():
        assert torch.equal(loaded[name], weight), name
    assert layer_before_last_block(backbone) == "transition3"


@pytest.mark.parametrize(("name", "before"), [("mnasnet0_5", "12"), ("regnet_y_400mf", "block3")])
def test_blocks_in_a_wrapper_are_layers(name, before, tmp_path):
    network = torchvision.models.get_model(name, weights=None)
    torch.save(network.state_dict(), tmp_path / "weights.pth")
    backbone = Backbone(name)
    assert layer_before_last_block(backbone) == before
    load_weights(backbone, str(tmp_path / "weights.pth"))
    block = getattr(network, "layers" if name.startswith("mnasnet") else "trunk_output").get_submodule(before)
    loaded = backbone.body.get_submodule(before).state_dict()
    assert all(torch.equal(weight, loaded[part]) for part, weight in block.state_dict().items())
    assert backbone(torch.zeros(1, 3, 64, 64)).shape[1] == backbone.channels


def test_invalid_weights(network, tmp_path):
    path = tmp_path / "weights.pth"
    torch.save(network.state_dict(), path)
    with pytest.raises(UserError, match="contains no weights of squeezenet1_1"):
        load_weights(Backbone("squeezenet1_1"), str(path))
    with pytest.raises(UserError, match="no weights for the backbone small"):
        load_weights(Backbone("small"), str(path))
    backbone = Backbone(SMALLEST)
    torch.save([1, 2], path)
    with pytest.raises(UserError, match="no state dict"):
        load_weights(backbone, str(path))
    path.write_bytes(b"nothing")
    with pytest.raises(UserError, match="damaged"):
        load_weights(backbone, str(path))
    with pytest.raises(UserError, match="cannot be opened"):
        load_weights(backbone, str(tmp_path / "nowhere.pth"))


def test_failed_download_names_the_alternatives(monkeypatch, tmp_path):
    def fail(*args, **kwargs):
        raise OSError("no route\nto host")

    monkeypatch.setattr(torch.hub, "download_url_to_file", fail)
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    with pytest.raises(UserError) as error:
        load_weights(Backbone(SMALLEST), "imagenet")
    message = str(error.value)
    for part in ("no route to host", "another machine", str(tmp_path), "--weights FILE", "--weights none"):
        assert part in message
    assert "\n" not in message


def test_imagenet_weights_come_from_the_torch_hub_cache(network, monkeypatch, tmp_path):
    url = torchvision.models.ShuffleNet_V2_X0_5_Weights.DEFAULT.url
    (tmp_path / "checkpoints").mkdir()
    torch.save(network.state_dict(), tmp_path / "checkpoints" / url.rpartition("/")[2])
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    backbone = Backbone(SMALLEST)
    load_weights(backbone, "imagenet")
    assert torch.equal(backbone.body.conv1[0].weight, network.conv1[0].weight)
