"""Initialization of a classifier from another network."""

from pathlib import Path

import torch

from faces.recognition.launch import take_over
from faces.recognition.networks import ScratchNetwork
from tests.states import assert_equal


def test_only_parts_that_fit_are_initialized(capsys):
    def network(seed: int, size: int) -> ScratchNetwork:
        torch.manual_seed(seed)
        made = ScratchNetwork(3, size)
        for weight in made.parameters():  # biases, which begin at zero, are to differ
            torch.nn.init.normal_(weight)
        return made

    classes = ("a", "b", "c")
    theirs = network(0, 32)
    state = {"network": theirs.state_dict(), "average": None, "classes": classes}
    for size, names, told in (
        (48, classes, "convolutions"),
        (32, ("a", "b", "d"), "convolutions and hidden layers"),
        (32, classes, "network"),
    ):
        ours, fresh = network(1, size), network(1, size)
        take_over(ours, Path("x.pt"), state, names)
        assert capsys.readouterr().out == f"beginning with the {told} of x.pt\n"
        for part in ("body", "hidden", "head"):
            taken = part == "body" or told == "network" or part in told
            from_ = (theirs if taken else fresh).get_submodule(part)
            assert_equal(ours.get_submodule(part).state_dict(), from_.state_dict())
