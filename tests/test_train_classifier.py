"""train_classifier.py as its user has it: what it learns, tells, leaves, goes on with and refuses."""

import csv
import json
import shutil
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from engine.checkpoint import load
from engine.png import load_png
from engine.runs import best_path, checkpoints, samples, step_of
from faces.recognition import report
from faces.recognition.folder import load_labelled
from faces.recognition.learner import ClassifierLearner
from faces.recognition.recognizer import load_recognizer
from faces.recognition.scores import accuracy, balanced_accuracy, confusion_matrix
from tests.conftest import CLASSIFIER_FLAGS
from tests.in_process import call, dying, refusal, succeed
from tests.run_contents import assert_same_training, read_metrics
from tests.states import assert_equal

refused = partial(refusal, "train_classifier.py")
FEW = (*CLASSIFIER_FLAGS, "--batch-size", 8, "--steps", 6, "--checkpoint-every", 2, "--log-every", 1)
SMALL = ("--backbone", "small", "--weights", "none")
METHODS = {
    "scratch": (),
    "finetune": ("--method", "finetune", *SMALL),
    "arcface in stages": ("--method", "arcface", *SMALL, "--stages", 2, "--embedding", 8),
}


@pytest.fixture
def folder(drawn_people, tmp_path, monkeypatch) -> Path:
    """A copy of three of the drawn people, to be spoilt, below an empty working directory."""
    monkeypatch.chdir(tmp_path)
    # Charts are drawn for the runs of conftest.py; they take longer than these trainings.
    monkeypatch.setattr(report, "_draw", lambda *_: [])
    for person in sorted(drawn_people.iterdir())[:3]:
        shutil.copytree(person, tmp_path / "люди 1" / person.name)
    return tmp_path / "люди 1"


def train(*words: object) -> list[str]:
    """The lines it prints; fails unless all went well."""
    return succeed("train_classifier.py", *words).lines


def runs() -> list[Path]:
    return sorted(Path("outputs/classifiers").iterdir())


@pytest.mark.parametrize("kind", ["scratch_run", "arcface_run"])
def test_it_learns_who_is_on_images_that_it_never_saw(kind, request):
    run = request.getfixturevalue(kind)
    scores = [
        line["score/balanced_accuracy"] for line in read_metrics(run) if "score/balanced_accuracy" in line
    ]
    values = json.loads((run / "report.json").read_text())
    chance = 1 / 8
    assert values["balanced_accuracy"] == pytest.approx(max(scores))
    assert values["balanced_accuracy"] > 4 * chance
    assert 0 <= values["grey_balanced_accuracy"] <= 1


def test_what_a_run_leaves(scratch_run, drawn_people):
    left = {path.name for path in scratch_run.iterdir() if "tfevents" not in path.name}
    pictures = {"curves.png", "confusion.png", "classes.png", "mistakes.png"}
    tables = {"confusion.csv", "classes.csv", "steps.csv", "report.json", "metrics.jsonl"}
    expected = {".lock", "checkpoints", "config.json", "samples", "skipped.txt"} | pictures | tables
    assert left | {"mistakes.png"} == expected
    with (scratch_run / "confusion.csv").open(encoding="utf-8") as file:
        header, *rows = csv.reader(file)
    names = sorted(path.name for path in drawn_people.iterdir())
    assert header[1:] == names
    assert [row[0] for row in rows] == names
    counts = np.array([[int(cell) for cell in row[1:]] for row in rows])
    values = json.loads((scratch_run / "report.json").read_text())
    assert counts.sum() == values["images"]
    assert counts.trace() / counts.sum() == pytest.approx(values["accuracy"])
    with (scratch_run / "classes.csv").open(encoding="utf-8") as file:
        classes = list(csv.DictReader(file))
    assert [int(row["images"]) for row in classes] == counts.sum(1).tolist()
    with (scratch_run / "steps.csv").open(encoding="utf-8") as file:
        steps = [int(row["step"]) for row in csv.DictReader(file)]
    assert steps == [20, 40]
    assert {step_of(path) for path in checkpoints(scratch_run)} <= {*steps}
    config = json.loads((scratch_run / "config.json").read_text())
    assert config["kind"] == "classifier"
    assert config["data"]["classes"] == names
    assert config["settings"]["image_size"] == 32


def test_grey_copies_are_scored_beside_the_images(scratch_run, drawn_people, tmp_path):
    recognizer = load_recognizer(best_path(scratch_run))
    data = load_labelled(drawn_people, recognizer.side, cache=tmp_path, workers=0, held_out=0.2)
    images, true = data.images[data.held_rows], data.labels[data.held_rows]
    values = json.loads((scratch_run / "report.json").read_text())
    for prefix, shown in (("", images), ("grey_", report.grey(images))):
        confusion = confusion_matrix(true, recognizer.probabilities(shown).argmax(1), len(data.classes))
        assert values[f"{prefix}accuracy"] == pytest.approx(accuracy(confusion))
        assert values[f"{prefix}balanced_accuracy"] == pytest.approx(balanced_accuracy(confusion))


def test_what_tensorboard_shows(scratch_run):
    board = EventAccumulator(str(scratch_run), {"scalars": 0, "images": 0, "histograms": 0}).Reload()
    scalars, histograms = board.Tags()["scalars"], board.Tags()["histograms"]
    assert {"loss/training", "score/loss", "accuracy/training", "rate/learning"} <= {*scalars}
    sparsities = [name for name in scalars if name.startswith("sparsity/")]
    assert len(sparsities) == 6, "four convolutions and two hidden layers"
    for name in sparsities:
        values = [point.value for point in board.Scalars(name)]
        assert all(0 <= value < 1 for value in values)
        assert max(values) > 0
    weights = {name for name, _ in load_recognizer(scratch_run).network.named_parameters()}
    for kind in ("classifier", "gradient"):
        assert {name.partition("/")[2] for name in histograms if name.startswith(f"{kind}/")} == weights
    assert {point.step for point in board.Histograms("gradient/head.weight")} == {30}
    assert [image.step for image in board.Images("samples")] == [0, 40]
    assert load_png(samples(scratch_run)[0]).shape[0] == 3


@pytest.mark.parametrize("method", METHODS)
def test_a_killed_run_goes_on_bit_for_bit(folder, method):
    words = (folder, *FEW, "--score-every", 2, *METHODS[method])
    train(*words, "--name", "straight")
    with dying(ClassifierLearner, 5):
        call("train_classifier.py", *words, "--name", "killed")
    straight, killed = runs()
    assert step_of(checkpoints(killed)[-1]) == 4
    assert any("going on from" in line for line in train("--resume"))
    assert_same_training(straight, killed)
    assert (straight / "confusion.csv").read_text() == (killed / "confusion.csv").read_text()


def test_a_finished_run_and_other_mathematics_are_refused(folder):
    train(folder, *FEW)
    assert "is at its end, step 6 of 6" in refused("--resume")
    assert "another --balance" in refused("--resume", 1, "--no-balance")
    for name, value in (("image-size", 48), ("method", "finetune"), ("optimizer", "sgd")):
        line = refused("--resume", 1, f"--{name}", value, "--force")
        assert f"was trained with another --{name}: leave that out" in line
    train("--resume", 1, "--steps", 8, "--force")
    assert step_of(checkpoints(runs()[0])[-1]) == 8
    gone = sorted(path.name for path in folder.iterdir())[0]
    shutil.rmtree(folder / gone)
    assert "have changed since" in refused("--resume", 1)
    line = refused("--resume", 1, "--steps", 10, "--force")
    assert f"trained on 3 classes, and 2 are there now; {gone} is not in both" in line


def test_settings_that_were_changed_by_hand_are_one_line(folder):
    train(folder, *FEW, *METHODS["arcface in stages"])
    (run,) = runs()
    whole = (run / "config.json").read_text()
    for name, value, said in (
        ("embedding", 16, "another --embedding: leave that out, or undo it in its config.json"),
        ("image_size", 48, "another --image-size"),
        ("loss", "softmax", "another --loss"),
        ("backbone", "resnet18", "another --backbone"),
        ("optimizer", "sgd", "another --optimizer"),
        ("method", "finetune", "config.json: --stages is of --method arcface, not of finetune"),
        ("learning_rate", 0.5, "another --learning-rate; going on would not be the same run"),
    ):
        config = json.loads(whole)
        config["settings"][name] = value
        (run / "config.json").write_text(json.dumps(config))
        assert said in refused("--resume", "--steps", 6), name
    (run / "config.json").write_text(whole)
    assert "is at its end" in refused("--resume")


def test_a_new_run_begins_with_the_network_of_another(folder):
    train(folder, *FEW, *METHODS["arcface in stages"], "--steps", 1)
    words = (folder, *FEW, "--steps", 1, "--init-from", 1)
    assert any("beginning with the network of" in line for line in train(*words))
    kept = load(checkpoints(runs()[1])[-1])["settings"]
    assert [kept[name] for name in ("method", "backbone", "embedding")] == ["arcface", "small", 8]
    assert "another --embedding" in refused(*words, "--embedding", 16)
    assert "another --method" in refused(*words, "--method", "scratch")
    assert "give one of the two" in refused(*words, "--from", 2)
    assert "give one of the two" in refused(*words, "--weights", "imagenet")
    shutil.rmtree(sorted(folder.iterdir())[0])
    assert any("beginning with the convolutions and embedding of" in line for line in train(*words))


def test_what_was_begun_from_may_be_said_again_and_may_be_gone(folder, arcface_run, tmp_path):
    shutil.copytree(arcface_run, "theirs")
    words = ("--method", "finetune", "--from", "theirs")
    train(folder, *FEW, *words, "--minutes", 1e-6)
    (run,) = runs()
    assert any("going on from" in line for line in train("--resume", 1, *words, "--minutes", 1e-6))
    shutil.copytree(run, "outputs/classifiers/0007-other")
    assert "another --from-checkpoint" in refused("--resume", 1, "--from", 7)
    shutil.rmtree("theirs")
    assert any("going on from" in line for line in train("--resume", 1))


def test_stages_thaw_and_go_back_to_their_best(folder, monkeypatch):
    words = ("--method", "arcface", *SMALL, "--stages", 3, "--embedding", 8, "--score-every", 1)
    train(folder, *FEW, *words, "--keep", 9)
    (run,) = runs()
    saved = {step_of(path): load(path) for path in checkpoints(run)}
    first, last = "backbone.body.0.weight", "backbone.body.18.weight"
    moved = [
        [
            not torch.equal(saved[one]["network"][name], saved[other]["network"][name])
            for name in (first, last)
        ]
        for one, other in ((2, 4), (4, 6))
    ]
    assert moved == [[False, True], [True, True]]
    assert [saved[step]["stage"]["number"] for step in (2, 4, 6)] == [0, 1, 2]


def test_a_stage_begins_with_the_best_weights_of_the_one_before(folder, monkeypatch):
    seen: list[dict[str, torch.Tensor]] = []
    told = iter([0.5, 0.1, 0.9, 0.9, 0.9, 0.9])
    whole = ClassifierLearner.scores

    def made_up(self: ClassifierLearner) -> dict[str, float]:
        error = next(told)
        monkeypatch.setattr("faces.recognition.learner.balanced_accuracy", lambda _: 1 - error)
        seen.append({name: weight.clone() for name, weight in self.network.state_dict().items()})
        return whole(self)

    monkeypatch.setattr(ClassifierLearner, "scores", made_up)
    thawed = ClassifierLearner._thaw
    begun: list[dict[str, torch.Tensor]] = []

    def noted(self: ClassifierLearner) -> None:
        thawed(self)
        begun.append({name: weight.clone() for name, weight in self.network.state_dict().items()})

    monkeypatch.setattr(ClassifierLearner, "_thaw", noted)
    train(folder, *FEW, "--method", "arcface", *SMALL, "--stages", 2, "--embedding", 8, "--score-every", 1)
    assert_equal(begun[1], seen[1])
    assert not torch.equal(begun[1]["head.weight"], seen[2]["head.weight"])


def test_from_any_of_ours_across_methods_and_classes(folder, arcface_run, landmark_run, scratch_run):
    words = (*FEW, "--method", "finetune", "--steps", 2)
    lines_told = train(folder, *words, "--from", arcface_run)
    assert any("beginning with the convolutions of" in line for line in lines_told)
    (run,) = runs()
    theirs, ours = load(best_path(arcface_run))["network"], load(checkpoints(run)[-1])
    kept = "backbone.body.0.weight"
    assert torch.equal(ours["network"][kept], theirs[kept]), "frozen up to the last block"
    assert ours["settings"]["backbone"] == "small"
    assert ours["settings"]["freeze"] == "13"
    train(folder, *FEW, "--method", "arcface", "--from", landmark_run)
    train(folder, *FEW, "--from", best_path(scratch_run))
    assert load(checkpoints(runs()[-1])[-1])["settings"]["image_size"] == 32
    line = refused(folder, *FEW, "--method", "finetune", "--from", scratch_run)
    assert "only --method scratch can begin" in line
    line = refused(folder, *FEW, "--method", "arcface", "--backbone", "squeezenet1_1", "--from", arcface_run)
    assert "cannot be begun from: its network has no backbone.body" in line


def test_from_another_kind_of_run_or_from_nothing(folder, tiny_run, landmark_run):
    for source in (tiny_run, checkpoints(tiny_run)[-1]):
        line = refused(folder, *FEW, "--from", source)
        assert "is of another kind: gan, not classifier; --from begins with a network that" in line
    line = refused(folder, *FEW, "--from", landmark_run)
    assert "is of another kind: landmarks, not classifier; its convolutions are for --method fin" in line
    assert "gone.pt is no run" in refused(folder, *FEW, "--from", "gone.pt")


def test_frozen_features_computed_once_learn_as_well(drawn_people, arcface_run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    words = (*CLASSIFIER_FLAGS, "--method", "finetune", "--from", arcface_run, "--once")
    train(drawn_people, *words, "--steps", 40, "--batch-size", 16, "--learning-rate", 0.02)
    values = json.loads((runs()[0] / "report.json").read_text())
    assert values["balanced_accuracy"] > 0.5


def test_weights_that_are_not_to_be_had_are_one_line_with_the_ways_out(folder, monkeypatch, tmp_path):
    def no_network(*_: object, **__: object) -> None:
        raise OSError("no route to host")

    monkeypatch.setattr(torch.hub, "load_state_dict_from_url", no_network)
    line = refused(folder, *FEW, "--method", "arcface", "--backbone", "squeezenet1_1")
    for way in ("no route to host", "--weights FILE", "--weights none", "--from CHECKPOINT"):
        assert way in line
    assert not Path("outputs").exists()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--backbone", "small"), "scratch has its own network"),
        (("--weights", "imagenet"), "scratch begins with none"),
        (("--method", "arcface", "--once"), "--once is of --method finetune"),
        (("--method", "finetune", *SMALL, "--once"), "--once needs frozen layers"),
        (("--method", "finetune", *SMALL, "--freeze", "0"), "these have learnt nothing"),
        (
            ("--method", "arcface", "--backbone", "nonsense", "--weights", "none"),
            "there is no backbone nonsense",
        ),
        (("--loss", "softmax"), "--loss is of --method arcface"),
        (("--embedding", 64), "--embedding is of --method arcface"),
        (("--method", "finetune", "--scale", 20), "--scale is of --method arcface"),
        (("--margin", 0.3), "--margin is of --method arcface"),
        (("--held-out", 0.7), "--held-out must be"),
        (("--centre", 0), "--centre must be"),
        (("--image-size", 40), "multiple of 16"),
        (("--image-size", 8000), "--image-size must be at most 800"),
        (("--method", "arcface", "--embedding", 10**9), "--embedding must be at most"),
        (("--from", "x.pt", "--weights", "imagenet", "--method", "arcface"), "give one of the two"),
        (("--margin", 4), "less than pi"),
    ],
)
def test_settings_that_do_not_go(folder, words, said):
    assert said in refused(folder, *CLASSIFIER_FLAGS, *words)
    assert not Path("outputs").exists()


def test_bad_folders_are_one_line_and_leave_nothing(folder):
    (folder / "empty").mkdir()
    assert "has no usable image" in refused(folder, *FEW)
    Image.new("RGB", (40, 40), "red").save(folder / "empty" / "one.png")
    assert "the class empty has one image" in refused(folder, *FEW)
    shutil.rmtree(folder / "empty")
    shutil.copytree(sorted(folder.iterdir())[0], folder / "twin")
    assert "hold the same image" in refused(folder, *FEW)
    assert not Path("outputs").exists()


def test_a_corrupt_image_is_left_out_and_listed(folder):
    victim = sorted(folder.rglob("*.png"))[0]
    victim.write_bytes(b"broken")
    told = train(folder, *FEW)
    assert "(1 left out)" in told[0]
    assert (
        (runs()[0] / "skipped.txt").read_text().startswith(f"{victim.parent.name}/{victim.name}\tnot a JPEG")
    )


def test_a_class_that_no_font_can_write_is_a_number_in_pictures(folder, monkeypatch):
    monkeypatch.setattr("images.fonts._installed_fonts", lambda: [])
    sorted(folder.iterdir())[0].rename(folder / "李小龙")
    told = train(folder, *FEW, "--steps", 1, "--learning-rate", 1e-9)
    assert "letters of 李小龙 (1 of 3 classes), and pictures show #3 instead" in told[-1]
    assert (runs()[0] / "classes.csv").read_text(encoding="utf-8").splitlines()[3].startswith("李小龙,")
    assert (runs()[0] / "mistakes.png").exists()


def test_an_imbalanced_given_split_of_two_classes(folder):
    people = sorted(folder.iterdir())
    split = Path("split")
    for person, count in zip(people[:2], (12, 2), strict=True):
        files = sorted(person.iterdir())
        for place, chosen in (("train", files[:count]), ("validate", files[-2:])):
            (split / place / person.name).mkdir(parents=True)
            for file in chosen:
                shutil.copy(file, split / place / person.name)
    told = train(split, *FEW, "--steps", 2)
    assert "2 to 12 of a class to train on; 4 images held out, as validate/ says" in told[0]


def test_drawn_faces_where_no_folder_is_given(monkeypatch, tmp_path, drawn_faces):
    monkeypatch.chdir(tmp_path)
    shutil.copytree(drawn_faces, "data/drawn-5000")
    monkeypatch.setattr("faces.drawn.folder.write_folder", lambda *_, **__: 0)
    told = train(*FEW, "--label", "beard", "--batch-size", 4, "--dry-run")
    assert "learning to tell drawn faces by their beard" in told[0]
    assert "90 images" in told[1]
    assert told[-1].endswith("of them trained in the first step")
    assert not Path("outputs").exists()


def test_a_step_does_not_depend_on_what_is_logged(folder):
    words = (folder, *CLASSIFIER_FLAGS, "--batch-size", 8, "--steps", 4)
    train(*words, "--log-every", 1, "--score-every", 1)
    train(*words, "--log-every", 4)
    one, other = (load(checkpoints(run)[-1]) for run in runs())
    assert_equal(one["network"], other["network"])
    assert_equal(one["average"], other["average"])
