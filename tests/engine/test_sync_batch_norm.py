"""Synchronised batch norm of two processes against plain batch norm of the whole batch."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn

from engine.distributed import World
from engine.sync_batch_norm import SyncBatchNorm2d, convert_sync_batchnorm
from gan.networks import Generator
from tests.processes import run_processes

SHARDS = (slice(0, 2), slice(2, 7))
"""Unequal shards of 7 images."""


def norm_and_data(dtype: torch.dtype) -> tuple[nn.BatchNorm2d, Tensor, Tensor]:
    """A norm with statistics, its inputs, and the gradient of its outputs."""
    draws = torch.Generator().manual_seed(0)
    norm = nn.BatchNorm2d(5, momentum=0.3).to(torch.float64 if dtype == torch.float64 else torch.float32)
    with torch.no_grad():
        for values in (norm.weight, norm.bias, norm.running_mean, norm.running_var):
            values.copy_(torch.rand(5, generator=draws) + 0.5)
    inputs, gradient = torch.randn(2, 7, 5, 4, 6, generator=draws, dtype=torch.float64)
    inputs = inputs * 3 + 100 * torch.arange(5).view(5, 1, 1)  # means far larger than standard deviations
    return norm, inputs.to(dtype), gradient.to(dtype)


def forward_and_backward(norm: nn.Module, inputs: Tensor, gradient: Tensor) -> dict[str, Tensor]:
    """Outputs, gradients and buffers."""
    inputs = inputs.to(memory_format=torch.channels_last).requires_grad_()
    outputs = norm(inputs)
    outputs.backward(gradient)
    results = {"outputs": outputs.detach(), "inputs": inputs.grad}
    results |= {"weight": norm.weight.grad, "bias": norm.bias.grad}
    return results | {name: value.clone() for name, value in norm.named_buffers()}


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_two_shards_equal_the_batch(tmp_path, dtype):
    norm, inputs, gradient = norm_and_data(dtype)
    whole = forward_and_backward(copy.deepcopy(norm), inputs, gradient)

    def work(world: World) -> dict[str, Tensor]:
        rows = SHARDS[world.rank]
        return forward_and_backward(SyncBatchNorm2d(norm, world), inputs[rows], gradient[rows])

    first, second = run_processes(work, tmp_path).results
    parts = {name: torch.cat([first[name], second[name]]) for name in ("outputs", "inputs")}
    parts |= {name: first[name] + second[name] for name in ("weight", "bias")}
    for name in ("running_mean", "running_var", "num_batches_tracked"):
        assert torch.equal(first[name], second[name])
        parts[name] = first[name]
    assert parts.keys() == whole.keys()
    for name, value in whole.items():
        assert parts[name].dtype == value.dtype
        tolerance = {torch.float64: 1e-10, torch.float32: 1e-4, torch.bfloat16: 0.03}[dtype]
        torch.testing.assert_close(parts[name], value, rtol=tolerance, atol=tolerance)


def test_two_backward_passes_after_one_forward_pass(tmp_path):
    """As with two losses, each for some of the leaves only."""
    norm, inputs, gradient = norm_and_data(torch.float64)

    def work(world: World) -> list[Tensor]:
        rows = SHARDS[world.rank] if world.size > 1 else slice(None)
        sync_norm = SyncBatchNorm2d(copy.deepcopy(norm), world)
        shard = inputs[rows].clone().requires_grad_()
        outputs = sync_norm(shard)
        outputs.backward(gradient[rows], inputs=[sync_norm.weight], retain_graph=True)
        outputs.square().backward(gradient[rows], inputs=[shard])
        return [sync_norm.weight.grad, shard.grad]

    (first, second), whole = run_processes(work, tmp_path).results, work(World())
    torch.testing.assert_close(first[0] + second[0], whole[0])
    torch.testing.assert_close(torch.cat([first[1], second[1]]), whole[1])


def test_a_single_process_and_evaluation_use_plain_batch_norm():
    norm, inputs, _ = norm_and_data(torch.float32)
    world = World()
    for training in (True, False):
        norm.train(training)
        plain = copy.deepcopy(norm)
        assert torch.equal(SyncBatchNorm2d(norm, world)(inputs), plain(inputs))
        assert torch.equal(norm.running_mean, plain.running_mean)
    world.size = 2
    norm.eval()
    assert torch.equal(SyncBatchNorm2d(norm, world)(inputs), norm(inputs))


def test_conversion_keeps_weights_and_their_names():
    network = Generator((6, 5, 4, 3), 8, 32)
    before = dict(network.state_dict(keep_vars=True))
    world = World()
    convert_sync_batchnorm(network, world)
    assert sum(isinstance(layer, SyncBatchNorm2d) for layer in network.modules()) == 4
    after = network.state_dict(keep_vars=True)
    assert list(after) == list(before)
    assert all(after[name] is before[name] for name in before)
    clone = copy.deepcopy(network)
    assert clone.layers[0].world is world
    assert clone.layers[0].weight is not network.layers[0].weight
