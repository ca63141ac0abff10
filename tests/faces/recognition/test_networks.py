import numpy as np
import pytest
import torch
from torch import nn

from faces.backbone import Backbone
from faces.recognition.arcface import ArcFaceHead
from faces.recognition.freezing import FrozenFeatures, layer_before_last_block, unfreeze
from faces.recognition.networks import (
    EmbeddingNetwork,
    FinetuneNetwork,
    ScratchNetwork,
    make_network,
    standardize,
)
from faces.recognition.optimizers import LearningRate, make_classifier_optimizer
from faces.recognition.settings import ClassifierSettings, resolve


def test_scratch_network_has_10_088_544_weights():
    network = ScratchNetwork(5, 96)
    weights = [weight.numel() for name, weight in network.named_parameters() if name.endswith("weight")]
    assert sum(weights) == 10_088_544
    assert network(torch.zeros(2, 3, 96, 96)).shape == (2, 5)


def test_scratch_decays_only_the_two_hidden_layers():
    network = ScratchNetwork(5, 96)
    decayed, others = make_classifier_optimizer(
        network, resolve(ClassifierSettings(weight_decay=0.1))
    ).param_groups
    assert [tuple(weight.shape) for weight in decayed["params"]] == [(1024, 9216), (256, 1024)]
    assert (decayed["weight_decay"], others["weight_decay"]) == (0.1, 0.0)
    assert len(decayed["params"]) + len(others["params"]) == len(list(network.parameters()))


def test_each_image_is_standardized_by_itself():
    images = torch.rand(3, 3, 8, 8) * torch.tensor([0.1, 1.0, 0.5])[:, None, None, None]
    result = standardize(images)
    torch.testing.assert_close(result.mean((1, 2, 3)), torch.zeros(3), atol=1e-5, rtol=0)
    torch.testing.assert_close(result.std((1, 2, 3), correction=0), torch.ones(3), atol=1e-4, rtol=0)
    torch.testing.assert_close(standardize(images[:1]), result[:1])
    assert torch.equal(standardize(torch.full((1, 3, 8, 8), 0.3)), torch.zeros(1, 3, 8, 8))


def test_layer_before_the_last_block(monkeypatch):
    # Initializing 120 million weights takes seconds.
    monkeypatch.setattr(nn.Linear, "reset_parameters", lambda layer: None)
    monkeypatch.setattr(nn.init, "normal_", lambda weight, *_, **__: weight)
    backbone = Backbone("vgg16")
    assert layer_before_last_block(backbone) == "21"
    assert layer_before_last_block(Backbone("squeezenet1_1")) == "11"
    assert layer_before_last_block(Backbone("small")) == "13"
    backbone.freeze("21")
    trainable = [name for name, weight in backbone.body.named_parameters() if weight.requires_grad]
    assert trainable == [f"{layer}.{kind}" for layer in (24, 26, 28) for kind in ("weight", "bias")]


@pytest.mark.parametrize("method", ["scratch", "finetune", "arcface"])
def test_output_shapes(method):
    settings = ClassifierSettings(method=method, image_size=64, weights="none")
    if method != "scratch":
        settings = ClassifierSettings(
            method=method, image_size=64, weights="none", backbone="small", embedding=24
        )
    network = make_network(resolve(settings), 7).eval()
    images = torch.rand(2, 3, 64, 64) * 2 - 1
    features = network.features(images)
    assert features.shape == (2, network.feature_size)
    assert network.feature_size == {"scratch": 256, "finetune": 256, "arcface": 24}[method]
    torch.testing.assert_close(network(images), network.logits(features))
    assert network(images).shape == (2, 7)
    assert network.class_count == 7


def test_finetune_head_has_256_units_and_dropout():
    network = FinetuneNetwork(Backbone("small"), 3, 64)
    assert network.dropout.p == 0.5
    assert network.head.in_features == 256
    features = torch.ones(4, 256)
    assert not torch.equal(network.train().logits(features), network.logits(features))
    assert torch.equal(network.eval().logits(features), network.logits(features))


def test_margin_lowers_only_the_true_class():
    network = EmbeddingNetwork(Backbone("small"), 8, ArcFaceHead(8, 3)).eval()
    features = torch.randn(2, 8)
    plain, with_margin = network.logits(features), network.logits(features, torch.tensor([1, 2]))
    lower = with_margin < plain - 1e-3
    assert lower.tolist() == [[False, True, False], [False, False, True]]


def test_layers_unfreeze_from_the_head_backwards():
    backbone = Backbone("small")
    names = backbone.layer_names
    trainable = []
    for stage in range(4):
        unfreeze(backbone, stage, 4)
        trainable.append(
            {name.partition(".")[0] for name, w in backbone.body.named_parameters() if w.requires_grad}
        )
        frozen = [
            part
            for name, part in backbone.body.named_children()
            if name in names and name not in trainable[-1]
        ]
        assert not any(part.training for part in frozen if isinstance(part, nn.BatchNorm2d))
    assert trainable[0] == set()
    assert trainable[3] == set(names)
    for stage in (1, 2):
        assert trainable[stage] == set(names[-len(trainable[stage]) :])
        assert trainable[stage - 1] < trainable[stage] < trainable[stage + 1]
    unfreeze(backbone, 0, 1)
    assert all(weight.requires_grad for weight in backbone.parameters())
    assert all(part.training for part in backbone.modules())


def test_cached_features_match_the_backbone():
    torch.manual_seed(0)
    backbone = Backbone("small")
    images = np.random.default_rng(0).integers(0, 256, (5, 3, 32, 32), np.uint8)
    cached = FrozenFeatures(backbone, backbone.layer_names[4], images)
    rows, mirrored = np.array([3, 1, 3]), torch.tensor([False, True, True])
    assert all(part.training for part in backbone.modules())
    backbone.eval()
    views = torch.from_numpy(images[rows]).float() / 127.5 - 1
    views[1:] = views[1:].flip(-1)
    with torch.no_grad():
        torch.testing.assert_close(
            cached.remaining_layers(cached(rows, mirrored)), backbone(views), atol=1e-4, rtol=1e-4
        )


def test_plateau_schedule_reduces_the_rate_after_five_scores():
    rate = LearningRate(resolve(ClassifierSettings(method="arcface", learning_rate=1.0)))
    rates = []
    for score in (5, 4, 4, 4, 4, 4, 4, 3, 3, 3, 3, 3, 3):
        rate.record_score(score)
        rates.append(rate(0))
    assert rates == pytest.approx([1] * 6 + [0.8] * 6 + [0.64])
    restored = LearningRate(resolve(ClassifierSettings(method="arcface", learning_rate=1.0)))
    restored.load_state(rate.state())
    assert (restored(0), restored.state()) == (rate(0), rate.state())
    rate.reset_best()
    rate.record_score(99)
    assert rate(0) == pytest.approx(0.64)


def test_other_schedules_ignore_scores():
    constant = LearningRate(resolve(ClassifierSettings(method="finetune")))
    cosine = LearningRate(resolve(ClassifierSettings(steps=100)))
    for rate in (constant, cosine):
        for _ in range(20):
            rate.record_score(1.0)
    assert constant(0) == constant(799) == 1e-4
    assert cosine(5) == pytest.approx(1e-3)
    assert cosine(100) == pytest.approx(0)
