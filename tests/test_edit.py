"""edit.py on photos of drawn faces, with a small generator in a file."""

import contextlib
import re
import shutil
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from PIL import ExifTags, Image

from edit import OPTIONS, with_shifts
from engine.errors import UserError
from engine.png import load_png, read_text, save_png, to_pillow
from engine.progress import ProgressBar
from gan.export.generator_file import load_generator_file, save_generator
from gan.inversion import encoder as encoder_module
from gan.inversion.inversion import Effort
from gan.latent.directions import RESERVED_NAMES, Direction, Directions, path_of
from gan.latent.gaussian import to_gaussian
from gan.latent.vectors import draw
from lab import fitting
from tests.faces.photos import photo
from tests.in_process import call, refusal, succeed
from tests.small_generator import small_generator

pytest.importorskip("cv2", reason="needs the extra 'photos'")
edit = partial(succeed, "edit.py")
WHOLE = ("--whole-image", "--device", "cpu")
QUICK = Effort(draws=1, adam_steps=10, evaluations=40)


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Path:
    """A generator in a file with two directions, and its encoder; do not change it."""
    folder = tmp_path_factory.mktemp("made")
    generator = small_generator(folder / "run")
    axes = {name: Direction(np.eye(10)[index], "test") for index, name in enumerate(("smile", "glasses"))}
    path = folder / "small.safetensors"
    save_generator(generator, path, directions=Directions(generator.digest, axes))
    fitting.save_encoder(
        encoder_module.train_encoder(generator.network, steps=20),
        load_generator_file(path),
    )
    return path


@pytest.fixture
def file(made, tmp_path, monkeypatch) -> Path:
    """A copy of it in the working directory, where inversions are short."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(fitting.EFFORTS, "best", QUICK)
    for path in made.parent.glob("small*"):
        shutil.copy(path, tmp_path)
    return Path("small.safetensors")


@pytest.fixture
def own(file) -> Path:
    """An image of the generator itself."""
    generator = load_generator_file(file)
    save_png("own.png", generator.images(draw(1, 10, 4))[0])
    return Path("own.png")


def test_a_face_is_fitted_and_moved_along_a_direction(file, own):
    code, lines, _ = edit(file, own, *WHOLE, "--shift", "smile=1.5", "glasses=-1", "--file", "me.png")
    assert code == 0
    assert lines == ["own.png: a face, fitted to" + lines[0].partition("fitted to")[2]]
    z = np.load("me.npy")
    assert np.abs(z[0] - draw(1, 10, 4)[0]).max() < 0.05
    expected = to_gaussian(z[0])
    expected[:2] += (1.5, -1)
    np.testing.assert_allclose(to_gaussian(z[1]), expected, atol=1e-3)
    picture = load_png("me.png")
    generator = load_generator_file(file)
    columns = [picture[:, :32, start : start + 32] for start in (0, 34, 68)]
    assert np.array_equal(columns[0], load_png(own))
    assert np.array_equal(np.stack(columns[1:]), generator.images(z))
    assert read_text("me.png")["shift"] == "smile=1.5 glasses=-1"


@pytest.mark.parametrize(
    ("words", "written"),
    [
        ("7 a.jpg --smile 1.5 --yaw -1", "7 a.jpg --shift=smile=1.5 --shift=yaw=-1"),
        ("a.jpg --mouth-open=.5 --fit fast", "a.jpg --shift=mouth_open=.5 --fit fast"),
        ("--no-encoder 7 a.jpg --smile=1e-1", "--no-encoder 7 a.jpg --shift=smile=1e-1"),
        ("a.jpg -- --smile 2", "a.jpg -- --smile 2"),
    ],
)
def test_a_direction_can_be_written_as_an_option(words, written):
    assert with_shifts(words.split()) == written.split()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            "a.jpg --scale 4 --smile --keep identity",
            "--smile is not an option; as a direction, it needs a number",
        ),
        ("a.jpg --shift smile=1 --smile", "--smile is not an option; as a direction"),
        (
            "a.jpg --smile=x",
            "--smile is not an option; as a direction, it needs a number, such as --smile 1.5",
        ),
        ("--whole-imag a.jpg", "--whole-imag is not an option (did you mean --whole-image?); as a direction"),
    ],
)
def test_an_option_that_does_not_exist_is_a_direction_without_a_number(words, message):
    with pytest.raises(UserError, match=f"^{re.escape(message)}"):
        with_shifts(words.split())


def test_no_direction_can_have_the_name_of_an_option():
    assert {*OPTIONS, "identity", "none"} == RESERVED_NAMES


def test_an_option_moves_a_face_like_a_shift(file, own):
    edit(*WHOLE, "--file", "option.png", "--smile", -1.5, file, own)
    edit(*WHOLE, "--file", "shift.png", "--shift", "smile=-1.5", "--", file, own)
    assert np.array_equal(np.load("option.npy"), np.load("shift.npy"))


def test_faces_in_photos_of_a_folder_and_bad_ones_among_them(file):
    folder = Path("photos")
    folder.mkdir()
    left, right = (photo(number, width=180)[0] for number in (0, 2))
    save_png(folder / "two faces.png", np.concatenate([left, right], 2))
    one = to_pillow(photo(1)[0])
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6  # stored turned by a quarter
    one.transpose(Image.Transpose.ROTATE_90).save(folder / "turned.jpg", exif=exif)
    (folder / "bro\nken\x1b.jpg").write_bytes(b"\xff\xd8\xff" + bytes(50))
    save_png(folder / "nobody.png", np.full((3, 90, 90), 200, np.uint8))
    code, lines, error = edit(file, folder, "--device", "cpu", "--fit", "fast")
    assert code == 0
    assert len(lines) == 2
    assert "2 faces" in next(line for line in lines if "two faces" in line)
    assert "turned.jpg: a face" in next(line for line in lines if "turned" in line)
    assert error.count("left out:") == 2
    assert "bro\\nken\\x1b.jpg: " in error
    assert "nobody.png: no face found" in error
    pictures = sorted(Path("outputs/exported/small/edits").glob("*.png"))
    assert len(pictures) == 2
    for picture in pictures:
        assert len(np.load(picture.with_suffix(".npy"))) == 1 + ("two" in picture.name)


def test_without_any_face_it_fails(file):
    save_png("nobody.png", np.full((3, 90, 90), 200, np.uint8))
    code, lines, error = call("edit.py", file, "nobody.png", "--device", "cpu")
    assert code == 2
    assert lines == []
    assert "error: nobody.png: no face found; --whole-image takes" in error


def test_another_fit_does_not_replace_the_picture(file, own, arcface_run):
    keep = ("--keep", "identity", "--recognizer", arcface_run)
    variants = ((), ("--fit", "fast"), ("--no-encoder",), keep, ("--tune", "tuned.safetensors"))
    pictures = set()
    for flags in variants:
        _, lines, _ = edit(file, own, *WHOLE, "--shift", "smile=1", *flags)
        pictures.add(Path(lines[-1].rpartition(": ")[2]))
    assert len(pictures) == len(variants)
    for picture in pictures:
        # Each is by the generator whose folder it is in.
        name = picture.parent.parent.name
        images = load_generator_file(Path(f"{name}.safetensors")).images(np.load(picture.with_suffix(".npy")))
        assert np.array_equal(load_png(picture)[:, :32, 34:66], images[0])
    assert {picture.parent.parent.name for picture in pictures} == {"small", "tuned"}


def test_the_encoder_is_trained_once_and_kept(file, own, monkeypatch):
    monkeypatch.setitem(encoder_module.train_encoder.__kwdefaults__, "steps", 8)
    monkeypatch.setattr(encoder_module, "STEPS", 8)
    Path("small.encoder.safetensors").unlink()
    _, lines, _ = edit(file, own, *WHOLE, "--fit", "fast")
    assert "takes about 1 min, once; it is kept in small.encoder.safetensors" in lines[0]
    assert Path("small.encoder.safetensors").exists()
    _, lines, _ = edit(file, own, *WHOLE, "--fit", "fast")
    assert not any("training" in line for line in lines)


def test_the_encoder_does_not_count_in_the_time_of_the_photos(file, own, monkeypatch):
    events = []

    @contextlib.contextmanager
    def paused(bar):
        events.append("paused")
        yield
        events.append("resumed")

    monkeypatch.setattr(ProgressBar, "paused", paused)
    monkeypatch.setattr(fitting, "prepared_encoder", lambda *arguments: events.append("trained"))
    edit(file, own, *WHOLE)
    assert events == ["paused", "trained", "resumed"]


def test_a_tuned_copy_makes_the_face_better_and_has_the_directions(file, own, monkeypatch):
    other = small_generator(Path("other"), seed=0)
    other.network.project.weight.data *= 1.15
    save_png("foreign.png", other.images(draw(1, 10, 4))[0])
    edit(file, "foreign.png", *WHOLE, "--file", "before.png")
    arguments = ("--tune", "tuned.safetensors", "--shift", "smile=1", "--file", "after.png")
    _, lines, _ = edit(file, "foreign.png", *WHOLE, *arguments)
    assert "tuned.safetensors" in lines[0]
    target = load_png("foreign.png").astype(float)
    errors = [
        np.square(load_png(name)[:, :32, 34:66] - target).mean() for name in ("before.png", "after.png")
    ]
    assert errors[1] < 0.5 * errors[0]
    stated = float(re.search(r"fitted to ([\d.]+) dB", lines[1])[1])
    assert stated > 10 * np.log10(255**2 / errors[0]) + 2  # of the tuned copy
    tuned = load_generator_file(Path("tuned.safetensors"))
    assert Directions.of(tuned).names == ("smile", "glasses")
    succeed("sample.py", "tuned.safetensors", "--latents", "after.npy", "--shift", "smile=-1")


def test_identity_is_kept(file, own, arcface_run):
    flags = (file, own, *WHOLE, "--shift", "smile=2.5")
    edit(*flags, "--file", "free.png")
    edit(*flags, "--keep", "identity", "--recognizer", arcface_run, "--file", "kept.png")
    from faces.recognition.recognizer import load_recognizer

    recognizer, generator = load_recognizer(arcface_run), load_generator_file(file)
    z = [np.load(name) for name in ("free.npy", "kept.npy")]
    embeddings = [recognizer.embeddings(generator.images(each)) for each in z]
    free, kept = (float(fitted @ edited) for fitted, edited in embeddings)
    assert kept > free + 0.3 * (1 - free)
    strengths = [to_gaussian(each[1])[0] - to_gaussian(each[0])[0] for each in z]
    assert strengths == pytest.approx([2.5, 2.5], abs=0.01)


def test_identity_is_kept_in_the_images_of_the_tuned_copy(file, own, arcface_run, monkeypatch):
    corrected_with = []

    def keep_identity(generator, recognizer, fitted, edited, directions):
        corrected_with.append(generator.digest)
        return edited

    monkeypatch.setattr("lab.identity.keep_identity", keep_identity)
    keep = ("--keep", "identity", "--recognizer", arcface_run)
    edit(file, own, *WHOLE, "--shift", "smile=1", *keep, "--tune", "tuned.safetensors")
    assert corrected_with == [load_generator_file(Path("tuned.safetensors")).digest]


@pytest.mark.parametrize(
    ("flags", "replaced"),
    [
        (("--file", "own.png"), "own.png"),
        (("--file", "./own"), "own.png"),
        (("--file", "faces.png"), "faces.npy"),
        (("--tune", "./small.safetensors"), "small.safetensors"),
    ],
)
def test_no_file_of_the_user_is_replaced(file, own, flags, replaced):
    np.save("faces.npy", np.zeros(3))
    before = Path(replaced).read_bytes()
    line = refusal("edit.py", file, own, *WHOLE, "--fit", "fast", *flags)
    assert "would replace" in line or "faces.npy exists" in line
    assert Path(replaced).read_bytes() == before
    assert not Path("faces.png").exists()


@pytest.mark.parametrize("option", ["--file", "--tune"])
def test_a_place_that_cannot_be_written_to_is_refused_before_the_fit(file, own, option, monkeypatch):
    monkeypatch.setattr(fitting.PhotoFitter, "__init__", lambda *arguments, **options: pytest.fail("fitted"))
    path = own / ("edited.png" if option == "--file" else "tuned.safetensors")
    assert f"{path} cannot be written to: " in refusal("edit.py", file, own, *WHOLE, option, path)


def test_faces_beyond_the_maximum_are_said_to_be_left_out(file, monkeypatch):
    monkeypatch.setattr("lab.editing.MAX_FACES", 1)
    left, right = (photo(number, width=180)[0] for number in (0, 2))
    save_png("two.png", np.concatenate([left, right], 2))
    _, lines, _ = edit(file, "two.png", "--device", "cpu", "--fit", "fast")
    assert "two.png: the 1 most confident of 2 faces, fitted to" in lines[0]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ("own.png", "--shift", "grin=1"),
            "no direction grin; the directions of this generator are smile, glasses",
        ),
        (
            ("own.png", "--scael", "2"),
            "--scael is neither an option (did you mean --scale?) nor a direction: the directions of",
        ),
        (("own.png", "--grin=1"), "--grin is neither an option nor a direction: the directions of"),
        (("own.png", "--shift", "smile"), "'smile' is not NAME=STRENGTH"),
        (("missing.png",), "no photo or folder missing.png"),
        ((f"{'x' * 300}.png",), ".png cannot be read: File name too long"),
        ((), "no photo is given"),
        (("own.png", "own.png", "--keep", "identity"), "--keep is for edits"),
        (("own.png", "--shift", "smile=1", "--keep", "identity"), "--keep identity and --recognizer RUN go"),
        (("own.png", "--fit", "fast", "--no-encoder"), "omit --no-encoder"),
        (("own.png", "--tune", "tuned.pt"), "must end in .safetensors"),
        (("own.png", "two.png", "--file", "x.png"), "--file is for one photo, not 2"),
    ],
)
def test_mistakes_are_one_line(file, own, arguments, message):
    shutil.copy(own, "two.png")
    assert message in refusal("edit.py", file, *arguments)
    assert not Path("outputs").exists()


def test_directions_of_another_generator_are_refused(file, own):
    axes = {"smile": Direction(np.eye(10)[0], "test")}
    plain = Path("plain.safetensors")
    save_generator(load_generator_file(file), plain)
    Directions("0" * 16, axes).save(path_of(plain))
    flags = (plain, own, *WHOLE, "--no-encoder")
    assert "belongs to another generator" in refusal("edit.py", *flags, "--shift", "smile=1")
    edit(*flags)
    error = edit(*flags, "--tune", "tuned.safetensors")[2]
    assert "the copy gets no directions" in error
    assert Directions.of(load_generator_file(Path("tuned.safetensors"))).names == ()


def test_stale_directions_beside_a_file_do_not_hide_its_own(file, own):
    Directions("0" * 16, {"grin": Direction(np.eye(10)[0], "test")}).save(path_of(file))
    assert Directions.of(load_generator_file(file)).names == ("smile", "glasses")
    edit(file, own, *WHOLE, "--fit", "fast", "--shift", "smile=1")


def test_a_photo_is_not_mistaken_for_a_run(tiny_run, own, tmp_path):
    runs = tmp_path / "outputs"
    shutil.copytree(tiny_run, runs / tiny_run.name)
    shutil.copy(own, "1")
    line = refusal("edit.py", "1", "--fit", "fast", "--shift", "smile=1", *WHOLE)
    assert "has no directions yet" in line  # the newest run, with the photo named 1
    shutil.move("1", "a.png")
    assert "has no directions yet" in refusal("edit.py", "1", "a.png", "--shift", "smile=1", *WHOLE)
