"""Initialization of a classifier from a checkpoint."""

from pathlib import Path

import torch

from faces.recognition.networks import ScratchNetwork
from faces.recognition.setup import initialize_from_checkpoint
from tests.states import assert_equal


def test_only_parts_that_fit_are_initialized(capsys):
    def make_network(seed: int, size: int) -> ScratchNetwork:
        torch.manual_seed(seed)
        network = ScratchNetwork(3, size)
        for weight in network.parameters():  # biases, which start at zero, must differ too
            torch.nn.init.normal_(weight)
        return network

    classes = ("a", "b", "c")
    source = make_network(0, 32)
    state = {"network": source.state_dict(), "average": None, "classes": classes}
    for size, names, parts in (
        (48, classes, "convolutions"),
        (32, ("a", "b", "d"), "convolutions and hidden layers"),
        (32, classes, "network"),
    ):
        network, unchanged = make_network(1, size), make_network(1, size)
        initialize_from_checkpoint(network, Path("x.pt"), state, names)
        assert capsys.readouterr().out == f"starting from the {parts} of x.pt\n"
        for part in ("body", "hidden", "head"):
            expected = source if part == "body" or parts == "network" or part in parts else unchanged
            assert_equal(network.get_submodule(part).state_dict(), expected.get_submodule(part).state_dict())
