import pickle
import resource
from functools import partial
from pathlib import Path
from unittest import mock

import numpy as np
import pytest
import torch

from engine import checkpoint as checkpoint_module
from engine import files
from engine.checkpoint import (
    DamagedCheckpointError,
    load,
    load_best,
    load_newest,
    load_path,
    load_selected,
    restore_best,
    save_as_best,
)
from engine.errors import UserError
from engine.finite import DivergedError
from engine.runs import best_path, checkpoint_path, checkpoints, find_checkpoint
from tests.run_contents import steps

save = partial(checkpoint_module.save, networks=("generator", "discriminator", "average"))


def state(value: float = 1.0, size: int = 10) -> dict:
    """A small state like a trainer's."""
    return {
        "generator": {"weight": torch.full((size, 10), value), "batches": torch.tensor(3)},
        "discriminator": {"weight": torch.arange(6.0)},
        "average": None,
        "generator_optimizer": {"state": {0: {"step": torch.tensor(2.0)}}, "param_groups": [{"lr": 1e-4}]},
        "summed": 4,
    }


def save_steps(run: Path, *saved: int, keep: int = 3) -> None:
    for step in saved:
        save(run, step, state(step), keep)


DAMAGES = {
    "empty": lambda data: b"",
    "half": lambda data: data[: len(data) // 2],
    "all but one byte": lambda data: data[:-1],
    "garbage": lambda data: bytes(np.random.default_rng(0).integers(0, 256, 3000, np.uint8)),
    "truncated pickle": lambda data: b"\x80\x02}q\x00(",
    "pickled None": lambda data: b"\x80\x020.",
    "text": lambda data: b"not found\n",
}


def damage(path: Path, kind: str) -> None:
    path.write_bytes(DAMAGES[kind](path.read_bytes()))


@pytest.mark.parametrize("mapped", [True, False])
def test_save_and_load(tmp_path, mapped):
    path = save(tmp_path, 7, state(), keep=3)
    assert path == checkpoint_path(tmp_path, 7)
    loaded = load(path, mapped=mapped)
    assert loaded["step"] == 7
    assert loaded["summed"] == 4
    assert torch.equal(loaded["generator"]["weight"], torch.ones(10, 10))
    assert loaded["generator_optimizer"]["param_groups"] == [{"lr": 1e-4}]
    assert [file.name for file in path.parent.iterdir()] == ["step_000007.pt"]


def test_only_the_newest_are_kept(tmp_path):
    save_steps(tmp_path, 5, 10, 999_995, 1_000_000, 10_000_005)
    assert steps(checkpoints(tmp_path)) == [999_995, 1_000_000, 10_000_005]
    save_steps(tmp_path, 10_000_010, keep=1)
    assert steps(checkpoints(tmp_path)) == [10_000_010]


@pytest.mark.parametrize("kind", ["half", "empty"])
def test_a_truncated_checkpoint_counts_for_none_that_is_kept(tmp_path, kind):
    save_steps(tmp_path, 5, 10, 15)
    damage(checkpoint_path(tmp_path, 15), kind)
    save_steps(tmp_path, 20, keep=2)
    assert steps(checkpoints(tmp_path)) == [10, 20]


def test_other_files_are_kept(tmp_path):
    save_steps(tmp_path, 5, keep=1)
    others = [tmp_path / "checkpoints" / name for name in ("best.pt", "step_5_best.pt", "notes.txt")]
    for path in others:
        path.write_text("mine")
    save_steps(tmp_path, 10, keep=1)
    assert all(path.exists() for path in others)
    assert steps(checkpoints(tmp_path)) == [10]


def test_partial_files_are_ignored_and_removed(tmp_path):
    save_steps(tmp_path, 5)
    partial = tmp_path / "checkpoints" / ".step_000010-abcd.pt"
    partial.write_bytes(b"half")
    assert load_newest(tmp_path)[0] == checkpoint_path(tmp_path, 5)
    save_steps(tmp_path, 10)
    assert not partial.exists()
    assert steps(checkpoints(tmp_path)) == [5, 10]


def test_the_best_outlives_its_checkpoint_and_is_restored(tmp_path):
    assert restore_best(tmp_path) is None
    path = save(tmp_path, 5, state(5), keep=1)
    for _ in range(2):
        save_as_best(path)
    assert sorted(file.name for file in path.parent.iterdir()) == ["best.pt", "step_000005.pt"]
    assert restore_best(tmp_path) == path
    save_steps(tmp_path, 10, keep=1)
    assert restore_best(tmp_path) == path
    assert steps(checkpoints(tmp_path)) == [5, 10]
    assert load(path)["generator"]["weight"][0, 0] == 5
    path.unlink()
    damage(best_path(tmp_path), "half")
    assert restore_best(tmp_path) is None
    assert not path.exists()


def test_which_checkpoint_is_loaded(tmp_path, capsys):
    save_steps(tmp_path, 5, 10)
    newest, best = checkpoint_path(tmp_path, 10), best_path(tmp_path)
    assert load_selected(tmp_path, None)[0] == load_path(tmp_path)[0] == newest
    save_as_best(checkpoint_path(tmp_path, 5))
    for checkpoint, path in ((None, best), ("best", best), ("newest", newest), (10, newest)):
        assert load_selected(tmp_path, checkpoint)[0] == path
    assert load_path(tmp_path)[0] == best
    assert load_path(newest)[1]["step"] == 10
    damage(best, "half")
    assert load_path(tmp_path)[0] == newest
    assert capsys.readouterr().err == f"warning: {best} is damaged; using step_000010.pt\n"
    damage(newest, "half")
    assert load_selected(tmp_path, "newest")[0] == checkpoint_path(tmp_path, 5)
    assert capsys.readouterr().err == f"warning: {newest} is damaged; using step_000005.pt\n"
    with pytest.raises(DamagedCheckpointError, match=r"best\.pt"):
        load_selected(tmp_path, "best")


@pytest.mark.parametrize("kind", DAMAGES)
def test_a_damaged_newest_checkpoint_is_skipped(tmp_path, kind):
    save_steps(tmp_path, 5, 10, 15)
    damage(checkpoint_path(tmp_path, 15), kind)
    with pytest.raises(DamagedCheckpointError, match="step_000015"):
        load(checkpoint_path(tmp_path, 15))
    for mapped in (True, False):
        path, loaded, damaged = load_newest(tmp_path, mapped=mapped)
        assert path == checkpoint_path(tmp_path, 10)
        assert loaded["step"] == loaded["generator"]["weight"][0, 0] == 10
        assert damaged == [checkpoint_path(tmp_path, 15)]


@pytest.mark.parametrize("damaged_steps", [(), (10,)])
def test_best_pt_alone_is_enough(tmp_path, damaged_steps):
    save_steps(tmp_path, 5, 10)
    best = best_path(tmp_path)
    save_as_best(checkpoint_path(tmp_path, 5))
    checkpoint_path(tmp_path, 5).unlink()
    for step in damaged_steps:
        damage(checkpoint_path(tmp_path, step), "half")
    if not damaged_steps:
        checkpoint_path(tmp_path, 10).unlink()
        assert load_selected(tmp_path, "newest")[0] == find_checkpoint(tmp_path, "newest") == best
    path, loaded, damaged = load_newest(tmp_path)
    assert (path, loaded["step"]) == (best, 5)
    assert damaged == [checkpoint_path(tmp_path, step) for step in damaged_steps]
    assert load_best(tmp_path)[0] == best
    damage(best, "half")
    with pytest.raises(UserError, match=r"every checkpoint .* damaged.*best\.pt"):
        load_newest(tmp_path)


def test_windows_maps_no_file_that_training_replaces(tmp_path, monkeypatch):
    save_steps(tmp_path, 5)
    monkeypatch.setattr(files, "REPLACES_OPEN_FILES", False)
    with mock.patch.object(torch, "load", wraps=torch.load) as torch_load:
        assert load_newest(tmp_path)[1]["step"] == 5
    assert torch_load.call_args.kwargs["mmap"] is False


def test_a_checkpoint_that_cannot_be_removed_yet_is_removed_later(tmp_path, monkeypatch):
    """On Windows, another process may be reading it."""
    save_steps(tmp_path, 5)
    with monkeypatch.context() as patch:
        patch.setattr(Path, "unlink", mock.Mock(side_effect=PermissionError(13, "Access is denied")))
        save_steps(tmp_path, 10, keep=1)
    assert steps(checkpoints(tmp_path)) == [5, 10]
    save_steps(tmp_path, 15, keep=1)
    assert steps(checkpoints(tmp_path)) == [15]


def test_a_plain_tensor_is_not_a_checkpoint(tmp_path):
    path = tmp_path / "tensor.pt"
    torch.save(torch.zeros(2), path)
    with pytest.raises(DamagedCheckpointError, match="not a checkpoint of this project"):
        load(path)


@pytest.mark.parametrize("mapped", [True, False])
@pytest.mark.parametrize("size", [10, 10_000])
def test_truncation_anywhere_is_detected(tmp_path, mapped, size):
    path = save(tmp_path, 5, state(size=size), keep=3)
    data = path.read_bytes()
    for length in (*range(0, 6000, 500), *np.linspace(0, len(data) - 1, 30).astype(int)):
        path.write_bytes(data[: min(length, len(data) - 1)])
        with pytest.raises(DamagedCheckpointError):
            load(path, mapped=mapped)


def test_no_intact_checkpoint_is_one_line(tmp_path):
    with pytest.raises(UserError, match="no checkpoint yet"):
        load_newest(tmp_path)
    save_steps(tmp_path, 5, 10)
    for path in checkpoints(tmp_path):
        damage(path, "half")
    with pytest.raises(UserError, match=r"every checkpoint .* damaged.*step_000010.*step_000005"):
        load_newest(tmp_path)


def test_a_lack_of_memory_is_not_taken_for_damage(tmp_path, monkeypatch):
    save_steps(tmp_path, 5, 10)

    def fail(*_, **__):
        raise MemoryError

    with monkeypatch.context() as patch:
        patch.setattr(torch, "load", fail)
        with pytest.raises(MemoryError):
            load_newest(tmp_path)
    assert load_newest(tmp_path)[1]["step"] == 10


def test_resuming_before_a_damaged_checkpoint_never_removes_an_intact_one(tmp_path):
    save_steps(tmp_path, 5, 10, keep=2)
    damage(checkpoint_path(tmp_path, 10), "half")
    save_steps(tmp_path, 7, keep=1)
    assert load_newest(tmp_path)[0] == checkpoint_path(tmp_path, 7)
    assert steps(checkpoints(tmp_path)) == [7]


@pytest.mark.parametrize("network", ["generator", "discriminator", "average"])
@pytest.mark.parametrize("bad", [float("nan"), float("-inf")])
def test_weights_that_are_not_finite_are_never_written(tmp_path, network, bad):
    save_steps(tmp_path, 5, keep=1)
    poisoned = state() | {network: {"weight": torch.tensor([0, bad])}}
    with pytest.raises(DivergedError, match=rf"{network}, weight.* at step 10"):
        save(tmp_path, 10, poisoned, keep=1)
    assert steps(checkpoints(tmp_path)) == [5]
    assert load_newest(tmp_path)[2] == []


@pytest.fixture
def full_disk():
    """Limit files to 20 kB, so that a write fails in the middle as on a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, hard))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_full_disk_is_one_line_and_keeps_earlier_checkpoints(tmp_path, full_disk):
    with pytest.raises(UserError, match=r"step_000003.*File too large.*no earlier one"):
        save(tmp_path, 3, state(size=1000), keep=1)
    earlier = save(tmp_path, 5, state(), keep=1)
    with pytest.raises(UserError, match=r"step_000010.*File too large.*step_000005") as error:
        save(tmp_path, 10, state(size=1000), keep=1)
    assert "\n" not in str(error.value)
    assert [path.name for path in earlier.parent.iterdir()] == ["step_000005.pt"]
    assert load_newest(tmp_path)[1]["step"] == 5


def test_a_full_disk_keeps_the_previous_best(tmp_path, full_disk):
    save_as_best(save(tmp_path, 5, state(), keep=2))
    larger = save(tmp_path, 10, state(size=100), keep=2)
    resource.setrlimit(resource.RLIMIT_FSIZE, (3_000, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))
    with pytest.raises(UserError, match=r"best\.pt cannot be written to: File too large"):
        save_as_best(larger)
    assert load(best_path(tmp_path))["step"] == 5


def test_a_bug_is_not_mistaken_for_a_full_disk(tmp_path):
    with pytest.raises((AttributeError, pickle.PicklingError, TypeError)):
        save(tmp_path, 5, state() | {"extra": lambda: None}, keep=1)
    assert list((tmp_path / "checkpoints").iterdir()) == []


class Code:
    """Unpickling this creates the file `trace`."""

    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self):
        return Path.touch, (self.trace,)


@pytest.mark.parametrize("format", ["zip", "pickle"])
@pytest.mark.parametrize("mapped", [True, False])
def test_code_in_a_checkpoint_is_not_run(tmp_path, format, mapped):
    path, trace = tmp_path / "step_000001.pt", tmp_path / "trace"
    content = {"format": 1, "step": 1, "code": Code(trace)}
    if format == "zip":
        torch.save(content, path)
    else:
        path.write_bytes(pickle.dumps(content, protocol=2))
    with pytest.raises(DamagedCheckpointError):
        load(path, mapped=mapped)
    assert not trace.exists()
    pickle.loads(pickle.dumps(content))
    assert trace.exists()  # it was code


def test_a_checkpoint_of_another_version_is_named(tmp_path):
    path = tmp_path / "step_000001.pt"
    torch.save({"format": 99}, path)
    with pytest.raises(UserError, match="format 99") as error:
        load(path)
    assert not isinstance(error.value, DamagedCheckpointError)


def test_a_missing_file_is_one_line(tmp_path):
    with pytest.raises(UserError, match="cannot be opened"):
        load(tmp_path / "step_000001.pt")
