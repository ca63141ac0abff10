import pickle
import resource
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from engine.checkpoint import DamagedCheckpointError, load, load_newest, save, save_as_best
from engine.errors import UserError
from engine.finite import DivergedError
from engine.runs import checkpoint_path, checkpoints, step_of
from gan.config import preset_settings
from gan.generator import LoadedGenerator, load_generator
from gan.latent.vectors import draw
from gan.networks import Generator


def state(value: float = 1.0, size: int = 10) -> dict:
    """A small thing of the shape of a trainer's state."""
    return {
        "generator": {"weight": torch.full((size, 10), value), "batches": torch.tensor(3)},
        "discriminator": {"weight": torch.arange(6.0)},
        "average": None,
        "generator_optimizer": {"state": {0: {"step": torch.tensor(2.0)}}, "param_groups": [{"lr": 1e-4}]},
        "summed": 4,
    }


def steps(run: Path) -> list[int]:
    return [step_of(path) for path in checkpoints(run)]


def spoilt(path: Path, how: str) -> None:
    whole = path.read_bytes()
    broken = {
        "empty": b"",
        "half": whole[: len(whole) // 2],
        "all but a byte": whole[:-1],
        "garbage": bytes(np.random.default_rng(0).integers(0, 256, 3000, np.uint8)),
        "pickle cut short": b"\x80\x02}q\x00(",
        "pickle of nothing": b"\x80\x020.",
        "text": b"not found\n",
        "a plain tensor": None,
    }[how]
    if broken is None:
        torch.save(torch.zeros(2), path)
    else:
        path.write_bytes(broken)


WAYS = ["empty", "half", "all but a byte", "garbage", "pickle cut short", "pickle of nothing", "text"]


@pytest.mark.parametrize("mapped", [True, False])
def test_what_is_saved_is_loaded(tmp_path, mapped):
    path = save(tmp_path, 7, state(), keep=3)
    assert path == checkpoint_path(tmp_path, 7)
    loaded = load(path, mapped=mapped)
    assert loaded["step"] == 7
    assert loaded["summed"] == 4
    assert torch.equal(loaded["generator"]["weight"], torch.ones(10, 10))
    assert loaded["generator_optimizer"]["param_groups"] == [{"lr": 1e-4}]
    assert [file.name for file in path.parent.iterdir()] == ["step_000007.pt"]


def test_only_the_newest_are_kept(tmp_path):
    for step in (5, 10, 999_995, 1_000_000, 10_000_005):
        save(tmp_path, step, state(), keep=3)
    assert steps(tmp_path) == [999_995, 1_000_000, 10_000_005]
    save(tmp_path, 10_000_010, state(), keep=1)
    assert steps(tmp_path) == [10_000_010]


def test_files_of_the_users_own_stay(tmp_path):
    save(tmp_path, 5, state(), keep=1)
    mine = [tmp_path / "checkpoints" / name for name in ("best.pt", "step_5_best.pt", "notes.txt")]
    for path in mine:
        path.write_text("mine")
    save(tmp_path, 10, state(), keep=1)
    assert all(path.exists() for path in mine)
    assert steps(tmp_path) == [10]


def test_what_a_kill_in_the_middle_of_saving_left_is_no_checkpoint_and_goes_with_the_next(tmp_path):
    save(tmp_path, 5, state(), keep=3)
    left = tmp_path / "checkpoints" / ".step_000010-abcd.pt"
    left.write_bytes(b"half")
    assert load_newest(tmp_path)[0] == checkpoint_path(tmp_path, 5)
    save(tmp_path, 10, state(), keep=3)
    assert not left.exists()
    assert steps(tmp_path) == [5, 10]


def test_keeping_the_best_once_more_leaves_nothing_behind(tmp_path):
    path = save(tmp_path, 5, state(), keep=3)
    for _ in range(2):
        save_as_best(path)
    assert sorted(file.name for file in path.parent.iterdir()) == ["best.pt", "step_000005.pt"]


@pytest.mark.parametrize("how", [*WAYS, "a plain tensor"])
def test_of_a_damaged_newest_checkpoint_the_one_before_is_taken(tmp_path, how):
    for step in (5, 10, 15):
        save(tmp_path, step, state(step), keep=3)
    spoilt(checkpoint_path(tmp_path, 15), how)
    with pytest.raises(DamagedCheckpointError, match="step_000015"):
        load(checkpoint_path(tmp_path, 15))
    for mapped in (True, False):
        path, found, damaged = load_newest(tmp_path, mapped=mapped)
        assert path == checkpoint_path(tmp_path, 10)
        assert found["step"] == found["generator"]["weight"][0, 0] == 10
        assert damaged == [checkpoint_path(tmp_path, 15)]


@pytest.mark.parametrize("mapped", [True, False])
@pytest.mark.parametrize("size", [10, 10_000])
def test_a_cut_anywhere_is_noticed(tmp_path, mapped, size):
    path = save(tmp_path, 5, state(size=size), keep=3)
    whole = path.read_bytes()
    for length in (*range(0, 6000, 500), *np.linspace(0, len(whole) - 1, 30).astype(int)):
        path.write_bytes(whole[: min(length, len(whole) - 1)])
        with pytest.raises(DamagedCheckpointError):
            load(path, mapped=mapped)


def test_where_all_are_damaged_or_there_is_none_a_line_says_so(tmp_path):
    with pytest.raises(UserError, match="no checkpoint yet"):
        load_newest(tmp_path)
    for step in (5, 10):
        save(tmp_path, step, state(), keep=3)
        spoilt(checkpoint_path(tmp_path, step), "half")
    with pytest.raises(UserError, match=r"every checkpoint .* damaged.*step_000010.*step_000005"):
        load_newest(tmp_path)


def test_going_on_before_a_damaged_checkpoint_never_costs_a_whole_one(tmp_path):
    for step in (5, 10):
        save(tmp_path, step, state(), keep=2)
    spoilt(checkpoint_path(tmp_path, 10), "half")
    save(tmp_path, 7, state(), keep=1)
    assert load_newest(tmp_path)[0] == checkpoint_path(tmp_path, 7)
    assert steps(tmp_path) == [7]


@pytest.mark.parametrize("network", ["generator", "discriminator", "average"])
@pytest.mark.parametrize("bad", [float("nan"), float("-inf")])
def test_weights_that_are_not_finite_are_never_written(tmp_path, network, bad):
    save(tmp_path, 5, state(), keep=1)
    poisoned = state() | {network: {"weight": torch.tensor([0, bad])}}
    with pytest.raises(DivergedError, match=rf"{network}, weight.* at step 10"):
        save(tmp_path, 10, poisoned, keep=1)
    assert steps(tmp_path) == [5]
    assert load_newest(tmp_path)[2] == []


@pytest.fixture
def full_disk():
    """No file may grow beyond 20 kB: as on a full disk, a write fails in the middle."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, hard))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_full_disk_is_told_in_a_line_and_costs_no_earlier_checkpoint(tmp_path, full_disk):
    with pytest.raises(UserError, match=r"step_000003.*File too large.*no earlier one"):
        save(tmp_path, 3, state(size=1000), keep=1)
    earlier = save(tmp_path, 5, state(), keep=1)
    with pytest.raises(UserError, match=r"step_000010.*File too large.*step_000005") as told:
        save(tmp_path, 10, state(size=1000), keep=1)
    assert "\n" not in str(told.value)
    assert [path.name for path in earlier.parent.iterdir()] == ["step_000005.pt"]
    assert load_newest(tmp_path)[1]["step"] == 5


def test_a_mistake_in_the_program_is_not_taken_for_a_full_disk(tmp_path):
    with pytest.raises((AttributeError, pickle.PicklingError, TypeError)):
        save(tmp_path, 5, state() | {"extra": lambda: None}, keep=1)
    assert list((tmp_path / "checkpoints").iterdir()) == []


class Code:
    """What unpickling would run."""

    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self):
        return Path.touch, (self.trace,)


@pytest.mark.parametrize("form", ["zip", "pickle"])
@pytest.mark.parametrize("mapped", [True, False])
def test_code_in_a_checkpoint_is_not_run(tmp_path, form, mapped):
    path, trace = tmp_path / "step_000001.pt", tmp_path / "trace"
    holder = {"format": 1, "step": 1, "code": Code(trace)}
    if form == "zip":
        torch.save(holder, path)
    else:
        path.write_bytes(pickle.dumps(holder, protocol=2))
    with pytest.raises(DamagedCheckpointError):
        load(path, mapped=mapped)
    assert not trace.exists()
    pickle.loads(pickle.dumps(holder))
    assert trace.exists()  # it was code


def test_a_checkpoint_of_another_version_is_named_as_such(tmp_path):
    path = tmp_path / "step_000001.pt"
    torch.save({"format": 99}, path)
    with pytest.raises(UserError, match="format 99") as told:
        load(path)
    assert not isinstance(told.value, DamagedCheckpointError)


def test_a_missing_file_is_told(tmp_path):
    with pytest.raises(UserError, match="cannot be opened"):
        load(tmp_path / "step_000001.pt")


def test_an_image_depends_on_its_own_vector_alone(tiny_run):
    generator = load_generator(tiny_run)
    z = draw(64, 100, seed=9)
    grid = generator.images(z).astype(int)
    assert (grid.shape, generator.images(z).dtype) == ((64, 3, 32, 32), np.uint8)
    assert grid.std(axis=0).mean() > 1  # they differ, so that a mix-up would show
    for count in (1, 2, 3, 16, 17, 63):
        assert abs(generator.images(z[:count]) - grid[:count]).max() <= 1
    for index in (5, 63):
        assert abs(generator.images(z[index : index + 1]) - grid[index]).max() <= 1
    assert abs(generator.images(z[::-1])[::-1] - grid).max() <= 1


def test_sampling_is_in_float32(tiny_run):
    generator = load_generator(tiny_run)
    assert {weight.dtype for weight in generator.network.parameters()} == {torch.float32}
    z = draw(3, 100, 0)
    seen = []
    generator.network.layers.register_forward_hook(lambda _, inputs, output: seen.append(output.dtype))
    generator.images(z.astype(np.float64))
    assert seen == [torch.float32]


def test_averaged_weights_are_the_default_and_raw_ones_the_choice(tiny_run):
    averaged, raw = load_generator(tiny_run), load_generator(tiny_run, raw=True)
    assert (averaged.weights, raw.weights) == ("ema", "raw")
    z = draw(4, 100, 0)
    assert not np.array_equal(averaged.images(z), raw.images(z))
    stored = load(averaged.checkpoint)
    assert torch.equal(averaged.network.project.weight, stored["average"]["project.weight"])
    assert torch.equal(raw.network.project.weight, stored["generator"]["project.weight"])


def test_the_average_is_stored_with_batch_norm_statistics_of_its_own(tiny_run):
    generator = load_generator(tiny_run).network
    raw = load_generator(tiny_run, raw=True).network
    found: dict[nn.Module, tuple[torch.Tensor, torch.Tensor]] = {}

    def measure(layer, inputs):
        found[layer] = inputs[0].mean((0, 2, 3)), inputs[0].var((0, 2, 3))

    norms = [layer for layer in generator.layers if isinstance(layer, nn.BatchNorm2d)]
    for layer in norms:
        layer.register_forward_pre_hook(measure)
    with torch.no_grad():
        generator(torch.from_numpy(draw(500, 100, seed=77)))
    raw_norms = [layer for layer in raw.layers if isinstance(layer, nn.BatchNorm2d)]
    for layer, raw_layer in zip(norms, raw_norms, strict=True):
        mean, variance = found[layer]
        assert torch.allclose(layer.running_var, variance, rtol=0.2)
        assert (layer.running_mean - mean).abs().max() < 0.2 * variance.max().sqrt()
        assert not torch.equal(layer.running_var, raw_layer.running_var)


def test_which_checkpoint(tiny_run):
    newest = load_generator(tiny_run)
    assert (newest.step, newest.run, newest.seed, newest.image_size) == (6, tiny_run, 3, 32)
    by_step, by_file = load_generator(tiny_run, 2), load_generator(tiny_run, newest.checkpoint)
    assert (by_step.step, by_file.step) == (2, 6)
    with pytest.raises(UserError, match="2, 4, 6"):
        load_generator(tiny_run, 3)


def test_networks_that_do_not_fit_the_runs_settings_are_told(tiny_run, tmp_path):
    info = (tiny_run / "config.json").read_text(encoding="utf-8")
    other = info.replace('"image_size": 32', '"image_size": 64')
    (tmp_path / "config.json").write_text(other, encoding="utf-8")
    with pytest.raises(UserError, match="another shape"):
        load_generator(tmp_path, checkpoint_path(tiny_run, 6))


@pytest.mark.parametrize("missing", ["generator", "discriminator"])
def test_a_checkpoint_of_another_kind_of_run_is_told(tiny_run, tmp_path, missing):
    state = load(checkpoint_path(tiny_run, 6), mapped=False)
    del state[missing]
    torch.save(state, tmp_path / "other.pt")
    with pytest.raises(UserError, match=r"other\.pt contains networks of another shape"):
        load_generator(tiny_run, tmp_path / "other.pt")


def test_a_device_that_is_not_there_is_told(tiny_run):
    with pytest.raises(UserError, match="nonsense"):
        load_generator(tiny_run, device="nonsense")


def test_the_full_size_generator_too_makes_each_image_by_itself():
    """Libraries may choose another way for another number of images, and wide layers leave them more ways."""
    settings = preset_settings("light")
    torch.manual_seed(0)
    network = Generator(settings.generator_widths, settings.latent_size, settings.image_size)
    z = draw(18, settings.latent_size, seed=1)
    for layer in network.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.momentum = 1.0  # so that one batch gives statistics by which the faces differ
    with torch.no_grad():
        network(torch.from_numpy(z))
    generator = LoadedGenerator(network.eval(), Path("run"), Path("none.pt"), 0, "raw", settings)
    grid = generator.images(z).astype(int)
    assert grid.std(axis=0).mean() > 5
    for index in (0, 3, 17):
        assert abs(generator.images(z[index : index + 1]) - grid[index]).max() <= 1
