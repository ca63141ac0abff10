"""directions.py, and the use of directions by name in the other scripts."""

import errno
import json
import shutil
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from engine.png import load_png, read_text
from gan.generator import load_generator
from gan.latent.directions import Direction, Directions, path_of
from gan.latent.vectors import draw
from images.tiles import tile
from lab.finding import Found
from tests.in_process import call, refusal, succeed

find = partial(succeed, "directions.py")


@pytest.fixture(scope="module")
def searched(tiny_run, landmark_run, scratch_run, tmp_path_factory) -> Path:
    """A run with directions of all kinds; do not change it."""
    run = Path(shutil.copytree(tiny_run, tmp_path_factory.mktemp("searched") / tiny_run.name))
    find(
        run,
        *("--count", 250, "--faces", 3, "--random", 2, "--unnamed", 2, "--landmarks", landmark_run),
        *("--by", f"who={scratch_run}", "--recognizer", scratch_run, "--keep", "identity", "brightness"),
    )
    return run


@pytest.fixture
def run(searched, tmp_path) -> Path:
    return Path(shutil.copytree(searched, tmp_path / "runs" / searched.name))


@pytest.fixture
def plain(tiny_run, tmp_path) -> Path:
    """A run with two directions that were not searched for."""
    run = Path(shutil.copytree(tiny_run, tmp_path / "runs" / tiny_run.name))
    vectors = np.linalg.qr(np.random.default_rng(0).normal(size=(100, 2)))[0].T
    named = {name: Direction(vector, "") for name, vector in zip(("smile", "glasses"), vectors, strict=True)}
    Directions(load_generator(run).digest, named).save(path_of(run))
    return run


def test_a_search_writes_directions_table_and_sheet(searched):
    directions = Directions.of(load_generator(searched))
    assert {"brightness", "background", "leading_1", "leading_2", "sefa_1", "sefa_2"} <= {*directions.names}
    rows = {row["name"]: row for row in json.loads((searched / "directions.json").read_text())}
    assert tuple(rows) == directions.names
    brightness = rows["brightness"]
    assert {"source", "effect", "leak", "random_leak", "identity", "monotone", "realism"} <= {*brightness}
    assert brightness["effect"] > 0
    assert 0 < brightness["identity"] <= 1
    assert 0 < rows["leading_1"]["share"] <= 1
    text = read_text(searched / "directions.png")
    assert text["run"] == searched.name
    assert load_png(searched / "directions.png").shape[1] > 64 * len(rows)


def test_every_attribute_is_in_the_table_or_said_to_be_missing(run, landmark_run):
    lines = find(
        run, "--count", 250, "--faces", 3, "--random", 1, "--unnamed", 0, "--landmarks", landmark_run
    ).lines
    assert lines[0].split()[:4] == ["direction", "effect", "leak", "random"]
    first_words = [line.split()[0].rstrip(":") for line in lines[1:-2] if "two scorers" not in line]
    attributes = [
        "brightness",
        "warmth",
        "contrast",
        "background",
        "yaw",
        "tilt",
        "smile",
        "mouth_wide",
        "mouth_open",
        "eyes_open",
    ]
    assert sorted(first_words) == sorted(attributes)
    # Those of the search before are kept.
    assert "leading_1" in Directions.of(load_generator(run)).names
    assert lines[-1] == str(run / "directions.safetensors")


def test_faces_that_one_chooses(plain):
    z = draw(64, 100, load_generator(plain).seed)
    order = np.argsort(z[:, 0]).tolist()
    lines = find(plain, "--plus", *order[-8:], "--minus", *order[:8], "--name", "mine").lines
    assert lines[0].startswith("mine, from 16 faces; ")
    assert "of them are on the right side of a direction found from the others" in lines[0]
    directions = Directions.of(load_generator(plain))
    assert directions.names == ("smile", "glasses", "mine")
    assert directions["mine"].scores["faces"] == 16
    assert 0 <= directions["mine"].scores["held_out"] <= 1
    # The direction is from the second set to the first.
    projections = z @ directions["mine"].vector
    assert projections[order[-8:]].mean() > projections[order[:8]].mean()
    np.save(plain / "faces.npy", z)
    options = (
        "--latents",
        plain / "faces.npy",
        "--plus",
        *order[-8:],
        "--minus",
        *order[:8],
        "--name",
        "same",
    )
    find(plain, *options)
    directions = Directions.of(load_generator(plain))
    assert np.allclose(directions["same"].vector, directions["mine"].vector)
    find(plain, "--remove", "mine", "smile")
    assert Directions.of(load_generator(plain)).names == ("glasses", "same")
    find(plain, "--remove", "glasses", "same")
    assert Directions.of(load_generator(plain)).names == ()


def test_it_is_said_when_the_chosen_faces_determine_nothing(plain):
    z = draw(64, 100, load_generator(plain).seed)
    order = np.argsort(z[:, 0]).tolist()
    few = find(plain, "--plus", 1, "--minus", 2, "--name", "few")
    assert "warning: 2 faces are too few for a direction, which is mostly chance" in few.error
    # Both sets have faces of either kind.
    mixed = find(plain, "--plus", *order[::8], "--minus", *order[1::8], "--name", "mixed")
    assert "warning: the faces hardly agree on a direction" in mixed.error


def test_sample_shifts_faces(plain):
    generator = load_generator(plain)
    lines = succeed("sample.py", plain, "--count", 4, "--shift", "smile=2", "glasses=-1").lines
    z = Directions.of(generator).move(draw(4, 100, generator.seed), {"smile": 2, "glasses": -1})
    assert np.array_equal(load_png(lines[-1]), tile(generator.images(z), 2))
    assert np.array_equal(np.load(Path(lines[-1]).with_suffix(".npy")), z)
    assert read_text(lines[-1])["shift"] == "smile=2 glasses=-1"
    assert "smile_2-glasses_-1" in lines[-1]
    unmoved = succeed("sample.py", plain, "--count", 4, "--shift", "smile=0").lines[-1]
    assert np.array_equal(load_png(unmoved), tile(generator.images(draw(4, 100, generator.seed)), 2))


def test_faces_move_along_a_direction(plain):
    generator = load_generator(plain)
    z, directions = draw(64, 100, generator.seed), Directions.of(generator)
    options = (plain, "--tiles", 17, 5, "--along", "smile", "--reach", 2)
    lines = succeed("interpolate.py", *options, "--steps", 5).lines
    rows = [directions.move(z[[17, 5]], {"smile": strength}) for strength in (-2, -1, 0, 1, 2)]
    expected = np.stack(rows, 1).reshape(10, 100)
    assert np.array_equal(np.load(Path(lines[-1]).with_suffix(".npy")), expected)
    assert np.array_equal(expected[2], z[17])
    assert np.array_equal(load_png(lines[-1]), tile(generator.images(expected), 5))
    assert read_text(lines[-1])["along"] == "smile"
    lines = succeed("interpolate.py", *options, "--form", "gif", "--steps", 5, "--loop").lines
    with Image.open(lines[-1]) as film:
        assert film.n_frames == 8
        assert film.size == (2 * 32 + 2, 32)


def test_arithmetic_with_directions(plain):
    generator = load_generator(plain)
    z = draw(64, 100, generator.seed)
    lines = succeed("interpolate.py", plain, "--arithmetic", "17 + 1.5*smile - glasses").lines
    moved = Directions.of(generator).move(z[17], {"smile": 1.5, "glasses": -1})
    assert np.array_equal(np.load(Path(lines[-1]).with_suffix(".npy"))[4], moved)
    assert len(lines) == 2  # nothing left the prior


def test_pictures_of_directions_found_again_do_not_replace_those_of_before(plain):
    commands = (
        ("sample.py", "--count", 2, "--shift", "smile=2"),
        ("interpolate.py", "--tiles", 1, "--along", "smile", "--form", "gif", "--steps", 3),
        ("interpolate.py", "--arithmetic", "17 + smile"),
    )

    def pictures():
        return [Path(succeed(script, plain, *flags).lines[-1]) for script, *flags in commands]

    before = pictures()
    assert pictures() == before
    directions = Directions.of(load_generator(plain))
    swapped = {"smile": directions["glasses"], "glasses": directions["smile"]}
    Directions(directions.generator, swapped).save(path_of(plain))
    assert not {*pictures()} & {*before}
    assert all(picture.exists() for picture in before)


def test_an_exported_file_carries_its_directions(plain, tmp_path):
    for flags in ((), ("--half",)):
        file = tmp_path / "faces.safetensors"
        succeed("export.py", plain, file, *flags)
        out = ("--output", tmp_path / "out")
        lines = succeed("sample.py", file, *out, "--count", 2, "--shift", "smile=2").lines
        assert "smile_2" in lines[-1]
        succeed("export.py", file, tmp_path / "again.safetensors")
        assert Directions.load(tmp_path / "again.safetensors").names == ("smile", "glasses")
    # Directions found for a file are beside it, and take precedence.
    find(file, *out, "--plus", 1, 2, "--minus", 3, 4, "--name", "mine")
    assert (tmp_path / "faces.directions.json").exists()
    assert Directions.load(file).names == ("smile", "glasses", "mine")
    result = call("export.py", plain, tmp_path / "raw.safetensors", "--raw")
    assert result.code == 0
    assert "exported without directions: " in result.lines[0]


def test_a_direction_added_during_a_search_is_kept_and_missing_ones_are_explained(plain, monkeypatch):
    def search(generator, *scorers, **options):
        mine = Direction(np.eye(100)[0], "chosen faces")
        Directions.of(generator).with_directions({"mine": mine}).save(path_of(plain))
        return Found({}, {"hat": 0.01, "beard": 0.5}, ["hat", "beard"])

    monkeypatch.setattr("lab.direction_search.search", search)
    lines = find(plain, "--count", 200, "--unnamed", 0).lines
    assert "hat: no direction, as the latent vector explains only 1.0% of it" in lines
    assert "beard: no direction, as nothing is left of it beside what --keep names" in lines
    assert Directions.of(load_generator(plain)).names == ("smile", "glasses", "mine")


def test_stale_directions_are_kept_as_a_copy(plain):
    before = path_of(plain).read_bytes()
    choose = ("--plus", 1, "--minus", 2, "--name", "mine")
    assert "another generator" in refusal("directions.py", plain, "--raw", "--remove", "smile")
    assert "no face -1" in refusal("directions.py", plain, "--raw", "--plus", -1, *choose[2:])
    assert path_of(plain).read_bytes() == before  # not moved by work that fails
    lines = find(plain, "--raw", *choose).lines
    assert lines[0].startswith("starting again without the previous directions: ")
    assert "the previous file is now directions.old.safetensors" in lines
    assert Directions.load(plain / "directions.old.safetensors").names == ("smile", "glasses")
    assert Directions.of(load_generator(plain, raw=True)).names == ("mine",)
    assert "the previous file is now directions.old2.safetensors" in find(plain, *choose).lines
    assert (plain / "directions.old.safetensors").read_bytes() == before


@pytest.mark.parametrize(
    ("script", "options", "message"),
    [
        (
            "sample.py",
            ("--shift", "grin=1"),
            "no direction grin; the directions of this generator are smile, glas",
        ),
        ("sample.py", ("--shift", "smile"), "'smile' is not NAME=STRENGTH, such as smile=1.5"),
        ("sample.py", ("--shift", "smile=1", "smile=2"), "the direction smile is given twice"),
        ("sample.py", ("--raw", "--shift", "smile=1"), "belongs to another generator, or to other weights"),
        ("interpolate.py", ("--along", "grin"), "no direction grin"),
        (
            "interpolate.py",
            ("--along", "smile", "--keep-in-range"),
            "--keep-in-range is not an option of --along",
        ),
        ("interpolate.py", ("--along", "smile", "--reach", 0), "--reach must be more than 0"),
        ("interpolate.py", ("--reach", 2), "--reach requires --along"),
        ("interpolate.py", ("--along", "smile", "--arithmetic", "3"), "--along is an option of a path"),
        ("interpolate.py", ("--arithmetic", "3 + grin"), ">>grin<<: no such direction; the directions"),
        ("directions.py", ("--plus", 1), "--plus, --minus and --name go together"),
        ("directions.py", ("--latents", "z.npy"), "--latents is for the faces of --plus and --minus"),
        ("directions.py", ("--check-by", 1), "--check-by measures the directions of --by: give that too"),
        (
            "directions.py",
            ("--check-landmarks", 1),
            "--check-landmarks measures the directions of",
        ),
        ("directions.py", ("--seed", 3), "--seed is for the faces of --plus and --minus"),
        (
            "directions.py",
            ("--plus", 1, "--minus", 1, "--name", "a"),
            "--plus and --minus both contain face 1",
        ),
        (
            "directions.py",
            ("--plus", 1, "--minus", 2, "--name", "a b"),
            "'a b' is not a valid direction name",
        ),
        *(
            (
                "directions.py",
                ("--plus", 1, "--minus", 2, "--name", name),
                f"a direction cannot be named {name}: edit.py or --keep reads",
            )
            for name in ("scale", "no_encoder", "identity")
        ),
        ("directions.py", ("--plus", -1, "--minus", 2, "--name", "a"), "there is no face -1"),
        ("directions.py", ("--remove", "grin"), "no direction grin"),
        (
            "directions.py",
            ("--remove", "smile", "--landmarks", "1"),
            "--remove finds no directions: give it alone",
        ),
        ("directions.py", ("--count", 10), "--count must be 200 or more"),
        ("directions.py", ("--by", "nowhere"), "nowhere is not a run"),
        ("directions.py", ("--landmarks", "nowhere"), "nowhere is not a run"),
        ("directions.py", ("--keep", "identity"), "--keep identity needs --recognizer RUN"),
    ],
)
def test_mistakes_end_with_one_line_and_lose_nothing(plain, script, options, message):
    before = path_of(plain).read_bytes()
    assert message in refusal(script, plain, *options)
    assert path_of(plain).read_bytes() == before


def test_a_folder_that_cannot_be_written_to_is_refused_before_the_search(plain, monkeypatch):
    def refuse(dir):
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr("engine.files.tempfile.TemporaryFile", refuse)
    monkeypatch.setattr("lab.direction_search.search", lambda *arguments, **options: pytest.fail("searched"))
    line = refusal("directions.py", plain, "--count", 200)
    assert f"{path_of(plain)} cannot be written to: Read-only file system" in line


def test_a_damaged_file_ends_with_one_line(plain):
    path_of(plain).write_bytes(path_of(plain).read_bytes()[:-9])
    line = refusal("sample.py", plain, "--shift", "smile=1")
    assert "directions.safetensors is damaged, or not a .safetensors file" in line
    assert succeed("sample.py", plain, "--count", 1).code == 0


def test_a_run_without_directions_says_how_to_find_some(tiny_run):
    line = refusal("sample.py", tiny_run, "--shift", "smile=1")
    assert "this generator has no directions yet; run directions.py to find some" in line
