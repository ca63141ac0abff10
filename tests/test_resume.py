"""Resuming a run, and starting one from the networks of another: what is allowed, refused and reported."""

import json
import shutil
from pathlib import Path
from unittest import mock

import pytest
import torch
from filelock import FileLock
from PIL import Image

from engine.checkpoint import load
from engine.errors import UserError
from engine.lock import locked
from engine.runs import (
    best_path,
    checkpoint_path,
    checkpoints,
    find_checkpoint,
    gave_up,
    sample_grids,
    step_of,
)
from gan import setup
from gan.config import read_info
from gan.loop import GanLoop
from tests.conftest import copy_some
from tests.gan.other_losses import LOSSES
from tests.in_process import call
from tests.run_contents import newest_run, read_config, read_metrics, steps
from tests.states import assert_equal


@pytest.fixture
def run(tiny_run, train, tmp_path) -> Path:
    """A copy of a run of 6 steps, in the folder where `train` finds it."""
    return Path(shutil.copytree(tiny_run, tmp_path / "outputs" / tiny_run.name))


def edit_config(run: Path, **settings: object) -> None:
    """Change settings in config.json, as with a text editor."""
    config = read_config(run)
    config["settings"].update(settings)
    (run / "config.json").write_text(json.dumps(config), encoding="utf-8")


def contents(run: Path) -> dict[Path, bytes]:
    """Every file of a run."""
    return {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}


def adam(run: Path, step: int) -> dict:
    """The options of G's optimizer in a checkpoint."""
    (group,) = load(checkpoint_path(run, step))["generator_optimizer"]["param_groups"]
    return group


CHANGES = {
    "--batch-size": 6,
    "--seed": 9,
    "--learning-rate": 1e-3,
    "--beta2": 0.9,
    "--augmentation": "always",
    "--ema-half-life": 5,
    "--precision": "bfloat16",
}


def test_resume_refuses_settings_that_change_results(run, train):
    before = contents(run)
    for flag, value in CHANGES.items():
        with pytest.raises(UserError, match=f"different {flag},"):
            train("--resume", run, "--steps", 8, flag, value)
    with pytest.raises(UserError, match="different --seed, --learning-rate, --flip,"):
        train("--resume", run, "--no-flip", "--learning-rate", 1, "--seed", 5)
    assert contents(run) == before


def test_resume_with_force_applies_them(run, train):
    argv = [part for change in CHANGES.items() for part in change]
    assert train("--resume", run, "--steps", 8, "--force", *argv) == 0
    assert read_config(run)["settings"]["learning_rate"] == 1e-3
    assert (adam(run, 8)["lr"], adam(run, 8)["betas"]) == (1e-3, (0.5, 0.9))


@pytest.mark.parametrize(
    "change",
    [
        ("--image-size", 48),
        ("--generator-widths", 12, 10, 8, 7),
        ("--normalisation", "none"),
        ("--latent-size", 50),
    ],
)
def test_other_networks_are_refused_even_with_force(run, train, pictures, change):
    for argv in (("--resume", run, "--force"), (pictures, "--init-from", run)):
        with pytest.raises(
            UserError, match=rf"the network of .* with a different {change[0]}: omit the change"
        ):
            train(*argv, "--steps", 8, *change)


@pytest.mark.parametrize("preset", ["textbook", "quick"])
def test_resume_refuses_a_preset_even_with_force(run, train, preset):
    with pytest.raises(UserError, match="has its own"):
        train("--resume", run, "--steps", 8, "--force", "--preset", preset)


def test_resume_allows_settings_that_do_not_change_results(run, train):
    intervals = ("--log-every", 2, "--sample-every", 3, "--checkpoint-every", 4)
    assert train("--resume", run.name, "--steps", 9, *intervals, "--keep", 1, "--workers", 0) == 0
    assert steps(checkpoints(run)) == [9]
    assert [line["step"] for line in read_metrics(run)] == [1, 2, 3, 4, 5, 6, 8]


def test_a_new_end_replaces_one_of_the_other_kind(run, train):
    assert train("--resume", "--minutes", 0.02) == 0
    settings = read_info(run).settings
    assert (settings.steps, settings.minutes) == (None, 0.02)
    assert step_of(find_checkpoint(run, None)) > 6


def test_resume_refuses_a_finished_run(run, train):
    with pytest.raises(UserError, match=r"has reached its last step, 6 of 6.*--steps 12"):
        train("--resume", run)
    with pytest.raises(
        UserError, match=r"has reached step 6, past --steps 5; give it more, such as --steps 12$"
    ):
        train("--resume", run, "--steps", 5)


def test_resume_refuses_a_finished_run_before_its_data_are_loaded(run, train, monkeypatch):
    monkeypatch.setattr("gan.setup.load_folder", mock.Mock(side_effect=AssertionError))
    for options in ((), ("--dry-run",), ("--steps", 3)):
        with pytest.raises(UserError, match="has reached"):
            train("--resume", run, *options)


def test_resume_refuses_a_run_that_another_process_trains(run, train):
    with locked(run):
        before = contents(run)
        with pytest.raises(UserError, match="another process is training in"):
            train("--resume", run, "--steps", 8)
        assert contents(run) == before


def test_resume_reads_the_checkpoint_only_after_locking_the_run(run, train, monkeypatch):
    """Another process may train in it up to that moment."""
    acquire = FileLock.acquire
    trained: dict[Path, bytes] = {}

    def acquire_late(lock: FileLock) -> object:
        monkeypatch.setattr(FileLock, "acquire", acquire)
        assert train("--resume", run, "--steps", 8) == 0
        trained.update(contents(run))
        return lock.acquire()

    monkeypatch.setattr(FileLock, "acquire", acquire_late)
    with pytest.raises(UserError, match="has reached its last step, 8 of 8"):
        train("--resume", run, "--steps", 8)
    assert contents(run) == trained


def test_resume_without_a_name_takes_the_newest_run(run, train, tmp_path):
    newer = Path(shutil.copytree(run, run.with_name("0007-newer-32px")))
    assert train("--resume", "--steps", 7) == 0
    assert (steps(checkpoints(newer))[-1], steps(checkpoints(run))[-1]) == (7, 6)
    assert train("--resume", 1, "--steps", 7) == 0
    assert steps(checkpoints(run))[-1] == 7
    with pytest.raises(UserError, match="no run in"):
        train("--resume", "--output", tmp_path / "elsewhere")


def test_resume_accepts_moved_data_and_refuses_changed_data(run, train, pictures, tmp_path):
    moved = Path(shutil.copytree(pictures, tmp_path / "новая папка"))
    assert train(moved, "--resume", run, "--steps", 7) == 0
    assert read_config(run)["data"]["folder"] == str(moved)
    Image.new("RGB", (40, 40), "red").save(moved / "more.png")
    with pytest.raises(UserError, match=r"have changed since .*24 images then, 25 now"):
        train("--resume", run, "--steps", 8)
    assert train("--resume", run, "--steps", 8, "--force") == 0
    assert read_config(run)["data"]["images"] == 25


def test_a_folder_that_is_gone_is_named_with_the_way_to_continue(train, pictures, tmp_path):
    folder = Path(shutil.copytree(pictures, tmp_path / "before"))
    assert train(folder, "--steps", 2) == 0
    run = newest_run()
    moved = folder.rename(tmp_path / "after")
    with pytest.raises(UserError) as error:
        train("--resume", run, "--steps", 4)
    assert str(error.value).startswith(f"{folder}, which {run} was trained on, is no longer there")
    assert f"`python train_gan.py NEWFOLDER --resume {run}` continues" in str(error.value)
    assert train(moved, "--resume", run, "--steps", 4) == 0
    assert train("--resume", run, "--steps", 5) == 0


def test_a_run_that_gave_up_counts_as_resumed_afterwards(run, train):
    """Or torchrun would not restart it."""
    (run / "events.txt").write_text("step 6: stopped: D wins, again after 3 rollbacks\n")
    assert train("--resume", run, "--steps", 7) == 0
    assert not gave_up(run)


def test_resume_skips_a_damaged_checkpoint(run, train, capsys):
    intact = load(checkpoint_path(run, 6), mapped=False)
    checkpoint_path(run, 6).write_bytes(checkpoint_path(run, 6).read_bytes()[:5000])
    assert train("--resume", run) == 0
    out, err = capsys.readouterr()
    assert f"warning: {checkpoint_path(run, 6)} is damaged; using step_000004.pt\n" in err
    assert f"resuming from {checkpoint_path(run, 4)}" in out
    assert_equal(load(checkpoint_path(run, 6)), intact)


def test_a_run_without_an_intact_checkpoint_is_refused(run, train, pictures):
    for path in checkpoints(run):
        path.write_bytes(b"")
    for argv in (("--resume", run, "--steps", 8), (pictures, "--init-from", run, "--steps", 1)):
        with pytest.raises(UserError, match=r"every checkpoint of .* is damaged"):
            train(*argv)
    shutil.rmtree(run / "checkpoints")
    with pytest.raises(UserError, match="no checkpoint yet"):
        train("--resume", run, "--steps", 8)
    assert list(Path("outputs").iterdir()) == [Path("outputs", run.name)]


def test_resume_reports_a_changed_environment(run, train, capsys):
    config = (run / "config.json").read_text(encoding="utf-8")
    (run / "config.json").write_text(config.replace('"threads": 1', '"threads": 64'), encoding="utf-8")
    assert train("--resume", run, "--steps", 7) == 0
    assert "threads was 64 and is now 1" in capsys.readouterr().out


def leave_only_the_best(run: Path, step: int) -> Path:
    """A run as sent to a friend: config.json and best.pt."""
    best = best_path(run)
    shutil.copy(checkpoint_path(run, step), best)
    for path in [*run.rglob("*")]:
        if path.is_file() and path.name not in ("config.json", best.name):
            path.unlink()
    return best


def test_a_run_with_best_pt_alone_resumes_and_starts_another(run, train, pictures, capsys):
    best = leave_only_the_best(run, 4)
    assert train(pictures, "--init-from", run, "--steps", 1) == 0
    assert f"starting from the networks of {best}" in capsys.readouterr().out
    assert train("--resume", run, "--steps", 6) == 0
    assert f"resuming from {best}" in capsys.readouterr().out
    assert steps(checkpoints(run)) == [6]
    assert train("--resume", run, "--steps", 7) == 0
    assert "step_000006.pt" in capsys.readouterr().out


def test_a_new_run_starts_from_the_best_networks(run, train, pictures, capsys):
    shutil.copy(checkpoint_path(run, 4), best_path(run))
    assert train(pictures, "--init-from", run, "--steps", 1) == 0
    assert f"starting from the networks of {best_path(run)}" in capsys.readouterr().out
    best_path(run).write_bytes(b"")
    assert train(pictures, "--init-from", run, "--steps", 1) == 0
    output, err = capsys.readouterr()
    assert "best.pt is damaged; using step_000006.pt" in err
    assert f"starting from the networks of {checkpoint_path(run, 6)}" in output


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"generator_widths": [12, 10, 8, 7]}, "contains networks whose shapes differ"),
        ({"discriminator_widths": [6, 8, 10, 13]}, "contains networks whose shapes differ"),
        ({"latent_size": 50}, "contains networks whose shapes differ"),
        ({"image_size": 48}, "contains networks whose shapes differ"),
        ({"normalisation": "batch"}, "contains networks whose shapes differ"),
        ({"generator_widths": [2**16] * 4}, "contains networks whose shapes differ"),
        ({"generator_widths": [10**9] * 4}, "--generator-widths must be 1 to 65536 each"),
        ({"latent_size": 10**15}, "--latent-size must be 1 to 65536"),
        ({"folder": "a\0b"}, "folder cannot be read"),
        ({"batch_size": "8"}, "batch_size cannot be read"),
    ],
)
def test_a_config_edited_to_other_networks_is_refused_in_one_line(run, pictures, settings, message):
    edit_config(run, **settings)
    before = contents(run)
    for argv in (("--resume", run, "--steps", 8, "--force"), (pictures, "--init-from", run)):
        ended = call("train_gan.py", *argv, "--device", "cpu")
        assert ended.code == 2
        assert message in ended.error
        assert run.name in ended.error
        assert ended.error.count("\n") == 1
    assert contents(run) == before
    assert list(Path("outputs").iterdir()) == [Path("outputs", run.name)]
    assert not Path("data").exists()  # refused before anything is decoded


def test_a_config_edited_to_change_results_is_refused_without_force(run, train):
    edit_config(run, beta2=0.5, augmentation="none", head_scale=1.0, seed=9, log_every=3)
    before = contents(run)
    with pytest.raises(UserError) as error:
        train("--resume", run, "--steps", 8)
    assert str(error.value).startswith(
        f"{run}/config.json has another --seed, --head-scale, --beta2, --augmentation than "
        f"{checkpoint_path(run, 6)} was trained with"
    )
    assert contents(run) == before
    assert train("--resume", run, "--steps", 8, "--force") == 0
    assert adam(run, 8)["betas"] == (0.5, 0.5)
    assert train("--resume", run, "--steps", 9) == 0  # the checkpoint now has these settings


def test_a_checkpoint_without_settings_is_resumed(run, train):
    for path in checkpoints(run):
        state = load(path, mapped=False)
        del state["settings"]  # as in early versions
        torch.save(state, path)
    assert train("--resume", run, "--steps", 8) == 0
    assert load(checkpoint_path(run, 8))["settings"]["beta2"] == 0.99


def test_a_forced_run_that_is_killed_at_once_resumes_with_its_new_settings(run, train, monkeypatch):
    def kill(*_: object) -> None:
        raise SystemExit(137)

    with monkeypatch.context() as patched:
        patched.setattr(GanLoop, "train", kill)
        with pytest.raises(SystemExit):
            train("--resume", run, "--force", "--learning-rate", 5e-5, "--steps", 8)
    assert train("--resume", run, "--steps", 8) == 0
    assert read_config(run)["settings"]["learning_rate"] == 5e-5


def test_init_from_starts_with_the_networks_of_a_run(run, train, pictures, tmp_path, capsys):
    folder = copy_some(pictures, 10, tmp_path / "ten")
    before = contents(run)
    source = load(checkpoints(run)[-1], mapped=False)
    assert train(folder, "--init-from", run.name, "--steps", 1, "--batch-size", 10, "--seed", 8) == 0
    new = newest_run()
    assert new.name == "0002-ten-32px"
    path = checkpoint_path(Path("outputs", run.name), 6)
    assert f"starting from the networks of {path}" in capsys.readouterr().out
    state = load(checkpoints(new)[-1])
    for network in ("generator", "discriminator"):
        for name, weight in source[network].items():
            if name.endswith("weight") and weight.dim() > 1:
                assert (state[network][name] - weight).abs().max() <= 1.001e-4  # one step of Adam
    assert state["generator_optimizer"]["state"][0]["step"] == 1
    assert steps(sample_grids(new)) == [0, 1]
    assert contents(run) == before


def test_held_out_images_that_were_trained_on_are_reported(run, pictures, train, capsys):
    before = read_config(run)["data"]["held_out"]
    assert train(pictures, "--init-from", run, "--steps", 1) == 0
    assert "scores are too good" not in capsys.readouterr().out
    for argv in ((pictures, "--init-from", run, "--steps", 1), ("--resume", run, "--force", "--steps", 8)):
        assert train(*argv, "--held-out", 0.4) == 0
        now = read_config(newest_run() if "--init-from" in argv else run)["data"]["held_out"]
        assert now > before
        out = capsys.readouterr().out
        assert f"was trained on {now - before} of the {now} images held out now" in out
        assert "--held-out 0.05, as there" in out


def test_other_data_than_those_of_the_source_are_reported(run, pictures, train, tmp_path, capsys):
    folder = copy_some(pictures, 20, tmp_path / "twenty")
    assert train(folder, "--init-from", run, "--steps", 1, "--held-out", 0.5) == 0
    message = f"{run.name} was trained on other images. If they include these, it was trained on up to "
    assert message in capsys.readouterr().out
    new = newest_run()
    assert read_config(new)["data"]["begun_from"].endswith(run.name)
    assert train("--resume", new, "--steps", 2) == 0
    assert read_config(new)["data"]["begun_from"].endswith(run.name)
    # A rollback to the start of the resumed run needs its networks too.
    path, _ = setup._source_state(setup.make_plan(["--resume", str(new), "--steps", "3"]))
    assert path.parent.parent.name == run.name


def test_resume_refuses_another_loss(run, train, monkeypatch):
    monkeypatch.setattr("gan.losses.adversarial_loss", LOSSES["hinge"])
    with pytest.raises(UserError, match="was trained with the loss CrossEntropy, not Hinge"):
        train("--resume", run, "--steps", 8)
    assert train("--resume", run, "--steps", 8, "--force") == 0
    assert train("--resume", run, "--steps", 9) == 0  # the checkpoint has this loss now
