"""Going on with a run, or from another's networks: what is allowed, what is refused, what is said."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from filelock import FileLock
from PIL import Image

from engine.checkpoint import load
from engine.errors import UserError
from engine.lock import locked
from engine.runs import best_path, checkpoint_path, checkpoints, find_checkpoint, sample_grids, step_of
from gan.config import read_info
from gan.loop import GanLoop
from tests.in_process import call
from tests.run_contents import config, lines, newest, steps
from tests.states import assert_equal


def edit(run: Path, **settings: object) -> None:
    """Change settings in a run's config.json, as with a text editor."""
    values = config(run)
    values["settings"].update(settings)
    (run / "config.json").write_text(json.dumps(values), encoding="utf-8")


@pytest.fixture
def run(tiny_run, pictures, train, tmp_path) -> Path:
    """A run of 6 steps to go on with, in the folder where `train` finds it."""
    return Path(shutil.copytree(tiny_run, tmp_path / "outputs" / tiny_run.name))


def contents(run: Path) -> dict[Path, bytes]:
    """Every file of a run."""
    return {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}


OTHERS = [
    ("--batch-size", 6),
    ("--seed", 9),
    ("--learning-rate", 1e-3),
    ("--beta2", 0.9),
    ("--augmentation", "always"),
    ("--ema-half-life", 5),
    ("--precision", "bfloat16"),
]


def test_settings_that_change_the_mathematics_are_refused_by_name(run, train):
    before = contents(run)
    for flag, value in OTHERS:
        with pytest.raises(UserError, match=f"different {flag},"):
            train("--resume", run, "--steps", 8, flag, value)
    with pytest.raises(UserError, match="different --seed, --learning-rate, --flip,"):
        train("--resume", run, "--no-flip", "--learning-rate", 1, "--seed", 5)
    assert contents(run) == before


def test_force_lets_them_and_they_count(run, train):
    words = [str(word) for flag, value in OTHERS for word in (flag, value)]
    assert train("--resume", run, "--steps", 8, "--force", *words) == 0
    assert config(run)["settings"]["learning_rate"] == 1e-3
    (group,) = load(checkpoint_path(run, 8))["generator_optimizer"]["param_groups"]
    assert (group["lr"], group["betas"]) == (1e-3, (0.5, 0.9))


@pytest.mark.parametrize(
    "words",
    [
        ("--image-size", "48"),
        ("--generator-widths", "12", "10", "8", "7"),
        ("--normalisation", "batch"),
        ("--latent-size", "50"),
    ],
)
def test_other_networks_cannot_be_had_even_by_force(run, train, words):
    with pytest.raises(UserError, match=f"different {words[0]}: omit the change"):
        train("--resume", run, "--steps", 8, "--force", *words)


def test_what_does_not_change_the_mathematics_is_welcome(run, train):
    words = ("--log-every", 2, "--sample-every", 3, "--checkpoint-every", 4, "--keep", 1, "--workers", 0)
    assert train("--resume", run.name, "--steps", 9, *words) == 0
    assert steps(checkpoints(run)) == [9]
    assert [line["step"] for line in lines(run)] == [1, 2, 3, 4, 5, 6, 8]


def test_a_finished_run_says_so(run, train):
    with pytest.raises(UserError, match=r"has reached its last step, 6 of 6.*--steps 12"):
        train("--resume", run)


def test_a_run_in_which_another_process_trains_is_left_alone(run, train):
    with locked(run):
        before = contents(run)
        with pytest.raises(UserError, match="another process is training in"):
            train("--resume", run, "--steps", 8)
        assert contents(run) == before


def test_what_another_process_trains_in_the_last_moment_is_not_trained_again(run, train, monkeypatch):
    """It has the run until this one locks it; only then is it settled where to go on from."""
    acquire = FileLock.acquire
    trained: dict[Path, bytes] = {}

    def late(lock: FileLock) -> object:
        monkeypatch.setattr(FileLock, "acquire", acquire)
        assert train("--resume", run, "--steps", 8) == 0
        trained.update(contents(run))
        return lock.acquire()

    monkeypatch.setattr(FileLock, "acquire", late)
    with pytest.raises(UserError, match="has reached its last step, 8 of 8"):
        train("--resume", run, "--steps", 8)
    assert contents(run) == trained


def test_resuming_finds_the_newest_run_or_says_that_there_is_none(run, train, tmp_path):
    shutil.copytree(run, run.with_name("0007-newer-32px"))
    assert train("--resume", "--steps", 7) == 0
    assert steps(checkpoints(run.with_name("0007-newer-32px")))[-1] == 7
    assert steps(checkpoints(run))[-1] == 6
    assert train("--resume", 1, "--steps", 7) == 0
    assert steps(checkpoints(run))[-1] == 7
    with pytest.raises(UserError, match="no run in"):
        train("--resume", "--output", tmp_path / "elsewhere")


def test_data_that_changed_are_refused_and_data_that_moved_are_not(run, train, pictures, tmp_path):
    moved = Path(shutil.copytree(pictures, tmp_path / "новая папка"))
    assert train(moved, "--resume", run, "--steps", 7) == 0
    assert config(run)["data"]["folder"] == str(moved)
    Image.new("RGB", (40, 40), "red").save(moved / "more.png")
    with pytest.raises(UserError, match=r"have changed since .*24 images then, 25 now"):
        train("--resume", run, "--steps", 8)
    assert train("--resume", run, "--steps", 8, "--force") == 0
    assert config(run)["data"]["images"] == 25


def test_a_damaged_newest_checkpoint_is_told_and_the_one_before_taken(run, train, capsys):
    whole = load(checkpoint_path(run, 6), mapped=False)
    checkpoint_path(run, 6).write_bytes(checkpoint_path(run, 6).read_bytes()[:5000])
    assert train("--resume", run) == 0
    out = capsys.readouterr().out
    assert f"warning: {checkpoint_path(run, 6)} is damaged" in out
    assert f"resuming from {checkpoint_path(run, 4)}" in out
    assert_equal(load(checkpoint_path(run, 6)), whole)
    for path in checkpoints(run):
        path.write_bytes(b"")
    with pytest.raises(UserError, match=r"every checkpoint of .* is damaged"):
        train("--resume", run, "--steps", 8)


def test_a_run_without_a_checkpoint_cannot_be_gone_on_with(run, train):
    shutil.rmtree(run / "checkpoints")
    with pytest.raises(UserError, match="no checkpoint yet"):
        train("--resume", run, "--steps", 8)


def test_another_machine_is_told(run, train, capsys):
    info = (run / "config.json").read_text(encoding="utf-8")
    (run / "config.json").write_text(info.replace('"threads": 1', '"threads": 64'), encoding="utf-8")
    assert train("--resume", run, "--steps", 7) == 0
    assert "threads was 64 and is now 1" in capsys.readouterr().out


def test_a_new_run_begins_with_anothers_networks(run, train, pictures, tmp_path, capsys):
    few = tmp_path / "ten"
    few.mkdir()
    for path in sorted(pictures.iterdir())[:10]:
        shutil.copy(path, few)
    before = contents(run)
    source = load(checkpoints(run)[-1], mapped=False)
    assert train(few, "--init-from", run.name, "--steps", 1, "--batch-size", 10, "--seed", 8) == 0
    begun = newest()
    assert begun.name == "0002-ten-32px"
    named = checkpoint_path(Path("outputs", run.name), 6)
    assert f"starting from the networks of {named}" in capsys.readouterr().out
    after = load(checkpoints(begun)[-1])
    for network in ("generator", "discriminator"):
        for name, weight in source[network].items():
            if name.endswith("weight") and weight.dim() > 1:
                assert (after[network][name] - weight).abs().max() <= 1.001e-4  # one step of Adam
    assert after["generator_optimizer"]["state"][0]["step"] == 1
    assert steps(sample_grids(begun)) == [0, 1]
    assert contents(run) == before


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
    told = capsys.readouterr().out
    assert "best.pt is damaged and ignored" in told
    assert f"starting from the networks of {checkpoint_path(run, 6)}" in told


def test_networks_that_cannot_be_read_begin_no_run(run, train, pictures):
    for path in checkpoints(run):
        path.write_bytes(b"")
    with pytest.raises(UserError, match=r"every checkpoint of .* is damaged"):
        train(pictures, "--init-from", run, "--steps", 1)
    assert list(Path("outputs").iterdir()) == [Path("outputs", run.name)]


@pytest.mark.parametrize("words", [("--normalisation", "none"), ("--image-size", 64), ("--latent-size", 9)])
def test_networks_unlike_those_begun_with_are_refused_by_name(run, train, pictures, words):
    with pytest.raises(UserError, match=rf"the network of .* was trained with a different {words[0]}"):
        train(pictures, "--init-from", run, *words)
    with pytest.raises(UserError, match=r"--resume .*--init-from"):
        train(pictures, "--init-from", run, "--resume", run)


@pytest.mark.parametrize(
    ("edited", "message"),
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
def test_a_config_that_was_edited_is_one_line_and_nothing_is_lost(run, pictures, edited, message):
    edit(run, **edited)
    before = contents(run)
    for words in (("--resume", run, "--steps", 8, "--force"), (pictures, "--init-from", run)):
        code, _, error = call("train_gan.py", *words, "--device", "cpu")
        assert code == 2
        assert message in error
        assert run.name in error
        assert error.count("\n") == 1
    assert contents(run) == before
    assert list(Path("outputs").iterdir()) == [Path("outputs", run.name)]
    assert not Path("data").exists()  # seen before anything is decoded


EDITED = {"beta2": 0.5, "augmentation": "none", "head_scale": 1.0, "seed": 9}


def test_mathematics_edited_in_the_config_are_refused_by_name(run, train):
    edit(run, **EDITED, log_every=3)
    before = contents(run)
    with pytest.raises(UserError, match="json has another") as told:
        train("--resume", run, "--steps", 8)
    assert str(told.value).startswith(
        f"{run}/config.json has another --seed, --head-scale, --beta2, --augmentation than "
        f"{checkpoint_path(run, 6)} was trained with"
    )
    assert contents(run) == before
    assert train("--resume", run, "--steps", 8, "--force") == 0
    (group,) = load(checkpoint_path(run, 8))["generator_optimizer"]["param_groups"]
    assert group["betas"] == (0.5, 0.5)
    assert train("--resume", run, "--steps", 9) == 0  # what was insisted on is what it is trained with now


def test_a_checkpoint_that_does_not_tell_its_settings_is_gone_on_with(run, train):
    for path in checkpoints(run):
        state = load(path, mapped=False)
        del state["settings"]
        torch.save(state, path)
    assert train("--resume", run, "--steps", 8) == 0
    assert load(checkpoint_path(run, 8))["settings"]["beta2"] == 0.99


def test_a_new_end_replaces_one_of_the_other_kind(pictures, train):
    assert train(pictures, "--steps", 2) == 0
    assert train("--resume", "--minutes", 0.02) == 0
    settings = read_info(newest()).settings
    assert (settings.steps, settings.minutes) == (None, 0.02)
    assert step_of(find_checkpoint(newest(), None)) > 2


def test_what_only_chooses_a_new_runs_settings_is_refused_at_resume(pictures, train):
    assert train(pictures, "--steps", 2) == 0
    for words in (["--preset", "plain"], ["--preset", "paper"]):
        with pytest.raises(UserError, match="has its own"):
            train("--resume", "--steps", 4, "--force", *words)


def test_images_held_out_now_that_were_trained_on_before_are_told(run, pictures, train, capsys):
    before = config(run)["data"]["held_out"]
    assert train(pictures, "--init-from", run, "--steps", 1) == 0
    assert "scores are too good" not in capsys.readouterr().out
    words = ("--held-out", 0.4, "--steps")
    for more in ((pictures, "--init-from", run, *words, 1), ("--resume", run, "--force", *words, 8)):
        assert train(*more) == 0
        now = config(newest() if "--init-from" in more else run)["data"]["held_out"]
        assert now > before
        told = capsys.readouterr().out
        assert f"was trained on {now - before} of the {now} images held out now" in told
        assert "--held-out 0.05, as there" in told


def test_a_forced_run_that_is_killed_at_once_can_be_gone_on_with(run, train, monkeypatch):
    def killed(*_: object) -> None:
        raise SystemExit(137)

    words = ("--resume", run, "--force", "--learning-rate", 5e-5, "--steps", 8)
    with monkeypatch.context() as patched:
        patched.setattr(GanLoop, "train", killed)
        with pytest.raises(SystemExit):
            train(*words)
    assert train("--resume", run, "--steps", 8) == 0
    assert config(run)["settings"]["learning_rate"] == 5e-5


def test_images_that_may_have_been_trained_on_elsewhere_are_told(run, pictures, train, tmp_path, capsys):
    few = tmp_path / "twenty"
    few.mkdir()
    for path in sorted(pictures.iterdir())[:20]:
        shutil.copy(path, few)
    assert train(few, "--init-from", run, "--steps", 1, "--held-out", 0.5) == 0
    begun = newest()
    assert config(begun)["data"]["begun_from"].endswith(run.name)
    told = capsys.readouterr().out
    assert f"{run.name} was trained on other images. If they include these, it was trained on up to " in told
    assert train("--resume", begun, "--steps", 2) == 0
    assert config(begun)["data"]["begun_from"].endswith(run.name)
