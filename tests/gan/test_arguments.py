import io
import subprocess
import sys
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path

import pytest

from engine.cli import NEWEST, parse, parse_arguments, settings_of
from engine.errors import UserError
from engine.settings import flag
from gan.config import Settings, TrainingArguments, preset_settings

ROOT = Path(__file__).resolve().parents[2]
FRAMES = "╭╮╰╯│─┌┐└┘"


def refused(*words: str) -> str:
    with pytest.raises(UserError) as error:
        parse_arguments(words, TrainingArguments)
    text = str(error.value)
    assert "\n" not in text
    assert not set(text) & set(FRAMES), text
    assert "---" not in text
    assert "  " not in text
    return text


def test_without_words_the_defaults_stand():
    request = parse_arguments([], TrainingArguments)
    assert request == TrainingArguments()
    assert settings_of(request, Settings) == Settings()
    assert (request.resume, request.init_from, request.force, request.dry_run) == (None, None, False, False)


def test_defaults_can_be_given():
    paper = preset_settings("paper")
    assert parse_arguments([], TrainingArguments, paper) == TrainingArguments(**asdict(paper))
    request = parse_arguments(["--batch-size", "16", "--resume", "7"], TrainingArguments, paper)
    assert settings_of(request, Settings) == replace(paper, batch_size=16)
    assert request.resume == "7"


def test_every_setting_is_a_flag():
    words = (
        "--name,a b,--output,o,--cache,c,--preset,paper,--steps,5,--minutes,2.5,--batch-size,4,"
        "--image-size,32,--seed,9,--device,cpu,--precision,bfloat16,--workers,0,--held-out,0.3,"
        "--generator-widths,1,2,3,4,--discriminator-widths,5,6,7,8,--latent-size,10,"
        "--normalisation,none,--head-scale,0.1,--learning-rate,1e-3,--beta2,0.9,--no-flip,"
        "--augmentation,always,--negatives,0.2,--ema-half-life,77,--log-every,1,--sample-every,2,"
        "--score-every,6,--checkpoint-every,3,--keep,5"
    )
    expected = Settings(
        folder="my faces", name="a b", output=Path("o"), cache=Path("c"), preset="paper", steps=5,
        minutes=2.5, batch_size=4,
        image_size=32, seed=9, device="cpu", precision="bfloat16", workers=0, held_out=0.3,
        generator_widths=(1, 2, 3, 4), discriminator_widths=(5, 6, 7, 8), latent_size=10,
        normalisation="none", head_scale=0.1, learning_rate=1e-3, beta2=0.9, flip=False,
        augmentation="always", negatives=0.2, ema_half_life=77.0, log_every=1, sample_every=2, score_every=6,
        checkpoint_every=3, keep=5,
    )  # fmt: skip
    arguments = parse_arguments(["my faces", *words.split(",")], TrainingArguments)
    assert settings_of(arguments, Settings) == expected
    assert all(getattr(expected, field.name) != field.default for field in fields(Settings))


def test_there_are_at_most_30_settings():
    assert len(fields(Settings)) <= 30


@pytest.mark.parametrize(
    ("words", "run", "folder"),
    [
        (["--resume"], NEWEST, None),
        (["--resume", "7"], "7", None),
        (["--resume", "0007-faces-96px"], "0007-faces-96px", None),
        (["--resume=7"], "7", None),
        (["--resume", "--steps", "9"], NEWEST, None),
        (["--steps", "9", "--resume"], NEWEST, None),
        (["--resume", "my run", "--steps", "9"], "my run", None),
        (["faces", "--resume"], NEWEST, "faces"),
        (["faces", "--resume", "7", "--force"], "7", "faces"),
        ([], None, None),
    ],
)
def test_resume_with_and_without_a_run(words, run, folder):
    request = parse_arguments(words, TrainingArguments)
    assert request.resume == run
    assert request.folder == folder
    assert request.steps == (9 if "--steps" in words else None)


@pytest.mark.parametrize(
    "words",
    [
        ["--resume", "--init-from", "3"],
        ["--init-from", "3", "--resume"],
        ["--resume", "2", "--init-from", "3"],
    ],
)
def test_going_on_and_beginning_anew_exclude_each_other(words):
    told = refused(*words)
    assert "--resume" in told
    assert "--init-from" in told


@pytest.mark.parametrize("name", ["--resume", "--init-from"])
def test_an_empty_name_of_a_run_is_no_name(name):
    assert name in refused(name, "")
    assert name in refused(f"{name}=")


@pytest.mark.parametrize("encoding", ["utf-8", "ascii"])
@pytest.mark.parametrize("columns", ["40", "80", "300"])
@pytest.mark.parametrize(
    ("words", "named"),
    [
        (["--image-siz", "64"], "--image-siz"),
        (["--steps", "many"], "--steps"),
        (["--steps", "1.5"], "--steps"),
        (["--steps"], "--steps"),
        (["--learning-rate", "fast"], "--learning-rate"),
        (["--preset", "heavy"], "'heavy'"),
        (["--precision", "float16"], "--precision"),
        (["--device", "tpu"], "--device"),
        (["--generator-widths", "1", "2", "3"], "--generator-widths"),
        (["--augmentation", "blur"], "'blur'"),
        (["--normalisation", "instance"], "--normalisation"),
        (["one folder", "another"], "another"),
        (["--seed", "1", "2", "3", "--what", "4"], "--what"),
        (["--init-from"], "--init-from"),
        (["-x"], "-x"),
    ],
)
def test_every_mistake_is_one_plain_line(words, named, columns, encoding, monkeypatch):
    """Also where the terminal knows no lines to draw a frame with."""
    out = io.TextIOWrapper(io.BytesIO(), encoding)
    monkeypatch.setattr(sys, "stdout", out)
    monkeypatch.setenv("COLUMNS", columns)
    told = refused(*words)
    assert named in told
    assert told.endswith("; --help lists all flags")
    assert len(told) > len("; --help lists all flags") + len(named)
    out.flush()
    assert out.buffer.getvalue() == b""


@dataclass
class Choices:
    """Do something."""

    count: int = 3
    """How often."""


def test_a_command_line_is_made_from_any_dataclass(monkeypatch, capsys):
    assert parse(Choices, ["--count", "5"]) == Choices(5)
    assert parse(Choices, [], default=Choices(9)) == Choices(9)
    monkeypatch.setattr(sys, "argv", ["x.py", "--count", "6"])
    assert parse(Choices) == Choices(6)
    with pytest.raises(UserError, match="--count"):
        parse(Choices, ["--count", "x"])
    with pytest.raises(SystemExit) as stop:
        parse(Choices, ["--help"], description="Something else.")
    assert stop.value.code == 0
    told = capsys.readouterr().out
    assert "How often." in told
    assert "Something else." in told


def test_help_tells_every_flag_with_its_meaning(monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", "300")
    with pytest.raises(SystemExit) as stop:
        parse_arguments(["--help"], TrainingArguments)
    assert stop.value.code == 0
    told = capsys.readouterr()
    assert told.err == ""
    for name in {field.name for field in fields(TrainingArguments)} - {"folder"}:
        assert flag(name) in told.out
    assert "[FOLDER]" in told.out
    for meaning in (
        "Side of the images in pixels: a multiple of 16 from 32 to 256. (default: 96)",
        "Stop this many minutes after the start.",
        "Resume a run (its folder, name or number; without a value, the newest), bit for bit.",
        "Print networks, parameters, memory and data, and stop.",
    ):
        assert meaning in told.out


@pytest.mark.parametrize(
    ("words", "code"), [(["--help"], 0), (["--steps", "many"], 2), (["--resume", "--init-from", "3"], 2)]
)
def test_help_and_mistakes_are_answered_before_torch_is_imported(words, code, tmp_path):
    program = (
        "import runpy, sys\n"
        "sys.path.insert(0, sys.argv[1])\n"
        "sys.argv = [sys.argv[1] + '/train_gan.py', *sys.argv[2:]]\n"
        "try:\n"
        "    runpy.run_path(sys.argv[0], run_name='__main__')\n"
        "except SystemExit as stop:\n"
        "    print('CODE', stop.code, 'TORCH', 'torch' in sys.modules)\n"
    )
    command = [sys.executable, "-c", program, ROOT, *words]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.stdout.splitlines()[-1] == f"CODE {code} TORCH False"
    assert ("--image-size" in done.stdout) is (code == 0)
    assert len(done.stderr.splitlines()) == (0 if code == 0 else 1)
    assert list(tmp_path.iterdir()) == []
