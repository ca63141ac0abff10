"""The recognition experiment: splits, measurements, reuse of runs."""

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from engine.errors import UserError
from engine.runs import checkpoints
from experiments import recognition, running
from experiments.recognition import RecognitionArguments, open_set, split_people
from experiments.recognition_runs import link, train
from faces.recognition import report
from tests.in_process import succeed

TINY = ("--image-size", 32, "--steps", 2, "--log-every", 1, "--batch-size", 8, "--device", "cpu")
SMALL = (*TINY, "--backbone", "small", "--weights", "none")


@pytest.fixture(scope="module")
def people(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Seven images of noise of each of fourteen people; do not change them."""
    folder, random = tmp_path_factory.mktemp("measured") / "people", np.random.default_rng(0)
    for person in range(14):
        (folder / f"person-{person:02d}").mkdir(parents=True)
        for number in range(7):
            noise = Image.fromarray(random.integers(0, 256, (40, 40, 3), np.uint8))
            noise.save(folder / f"person-{person:02d}" / f"{number}.png")
    return folder


def call_in_process(script: str, *arguments: object, out: object = None, success: object = ()) -> None:
    """As `running.call_script`, in this process."""
    output = succeed(script, *arguments)
    if out is None:
        print("\n".join(output.lines))


@pytest.fixture
def tiny(people, tmp_path, monkeypatch) -> RecognitionArguments:
    """The experiment in seconds: fewer steps, and no process for each run."""
    names = sorted(path.name for path in people.iterdir())
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(report, "_draw", lambda *_: [])
    monkeypatch.setattr(running, "call_script", call_in_process)
    for name, value in {
        "TRANSFER_PEOPLE": (names[0], names[1]),
        "FREQUENT_PEOPLE": tuple(names[2:4]),
        "TRAINED_PER_PERSON": 5,
        "TRANSFER_COUNTS": (2, 4),
        "SIDE": 32,
        "SCRATCH": TINY,
        "EMBEDDING": ("--method", "arcface", "--centre", 0.6, *SMALL),
        "TRANSFER": {"from arcface": ("--method", "finetune", "--steps", 2, "--device", "cpu")},
    }.items():
        monkeypatch.setattr(recognition, name, value)
    return RecognitionArguments(people, seeds=(0,), output=Path("out"))


def test_all_parts_print_tables_and_reuse_runs(tiny, people, capsys, monkeypatch):
    parts = (recognition.measure_scratch, recognition.measure_embeddings, recognition.measure_transfer)
    for part in parts:
        part(tiny)
    first = capsys.readouterr().out
    rows = [line for line in first.splitlines() if line.startswith("|")]
    assert [row.split("|")[1].strip() for row in rows] == [
        *("seed", "---", "0"),
        *("features", "---", "ArcFace", "softmax", "PCA", "PCA, whitened"),
        *("images of each", "---", "2", "4"),
    ]
    assert len({row.count("|") for row in rows[3:9]}) == 1
    monkeypatch.setattr(running, "call_script", None)
    for part in parts:
        part(tiny)
        again = capsys.readouterr().out
        assert again.partition("|")[2] in first, "a table is printed in one piece, after all runs"

    trained, newcomers, strangers = split_people(people)
    assert sorted([*trained, *newcomers, *strangers]) == sorted(path.name for path in people.iterdir())
    files = {
        place: {path.resolve() for path in (tiny.output / "splits" / place).rglob("*.png")}
        for place in ("forty", "two-2/train", "two-2/validate", "two-4/train", "two-4/validate")
    }
    assert {path.parent.name for path in files["forty"]} == {*trained}
    assert files["two-2/train"] < files["two-4/train"]
    assert files["two-2/validate"] == files["two-4/validate"]
    for place in ("forty", "two-4/train"):
        assert not files[place] & files["two-4/validate"], "no test image is trained on"


def test_generated_faces_are_labelled_and_evaluated(tiny, people, tiny_run, tmp_path, monkeypatch, capsys):
    faces, run = tmp_path / "faces", shutil.copytree(tiny_run, tmp_path / "generator")
    faces.mkdir()
    for number, file in enumerate(sorted(people.rglob("*.png"))[:20]):
        shutil.copy(file, faces / f"{20 + number}_{number % 2}_x.png")
    calls = []

    def skip_evaluate(script: str, *arguments: object, **options: object) -> None:
        calls.append((script, *arguments))
        if script != "evaluate.py":  # takes long, and is tested with these features elsewhere
            call_in_process(script, *arguments, **options)

    monkeypatch.setattr(recognition, "call_script", skip_evaluate)
    monkeypatch.setattr(recognition, "GENERATED", 16)
    monkeypatch.setattr(recognition, "GENDER", ("--label", recognition.LABEL, *TINY))
    recognition.label_generated(replace(tiny, faces=faces, run=run))
    out = capsys.readouterr().out
    assert "on 4 faces held out" in out
    assert "| class | real | real, as labelled | 16 generated, as labelled |" in out
    shares = [
        [float(cell.rstrip("% ")) for cell in line.split("|")[2:5]]
        for line in out.splitlines()
        if line.startswith(("| 0 |", "| 1 |"))
    ]
    np.testing.assert_allclose(np.sum(shares, 0), 100, atol=0.11)
    assert [row[0] for row in shares] == [50, 50]
    (trained,) = (tiny.output / "runs").iterdir()
    assert calls[-1][0] == "evaluate.py"
    assert calls[-1][-1] == checkpoints(trained)[-1], "the network that labelled, not the best one"
    assert {path.name for path in (tiny.output / "labels").iterdir()} == {"recognized.csv", ".recognize.made"}


def test_links_of_an_earlier_split_are_removed(people, tmp_path):
    first, second = sorted(people.iterdir())[:2]
    photos = {person.name: sorted(person.iterdir()) for person in (first, second)}
    folder = tmp_path / "split"
    link(folder, {name: (files[:6], files[6:]) for name, files in photos.items()})
    link(folder, {first.name: (photos[first.name][:2], photos[first.name][2:])})
    assert sorted(path.resolve() for path in (folder / "train").rglob("*.png")) == photos[first.name][:2]
    assert {path.name for path in folder.iterdir()} == {"train", "validate"}
    assert not (folder / "train" / second.name).exists()
    link(folder, {first.name: (photos[first.name], ())})
    assert [path.name for path in folder.iterdir()] == [first.name]
    assert all(path.is_file() for path in photos[second.name]), "only links are removed"


def test_a_run_with_other_settings_is_refused(tiny, people):
    trained, _, _ = split_people(people)
    folder = link(Path("of two"), {name: (sorted((people / name).iterdir()), ()) for name in trained[:2]})
    run = train(tiny.output, "one", (folder, *TINY), 0)
    assert train(tiny.output, "one", (folder, *TINY), 0) == run
    with pytest.raises(UserError, match="was trained with a different --seed;"):
        train(tiny.output, "one", (folder, *TINY, "--seed", 1), 0)


def test_open_set_by_hand(tmp_path, monkeypatch):
    """Two newcomers along two axes, of one of whom there are more images; strangers in between."""
    monkeypatch.setattr(recognition, "ENROLLED", 1)
    monkeypatch.setattr(recognition, "STRANGERS_FAR", 0.0)

    def at(degrees: list[int]) -> np.ndarray:
        return np.array([[np.cos(np.radians(angle)), np.sin(np.radians(angle))] for angle in degrees])

    class People:
        def __init__(self, *names: str) -> None:
            self.classes = tuple(sorted({*names}))
            self.class_names = lambda: list(names)

    # Ada is enrolled at 0 degrees and looked up at 10, 50, 20; Bo at 90 and 40, which is nearer to Ada.
    new, names = at([0, 10, 50, 20, 90, 40]), People("Ada", "Ada", "Ada", "Ada", "Bo", "Bo")
    # One of Cy's images is as near to Ada as Bo's is, at 40 degrees or less; Di's is near to nobody.
    scores = open_set(new, names, at([30, 45, 240]), People("Cy", "Cy", "Di"))
    assert scores["rank-1"] == 0.5
    assert scores["rank-1, balanced"] == pytest.approx((2 / 3 + 0) / 2)
    # Ada's threshold is set on Bo's 40 degrees, Bo's on Ada's: 40 degrees too, as 50 is that far from 90.
    assert scores["newcomers named"] == pytest.approx((2 / 3 + 0) / 2)
    assert scores["strangers refused"] == pytest.approx((1 / 2 + 1) / 2)


def test_eigenfaces_are_directions_of_maximal_variance():
    random = np.random.default_rng(0)
    base = np.full((40, 3, 8, 8), 128, np.uint8)
    base[:, :, 2, 2] = random.integers(0, 256, (40, 1))
    project = recognition.eigenfaces(base, whiten=False)
    images = np.full((2, 3, 8, 8), 128, np.uint8)
    images[0, :, 2, 2], images[1, :, 2, 2] = 255, 0
    brighter, darker = project(images)
    assert abs(brighter[0]) == pytest.approx(1, abs=1e-3)
    assert brighter @ darker == pytest.approx(-1, abs=1e-3)


def test_a_folder_without_these_people_is_refused(people):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sys.argv", ["recognition.py", str(people)])
        with pytest.raises(UserError, match="has no folder Colin_Powell"):
            recognition.main()
