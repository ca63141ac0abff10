"""The train_classifier.py script: training, reports, resuming, initialization and errors."""

import csv
import json
import shutil
from functools import partial
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from engine.checkpoint import load
from engine.png import load_png
from engine.runs import best_path, checkpoints, sample_grids, step_of
from faces.recognition import report
from faces.recognition.folder import load_labelled_images
from faces.recognition.recognizer import load_recognizer
from faces.recognition.scores import accuracy, balanced_accuracy, confusion_matrix
from faces.recognition.trainer import ClassifierTrainer
from tests.conftest import CLASSIFIER_FLAGS
from tests.in_process import call, dying, refusal, succeed
from tests.run_contents import assert_same_results, read_metrics
from tests.states import assert_equal

error_line = partial(refusal, "train_classifier.py")
SHORT_RUN = (*CLASSIFIER_FLAGS, "--batch-size", 8, "--steps", 6, "--checkpoint-every", 2, "--log-every", 1)
SMALL_BACKBONE = ("--backbone", "small", "--weights", "none")
METHODS = {
    "scratch": (),
    "finetune": ("--method", "finetune", *SMALL_BACKBONE),
    "arcface": ("--method", "arcface", *SMALL_BACKBONE, "--stages", 2, "--embedding", 8),
}


@pytest.fixture
def folder(drawn_people, tmp_path, monkeypatch) -> Path:
    """A copy of three of the drawn people, free to be changed, in an empty working directory."""
    monkeypatch.chdir(tmp_path)
    # Charts take longer than these runs; they are drawn for the runs of conftest.py.
    monkeypatch.setattr(report, "_draw", lambda *_: [])
    for person in sorted(drawn_people.iterdir())[:3]:
        shutil.copytree(person, tmp_path / "люди 1" / person.name)
    return tmp_path / "люди 1"


def train(*arguments: object) -> list[str]:
    """Run the script and return the lines it prints; fail on errors."""
    return succeed("train_classifier.py", *arguments).lines


def runs() -> list[Path]:
    return sorted(Path("outputs/classifiers").iterdir())


@pytest.mark.parametrize("fixture", ["scratch_run", "arcface_run"])
def test_held_out_images_are_classified(fixture, request):
    run = request.getfixturevalue(fixture)
    scores = [
        line["score/balanced_accuracy"] for line in read_metrics(run) if "score/balanced_accuracy" in line
    ]
    values = json.loads((run / "report.json").read_text())
    chance = 1 / 8
    assert values["balanced_accuracy"] == pytest.approx(max(scores))
    assert values["balanced_accuracy"] > 4 * chance
    assert 0 <= values["grey_balanced_accuracy"] <= 1


def test_files_of_a_run(scratch_run, drawn_people):
    files = {path.name for path in scratch_run.iterdir() if "tfevents" not in path.name}
    pictures = {"curves.png", "confusion.png", "classes.png", "mistakes.png"}
    tables = {"confusion.csv", "classes.csv", "steps.csv", "report.json", "metrics.jsonl"}
    expected = {".lock", "checkpoints", "config.json", "samples", "skipped.txt"} | pictures | tables
    assert files | {"mistakes.png"} == expected
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


def test_report_scores_the_images_and_grey_copies(scratch_run, drawn_people, tmp_path):
    recognizer = load_recognizer(best_path(scratch_run))
    data = load_labelled_images(drawn_people, recognizer.side, cache=tmp_path, workers=0, held_out=0.2)
    images, true = data.images[data.held_out_indices], data.labels[data.held_out_indices]
    values = json.loads((scratch_run / "report.json").read_text())
    for prefix, scored in (("", images), ("grey_", report.to_grey(images))):
        confusion = confusion_matrix(true, recognizer.probabilities(scored).argmax(1), len(data.classes))
        assert values[f"{prefix}accuracy"] == pytest.approx(accuracy(confusion))
        assert values[f"{prefix}balanced_accuracy"] == pytest.approx(balanced_accuracy(confusion))


def test_tensorboard_content(scratch_run):
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
    assert {point.step for point in board.Histograms("gradient/head.weight")} == {20, 40}
    assert [image.step for image in board.Images("samples")] == [0, 40]
    assert load_png(sample_grids(scratch_run)[0]).shape[0] == 3


@pytest.mark.parametrize("method", METHODS)
def test_killed_run_resumes_bit_for_bit(folder, method):
    arguments = (folder, *SHORT_RUN, "--score-every", 2, *METHODS[method])
    train(*arguments, "--name", "straight")
    with dying(ClassifierTrainer, 5):
        call("train_classifier.py", *arguments, "--name", "killed")
    straight, killed = runs()
    assert step_of(checkpoints(killed)[-1]) == 4
    assert any("resuming from" in line for line in train("--resume"))
    assert_same_results(straight, killed)
    assert (straight / "confusion.csv").read_text() == (killed / "confusion.csv").read_text()


def test_resume_of_a_finished_run_or_with_other_settings(folder):
    train(folder, *SHORT_RUN)
    assert "has reached its last step, 6 of 6" in error_line("--resume")
    assert "different --balance" in error_line("--resume", 1, "--no-balance")
    for name, value in (("image-size", 48), ("method", "finetune"), ("optimizer", "sgd")):
        line = error_line("--resume", 1, f"--{name}", value, "--force")
        assert f"was trained with a different --{name}: omit the change" in line
    train("--resume", 1, "--steps", 8, "--force")
    assert step_of(checkpoints(runs()[0])[-1]) == 8
    removed = sorted(path.name for path in folder.iterdir())[0]
    shutil.rmtree(folder / removed)
    assert "have changed since" in error_line("--resume", 1)
    line = error_line("--resume", 1, "--steps", 10, "--force")
    assert f"trained on 3 classes, and the data have 2 now; {removed} is not in both" in line


def test_edited_config_is_an_error(folder):
    train(folder, *SHORT_RUN, *METHODS["arcface"])
    (run,) = runs()
    original = (run / "config.json").read_text()
    for name, value, message in (
        ("embedding", 16, "different --embedding: omit the change, or undo it in its config.json"),
        ("image_size", 48, "different --image-size"),
        ("loss", "softmax", "different --loss"),
        ("backbone", "resnet18", "different --backbone"),
        ("optimizer", "sgd", "different --optimizer"),
        ("method", "finetune", "config.json: --stages is for --method arcface, not finetune"),
        ("learning_rate", 0.5, "different --learning-rate, so resuming would not continue the same run"),
    ):
        config = json.loads(original)
        config["settings"][name] = value
        (run / "config.json").write_text(json.dumps(config))
        assert message in error_line("--resume", "--steps", 6), name
    (run / "config.json").write_text(original)
    assert "has reached its last step" in error_line("--resume")


def test_init_from_starts_with_another_run(folder):
    train(folder, *SHORT_RUN, *METHODS["arcface"], "--steps", 1)
    arguments = (folder, *SHORT_RUN, "--steps", 1, "--init-from", 1)
    assert any("starting from the network of" in line for line in train(*arguments))
    settings = load(checkpoints(runs()[1])[-1])["settings"]
    assert [settings[name] for name in ("method", "backbone", "embedding")] == ["arcface", "small", 8]
    assert "different --embedding" in error_line(*arguments, "--embedding", 16)
    assert "different --method" in error_line(*arguments, "--method", "scratch")
    assert "give one of the two" in error_line(*arguments, "--from", 2)
    assert "give one of the two" in error_line(*arguments, "--weights", "imagenet")
    shutil.rmtree(sorted(folder.iterdir())[0])
    assert any("starting from the convolutions and embedding of" in line for line in train(*arguments))


def test_best_pt_alone_is_resumed_and_started_from(folder):
    train(folder, *SHORT_RUN)
    (run,) = runs()
    for path in checkpoints(run):
        path.unlink()
    words = (folder, *SHORT_RUN, "--init-from", 1)
    assert any(f"starting from the network of {best_path(run).absolute()}" in line for line in train(*words))
    assert any(
        f"resuming from {best_path(run)}" in line for line in train("--resume", 1, "--steps", 7, "--force")
    )


def test_resume_with_the_source_given_again_or_deleted(folder, arcface_run, tmp_path):
    shutil.copytree(arcface_run, "source")
    arguments = ("--method", "finetune", "--from", "source")
    train(folder, *SHORT_RUN, *arguments, "--minutes", 1e-6)
    (run,) = runs()
    assert any("resuming from" in line for line in train("--resume", 1, *arguments, "--minutes", 1e-6))
    shutil.copytree(run, "outputs/classifiers/0007-other")
    assert "different --from-checkpoint" in error_line("--resume", 1, "--from", 7)
    shutil.rmtree("source")
    assert any("resuming from" in line for line in train("--resume", 1))


def test_stages_unfreeze_layers(folder):
    train(folder, *SHORT_RUN, *METHODS["arcface"], "--stages", 3, "--score-every", 1, "--keep", 9)
    (run,) = runs()
    saved = {step_of(path): load(path) for path in checkpoints(run)}
    first, last = "backbone.body.0.weight", "backbone.body.18.weight"
    networks = [saved[step]["network"] for step in (2, 4, 6)]
    for (before, after), frozen in zip(pairwise(networks), (True, False), strict=True):
        assert torch.equal(before[first], after[first]) == frozen
        assert not torch.equal(before[last], after[last])
    assert [saved[step]["stage"]["number"] for step in (2, 4, 6)] == [0, 1, 2]


def test_stage_starts_with_the_best_weights_of_the_previous_stage(folder, monkeypatch):
    scored: list[dict[str, torch.Tensor]] = []
    errors = iter([0.5, 0.1, 0.9, 0.9, 0.9, 0.9])
    compute_scores = ClassifierTrainer.scores

    def fake_scores(self: ClassifierTrainer) -> dict[str, float]:
        error = next(errors)
        monkeypatch.setattr("faces.recognition.trainer.balanced_accuracy", lambda _: 1 - error)
        scored.append({name: weight.clone() for name, weight in self.network.state_dict().items()})
        return compute_scores(self)

    monkeypatch.setattr(ClassifierTrainer, "scores", fake_scores)
    unfreeze = ClassifierTrainer._unfreeze
    started: list[dict[str, torch.Tensor]] = []

    def recorded_unfreeze(self: ClassifierTrainer) -> None:
        unfreeze(self)
        started.append({name: weight.clone() for name, weight in self.network.state_dict().items()})

    monkeypatch.setattr(ClassifierTrainer, "_unfreeze", recorded_unfreeze)
    train(folder, *SHORT_RUN, *METHODS["arcface"], "--score-every", 1)
    assert_equal(started[1], scored[1])
    assert not torch.equal(started[1]["head.weight"], scored[2]["head.weight"])


def test_initialization_across_methods_and_classes(folder, arcface_run, landmark_run, scratch_run):
    arguments = (*SHORT_RUN, "--method", "finetune", "--steps", 2)
    output = train(folder, *arguments, "--from", arcface_run)
    assert any("starting from the convolutions of" in line for line in output)
    (run,) = runs()
    source, state = load(best_path(arcface_run))["network"], load(checkpoints(run)[-1])
    frozen = "backbone.body.0.weight"
    assert torch.equal(state["network"][frozen], source[frozen]), "frozen up to the last block"
    assert state["settings"]["backbone"] == "small"
    assert state["settings"]["freeze"] == "13"
    train(folder, *SHORT_RUN, "--method", "arcface", "--from", landmark_run)
    train(folder, *SHORT_RUN, "--from", best_path(scratch_run))
    assert load(checkpoints(runs()[-1])[-1])["settings"]["image_size"] == 32
    line = error_line(folder, *SHORT_RUN, "--method", "finetune", "--from", scratch_run)
    assert "only --method scratch can start" in line
    line = error_line(
        folder, *SHORT_RUN, "--method", "arcface", "--backbone", "squeezenet1_1", "--from", arcface_run
    )
    assert "cannot start from" in line
    assert "its network has no backbone.body" in line


def test_initialization_from_other_checkpoints_is_an_error(folder, tiny_run, landmark_run):
    for source in (tiny_run, checkpoints(tiny_run)[-1]):
        line = error_line(folder, *SHORT_RUN, "--from", source)
        assert "is of another kind: gan, not classifier; --from takes a checkpoint" in line
    line = error_line(folder, *SHORT_RUN, "--from", landmark_run)
    assert "is of another kind: landmarks, not classifier; its convolutions fit --method finetune" in line
    assert "gone.pt is not a run" in error_line(folder, *SHORT_RUN, "--from", "gone.pt")


def test_training_on_cached_features(drawn_people, arcface_run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    arguments = (*CLASSIFIER_FLAGS, "--method", "finetune", "--from", arcface_run, "--once")
    train(drawn_people, *arguments, "--steps", 40, "--batch-size", 16, "--learning-rate", 0.02)
    values = json.loads((runs()[0] / "report.json").read_text())
    assert values["balanced_accuracy"] > 0.5


def test_missing_weights_name_the_alternatives(folder, monkeypatch, tmp_path):
    def no_network(*_: object, **__: object) -> None:
        raise OSError("no route to host")

    monkeypatch.setattr(torch.hub, "load_state_dict_from_url", no_network)
    line = error_line(folder, *SHORT_RUN, "--method", "arcface", "--backbone", "squeezenet1_1")
    for part in ("no route to host", "--weights FILE", "--weights none", "--from CHECKPOINT"):
        assert part in line
    assert not Path("outputs").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--backbone", "small"), "scratch has its own network"),
        (("--weights", "imagenet"), "scratch is not pretrained"),
        (("--method", "arcface", "--once"), "--once is for --method finetune"),
        (("--method", "finetune", *SMALL_BACKBONE, "--once"), "--once needs frozen layers"),
        (("--method", "finetune", *SMALL_BACKBONE, "--freeze", "0"), "--freeze needs trained layers"),
        (
            ("--method", "arcface", "--backbone", "nonsense", "--weights", "none"),
            "there is no backbone nonsense",
        ),
        (("--loss", "softmax"), "--loss is for --method arcface"),
        (("--method", "finetune", "--scale", 20), "--scale is for --method arcface"),
        (("--held-out", 0.7), "--held-out must be"),
        (("--centre", 0), "--centre must be"),
        (("--image-size", 40), "multiple of 16"),
        (("--image-size", 8000), "--image-size must be at most 800"),
        (("--method", "arcface", "--embedding", 10**9), "--embedding must be at most"),
        (("--from", "x.pt", "--weights", "imagenet", "--method", "arcface"), "give one of the two"),
        (("--margin", 4), "less than pi"),
    ],
)
def test_invalid_settings(folder, arguments, message):
    assert message in error_line(folder, *CLASSIFIER_FLAGS, *arguments)
    assert not Path("outputs").exists()


def test_invalid_folder_leaves_no_files(folder):
    (folder / "empty").mkdir()
    assert "has no usable image" in error_line(folder, *SHORT_RUN)
    assert not Path("outputs").exists()


def test_corrupt_image_is_listed_in_skipped_txt(folder):
    image = sorted(folder.rglob("*.png"))[0]
    image.write_bytes(b"broken")
    assert "(1 left out)" in train(folder, *SHORT_RUN)[0]
    skipped = (runs()[0] / "skipped.txt").read_text()
    assert skipped.startswith(f"{image.relative_to(folder)}\tnot a JPEG")


def test_class_without_a_font_is_a_number_in_pictures(folder, monkeypatch):
    monkeypatch.setattr("images.fonts._installed_fonts", lambda: [])
    sorted(folder.iterdir())[0].rename(folder / "李小龙")
    output = train(folder, *SHORT_RUN, "--steps", 1, "--learning-rate", 1e-9)
    assert "letters of 李小龙 (1 of 3 classes): pictures show #3 instead" in "\n".join(output)
    assert (runs()[0] / "classes.csv").read_text(encoding="utf-8").splitlines()[3].startswith("李小龙,")
    assert (runs()[0] / "mistakes.png").exists()


def test_imbalanced_folder_with_train_and_validate(folder):
    people = sorted(folder.iterdir())
    split = Path("split")
    for person, count in zip(people[:2], (12, 2), strict=True):
        files = sorted(person.iterdir())
        for place, chosen in (("train", files[:count]), ("validate", files[-2:])):
            (split / place / person.name).mkdir(parents=True)
            for file in chosen:
                shutil.copy(file, split / place / person.name)
    output = train(split, *SHORT_RUN, "--steps", 2)
    assert "2 to 12 training images per class; 4 images held out, from validate/" in output[0]


def test_drawn_faces_without_a_folder(monkeypatch, tmp_path, drawn_faces):
    monkeypatch.chdir(tmp_path)
    shutil.copytree(drawn_faces, "data/drawn-5000")
    monkeypatch.setattr("faces.drawn.folder.write_folder", lambda *_, **__: 0)
    output = train(*SHORT_RUN, "--label", "beard", "--batch-size", 4, "--dry-run")
    assert "with the column beard of its labels.csv" in output[0]
    assert "90 images" in output[1]
    assert output[-1].endswith("of them trained in the first step")
    assert not Path("outputs").exists()


def test_steps_do_not_depend_on_logging(folder):
    arguments = (folder, *CLASSIFIER_FLAGS, "--batch-size", 8, "--steps", 4)
    train(*arguments, "--log-every", 1, "--score-every", 1)
    train(*arguments, "--log-every", 4)
    first, second = (load(checkpoints(run)[-1]) for run in runs())
    for key in ("network", "average"):
        assert_equal(first[key], second[key])
