"""What a command line decides before anything is trained."""

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
from engine.settings import to_json
from gan import setup
from gan.config import NETWORK_SETTINGS, read_info
from gan.setup import load_data, make_plan

ON_CPU = ("--device", "cpu", "--precision", "float32")
BATCH_OF_96 = ("--batch-size", "96")
EVENING, QUICK = (512, 256, 128, 64), (192, 128, 64, 32)


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine that appears to have one CUDA device."""
    monkeypatch.setattr(setup, "choose_device", lambda _: torch.device("cuda"))
    monkeypatch.setattr(setup, "choose_precision", lambda *_: "bfloat16")
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)


@pytest.mark.parametrize(
    ("argv", "widths", "batch_size", "pack", "negatives"),
    [
        (["faces"], EVENING, 48, 2, 0.25),
        (["faces", "--preset", "quick"], QUICK, 32, 2, 0.25),
        ([], QUICK, 32, 1, 0),
        (["--minutes", "60"], QUICK, 32, 1, 0),
        (["--batch-size", "8", "--pack", "4", "--negatives", "0.5"], QUICK, 8, 4, 0.5),
        (["--preset", "evening"], EVENING, 48, 1, 0),
    ],
)
def test_photos_take_the_preset_evening_and_drawn_faces_the_quick_one(
    argv, widths, batch_size, pack, negatives
):
    settings = make_plan([*argv, *ON_CPU]).settings
    assert (settings.generator_widths, settings.batch_size) == (widths, batch_size)
    assert (settings.pack, settings.negatives) == (pack, negatives)


@pytest.mark.usefixtures("gpu")
@pytest.mark.parametrize(
    ("argv", "widths", "batch_size"),
    [(["faces"], EVENING, 48), ([], QUICK, 32), (["faces", "--preset", "quick"], QUICK, 32)],
)
def test_a_gpu_takes_the_presets_of_a_cpu_whose_quality_was_measured(argv, widths, batch_size):
    settings = make_plan(argv).settings
    assert (settings.generator_widths, settings.batch_size) == (widths, batch_size)


@pytest.mark.parametrize(("argv", "widths", "batch_size"), [(["faces"], EVENING, 48), ([], QUICK, 32)])
def test_an_apple_gpu_takes_the_presets_of_a_cpu(monkeypatch, argv, widths, batch_size):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    plan = make_plan(argv)
    assert (plan.device.type, plan.settings.precision) == ("mps", "float32")
    assert (plan.settings.generator_widths, plan.settings.batch_size) == (widths, batch_size)


@pytest.mark.usefixtures("gpu")
def test_more_processes_than_gpus_are_refused():
    world = World()
    world.size = world.local_size = 2
    with pytest.raises(UserError, match=r"^2 processes for 1 GPU: give torchrun --nproc-per-node 1"):
        make_plan(["faces"], world)


@pytest.mark.parametrize(
    ("argv", "end"),
    [
        ([], (None, 15)),
        (["--steps", "20"], (20, None)),
        (["faces"], (14000, None)),
        (["faces", "--minutes", "3"], (None, 3)),
        (["faces", "--minutes", "3", "--steps", "20"], (20, 3)),
    ],
)
def test_every_run_has_an_end(argv, end):
    settings = make_plan([*argv, *ON_CPU]).settings
    assert (settings.steps, settings.minutes) == end


@pytest.mark.parametrize(
    ("argv", "processes", "message"),
    [
        ([*BATCH_OF_96, "--normalisation", "batch"], 12, None),
        (
            [*BATCH_OF_96, "--normalisation", "batch"],
            16,
            r"need 32 negatives or more.*: give more, or --negatives 0$",
        ),
        (
            [*BATCH_OF_96, "--normalisation", "batch", "--negatives", "0.02"],
            1,
            "D, the statistics need 4 negatives or more",
        ),
        ([*BATCH_OF_96, "--normalisation", "batch", "--negatives", "0"], 24, None),
        ([*BATCH_OF_96, "--normalisation", "layer"], 32, None),
        (["--batch-size", "6"], 4, "--batch-size 6 is too small for 4 processes: it must be 8 or more"),
    ],
)
def test_no_process_gets_a_single_image_or_negative(argv, processes, message):
    world = World()
    world.size = world.local_size = processes
    argv = ["faces", *ON_CPU, *argv]
    if message is None:
        make_plan(argv, world)
    else:
        with pytest.raises(UserError, match=message):
            make_plan(argv, world)


def test_fewer_images_than_a_pack_are_refused(pictures, tmp_path):
    for picture in sorted(pictures.glob("*"))[:9]:
        shutil.copy(picture, tmp_path)
    argv = [
        "--image-size",
        "32",
        "--pack",
        "16",
        "--workers",
        "0",
        "--cache",
        str(tmp_path / "cache"),
        *ON_CPU,
    ]
    plan = make_plan([str(tmp_path), *argv])
    with pytest.raises(UserError, match="leaves 7 images to train on, fewer than --pack 16"):
        load_data(plan, tmp_path)


def test_a_setting_missing_from_an_old_checkpoint_is_compared_with_its_old_value(tiny_run, tmp_path):
    run = Path(shutil.copytree(tiny_run, tmp_path / tiny_run.name))
    path = checkpoints(run)[-1]
    state = load(path, mapped=False)
    del state["settings"]["negatives"]
    torch.save(state, path)
    with pytest.raises(UserError, match=r"config\.json has another --negatives than"):
        make_plan(["--resume", str(run)])


@pytest.mark.parametrize("preset", ["evening", "textbook"])
def test_a_preset_with_other_networks_than_the_source_is_refused(tiny_run, preset):
    with pytest.raises(UserError, match=r"^--preset requires other networks than those of "):
        make_plan(["faces", "--init-from", str(tiny_run), "--preset", preset])


def test_the_preset_of_a_run_on_drawn_faces_has_its_networks(tiny_run, tmp_path, monkeypatch):
    run = Path(shutil.copytree(tiny_run, tmp_path / "0001-drawn"))
    config = json.loads((run / "config.json").read_text())
    drawn = to_json(make_plan([*ON_CPU]).settings)
    config["settings"] |= {name: drawn[name] for name in NETWORK_SETTINGS}
    (run / "config.json").write_text(json.dumps(config))
    monkeypatch.setattr(setup, "_check_checkpoint", lambda *_, **__: None)  # it is of other networks
    plan = make_plan(["--preset", "quick", "--init-from", str(run), *ON_CPU])
    assert (plan.settings.generator_widths, plan.settings.pack) == (QUICK, 1)


def test_resumed_run_keeps_the_split_of_before_near_duplicates(tiny_run, tmp_path):
    run = Path(shutil.copytree(tiny_run, tmp_path / tiny_run.name))
    folder = Path(read_info(run).data["folder"])
    assert load_data(make_plan(["--resume", str(run), "--steps", "7"]), folder)[0].near_duplicates == 0
    config = json.loads((run / "config.json").read_text())
    del config["data"]["near_duplicates"]
    (run / "config.json").write_text(json.dumps(config))
    assert load_data(make_plan(["--resume", str(run), "--steps", "7"]), folder)[0].near_duplicates is None


def test_the_source_of_a_run_is_found_from_any_working_directory(tiny_run, monkeypatch):
    monkeypatch.chdir(tiny_run.parent)
    folder = Path(read_info(tiny_run).data["folder"])
    plan = make_plan([str(folder), "--init-from", tiny_run.name, *ON_CPU])
    data, plan = load_data(plan, folder)
    assert setup._data_facts(plan, data)["begun_from"] == str(tiny_run.absolute())


def test_a_plan_reaches_the_other_processes():
    plan = make_plan(["faces", "--device", "cpu", "--precision", "float32"])
    assert pickle.loads(pickle.dumps(plan)) == plan
