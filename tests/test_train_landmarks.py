"""train_landmarks.py as its user has it: what it learns, tells, leaves, goes on with and refuses."""

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
from faces.landmarks.learner import LandmarkLearner
from faces.landmarks.point_set import load_point_set
from tests.conftest import LANDMARK_FLAGS
from tests.in_process import call, dying, refusal, succeed
from tests.run_contents import assert_same_training, lines

refused = partial(refusal, "train_landmarks.py")
FEW = (*LANDMARK_FLAGS, "--batch-size", 8, "--steps", 6, "--checkpoint-every", 2, "--log-every", 1)


@pytest.fixture
def folder(drawn_faces, tmp_path, monkeypatch) -> Path:
    """A copy of the first 30 drawn faces, to be spoilt, below an empty working directory."""
    monkeypatch.chdir(tmp_path)
    faces = tmp_path / "лица 1"
    faces.mkdir()
    rows = (drawn_faces / "labels.csv").read_text().splitlines()[:31]
    for row in rows[1:]:
        shutil.copy(drawn_faces / row.partition(",")[0], faces)
    (faces / "labels.csv").write_text("\n".join(rows) + "\n")
    return faces


def train(*words: object) -> list[str]:
    """The lines it prints; fails unless all went well."""
    return succeed("train_landmarks.py", *words).lines


def newest() -> Path:
    return max(Path("outputs/landmarks").iterdir())


def test_it_learns_where_things_are_on_faces_of_people_never_seen(landmark_run):
    scores = [line["score/nme"] for line in lines(landmark_run) if "score/nme" in line]
    # Jitter alone, with every face taken to be the mean one, is an error of about 0.18.
    assert scores[-1] < 0.10
    assert scores[-1] < scores[0]
    config = json.loads((landmark_run / "config.json").read_text())
    assert config["kind"] == "landmarks"
    assert config["data"]["images"] == 90
    assert config["data"]["people"] == 30
    assert config["data"]["held_out"] == 27
    assert config["data"]["point_set"] == "drawn-29"


def test_what_a_run_leaves(landmark_run):
    left = {path.name for path in landmark_run.iterdir() if "tfevents" not in path.name}
    assert left == {".lock", "checkpoints", "config.json", "metrics.jsonl", "samples", "skipped.txt"}
    assert len(list(landmark_run.glob("events.out.tfevents.*"))) == 1
    assert best_path(landmark_run).is_file()
    assert load_png(sample_grids(landmark_run)[-1]).shape == (3, 3 * 98 - 2, 8 * 98 - 2)
    keys = set().union(*lines(landmark_run))
    assert {"loss/training", "nme/training", "gradient/norm", "rate/learning"} <= keys
    assert {"score/nme", "score/mse", "score/failures"} <= keys


@pytest.mark.parametrize("more", [(), ("--ema-half-life", 0, "--optimizer", "sgd", "--loss", "areas")])
def test_a_killed_run_goes_on_bit_for_bit(folder, more):
    words = (folder, *FEW, "--score-every", 3, *more)
    train(*words, "--name", "straight")
    with dying(LandmarkLearner, 5):
        call("train_landmarks.py", *words, "--name", "killed")
    straight, killed = sorted(Path("outputs/landmarks").iterdir())
    assert step_of(checkpoints(killed)[-1]) == 4
    assert any("resuming from" in line for line in train("--resume"))
    assert_same_training(straight, killed)
    for left, right in zip(sample_grids(straight), sample_grids(killed), strict=True):
        assert np.array_equal(load_png(left), load_png(right))


def test_a_finished_run_and_other_mathematics_are_refused(folder):
    train(folder, *FEW)
    run = newest()
    assert "is at its end, step 6 of 6" in refused("--resume")
    assert "different --loss" in refused("--resume", run, "--loss", "areas")
    assert "different --steps" in refused("--resume", run.name, "--steps", 9)
    assert "different --score-every" in refused("--resume", 1, "--score-every", 3)
    assert "different --image-size" in refused("--resume", 1, "--image-size", 64, "--force")
    train("--resume", run, "--steps", 8, "--force")
    assert step_of(checkpoints(run)[-1]) == 8
    Image.new("RGB", (64, 64)).save(folder / "00000.png")
    assert "have changed since" in refused("--resume", run)


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("backbone", "resnet18", "was trained with a different --backbone"),
        ("image_size", 64, "was trained with a different --image-size"),
        ("points", "cats-9", "was trained with a different --points"),
        ("backbone", 7, "config.json: the run's setting backbone cannot be read"),
        ("steps", 0, "config.json: --steps must be 1 or more"),
    ],
)
def test_a_config_that_was_edited_by_hand_is_one_line(landmark_run, tmp_path, name, value, said):
    run = tmp_path / "0001-edited"
    shutil.copytree(landmark_run, run)
    config = json.loads((run / "config.json").read_text())
    config["settings"][name] = value
    (run / "config.json").write_text(json.dumps(config))
    assert said in refused("--resume", run)


def test_other_points_and_frozen_layers_cannot_be_forced_on_a_run(folder):
    train(folder, *FEW)
    assert "was trained with a different --freeze" in refused("--resume", "--force", "--freeze", "0")
    found = read_annotations(folder)
    write_landmarks(folder / "labels.csv", found.files, found.points[:, :9])
    line = refused("--resume", "--force")
    assert "was trained on 29 points (drawn-29), and the data have 9 now (cats-9)" in line


@pytest.mark.parametrize("part", ["pairs", "areas", "eyes", "scale"])
def test_a_point_set_that_was_edited_cannot_be_forced_on_a_run(landmark_run, tmp_path, part):
    shutil.copytree(landmark_run, tmp_path / "0001-run")
    state = load(checkpoints(landmark_run)[-1])
    state["point_set"][part] = "as it was before"
    torch.save(state, checkpoints(tmp_path / "0001-run")[-1])
    line = refused("--resume", tmp_path / "0001-run", "--force")
    assert f"was trained with other {part} of the point set drawn-29: restore it" in line


def test_other_people_held_out_are_other_data(folder):
    rows = [line.split(",") for line in (folder / "labels.csv").read_text().splitlines()]
    column = rows[0].index("person")
    train(folder, *FEW, "--minutes", 1e-6)
    for row in rows[1:]:
        row[column] = f"{row[column]}, as of today"
    with (folder / "labels.csv").open("w", newline="") as file:
        csv.writer(file).writerows(rows)
    assert "the data have changed since" in refused("--resume")


def test_a_run_goes_on_from_another_working_directory(folder, tmp_path, monkeypatch):
    points = {"name": "mine", **load_point_set("drawn-29").to_json()}
    Path("mine.json").write_text(json.dumps(points), encoding="utf-8")
    words = ("--csv", Path(folder.name, "labels.csv"), "--points", "mine.json")
    train(folder, *FEW, *words, "--minutes", 1e-6)
    run = newest().absolute()
    assert any("resuming from" in line for line in train("--resume", *words, "--minutes", 1e-6))
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert any("resuming from" in line for line in train("--resume", run))
    assert step_of(checkpoints(run)[-1]) > 1


def test_a_new_run_begins_with_anothers_network(folder):
    train(folder, *FEW)
    first = load(checkpoints(newest())[-1])
    train(folder, "--init-from", 1, "--steps", 1, "--batch-size", 8, "--cache", "cache", "--workers", 0)
    assert newest().name.startswith("0002-")
    second = load(checkpoints(newest())[-1])
    moved = (second["network"]["head.weight"] - first["network"]["head.weight"]).abs().max()
    assert 0 < moved < 5e-3


def test_best_pt_alone_is_resumed_and_started_from(folder):
    train(folder, *FEW)
    best = best_path(newest())
    for path in checkpoints(newest()):
        path.unlink()
    more = ("--steps", 7, "--force")
    assert any(
        f"beginning with the network of {best}" in line for line in train(folder, *FEW, "--init-from", 1)
    )
    assert any(f"resuming from {best}" in line for line in train("--resume", 1, *more))


def test_points_that_do_not_fit_the_checkpoint_or_the_set(folder):
    train(folder, *FEW)
    found = read_annotations(folder)
    write_landmarks(folder / "labels.csv", found.files, found.points[:, :9])
    words = ("--init-from", 1, "--steps", 1, "--person", "(.+)", "--batch-size", 8)
    line = refused(folder, *words)
    assert "finds 29 points (drawn-29), but the data have 9 (cats-9)" in line
    line = refused(folder, *FEW, "--points", "faces-68")
    assert "9 points a face, but the point set faces-68 has 68" in line
    write_landmarks(folder / "labels.csv", found.files, found.points[:, :5])
    assert "no point set of 5 landmarks" in refused(folder, *FEW)


def test_bad_rows_end_it_and_bad_images_are_left_out_counted_and_listed(folder):
    table = folder / "labels.csv"
    good = table.read_text()
    rows = good.splitlines()
    for bad, said in [
        (rows[4].replace("00003.png", "gone.png"), "row 5: there is no file 'gone.png'"),
        (rows[4] + ",1", "columns, but the header has"),
        (rows[4].rpartition(",")[0] + ",nan", "row 5, y28: nan is not a finite number"),
    ]:
        table.write_text("\n".join([*rows[:4], bad, *rows[5:]]))
        line = refused(folder, *FEW)
        assert str(table) in line
        assert "row 5" in line
        assert said in line
    assert not Path("outputs").exists()
    table.write_text(good)
    (folder / "00004.png").write_bytes(b"broken")
    told = train(folder, *FEW)
    assert "29 faces of" in told[0]
    assert "(1 left out)" in told[0]
    assert (newest() / "skipped.txt").read_text().startswith("00004.png\tnot a JPEG")


def test_faces_without_a_distance_to_divide_errors_by_are_left_out_and_named(folder):
    found = read_annotations(folder)
    one, other = load_point_set("drawn-29").scale_indices
    found.points[7] = 5
    found.points[20, one], found.points[20, other] = (3, 5), (3.01, 5)
    write_landmarks(folder / "labels.csv", found.files, found.points)
    told = train(folder, *FEW, "--score-every", 2)
    assert "28 faces of" in told[0]
    assert "(2 left out)" in told[0]
    said = f"00007.png: {folder / 'labels.csv'}, row 9: eye_left_outer and eye_right_outer, by whose distance"
    assert told[1].startswith(f"left out first: {said}")
    listed = (newest() / "skipped.txt").read_text().splitlines()
    assert [line.partition("\t")[0] for line in listed] == ["00007.png", "00020.png"]
    assert "row 22" in listed[1]
    assert best_path(newest()).is_file()
    found.points[:] = 5
    write_landmarks(folder / "labels.csv", found.files, found.points)
    assert "no face is left; the first is 00000.png: " in refused(folder, *FEW)


def test_points_outside_their_image_are_said(folder):
    found = read_annotations(folder)
    found.points[3, 1] = (-2, 5)
    write_landmarks(folder / "labels.csv", found.files, found.points)
    told = train(folder, *FEW, "--person", "(.+)")
    assert "1 points of 1 faces lie outside their image" in told[0]
    config = json.loads((newest() / "config.json").read_text())
    assert config["data"]["points_outside"] == 1


def test_cats_and_a_dry_run(folder):
    found = read_annotations(folder)
    (folder / "labels.csv").unlink()
    for name, points in zip(found.files, found.points, strict=True):
        numbers = " ".join(str(round(value)) for value in points[:9].ravel())
        (folder / f"{name}.cat").write_text(f"9 {numbers} ")
    told = train(folder, *FEW, "--dry-run")
    assert "30 faces of 30 people" in told[0]
    assert "9 points each (cats-9)" in told[0]
    assert "parameters" in told[-1]
    assert not Path("outputs").exists()


def test_a_torchvision_backbone_partly_frozen(folder, tmp_path):
    import torchvision

    network = torchvision.models.get_model("shufflenet_v2_x0_5", weights=None)
    torch.save(network.state_dict(), tmp_path / "weights.pth")
    words = ("--backbone", "shufflenet_v2_x0_5", "--weights", tmp_path / "weights.pth", "--freeze", "stage3")
    train(folder, *FEW, *words, "--steps", 1)
    state = load(checkpoints(newest())[-1])
    for which in ("network", "average"):
        weights = state[which]
        assert torch.equal(weights["backbone.body.conv1.0.weight"], network.conv1[0].weight)
        assert torch.equal(weights["backbone.body.conv1.1.running_mean"], network.conv1[1].running_mean)
    assert not torch.equal(state["network"]["backbone.body.conv5.0.weight"], network.conv5[0].weight)
    assert "no layer stage9" in refused(folder, *FEW, *words[:-1], "stage9")
    (tmp_path / "weights.pth").unlink()
    assert "is at its end" in refused("--resume")  # and needs no longer what it began with
    told = train(folder, *FEW, "--init-from", 1, "--freeze", "stage3", "--dry-run")
    assert any(line.startswith("beginning with the network of") for line in told)
    every, trained = (int(part.split()[0].replace(",", "")) for part in told[-1].split(" parameters, "))
    assert trained < every


def test_mistakes_are_one_line(folder):
    for words, said in [
        ((folder / "nowhere",), "there is no folder"),
        ((folder, "--held-out", 0), "--held-out must be"),
        ((folder, "--freeze", "layer1"), "--freeze keeps layers"),
        ((folder, "--backbone", "resnet19"), "no backbone resnet19"),
        ((folder, "--learning-rate", 0), "--learning-rate must be more than 0"),
        ((folder, "--turn", "nan"), "--turn must be 0 or more"),
        ((folder, "--image-size", 16), "--image-size must be 32 or more"),
        ((folder, "--person", "(.).*"), "of 1 people: too few"),
        ((folder, "--points", "nothing.json"), "nothing.json (No such file or directory); give a JSON file"),
        (("--resume", "7"), "7 is not a run"),
        (("--resume",), "train_landmarks.py FOLDER"),
    ]:
        assert said in refused(*(() if "--resume" in words else FEW), *words), words


def test_a_run_of_the_gan_is_another_kind(folder, tiny_run, landmark_run):
    assert "run of another kind: gan, not landmarks" in refused("--resume", tiny_run)
    told = call("sample.py", landmark_run)
    assert told.code == 2
    assert "run of another kind: landmarks, not gan" in told.error


def test_training_that_diverges_has_a_code_of_its_own(folder):
    words = ("--learning-rate", 1e30, "--optimizer", "sgd", "--loss", "point")
    told = call("train_landmarks.py", folder, *FEW, *words)
    assert told.code == 3
    assert "NaN or infinite" in told.error


def test_without_a_folder_it_draws_faces_and_says_so(folder, monkeypatch):
    monkeypatch.setattr("faces.drawn.folder.FACES_COUNT", 20)
    told = train(*FEW, "--steps", 1)
    assert "training on drawn faces" in told[0]
    assert "20 faces of 4 people" in told[1]
    assert newest().name == "0001-drawn-5000-32px"
