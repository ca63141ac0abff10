"""Settings from the command line, and their defaults."""

import math

import pytest

from engine.cli import parse_arguments
from engine.errors import UserError
from faces.landmarks.settings import LandmarkArguments
from faces.recognition.settings import ClassifierArguments, ClassifierSettings, check, resolve


@pytest.mark.parametrize("arguments", [ClassifierArguments, LandmarkArguments])
@pytest.mark.parametrize(("flag", "mirror"), [("--mirror", True), ("--no-mirror", False)])
def test_mirror_flags_take_no_value(arguments, flag, mirror):
    assert parse_arguments([flag, "FOLDER"], arguments).mirror is mirror
    assert parse_arguments(["FOLDER", flag], arguments, parse_arguments([], arguments)).mirror is mirror


@pytest.mark.parametrize("method", ["finetune", "arcface"])
def test_small_backbone_has_no_pretrained_weights(method):
    small = resolve(ClassifierSettings(method=method, backbone="small"))
    assert (small.weights, small.stages) == ("none", 1)
    assert resolve(ClassifierSettings(method=method)).weights == "imagenet"


@pytest.mark.parametrize(("method", "mirror"), [("scratch", True), ("finetune", True), ("arcface", False)])
def test_mirror_defaults_to_the_method(method, mirror):
    assert parse_arguments([], ClassifierArguments).mirror is None
    assert resolve(ClassifierSettings(method=method)).mirror is mirror
    assert resolve(ClassifierSettings(method=method, mirror=not mirror)).mirror is not mirror


def test_a_margin_may_be_anything_below_pi():
    check(ClassifierSettings(method="arcface", margin=3.1415))
    with pytest.raises(UserError, match="--margin must be less than pi"):
        check(ClassifierSettings(method="arcface", margin=math.pi))
