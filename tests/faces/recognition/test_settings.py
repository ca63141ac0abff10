"""What a command line may say, and what stands where it says nothing."""

import pytest

from engine.cli import parse_arguments
from faces.landmarks.settings import LandmarkArguments
from faces.recognition.settings import ClassifierArguments, ClassifierSettings, resolve


@pytest.mark.parametrize("kind", [ClassifierArguments, LandmarkArguments])
@pytest.mark.parametrize(("flag", "wanted"), [("--mirror", True), ("--no-mirror", False)])
def test_mirror_images_are_asked_for_or_refused_by_a_flag_alone(kind, flag, wanted):
    assert parse_arguments([flag, "FOLDER"], kind).mirror is wanted
    assert parse_arguments(["FOLDER", flag], kind, parse_arguments([], kind)).mirror is wanted


@pytest.mark.parametrize("method", ["finetune", "arcface"])
def test_the_small_backbone_has_no_weights_to_wait_for(method):
    small = resolve(ClassifierSettings(method=method, backbone="small"))
    assert (small.weights, small.stages) == ("none", 1)
    assert resolve(ClassifierSettings(method=method)).weights == "imagenet"


@pytest.mark.parametrize(("method", "wanted"), [("scratch", True), ("finetune", True), ("arcface", False)])
def test_where_nothing_is_said_of_them_the_method_decides(method, wanted):
    assert parse_arguments([], ClassifierArguments).mirror is None
    assert resolve(ClassifierSettings(method=method)).mirror is wanted
    assert resolve(ClassifierSettings(method=method, mirror=not wanted)).mirror is not wanted
