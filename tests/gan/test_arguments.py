import io
import re
import subprocess
import sys
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Annotated, ClassVar

import pytest
import tyro

from engine.cli import NEWEST, parse, parse_arguments, settings_of
from engine.errors import UserError
from engine.settings import flag
from faces.preparation.options import PrepareArguments
from faces.recognition.options import Command
from gan.config import Settings, TrainingArguments, preset_settings
from gan.options import PictureArguments
from runs import RunsArguments

ROOT = Path(__file__).resolve().parents[2]
FRAMES = "╭╮╰╯│─┌┐└┘"


def refusal(*argv: str) -> str:
    """The message with which a command line is refused: one line without remains of a frame."""
    with pytest.raises(UserError) as error:
        parse_arguments(argv, TrainingArguments)
    message = str(error.value)
    assert not set(message) & set(FRAMES), message
    assert not any(part in message for part in ("\n", "---", "  ")), message
    return message


def test_an_empty_command_line_gives_the_defaults():
    arguments = parse_arguments([], TrainingArguments)
    assert arguments == TrainingArguments()
    assert settings_of(arguments, Settings) == Settings()
    assert (arguments.resume, arguments.init_from, arguments.force, arguments.dry_run) == (
        *(None, None),
        *(False, False),
    )


def test_the_caller_may_choose_the_defaults():
    quick = preset_settings("quick")
    assert parse_arguments([], TrainingArguments, quick) == TrainingArguments(**asdict(quick))
    arguments = parse_arguments(["--batch-size", "16", "--resume", "7"], TrainingArguments, quick)
    assert settings_of(arguments, Settings) == replace(quick, batch_size=16)
    assert arguments.resume == "7"


def test_every_setting_has_a_flag():
    argv = (
        "--exclude,old/,*_mask.png,"
        "--name,a b,--output,o,--cache,c,--preset,quick,--steps,5,--minutes,2.5,--batch-size,4,"
        "--image-size,32,--seed,9,--device,cpu,--precision,bfloat16,--workers,0,--held-out,0.3,"
        "--generator-widths,1,2,3,4,--discriminator-widths,5,6,7,8,--latent-size,10,"
        "--pack,1,--normalisation,none,--head-scale,0.1,--learning-rate,1e-3,--beta2,0.9,--no-flip,"
        "--augmentation,always,--negatives,0.2,--ema-half-life,77,--log-every,1,--sample-every,2,"
        "--score-every,6,--checkpoint-every,3,--keep,5"
    )
    expected = Settings(
        folder="my faces", name="a b", output=Path("o"), cache=Path("c"), preset="quick", steps=5,
        minutes=2.5, batch_size=4, image_size=32, seed=9, device="cpu", precision="bfloat16", workers=0,
        held_out=0.3, generator_widths=(1, 2, 3, 4), discriminator_widths=(5, 6, 7, 8), latent_size=10,
        pack=1, normalisation="none", head_scale=0.1, learning_rate=1e-3, beta2=0.9, flip=False,
        augmentation="always", negatives=0.2, ema_half_life=77.0, log_every=1, sample_every=2, score_every=6,
        checkpoint_every=3, keep=5, exclude=("old/", "*_mask.png"),
    )  # fmt: skip
    arguments = parse_arguments(["my faces", *argv.split(",")], TrainingArguments)
    assert settings_of(arguments, Settings) == expected
    assert all(getattr(expected, field.name) != field.default for field in fields(Settings))


@pytest.mark.parametrize(
    ("argv", "run", "folder"),
    [
        (["--resume"], NEWEST, None),
        (["--resume=7"], "7", None),
        (["--resume", "--steps", "9"], NEWEST, None),
        (["--steps", "9", "--resume"], NEWEST, None),
        (["--resume", "my run", "--steps", "9"], "my run", None),
        (["faces", "--resume"], NEWEST, "faces"),
        (["faces", "--resume", "7", "--force"], "7", "faces"),
        ([], None, None),
    ],
)
def test_resume_takes_an_optional_run(argv, run, folder):
    arguments = parse_arguments(argv, TrainingArguments)
    assert (arguments.resume, arguments.folder) == (run, folder)
    assert arguments.steps == (9 if "--steps" in argv else None)


@pytest.mark.parametrize(
    "argv", ["--resume --init-from 3", "--init-from 3 --resume", "--resume 2 --init-from 3"]
)
def test_resume_and_init_from_exclude_each_other(argv):
    message = refusal(*argv.split())
    assert "--resume" in message
    assert "--init-from" in message


@pytest.mark.parametrize("name", ["--resume", "--init-from"])
def test_an_empty_run_name_is_refused(name):
    assert name in refusal(name, "")
    assert name in refusal(f"{name}=")


@pytest.mark.parametrize(("columns", "encoding"), [("40", "utf-8"), ("80", "ascii"), ("300", "utf-8")])
@pytest.mark.parametrize(
    ("argv", "culprit"),
    [
        ("--image-siz 64", "--image-siz"),
        ("--steps many", "--steps"),
        ("--steps 1.5", "--steps"),
        ("--steps", "--steps"),
        ("--learning-rate fast", "--learning-rate"),
        ("--preset heavy", "'heavy'"),
        ("--generator-widths 1 2 3", "--generator-widths"),
        ("folder another", "another"),
        ("--seed 1 2 3 --what 4", "--what"),
        ("--init-from", "--init-from"),
        ("-x", "-x"),
    ],
)
def test_every_mistake_is_reported_in_one_line(argv, culprit, columns, encoding, monkeypatch):
    """At any width, and where the terminal has no characters to draw a frame with."""
    out = io.TextIOWrapper(io.BytesIO(), encoding)
    monkeypatch.setattr(sys, "stdout", out)
    monkeypatch.setenv("COLUMNS", columns)
    reason, _, hint = refusal(*argv.split()).rpartition("; ")
    assert culprit in reason
    assert len(reason) > len(culprit)
    assert hint.startswith("--help ")
    out.flush()
    assert out.buffer.getvalue() == b""


EPOCHS = "use --steps; an epoch is as many steps as there are images, divided by --batch-size"


@pytest.mark.parametrize("columns", ["40", "120"])
@pytest.mark.parametrize(
    ("argv", "reason"),
    [
        ("--stpes 3", "unknown option --stpes: did you mean --steps?"),
        ("FOLDER --held 0.1", "unknown option --held: did you mean --held-out?"),
        ("--no-filp", "unknown option --no-filp: did you mean --no-flip?"),
        ("--batchSize=3", "unknown option --batchSize: did you mean --batch-size?"),
        ("--learning_rat 3", "unknown option --learning-rat: did you mean --learning-rate?"),
        ("--smile", "unknown option --smile"),
        ("--epochs 3", f"unknown option --epochs: {EPOCHS}"),
        ("--n-epochs 3", f"unknown option --n-epochs: {EPOCHS}"),
        ("--niter 3", f"unknown option --niter: {EPOCHS}"),
        ("--lr 1e-3", "unknown option --lr: use --learning-rate"),
        ("--dataroot faces", "unknown option --dataroot: use the folder without a flag"),
        ("--cuda", "unknown option --cuda: use --device cuda"),
        ("--nz 64 --stpes 3", "unknown option --nz: use --latent-size; unknown option --stpes: did you mean"),
    ],
)
def test_an_unknown_flag_is_answered_with_the_flag_that_is_meant(argv, reason, columns, monkeypatch):
    monkeypatch.setenv("COLUMNS", columns)
    assert refusal(*argv.split()).startswith(reason)


@pytest.mark.parametrize(("argv", "word"), [("a b", "b"), ("a --steps 3 b", "b"), ("a --flip b c", "b, c")])
def test_an_argument_without_a_flag_that_is_one_too_many_is_named(argv, word):
    reason = f"unexpected argument {word}; arguments without a flag stand together"
    assert refusal(*argv.split()).startswith(reason)


@pytest.mark.parametrize(
    ("argv", "reason"),
    [
        ("predct net faces", "unknown command predct: did you mean predict?"),
        ("predict --otput out net faces", "unknown option --otput: did you mean --output?"),
        ("identify people.npz faces --epochs 3", "unknown option --epochs; --help"),
        ("", "give a command: predict, "),
    ],
)
def test_unknown_words_of_sub_commands(argv, reason):
    with pytest.raises(UserError) as error:
        parse(Command, argv.split())
    assert str(error.value).startswith(reason)


@pytest.mark.parametrize(
    ("options", "argv", "message"),
    [
        (TrainingArguments, "--steps 1e99", "--steps must be an integer, not '1e99'"),
        (TrainingArguments, "--held-out x", "--held-out must be a number, not 'x'"),
        (TrainingArguments, "--steps", "--steps needs a value"),
        (TrainingArguments, "--generator-widths 1 2", "--generator-widths needs 4 values"),
        (
            TrainingArguments,
            "--preset nice",
            "--preset must be one of 'quick', 'evening', 'textbook', not 'nice'",
        ),
        (PrepareArguments, "", "give PHOTOS OUT"),
        (PrepareArguments, "a b --least-score 3", "unknown option --least-score: use --min-score"),
        (PrepareArguments, "photos", "give OUT"),
        (Command, "enroll people.npz", "give NAME"),
        (RunsArguments, "outputs", "unexpected argument outputs"),
    ],
)
def test_messages_of_the_library_are_in_this_projects_words(options, argv, message):
    with pytest.raises(UserError) as error:
        parse(options, argv.split())
    assert str(error.value) == f"{message}; --help lists all flags"


def test_a_flag_before_the_positional_arguments_is_named_as_the_mistake():
    with pytest.raises(UserError, match=r"^unknown option --sze: did you mean --size\?"):
        parse(PrepareArguments, ["--sze", "96", "photos", "out"])


@dataclass
class Options:
    """Do something."""

    count: int = 3
    """How often."""


def test_any_dataclass_makes_a_command_line(monkeypatch, capsys):
    assert parse(Options, ["--count", "5"]) == Options(5)
    assert parse(Options, [], default=Options(9)) == Options(9)
    monkeypatch.setattr(sys, "argv", ["x.py", "--count", "6"])
    assert parse(Options) == Options(6)
    with pytest.raises(UserError, match="--count"):
        parse(Options, ["--count", "x"])
    with pytest.raises(SystemExit) as end:
        parse(Options, ["--help"], description="Something else.")
    assert end.value.code == 0
    help_text = capsys.readouterr().out
    assert "How often." in help_text
    assert "Something else." in help_text


@dataclass
class Grouped:
    """Do something."""

    GROUPS: ClassVar[dict[str, str]] = {"everyday": "steps name", "expert": "rate"}

    rate: float = 1e-4
    """How fast."""
    unlisted: tuple[int, ...] = (1, 2)
    """Anything."""
    name: Annotated[str | None, tyro.conf.arg(metavar="RUN")] = None
    """Which."""
    steps: int | None = None
    """How long, in
    two lines."""
    flip: bool = True
    """Mirror."""


def test_groups_placeholders_and_defaults(monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", "70")
    description = "What it does, in a sentence that is wider than seventy columns and so has to be wrapped."
    with pytest.raises(SystemExit):
        parse(Grouped, ["--help"], description=description, epilog="First.\n\nTheory in\ntwo lines.")
    text = capsys.readouterr().out
    assert "What it does, in a sentence that is wider than seventy columns and so\nhas to be wrapped." in text
    _, everyday, expert = re.split("everyday options|expert options", text)
    for part, lines in (
        (everyday, ("--steps N How long, in two lines.", "--name RUN Which.")),
        (expert, ("--rate X How fast. (default: 0.0001)", "--unlisted [N [N ...]] Anything. (default: 1 2)")),
        (expert, ("--flip, --no-flip Mirror. (default: on)",)),
    ):
        words = " ".join(re.sub("[^ -~]|[|]", " ", part).split())
        assert [line for line in lines if line not in words] == []
    assert everyday.index("--steps") < everyday.index("--name")
    assert text.endswith("\nFirst.\n\nTheory in two lines.\n")
    given = parse(Grouped, ["--steps", "3", "--no-flip", "--unlisted", "7", "8", "--rate", "0.5"])
    assert given == Grouped(rate=0.5, unlisted=(7, 8), steps=3, flip=False)
    with pytest.raises(UserError, match="--steps must be an integer, not 'None'"):
        parse(Grouped, ["--steps", "None"])


def test_help_lists_every_flag_with_its_meaning_and_default(monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", "300")
    with pytest.raises(SystemExit) as end:
        parse_arguments(["--help"], TrainingArguments)
    assert end.value.code == 0
    help_text, error = capsys.readouterr()
    assert error == ""
    for name in {field.name for field in fields(TrainingArguments)} - {"folder"}:
        assert flag(name) in help_text
    assert "[FOLDER]" in help_text
    assert "Side of the images in pixels: a multiple of 16 from 32 to 256. (default: 96)" in help_text


@pytest.mark.parametrize(
    ("argv", "code"), [(["--help"], 0), (["--steps", "many"], 2), (["--resume", "--init-from", "3"], 2)]
)
def test_help_and_mistakes_are_reported_without_importing_torch(argv, code, tmp_path):
    program = (
        "import runpy, sys\n"
        "sys.path.insert(0, sys.argv[1])\n"
        "sys.argv = [sys.argv[1] + '/train_gan.py', *sys.argv[2:]]\n"
        "try:\n"
        "    runpy.run_path(sys.argv[0], run_name='__main__')\n"
        "except SystemExit as end:\n"
        "    print('CODE', end.code, 'TORCH', 'torch' in sys.modules)\n"
    )
    command = [sys.executable, "-c", program, ROOT, *argv]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.stdout.splitlines()[-1] == f"CODE {code} TORCH False"
    assert ("--image-size" in done.stdout) is (code == 0)
    assert len(done.stderr.splitlines()) == (0 if code == 0 else 1)
    assert list(tmp_path.iterdir()) == []


def test_a_picture_whose_name_is_too_long_is_left_to_the_system_to_refuse():
    file = Path(f"{'x' * 5000}.png")
    assert PictureArguments(file).picture_file([".png"]) == file
