"""What a command line is taken to mean, before anything is trained."""

from __future__ import annotations

import json
import pickle
import shutil
from pathlib import Path

import pytest
import torch

from engine.checkpoint import load
from engine.distributed import World
from engine.errors import UserError
from engine.runs import checkpoints
from gan import setup as launch
from gan.config import read_info
from gan.setup import load_data, make_plan


@pytest.fixture
def on_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine with one CUDA device, as far as a plan can see."""
    monkeypatch.setattr(launch, "choose_device", lambda _: torch.device("cuda"))
    monkeypatch.setattr(launch, "choose_precision", lambda *_: "bfloat16")
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)


def test_a_cpu_takes_the_light_preset():
    settings = make_plan(["faces", "--device", "cpu"]).settings
    assert (settings.generator_widths, settings.batch_size) == ((250, 150, 90, 54), 96)


@pytest.mark.usefixtures("on_gpu")
def test_a_gpu_takes_the_paper_preset_unless_told_otherwise():
    settings = make_plan(["faces"]).settings
    assert (settings.generator_widths, settings.batch_size) == ((1024, 512, 256, 128), 128)
    settings = make_plan(["faces", "--preset", "light"]).settings
    assert (settings.generator_widths, settings.batch_size) == ((250, 150, 90, 54), 96)


@pytest.mark.parametrize(
    ("words", "end"),
    [
        ([], (None, 15)),
        (["--steps", "20"], (20, None)),
        (["faces"], (7000, None)),
        (["faces", "--minutes", "3"], (None, 3)),
        (["faces", "--minutes", "3", "--steps", "20"], (20, 3)),
    ],
)
def test_a_run_ends_by_itself(words, end):
    settings = make_plan([*words, "--device", "cpu", "--precision", "float32"]).settings
    assert (settings.steps, settings.minutes) == end


@pytest.mark.parametrize(
    ("words", "images", "negatives"),
    [
        ([], 32, 0),
        (["--batch-size", "8", "--negatives", "0.5"], 8, 0.5),
        (["--preset", "light"], 96, 0.25),
        (["--minutes", "60"], 32, 0),
        (["faces"], 96, 0.25),
    ],
)
def test_drawn_faces_are_learnt_in_a_form_for_a_short_run_unless_told_otherwise(words, images, negatives):
    settings = make_plan([*words, "--device", "cpu", "--precision", "float32"]).settings
    assert (settings.batch_size, settings.negatives) == (images, negatives)


@pytest.mark.usefixtures("on_gpu")
def test_a_gpu_learns_drawn_faces_as_it_does_photos():
    settings = make_plan([]).settings
    assert (settings.batch_size, settings.negatives) == (128, 0.25)


@pytest.mark.parametrize(
    ("words", "processes", "least"),
    [
        ([], 24, None),
        ([], 32, 32),
        (["--negatives", "0.01"], 1, 2),
        (["--normalisation", "layer"], 32, None),
        (["--negatives", "0"], 32, None),
    ],
)
def test_batch_norm_never_has_but_one_negative_to_compare(words, processes, least):
    world = World()
    world.size = world.local_size = processes
    given = ["faces", "--device", "cpu", "--precision", "float32", "--normalisation", "batch", *words]
    if least is None:
        make_plan(given, world)
        return
    told = rf"need {least} negatives or more.*: give more, or --negatives 0$"
    with pytest.raises(UserError, match=told):
        make_plan(given, world)


def test_a_setting_put_into_an_older_runs_config_is_noticed(tiny_run, tmp_path):
    run = Path(shutil.copytree(tiny_run, tmp_path / tiny_run.name))
    path = checkpoints(run)[-1]
    state = load(path, mapped=False)
    del state["settings"]["negatives"]  # as checkpoints of before have none
    torch.save(state, path)
    with pytest.raises(UserError, match=r"config\.json has another --negatives than"):
        make_plan(["--resume", str(run)])


@pytest.mark.parametrize(
    ("words", "told"), [(["--preset", "paper"], "--preset"), (["--preset", "plain"], "--preset")]
)
def test_a_preset_of_other_networks_than_those_begun_with_is_refused(tiny_run, words, told):
    with pytest.raises(UserError, match=rf"^{told} requires other networks than those of "):
        make_plan(["faces", "--init-from", str(tiny_run), *words])


def test_resumed_run_keeps_the_split_of_before_near_duplicates(tiny_run, tmp_path):
    run = Path(shutil.copytree(tiny_run, tmp_path / tiny_run.name))
    folder = Path(read_info(run).data["folder"])
    assert load_data(make_plan(["--resume", str(run)]), folder)[0].near_duplicates == 0
    config = json.loads((run / "config.json").read_text())
    del config["data"]["near_duplicates"]
    (run / "config.json").write_text(json.dumps(config))
    assert load_data(make_plan(["--resume", str(run)]), folder)[0].near_duplicates is None


def test_a_plan_reaches_the_other_processes():
    plan = make_plan(["faces", "--device", "cpu", "--precision", "float32"])
    assert pickle.loads(pickle.dumps(plan)) == plan
