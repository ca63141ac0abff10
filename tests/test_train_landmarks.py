"""train_landmarks.py as its users run it, called in this process."""

import csv
import json
import shutil
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from engine.checkpoint import load
from engine.png import load_png
from engine.runs import best_path, checkpoints, sample_grids, step_of
from faces.landmarks.annotations import read_annotations, write_landmarks
from faces.landmarks.point_set import load_point_set
from faces.landmarks.trainer import LandmarkTrainer
from tests.conftest import LANDMARK_FLAGS, copy_some_annotated
from tests.in_process import call, dying, refusal, succeed
from tests.run_contents import assert_same_results, read_config, read_metrics

refuse = partial(refusal, "train_landmarks.py")
SHORT = (*LANDMARK_FLAGS, "--batch-size", 8, "--steps", 6, "--checkpoint-every", 2, "--log-every", 1)


@pytest.fixture
def folder(drawn_faces, tmp_path, monkeypatch) -> Path:
    """A copy of 30 drawn faces that a test may change; its parent is the working directory."""
    monkeypatch.chdir(tmp_path)
    return copy_some_annotated(drawn_faces, 30, tmp_path / "лица 1")


def train(*argv: object) -> list[str]:
    """The lines printed by a run that must succeed."""
    return succeed("train_landmarks.py", *argv).lines


def newest() -> Path:
    return max(Path("outputs/landmarks").iterdir())


def test_landmarks_are_learned_for_people_held_out(landmark_run):
    scores = [line["score/nme"] for line in read_metrics(landmark_run) if "score/nme" in line]
    # Predicting the mean face gives an error of about 0.18, from the jitter alone.
    assert scores[-1] < 0.10
    assert scores[-1] < scores[0]
    config = read_config(landmark_run)
    assert config["kind"] == "landmarks"
    expected = {"images": 90, "people": 30, "held_out": 27, "point_set": "drawn-29"}
    assert expected.items() <= config["data"].items()


def test_a_run_contains_checkpoints_samples_metrics_and_config(landmark_run):
    names = {path.name for path in landmark_run.iterdir() if "tfevents" not in path.name}
    assert names == {".lock", "checkpoints", "config.json", "metrics.jsonl", "samples", "skipped.txt"}
    assert len(list(landmark_run.glob("events.out.tfevents.*"))) == 1
    assert best_path(landmark_run).is_file()
    assert load_png(sample_grids(landmark_run)[-1]).shape == (3, 3 * 98 - 2, 8 * 98 - 2)
    keys = set().union(*read_metrics(landmark_run))
    assert {"loss/training", "nme/training", "gradient/norm", "rate/learning"} <= keys
    assert {"score/nme", "score/mse", "score/failures"} <= keys


@pytest.mark.parametrize("changes", [(), ("--ema-half-life", 0, "--optimizer", "sgd", "--loss", "areas")])
def test_resuming_a_killed_run_is_bit_exact(folder, changes):
    argv = (folder, *SHORT, "--score-every", 3, *changes)
    train(*argv, "--name", "straight")
    with dying(LandmarkTrainer, 5):
        call("train_landmarks.py", *argv, "--name", "killed")
    straight, killed = sorted(Path("outputs/landmarks").iterdir())
    assert step_of(checkpoints(killed)[-1]) == 4
    assert any("resuming from" in line for line in train("--resume"))
    assert_same_results(straight, killed)
    for pair in zip(sample_grids(straight), sample_grids(killed), strict=True):
        assert np.array_equal(*map(load_png, pair))


def test_resume_refuses_a_finished_run_and_settings_that_change_results(folder):
    train(folder, *SHORT)
    run = newest()
    assert "has reached its last step, 6 of 6" in refuse("--resume")
    assert "different --loss" in refuse("--resume", run, "--loss", "areas")
    assert "different --steps" in refuse("--resume", run.name, "--steps", 9)
    assert "different --score-every" in refuse("--resume", 1, "--score-every", 3)
    assert "different --image-size" in refuse("--resume", 1, "--image-size", 64, "--force")
    train("--resume", run, "--steps", 8, "--force")
    assert step_of(checkpoints(run)[-1]) == 8
    Image.new("RGB", (64, 64)).save(folder / "00000.png")
    assert "have changed since" in refuse("--resume", run)


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("backbone", "resnet18", "was trained with a different --backbone"),
        ("image_size", 64, "was trained with a different --image-size"),
        ("points", "cats-9", "was trained with a different --points"),
        ("backbone", 7, "config.json: the run's setting backbone cannot be read"),
        ("steps", 0, "config.json: --steps must be 1 or more"),
    ],
)
def test_an_edited_config_is_refused_in_one_line(landmark_run, tmp_path, name, value, message):
    run = tmp_path / "0001-edited"
    shutil.copytree(landmark_run, run)
    config = read_config(run)
    config["settings"][name] = value
    (run / "config.json").write_text(json.dumps(config))
    assert message in refuse("--resume", run)


def test_resume_refuses_other_points_and_frozen_layers_even_with_force(folder):
    train(folder, *SHORT)
    assert "was trained with a different --freeze" in refuse("--resume", "--force", "--freeze", "0")
    annotations = read_annotations(folder)
    write_landmarks(folder / "labels.csv", annotations.files, annotations.points[:, :9])
    line = refuse("--resume", "--force")
    assert "was trained on 29 points (drawn-29), and the data have 9 now (cats-9)" in line


@pytest.mark.parametrize("part", ["pairs", "areas", "eyes", "scale"])
def test_resume_refuses_an_edited_point_set_even_with_force(landmark_run, tmp_path, part):
    shutil.copytree(landmark_run, tmp_path / "0001-run")
    state = load(checkpoints(landmark_run)[-1])
    state["point_set"][part] = "another"
    torch.save(state, checkpoints(tmp_path / "0001-run")[-1])
    line = refuse("--resume", tmp_path / "0001-run", "--force")
    assert f"was trained with other {part} of the point set drawn-29: restore it" in line


def test_a_point_set_may_get_another_name(landmark_run, tmp_path):
    shutil.copytree(landmark_run, tmp_path / "0001-run")
    state = load(checkpoints(landmark_run)[-1])
    state["point_set"]["name"] = "another"
    torch.save(state, checkpoints(tmp_path / "0001-run")[-1])
    assert "has reached its last step" in refuse("--resume", tmp_path / "0001-run")


def test_resume_refuses_other_people(folder):
    rows = [line.split(",") for line in (folder / "labels.csv").read_text().splitlines()]
    column = rows[0].index("person")
    train(folder, *SHORT, "--minutes", 1e-6)
    for row in rows[1:]:
        row[column] = f"{row[column]} renamed"
    with (folder / "labels.csv").open("w", newline="") as file:
        csv.writer(file).writerows(rows)
    assert "the data have changed since" in refuse("--resume")


def test_resume_works_from_another_working_directory(folder, tmp_path, monkeypatch):
    points = {"name": "mine", **load_point_set("drawn-29").to_json()}
    Path("mine.json").write_text(json.dumps(points), encoding="utf-8")
    argv = ("--csv", Path(folder.name, "labels.csv"), "--points", "mine.json")
    train(folder, *SHORT, *argv, "--minutes", 1e-6)
    run = newest().absolute()
    assert any("resuming from" in line for line in train("--resume", *argv, "--minutes", 1e-6))
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert any("resuming from" in line for line in train("--resume", run))
    assert step_of(checkpoints(run)[-1]) > 1


def test_init_from_starts_with_the_network_of_a_run(folder):
    train(folder, *SHORT)
    first = load(checkpoints(newest())[-1])
    train(folder, "--init-from", 1, "--steps", 1, "--batch-size", 8, "--cache", "cache", "--workers", 0)
    assert newest().name.startswith("0002-")
    second = load(checkpoints(newest())[-1])
    change = (second["network"]["head.weight"] - first["network"]["head.weight"]).abs().max()
    assert 0 < change < 5e-3


def test_best_pt_alone_is_resumed_and_started_from(folder):
    train(folder, *SHORT)
    best = best_path(newest())
    for path in checkpoints(newest()):
        path.unlink()
    more = ("--steps", 7, "--force")
    assert any(
        f"starting from the network of {best}" in line for line in train(folder, *SHORT, "--init-from", 1)
    )
    assert any(f"resuming from {best}" in line for line in train("--resume", 1, *more))


def test_points_that_fit_neither_the_checkpoint_nor_the_point_set_are_refused(folder):
    train(folder, *SHORT)
    annotations = read_annotations(folder)
    write_landmarks(folder / "labels.csv", annotations.files, annotations.points[:, :9])
    line = refuse(folder, "--init-from", 1, "--steps", 1, "--person", "(.+)", "--batch-size", 8)
    assert "it predicts 29 points (drawn-29), but the data have 9 (cats-9)" in line
    line = refuse(folder, *SHORT, "--points", "faces-68")
    assert "9 points a face, but the point set faces-68 has 68" in line
    write_landmarks(folder / "labels.csv", annotations.files, annotations.points[:, :6])
    assert "no point set of 6 landmarks" in refuse(folder, *SHORT)


def test_invalid_rows_are_refused_and_unreadable_images_skipped(folder):
    table = folder / "labels.csv"
    valid = table.read_text()
    rows = valid.splitlines()
    for row, message in [
        (rows[4].replace("00003.png", "gone.png"), "row 5: there is no file 'gone.png'"),
        (rows[4] + ",1", "columns, but the header has"),
        (rows[4].rpartition(",")[0] + ",nan", "row 5, y28: nan is not a finite number"),
    ]:
        table.write_text("\n".join([*rows[:4], row, *rows[5:]]))
        line = refuse(folder, *SHORT)
        for part in (str(table), "row 5", message):
            assert part in line
    assert not Path("outputs").exists()
    table.write_text(valid)
    (folder / "00004.png").write_bytes(b"broken")
    lines = train(folder, *SHORT)
    assert "29 faces of" in lines[0]
    assert "(1 left out)" in lines[0]
    assert (newest() / "skipped.txt").read_text().startswith("00004.png\tnot a JPEG")


def test_faces_without_a_reference_distance_are_skipped_and_listed(folder):
    annotations = read_annotations(folder)
    left, right = load_point_set("drawn-29").scale_indices
    annotations.points[7] = 5
    annotations.points[20, left], annotations.points[20, right] = (3, 5), (3.01, 5)
    write_landmarks(folder / "labels.csv", annotations.files, annotations.points)
    lines = train(folder, *SHORT, "--score-every", 2)
    assert "28 faces of" in lines[0]
    assert "(2 left out)" in lines[0]
    message = (
        f"00007.png: {folder / 'labels.csv'}, row 9: eye_left_outer and eye_right_outer, by whose distance"
    )
    assert lines[1].startswith(f"the first left out: {message}")
    skipped = (newest() / "skipped.txt").read_text().splitlines()
    assert [line.partition("\t")[0] for line in skipped] == ["00007.png", "00020.png"]
    assert "row 22" in skipped[1]
    assert best_path(newest()).is_file()
    annotations.points[:] = 5
    write_landmarks(folder / "labels.csv", annotations.files, annotations.points)
    assert "no face is left; the first is 00000.png: " in refuse(folder, *SHORT)


def test_points_outside_their_image_are_counted(folder):
    annotations = read_annotations(folder)
    annotations.points[3, 1] = (-2, 5)
    write_landmarks(folder / "labels.csv", annotations.files, annotations.points)
    lines = train(folder, *SHORT, "--person", "(.+)")
    assert "outside their image: 1 point of 1 face" in lines[0]
    assert read_config(newest())["data"]["points_outside"] == 1


def test_a_dry_run_on_cat_annotations(folder):
    annotations = read_annotations(folder)
    (folder / "labels.csv").unlink()
    for name, points in zip(annotations.files, annotations.points, strict=True):
        numbers = " ".join(str(round(value)) for value in points[:9].ravel())
        (folder / f"{name}.cat").write_text(f"9 {numbers} ")
    lines = train(folder, *SHORT, "--dry-run")
    assert "30 faces of 30 people" in lines[0]
    assert "9 points each (cats-9)" in lines[0]
    assert "parameters" in lines[-1]
    assert not Path("outputs").exists()


def test_a_pretrained_backbone_is_partly_frozen(folder, tmp_path):
    import torchvision

    network = torchvision.models.get_model("shufflenet_v2_x0_5", weights=None)
    torch.save(network.state_dict(), tmp_path / "weights.pth")
    argv = ("--backbone", "shufflenet_v2_x0_5", "--weights", tmp_path / "weights.pth", "--freeze", "stage3")
    train(folder, *SHORT, *argv, "--steps", 1)
    state = load(checkpoints(newest())[-1])
    for weights in (state["network"], state["average"]):
        assert torch.equal(weights["backbone.body.conv1.0.weight"], network.conv1[0].weight)
        assert torch.equal(weights["backbone.body.conv1.1.running_mean"], network.conv1[1].running_mean)
    assert not torch.equal(state["network"]["backbone.body.conv5.0.weight"], network.conv5[0].weight)
    assert "no layer stage9" in refuse(folder, *SHORT, *argv[:-1], "stage9")
    (tmp_path / "weights.pth").unlink()
    assert "has reached its last step" in refuse("--resume")  # without the weights it started from
    lines = train(folder, *SHORT, "--init-from", 1, "--freeze", "stage3", "--dry-run")
    assert any("the network of " in line for line in lines)
    total, trained = (int(part.split()[0].replace(",", "")) for part in lines[-1].split(" parameters, "))
    assert trained < total


def test_a_mistake_is_reported_in_one_line(folder):
    for argv, message in [
        ((folder / "nowhere",), "there is no folder"),
        ((Path(__file__),), "is a file; name a folder of images with landmarks"),
        ((folder, "--held-out", 0), "--held-out must be"),
        ((folder, "--freeze", "layer1"), "--freeze needs trained layers"),
        ((folder, "--backbone", "resnet19"), "no backbone resnet19"),
        ((folder, "--learning-rate", 0), "--learning-rate must be more than 0"),
        ((folder, "--turn", "nan"), "--turn must be 0 or more"),
        ((folder, "--image-size", 16), "--image-size must be 32 or more"),
        ((folder, "--person", "(.).*"), "of 1 person: too few"),
        ((folder, "--points", "nothing.json"), "nothing.json (No such file or directory); give a JSON file"),
        (("--resume", "7"), "7 is not a run"),
        (("--resume",), "train_landmarks.py FOLDER"),
    ]:
        assert message in refuse(*(() if "--resume" in argv else SHORT), *argv), argv


def test_runs_of_another_kind_are_refused(folder, tiny_run, landmark_run):
    assert "run of another kind: gan, not landmarks" in refuse("--resume", tiny_run)
    assert "run of another kind: landmarks, not gan" in refusal("sample.py", landmark_run)


def test_a_run_that_diverges_has_its_own_exit_code(folder):
    argv = ("--learning-rate", 1e30, "--optimizer", "sgd", "--loss", "point")
    ended = call("train_landmarks.py", folder, *SHORT, *argv)
    assert ended.code == 3
    assert "NaN or infinite" in ended.error


def test_without_a_folder_drawn_faces_are_trained_on(folder, monkeypatch):
    monkeypatch.setattr("faces.drawn.folder.FACES_COUNT", 20)
    lines = train(*SHORT, "--steps", 1)
    assert "training on what comes with the project, 20 drawn faces" in lines[0]
    assert "20 faces of 4 people" in lines[1]
    assert newest().name == "0001-drawn-5000-32px"
