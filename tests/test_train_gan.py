"""train_gan.py as its user has it, mostly called in this process; killed and interrupted in others."""

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from gan.checkpoint import load, load_generator
from gan.errors import UserError
from gan.images import load_png
from gan.latent import draw
from gan.runs import (
    checkpoint_path,
    checkpoints,
    find_checkpoint,
    new_run,
    read_info,
    sample_path,
    samples,
    step_of,
)
from gan.trainer import Trainer
from tests.conftest import ROOT, TINY
from tests.in_process import call

FORMS = {
    "default": (),
    "default, bfloat16": ("--precision", "bfloat16"),
    "plain, in turn": ("--plain", "--updates", "separate"),
}
UNEVEN = ("--batch-size", 7, "--log-every", 3, "--sample-every", 6, "--checkpoint-every", 5)
"""Of 24 images: no save at a log, nor at the end of an epoch."""


class Killed(BaseException):
    """The end of a process, as far as a test in one process can have it."""


def kill_at(step: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the training die in the middle of a step, once."""
    whole = Trainer.step

    def dying(self: Trainer) -> None:
        whole(self)
        if self.step_count == step:
            monkeypatch.setattr(Trainer, "step", whole)
            raise Killed

    monkeypatch.setattr(Trainer, "step", dying)


def newest() -> Path:
    return max(Path("outputs").iterdir())


def config(run: Path) -> dict:
    return json.loads((run / "config.json").read_text(encoding="utf-8"))


def lines(run: Path) -> list[dict]:
    """The lines of metrics.jsonl without the speed, which no two runs share."""
    read = [json.loads(line) for line in (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    return [{name: value for name, value in line.items() if not name.startswith("speed")} for line in read]


def steps(paths: list[Path]) -> list[int]:
    return [step_of(path) for path in paths]


def assert_equal(left, right) -> None:
    """Nested states, to the last bit."""
    if isinstance(left, dict):
        assert left.keys() == right.keys()
        for key in left:
            assert_equal(left[key], right[key])
    elif isinstance(left, list | tuple):
        assert len(left) == len(right)
        for one, other in zip(left, right, strict=True):
            assert_equal(one, other)
    elif isinstance(left, torch.Tensor):
        assert left.dtype == right.dtype
        assert torch.equal(left, right)
    else:
        assert left == right


def assert_same_run(run: Path, other: Path) -> None:
    """The same weights of all networks, optimizers, losses, samples and curves, each step once."""
    assert_equal(load(checkpoints(run)[-1]), load(checkpoints(other)[-1]))
    assert lines(run) == lines(other)
    assert steps(samples(run)) == steps(samples(other))
    for one, two in zip(samples(run), samples(other), strict=True):
        assert np.array_equal(load_png(one), load_png(two))
    for one in (run, other):
        board = EventAccumulator(str(one), {"scalars": 0, "images": 0}).Reload()
        for name in set(lines(one)[0]) - {"step"}:
            points = [(point.step, point.value) for point in board.Scalars(name)]
            told = [(line["step"], pytest.approx(line[name], rel=1e-6)) for line in lines(one)]
            assert sorted(points) == told
        assert sorted(image.step for image in board.Images("samples")) == steps(samples(one))


@pytest.mark.parametrize("form", FORMS)
def test_a_killed_run_goes_on_bit_for_bit(pictures, train, monkeypatch, form):
    words = (pictures, *FORMS[form], *UNEVEN, "--steps", 16)
    train(*words, "--name", "straight")
    kill_at(14, monkeypatch)
    with pytest.raises(Killed):
        train(*words, "--name", "killed")
    straight, killed = sorted(Path("outputs").iterdir())
    assert steps(checkpoints(killed)) == [5, 10]
    assert lines(killed)[-1]["step"] == 12  # beyond the checkpoint: to be cut
    assert steps(samples(killed)) == [0, 6, 12]
    with (killed / "metrics.jsonl").open("a") as file:
        file.write('{"step": 13, "loss/dis')
    assert train("--resume") == 0
    assert_same_run(straight, killed)
    assert config(killed)["settings"] == config(straight)["settings"] | {"name": "killed"}


def started(*words: object, folder: Path, program: str | None = None) -> subprocess.Popen[str]:
    """Start train_gan.py in another process."""
    command = [sys.executable, *(["-c", program] if program else [ROOT / "train_gan.py"]), *map(str, words)]
    return subprocess.Popen(
        command,
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def wait_until(seen: Callable[[], bool], process: subprocess.Popen[str]) -> None:
    for _ in range(6_000):
        if seen():
            return
        assert process.poll() is None, process.communicate()
        time.sleep(0.02)
    raise AssertionError("it does not come")


def run_in(folder: Path) -> Path | None:
    return max((folder / "outputs").glob("0*"), default=None)


def test_kill_9_in_another_process_and_a_resume_in_this_one(pictures, train, tmp_path):
    words = (pictures, *UNEVEN, "--sample-every", 8, "--keep", 2)
    process = started(*TINY, *words, "--steps", 100_000, folder=tmp_path)

    def beyond_a_checkpoint() -> bool:
        run = run_in(tmp_path)
        if run is None or not (saved := checkpoints(run)):
            return False
        logged = (run / "metrics.jsonl").read_text().rpartition('{"step": ')[2].partition(",")[0]
        return logged.isdigit() and int(logged) > step_of(saved[-1])

    wait_until(beyond_a_checkpoint, process)
    process.kill()
    assert process.wait() == -signal.SIGKILL
    process.communicate()
    killed = run_in(tmp_path)
    end = step_of(checkpoints(killed)[-1]) + 6
    assert train("--resume", killed, "--steps", end) == 0
    assert train(*words, "--steps", end, "--name", "straight") == 0
    assert_same_run(newest(), killed)
    assert not list((killed / "checkpoints").glob(".*"))


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_ctrl_c_and_sigterm_finish_the_step_save_and_say_where(pictures, train, tmp_path, number, code):
    process = started(pictures, *TINY, "--checkpoint-every", 100_000, "--steps", 100_000, folder=tmp_path)
    wait_until(lambda: (run := run_in(tmp_path)) is not None and bool(samples(run)), process)
    process.send_signal(number)
    out, error = process.communicate(timeout=60)
    assert process.returncode == code
    assert "Traceback" not in error
    run = run_in(tmp_path)
    (saved,) = checkpoints(run)
    assert f"saved in {saved.relative_to(tmp_path)}" in out
    assert step_of(saved) == steps(samples(run))[-1]
    assert train("--resume", run, "--steps", step_of(saved) + 1) == 0
    assert step_of(checkpoints(run)[-1]) == step_of(saved) + 1


def test_a_second_ctrl_c_leaves_at_once(pictures, tmp_path):
    program = (
        "import time; from pathlib import Path; from gan.trainer import Trainer\n"
        "def step(self): Path('stepping').touch(); time.sleep(600)\n"
        "Trainer.step = step\n"
        "import train_gan; from gan.errors import run_script; run_script(train_gan.main)"
    )
    process = started(pictures, *TINY, folder=tmp_path, program=program)
    wait_until((tmp_path / "stepping").exists, process)
    process.send_signal(signal.SIGINT)
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(0.5)
    process.send_signal(signal.SIGINT)
    assert process.wait(20) == -signal.SIGINT
    process.communicate()


def test_what_a_run_leaves(pictures, train, capsys):
    assert train(pictures, "--steps", 5, "--seed", 4, "--name", "my faces") == 0
    run = newest()
    assert run.name == "0001-my-faces-32px"
    assert sorted(path.name for path in run.iterdir() if "tfevents" not in path.name) == [
        *(".lock", "checkpoints", "config.json", "metrics.jsonl", "real.png", "samples", "skipped.txt")
    ]
    assert len(list(run.glob("events.out.tfevents.*"))) == 1
    assert steps(samples(run)) == [0, 2, 4, 5]
    assert steps(checkpoints(run)) == [2, 4, 5]
    assert [line["step"] for line in lines(run)] == [1, 2, 3, 4, 5]
    info = config(run)
    assert info["settings"]["seed"] == 4
    assert (info["data"]["images"], info["data"]["folder"]) == (24, str(pictures))
    assert {"torch", "python", "threads", "instruction_set"} <= set(info["environment"])
    out = capsys.readouterr().out
    assert "24 images from" in out
    assert f"saved in {checkpoint_path(run, 5)}" in out
    assert load_png(run / "real.png").shape == (3, 3 * 34 - 2, 8 * 34 - 2)
    assert load_png(sample_path(run, 0)).shape == (3, 8 * 34 - 2, 8 * 34 - 2)


def test_sample_every_step_and_minutes(pictures, train):
    assert train(pictures, "--minutes", 0.004, "--sample-every", 1) == 0
    last = step_of(checkpoints(newest())[-1])
    assert steps(samples(newest())) == list(range(last + 1))


def test_two_starts_never_share_a_folder_and_a_seed_makes_them_equal(pictures, train):
    for seed in (1, 1, 2):
        train(pictures, "--steps", 3, "--seed", seed)
    one, same, other = sorted(Path("outputs").iterdir())
    assert [run.name[:4] for run in (one, same, other)] == ["0001", "0002", "0003"]
    assert_same_run(one, same)
    assert lines(one) != lines(other)
    assert not np.array_equal(load_png(sample_path(one, 0)), load_png(sample_path(other, 0)))


def test_starts_at_the_same_moment_have_folders_and_numbers_of_their_own(tmp_path):
    made: list[Path] = []
    barrier = threading.Barrier(8)

    def start() -> None:
        barrier.wait()
        made.extend(new_run(tmp_path, "faces", 32) for _ in range(10))

    threads = [threading.Thread(target=start) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({run.name[:4] for run in made}) == len(made) == 80


@pytest.fixture
def run(tiny_run, pictures, train, tmp_path) -> Path:
    """A run of 6 steps to go on with, in the folder where `train` finds it."""
    return Path(shutil.copytree(tiny_run, tmp_path / "outputs" / tiny_run.name))


OTHERS = [
    ("--batch-size", 6),
    ("--seed", 9),
    ("--learning-rate", 1e-3),
    ("--beta1", 0.9),
    ("--weight-decay", 0.1),
    ("--updates", "separate"),
    ("--ema-half-life", 5),
    ("--precision", "bfloat16"),
]


def test_settings_that_change_the_mathematics_are_refused_by_name(run, train):
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    for flag, value in OTHERS:
        with pytest.raises(UserError, match=f"another {flag};"):
            train("--resume", run, "--steps", 8, flag, value)
    with pytest.raises(UserError, match="another --seed, --learning-rate, --flip;"):
        train("--resume", run, "--no-flip", "--learning-rate", 1, "--seed", 5)
    assert {path: path.read_bytes() for path in run.rglob("*") if path.is_file()} == before


def test_force_lets_them_and_they_count(run, train):
    words = [str(word) for flag, value in OTHERS for word in (flag, value)]
    assert train("--resume", run, "--steps", 8, "--force", *words) == 0
    assert config(run)["settings"]["learning_rate"] == 1e-3
    (group,) = load(checkpoint_path(run, 8))["generator_optimizer"]["param_groups"]
    assert (group["lr"], group["betas"], group["weight_decay"]) == (1e-3, (0.9, 0.999), 0.1)


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
    with pytest.raises(UserError, match=f"another {words[0]}: leave that out"):
        train("--resume", run, "--steps", 8, "--force", *words)


def test_what_does_not_change_the_mathematics_is_welcome(run, train):
    words = ("--log-every", 2, "--sample-every", 3, "--checkpoint-every", 4, "--keep", 1, "--workers", 0)
    assert train("--resume", run.name, "--steps", 9, *words) == 0
    assert steps(checkpoints(run)) == [9]
    assert [line["step"] for line in lines(run)] == [1, 2, 3, 4, 5, 6, 8]


def test_a_finished_run_says_so(run, train):
    with pytest.raises(UserError, match=r"is at its end, step 6 of 6.*--steps"):
        train("--resume", run)


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
    with pytest.raises(UserError, match=r"has changed since .*24 images then, 25 now"):
        train("--resume", run, "--steps", 8)
    assert train("--resume", run, "--steps", 8, "--force") == 0
    assert config(run)["data"]["images"] == 25


def test_a_damaged_newest_checkpoint_is_told_and_the_one_before_taken(run, train, capsys):
    whole = load(checkpoint_path(run, 6), mapped=False)
    checkpoint_path(run, 6).write_bytes(checkpoint_path(run, 6).read_bytes()[:5000])
    assert train("--resume", run) == 0
    out = capsys.readouterr().out
    assert f"warning: {checkpoint_path(run, 6)} is damaged" in out
    assert f"going on from {checkpoint_path(run, 4)}" in out
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
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    source = load(checkpoints(run)[-1], mapped=False)
    assert train(few, "--init-from", run.name, "--steps", 1, "--batch-size", 10, "--seed", 8) == 0
    begun = newest()
    assert begun.name == "0002-ten-32px"
    named = checkpoint_path(Path("outputs", run.name), 6)
    assert f"beginning with the networks of {named}" in capsys.readouterr().out
    after = load(checkpoints(begun)[-1])
    for network in ("generator", "discriminator"):
        for name, weight in source[network].items():
            if name.endswith("weight") and weight.dim() > 1:
                assert (after[network][name] - weight).abs().max() <= 1.001e-4  # one step of Adam
    assert after["generator_optimizer"]["state"][0]["step"] == 1
    assert steps(samples(begun)) == [0, 1]
    assert {path: path.read_bytes() for path in run.rglob("*") if path.is_file()} == before


@pytest.mark.parametrize("words", [("--normalisation", "none"), ("--image-size", 64), ("--latent-size", 9)])
def test_networks_unlike_those_begun_with_are_refused_by_name(run, train, pictures, words):
    with pytest.raises(UserError, match=rf"the networks of .* have another {words[0]}"):
        train(pictures, "--init-from", run, *words)
    with pytest.raises(UserError, match=r"--resume .*--init-from"):
        train(pictures, "--init-from", run, "--resume", run)


def test_dry_run_tells_and_writes_no_run(pictures, train, capsys):
    assert train(pictures, "--dry-run") == 0
    out = capsys.readouterr().out
    parts = ("generator", "discriminator", "parameters", "memory", "24 images", "float32", "12 x 2 x 2")
    for part in parts:
        assert part in out
    assert not Path("outputs").exists()


@pytest.mark.parametrize(
    ("size", "form"),
    [(32, "default"), (64, "plain, in turn"), (96, "default"), (128, "plain, in turn")],
)
def test_image_sizes_train_sample_and_resume(pictures, train, tmp_path, size, form):
    large = tmp_path / "large"
    large.mkdir()
    for path in pictures.iterdir():
        Image.open(path).resize((size, size)).save(large / path.name)
    widths = ("--generator-widths", 4, 4, 4, 4, "--discriminator-widths", 4, 4, 4, 4)
    words = ("--image-size", size, *widths, *FORMS[form], "--sample-every", 100, "--histogram-every", 100)
    assert train(large, *words, "--steps", 1) == 0
    assert train("--resume", "--steps", 2) == 0
    run = newest()
    assert run.name.endswith(f"{size}px")
    assert load_png(samples(run)[-1]).shape == (3, 8 * (size + 2) - 2, 8 * (size + 2) - 2)
    generator = load_generator(run)
    assert (generator.step, generator.weights) == (2, "ema" if form == "default" else "raw")
    assert generator.images(draw(2, 100, 0)).shape == (2, 3, size, size)


def test_a_wrong_size_is_refused_with_the_nearest_good_ones(pictures, train):
    with pytest.raises(UserError, match=r"multiple of 16 .* not 50; nearest: 48 or 64"):
        train(pictures, "--image-size", 50)


def test_fewer_images_than_the_batch_are_said_and_fewer_than_8_refused(pictures, train, tmp_path, capsys):
    few = tmp_path / "few"
    few.mkdir()
    for path in sorted(pictures.iterdir())[:9]:
        shutil.copy(path, few)
    assert train(few, "--batch-size", 64, "--steps", 1) == 0
    assert "batch size 9 instead of 64" in capsys.readouterr().out
    assert config(newest())["settings"]["batch_size"] == 9
    assert train("--resume", "--steps", 2) == 0
    for path in sorted(few.iterdir())[:2]:
        path.unlink()
    with pytest.raises(UserError, match="holds 7 usable images; training needs 8"):
        train(few, "--steps", 1)


def test_a_hostile_folder_is_trained_on_with_what_is_good_in_it(pictures, train, tmp_path, capsys):
    folder = Path(shutil.copytree(pictures, tmp_path / "лица и другое"))
    picture = (folder / "00.png").read_bytes()
    (folder / "empty.png").write_bytes(b"")
    (folder / "cut short.png").write_bytes(picture[: len(picture) // 2])
    (folder / "no image.jpg").write_text("not at all")
    (folder / "again.png").write_bytes(picture)
    Image.new("RGB", (5, 5)).save(folder / "small.png")
    output = tmp_path / "мои прогоны" / "здесь"
    assert train(folder, "--steps", 2, "--output", output) == 0
    out = capsys.readouterr().out
    assert "25 images from" in out
    assert "4 files left out" in out
    assert "1 exact duplicate" in out
    (run,) = output.iterdir()
    assert run.name == "0001-лица-и-другое-32px"
    skipped = (run / "skipped.txt").read_text(encoding="utf-8").splitlines()
    left_out = ["cut short.png", "empty.png", "no image.jpg", "small.png"]
    assert [line.split("\t")[0] for line in skipped] == left_out
    assert train("--resume", "--output", output, "--steps", 3) == 0
    assert steps(checkpoints(run))[-1] == 3


def test_a_folder_that_gives_no_image_is_one_line(train, tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").write_text("text")
    for name in ("empty", "file", "missing"):
        with pytest.raises(UserError, match=name) as told:
            train(tmp_path / name, "--steps", 1)
        assert "\n" not in str(told.value)
    assert not Path("outputs").exists()


def test_a_run_that_diverges_ends_with_its_own_code_and_resumes_from_before(
    pictures, train, monkeypatch, capsys
):
    whole = Trainer.step

    def poisoned(self: Trainer) -> None:
        whole(self)
        if self.step_count == 5:
            with torch.no_grad():
                self.generator.project.weight[0, 0] = float("nan")

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "step", poisoned)
        assert train(pictures, "--steps", 50, "--log-every", 4, "--checkpoint-every", 4) == 3
    assert "NaN or infinite at step 6" in capsys.readouterr().err
    assert steps(checkpoints(newest())) == [4]
    assert train("--resume", "--steps", 8) == 0
    assert steps(checkpoints(newest())) == [4, 8]


def test_mistakes_are_one_line_and_code_2(pictures, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for words, said in [
        ((pictures, "--resume", "nowhere"), "nowhere is no run"),
        ((tmp_path / "no faces",), "no faces"),
        ((pictures, "--image-size", "33"), "32 or 48"),
        ((pictures, "--stpes", "3"), "--stpes"),
    ]:
        done = call("train_gan.py", *words)
        assert done.code == 2
        assert done.error.startswith("error: ")
        assert said in done.error
        assert done.error.count("\n") == 1


def test_an_output_folder_that_cannot_be_made_is_one_line(pictures, train, tmp_path):
    (tmp_path / "taken").write_text("a file")
    with pytest.raises(UserError, match="taken"):
        train(pictures, "--steps", 1, "--output", tmp_path / "taken")


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is nothing to do without")
def test_it_does_without_fork_and_without_workers(pictures, train, monkeypatch):
    monkeypatch.setattr(os, "fork", None)
    assert train(pictures, "--steps", 2, "--workers", 0) == 0


def test_without_a_folder_it_draws_faces_and_says_so(train, capsys, monkeypatch):
    import train_gan

    monkeypatch.setattr(train_gan, "DRAWN_COUNT", 12)
    assert train("--steps", 1) == 0
    told = capsys.readouterr().out
    assert "drawn faces" in told
    assert "train_gan.py FOLDER" in told
    assert "12 images" in told


def test_a_new_end_replaces_one_of_the_other_kind(pictures, train):
    assert train(pictures, "--steps", 2) == 0
    assert train("--resume", "--minutes", 0.02) == 0
    settings = read_info(newest()).settings
    assert (settings.steps, settings.minutes) == (None, 0.02)
    assert step_of(find_checkpoint(newest(), None)) > 2


def test_what_only_chooses_a_new_runs_settings_is_refused_at_resume(pictures, train):
    assert train(pictures, "--steps", 2) == 0
    for words in (["--plain"], ["--preset", "paper"]):
        with pytest.raises(UserError, match="has its own"):
            train("--resume", "--steps", 4, "--force", *words)
