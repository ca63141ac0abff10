"""Backbones: which there are, what is frozen, and weights that are not to be had."""

import re

import pytest
import torch
import torchvision

from engine.errors import UserError
from faces.backbone import Backbone, load_weights
from faces.landmarks.network import LandmarkNetwork
from faces.recognition.freezing import before_last_block

SMALLEST = "shufflenet_v2_x0_5"
NAMES = ("small", "resnet18", "mobilenet_v3_small", SMALLEST, "squeezenet1_1")


@pytest.fixture(scope="module")
def network() -> torch.nn.Module:
    torch.manual_seed(3)
    return torchvision.models.get_model(SMALLEST, weights=None)


@pytest.mark.parametrize("name", NAMES)
def test_a_map_of_features_and_landmarks_from_it(name):
    network = LandmarkNetwork(name, 5, 64).eval()
    images = torch.rand(2, 3, 64, 64) * 2 - 1
    features = network.backbone(images)
    assert features.shape[:2] == (2, network.backbone.channels)
    assert features.ndim == 4
    points = network(images)
    assert points.shape == (2, 5, 2)
    assert ((points > 0) & (points < 1)).all()


def test_it_begins_at_the_mean_places():
    network = LandmarkNetwork("small", 3, 32).eval()
    mean = torch.tensor([[0.2, 0.3], [0.5, 0.6], [-0.1, 0.9]])
    network.start_at(mean)
    points = network(torch.rand(4, 3, 32, 32))
    wanted = mean.clamp(0.02, 0.98).expand(4, 3, 2)
    assert (points - wanted).abs().max() < 0.03


def test_there_is_no_such_backbone():
    for name in ("resnet19", "vit_b_16", "Small"):
        with pytest.raises(UserError, match=rf"no backbone {name}.*resnet18") as told:
            Backbone(name)
        assert "\n" not in str(told.value)


def test_frozen_layers_stay_as_they_are():
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


def test_a_layer_that_is_not_there_is_refused_with_those_that_are():
    with pytest.raises(UserError, match=r"no layer layer9.*conv1, bn1, layer1, layer2, layer3, layer4"):
        Backbone("resnet18").freeze("layer9")


def test_weights_from_a_file(network, tmp_path):
    torch.save(network.state_dict(), tmp_path / "weights.pth")
    backbone = Backbone(SMALLEST)
    load_weights(backbone, str(tmp_path / "weights.pth"))
    images = torch.rand(2, 3, 64, 64)
    mean, std = (torch.tensor(v)[:, None, None] for v in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
    features = torch.nn.Sequential(*[*network.eval().children()][:-1])((images - mean) / std)
    assert torch.allclose(backbone.eval()(images * 2 - 1), features, atol=1e-4)


def test_weights_of_a_network_that_keeps_its_features_apart(tmp_path):
    network = torchvision.models.squeezenet1_1(weights=None)
    torch.save(network.state_dict(), tmp_path / "weights.pth")
    backbone = Backbone("squeezenet1_1")
    load_weights(backbone, str(tmp_path / "weights.pth"))
    assert torch.equal(backbone.body[0].weight, network.features[0].weight)


def narrow_densenet(name: str, weights: None) -> torch.nn.Module:
    return torchvision.models.DenseNet(growth_rate=4, block_config=(1, 1, 1, 2), num_init_features=8)


def test_a_densenet_ends_where_torchvision_pools_it(monkeypatch, tmp_path):
    monkeypatch.setattr(torchvision.models, "get_model", narrow_densenet)
    theirs = narrow_densenet("densenet121", None).eval()
    theirs.classifier = torch.nn.Identity()
    torch.save(theirs.state_dict(), tmp_path / "weights.pth")
    backbone = Backbone("densenet121").eval()
    load_weights(backbone, str(tmp_path / "weights.pth"))
    assert backbone.body.state_dict().keys() == theirs.features.state_dict().keys()
    images = torch.rand(2, 3, 64, 64) * 2 - 1
    with torch.no_grad():
        features, pooled = backbone(images), theirs(backbone.normalised(images))
    assert (theirs.features(backbone.normalised(images)) < 0).any()
    assert torch.allclose(features.mean((2, 3)), pooled, atol=1e-6)
    backbone.freeze("denseblock2")
    assert not backbone.body.denseblock2.denselayer1.conv1.weight.requires_grad
    assert backbone.body.transition2.conv.weight.requires_grad


def test_weights_as_old_files_name_and_count_them(monkeypatch, tmp_path):
    """As of torchvision's DenseNets: `norm.1` for `norm1`, and no batches counted."""
    monkeypatch.setattr(torchvision.models, "get_model", narrow_densenet)
    theirs = narrow_densenet("densenet121", None)
    old = {
        re.sub(r"(denselayer\d\.\w+)(\d)\.", r"\1.\2.", name): weight
        for name, weight in theirs.state_dict().items()
        if not name.endswith("num_batches_tracked")
    }
    assert "features.denseblock4.denselayer2.conv.1.weight" in old
    torch.save(old, tmp_path / "weights.pth")
    backbone = Backbone("densenet121")
    load_weights(backbone, str(tmp_path / "weights.pth"))
    kept = backbone.body.state_dict()
    for name, weight in theirs.features.state_dict().items():
        assert torch.equal(kept[name], weight), name
    assert before_last_block(backbone) == "transition3"


@pytest.mark.parametrize(("name", "before"), [("mnasnet0_5", "12"), ("regnet_y_400mf", "block3")])
def test_blocks_that_are_kept_in_a_wrapper_are_layers(name, before, tmp_path):
    network = torchvision.models.get_model(name, weights=None)
    torch.save(network.state_dict(), tmp_path / "weights.pth")
    backbone = Backbone(name)
    assert before_last_block(backbone) == before
    load_weights(backbone, str(tmp_path / "weights.pth"))
    block = getattr(network, "layers" if name.startswith("mnasnet") else "trunk_output").get_submodule(before)
    kept = backbone.body.get_submodule(before).state_dict()
    assert all(torch.equal(weight, kept[part]) for part, weight in block.state_dict().items())
    assert backbone(torch.zeros(1, 3, 64, 64)).shape[1] == backbone.channels


def test_weights_that_are_none_or_of_another_network(network, tmp_path):
    path = tmp_path / "weights.pth"
    torch.save(network.state_dict(), path)
    with pytest.raises(UserError, match="holds no weights of squeezenet1_1"):
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


def test_weights_that_cannot_be_downloaded_name_the_three_ways_out(monkeypatch, tmp_path):
    def no_network(*args, **kwargs):
        raise OSError("no route\nto host")

    monkeypatch.setattr(torch.hub, "download_url_to_file", no_network)
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    with pytest.raises(UserError) as told:
        load_weights(Backbone(SMALLEST), "imagenet")
    message = str(told.value)
    for part in ("no route to host", "another machine", str(tmp_path), "--weights FILE", "--weights none"):
        assert part in message
    assert "\n" not in message


def test_imagenet_weights_are_taken_from_the_usual_cache(network, monkeypatch, tmp_path):
    url = torchvision.models.ShuffleNet_V2_X0_5_Weights.DEFAULT.url
    (tmp_path / "checkpoints").mkdir()
    torch.save(network.state_dict(), tmp_path / "checkpoints" / url.rpartition("/")[2])
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    backbone = Backbone(SMALLEST)
    load_weights(backbone, "imagenet")
    assert torch.equal(backbone.body.conv1[0].weight, network.conv1[0].weight)
