import pickle
import resource
from pathlib import Path

import numpy as np
import pytest
import torch

from engine.checkpoint import DamagedCheckpointError, load, load_newest, save, save_as_best
from engine.errors import UserError
from engine.finite import DivergedError
from engine.runs import checkpoint_path, checkpoints, step_of


def state(value: float = 1.0, size: int = 10) -> dict:
    """A small state with the structure of a trainer's."""
    return {
        "generator": {"weight": torch.full((size, 10), value), "batches": torch.tensor(3)},
        "discriminator": {"weight": torch.arange(6.0)},
        "average": None,
        "generator_optimizer": {"state": {0: {"step": torch.tensor(2.0)}}, "param_groups": [{"lr": 1e-4}]},
        "summed": 4,
    }


def steps(run: Path) -> list[int]:
    return [step_of(path) for path in checkpoints(run)]


def damage(path: Path, how: str = "half") -> None:
    if how == "a plain tensor":
        torch.save(torch.zeros(2), path)
        return
    intact = path.read_bytes()
    broken = {
        "empty": b"",
        "half": intact[: len(intact) // 2],
        "all but a byte": intact[:-1],
        "garbage": bytes(np.random.default_rng(0).integers(0, 256, 3000, np.uint8)),
        "half a pickle": b"\x80\x02}q\x00(",
        "an empty pickle": b"\x80\x020.",
        "text": b"not found\n",
    }
    path.write_bytes(broken[how])


DAMAGES = (
    *("empty", "half", "all but a byte", "garbage", "half a pickle", "an empty pickle", "text"),
    "a plain tensor",
)


@pytest.mark.parametrize("mapped", [True, False])
def test_a_saved_state_is_loaded(tmp_path, mapped):
    path = save(tmp_path, 7, state(), keep=3)
    assert path == checkpoint_path(tmp_path, 7)
    loaded = load(path, mapped=mapped)
    assert (loaded["step"], loaded["summed"]) == (7, 4)
    assert torch.equal(loaded["generator"]["weight"], torch.ones(10, 10))
    assert loaded["generator_optimizer"]["param_groups"] == [{"lr": 1e-4}]
    assert [file.name for file in path.parent.iterdir()] == ["step_000007.pt"]


def test_only_the_newest_checkpoints_are_kept(tmp_path):
    for step in (5, 10, 999_995, 1_000_000, 10_000_005):
        save(tmp_path, step, state(), keep=3)
    assert steps(tmp_path) == [999_995, 1_000_000, 10_000_005]
    save(tmp_path, 10_000_010, state(), keep=1)
    assert steps(tmp_path) == [10_000_010]


def test_saving_keeps_the_users_own_files(tmp_path):
    save(tmp_path, 5, state(), keep=1)
    own = [tmp_path / "checkpoints" / name for name in ("best.pt", "step_5_best.pt", "notes.txt")]
    for path in own:
        path.write_text("mine")
    save(tmp_path, 10, state(), keep=1)
    assert all(path.exists() for path in own)
    assert steps(tmp_path) == [10]


def test_saving_removes_what_a_kill_during_saving_left(tmp_path):
    save(tmp_path, 5, state(), keep=3)
    partial = tmp_path / "checkpoints" / ".step_000010-abcd.pt"
    partial.write_bytes(b"half")
    assert load_newest(tmp_path)[0] == checkpoint_path(tmp_path, 5)
    save(tmp_path, 10, state(), keep=3)
    assert not partial.exists()
    assert steps(tmp_path) == [5, 10]


def test_saving_the_best_twice_leaves_one_file(tmp_path):
    path = save(tmp_path, 5, state(), keep=3)
    for _ in range(2):
        save_as_best(path)
    assert sorted(file.name for file in path.parent.iterdir()) == ["best.pt", "step_000005.pt"]


@pytest.mark.parametrize("how", DAMAGES)
def test_a_damaged_checkpoint_is_skipped(tmp_path, how):
    for step in (5, 10, 15):
        save(tmp_path, step, state(step), keep=3)
    damage(checkpoint_path(tmp_path, 15), how)
    with pytest.raises(DamagedCheckpointError, match="step_000015"):
        load(checkpoint_path(tmp_path, 15))
    for mapped in (True, False):
        path, loaded, damaged = load_newest(tmp_path, mapped=mapped)
        assert path == checkpoint_path(tmp_path, 10)
        assert loaded["step"] == loaded["generator"]["weight"][0, 0] == 10
        assert damaged == [checkpoint_path(tmp_path, 15)]


@pytest.mark.parametrize("mapped", [True, False])
@pytest.mark.parametrize("size", [10, 10_000])
def test_a_truncated_checkpoint_is_damaged_wherever_it_ends(tmp_path, mapped, size):
    path = save(tmp_path, 5, state(size=size), keep=3)
    intact = path.read_bytes()
    for length in (*range(0, 6000, 500), *np.linspace(0, len(intact) - 1, 30).astype(int)):
        path.write_bytes(intact[: min(length, len(intact) - 1)])
        with pytest.raises(DamagedCheckpointError):
            load(path, mapped=mapped)


def test_no_intact_checkpoint_is_reported_in_one_line(tmp_path):
    with pytest.raises(UserError, match="no checkpoint yet"):
        load_newest(tmp_path)
    for step in (5, 10):
        save(tmp_path, step, state(), keep=3)
        damage(checkpoint_path(tmp_path, step))
    with pytest.raises(UserError, match=r"every checkpoint .* damaged.*step_000010.*step_000005"):
        load_newest(tmp_path)


def test_a_save_before_a_damaged_checkpoint_is_kept(tmp_path):
    for step in (5, 10):
        save(tmp_path, step, state(), keep=2)
    damage(checkpoint_path(tmp_path, 10))
    save(tmp_path, 7, state(), keep=1)
    assert load_newest(tmp_path)[0] == checkpoint_path(tmp_path, 7)
    assert steps(tmp_path) == [7]


@pytest.mark.parametrize("network", ["generator", "discriminator", "average"])
@pytest.mark.parametrize("bad", [float("nan"), float("-inf")])
def test_weights_that_are_not_finite_are_not_saved(tmp_path, network, bad):
    save(tmp_path, 5, state(), keep=1)
    diverged = state() | {network: {"weight": torch.tensor([0, bad])}}
    with pytest.raises(DivergedError, match=rf"{network}, weight.* at step 10"):
        save(tmp_path, 10, diverged, keep=1)
    assert steps(tmp_path) == [5]


@pytest.fixture
def full_disk():
    """No file may exceed 20 kB, so a write fails midway, as on a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, hard))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.usefixtures("full_disk")
def test_a_full_disk_is_reported_in_one_line_and_keeps_the_last_checkpoint(tmp_path):
    with pytest.raises(UserError, match=r"step_000003.*File too large.*no earlier one"):
        save(tmp_path, 3, state(size=1000), keep=1)
    earlier = save(tmp_path, 5, state(), keep=1)
    with pytest.raises(UserError, match=r"step_000010.*File too large.*step_000005") as error:
        save(tmp_path, 10, state(size=1000), keep=1)
    assert "\n" not in str(error.value)
    assert [path.name for path in earlier.parent.iterdir()] == ["step_000005.pt"]
    assert load_newest(tmp_path)[1]["step"] == 5


def test_a_bug_is_not_reported_as_a_full_disk(tmp_path):
    with pytest.raises((AttributeError, pickle.PicklingError, TypeError)):
        save(tmp_path, 5, state() | {"extra": lambda: None}, keep=1)
    assert list((tmp_path / "checkpoints").iterdir()) == []


class Code:
    """Creates a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


@pytest.mark.parametrize("form", ["zip", "pickle"])
@pytest.mark.parametrize("mapped", [True, False])
def test_code_in_a_checkpoint_is_not_run(tmp_path, form, mapped):
    path, trace = tmp_path / "step_000001.pt", tmp_path / "trace"
    malicious = {"format": 1, "step": 1, "code": Code(trace)}
    if form == "zip":
        torch.save(malicious, path)
    else:
        path.write_bytes(pickle.dumps(malicious, protocol=2))
    with pytest.raises(DamagedCheckpointError):
        load(path, mapped=mapped)
    assert not trace.exists()
    pickle.loads(pickle.dumps(malicious))
    assert trace.exists()  # the code works


def test_a_checkpoint_of_another_version_is_not_reported_as_damaged(tmp_path):
    path = tmp_path / "step_000001.pt"
    torch.save({"format": 99}, path)
    with pytest.raises(UserError, match="format 99") as error:
        load(path)
    assert not isinstance(error.value, DamagedCheckpointError)


def test_a_missing_file_is_reported(tmp_path):
    with pytest.raises(UserError, match="cannot be opened"):
        load(tmp_path / "step_000001.pt")
