import json
import os
import threading
from dataclasses import replace
from pathlib import Path

import pytest

from engine.errors import UserError
from engine.runs import (
    RunInfo,
    best_path,
    checkpoint_path,
    checkpoints,
    create_run,
    find_checkpoint,
    find_run,
    find_run_or_checkpoint,
    sample_grids,
    sample_path,
    step_of,
    write_info,
)
from engine.settings import to_json
from gan.config import Settings, read_info

INFO = RunInfo(replace(Settings(), name="顔 faces", steps=7), {"digest": "abc", "images": 3}, {"threads": 1})


def make_run(output: Path, name: str = "faces", image_size: int = 96) -> Path:
    """A run folder with a config.json."""
    run = create_run(output, name, image_size)
    write_info(run, INFO)
    return run


def touch(*paths: Path) -> None:
    for path in paths:
        path.parent.mkdir(exist_ok=True)
        path.touch()


def one_line(error: pytest.ExceptionInfo[UserError]) -> str:
    assert "\n" not in str(error.value)
    return str(error.value)


def test_runs_are_numbered_and_describe_themselves(tmp_path):
    output = tmp_path / "some" / "outputs"
    assert create_run(output, "faces", 96) == output / "0001-faces-96px"
    assert create_run(output, "faces", 96) == output / "0002-faces-96px"
    assert create_run(output, "cats", 32) == output / "0003-cats-32px"
    names = sorted(path.name for path in output.iterdir())
    assert names == ["0001-faces-96px", "0002-faces-96px", "0003-cats-32px"]
    assert all(path.is_dir() for path in output.iterdir())


def test_numbers_continue_from_the_highest(tmp_path):
    for name in ("0007-faces-96px", "0003-x", "12-short", "notes", "99999-many-32px"):
        (tmp_path / name).mkdir()
    (tmp_path / "777777-a-file").touch()
    assert create_run(tmp_path, "a", 64).name == "100000-a-64px"
    assert create_run(tmp_path, "a", 64).name == "100001-a-64px"


@pytest.mark.parametrize(
    ("name", "folder"),
    [
        ("my faces", "my-faces"),
        ("  Фото: лица (2024) ", "Фото-лица-2024"),
        ("顔写真", "顔写真"),
        ("हिन्दी चेहरे", "हिन्दी-चेहरे"),
        ("Mu\u0308nchen", "M\u00fcnchen"),
        ("../../etc/passwd", "etc-passwd"),
        ("a/b\\c\n\td", "a-b-c-d"),
        ("snake_case", "snake_case"),
        ("...", "run"),
        ("", "run"),
        ("x" * 300, "x" * 60),
        ("😀", "run"),
    ],
)
def test_names_of_any_script_make_one_folder(tmp_path, name, folder):
    run = create_run(tmp_path, name, 96)
    assert run == tmp_path / f"0001-{folder}-96px"
    assert run.is_dir()


@pytest.mark.parametrize("names", [["same"], ["first", "second", "third"]])
def test_runs_that_start_together_never_share_a_folder_or_number(tmp_path, names):
    threads_count = 12
    barrier = threading.Barrier(threads_count)
    runs: list[Path] = []
    errors: list[Exception] = []

    def start(index: int) -> None:
        barrier.wait()
        try:
            for _ in range(5):
                runs.append(create_run(tmp_path, names[index % len(names)], 96))
        except UserError as error:
            errors.append(error)

    threads = [threading.Thread(target=start, args=(index,)) for index in range(threads_count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors
    assert len(set(runs)) == len(runs) == 60
    assert len({path.name.split("-")[0] for path in runs}) == 60
    assert sorted(tmp_path.iterdir()) == sorted(runs)


def test_a_number_that_another_process_takes_is_skipped(tmp_path, monkeypatch):
    mkdir = Path.mkdir

    def mkdir_too_late(path: Path, *args, **kwargs) -> None:
        """Another process creates run 1 just before this one."""
        monkeypatch.setattr(Path, "mkdir", mkdir)
        if path != tmp_path:
            (tmp_path / "0001-other-96px").mkdir()
        else:
            monkeypatch.setattr(Path, "mkdir", mkdir_too_late)
        mkdir(path, *args, **kwargs)

    monkeypatch.setattr(Path, "mkdir", mkdir_too_late)
    assert create_run(tmp_path, "faces", 96).name == "0002-faces-96px"
    assert {path.name for path in tmp_path.iterdir()} == {"0001-other-96px", "0002-faces-96px"}


def test_a_claim_of_a_killed_process_costs_only_a_number(tmp_path):
    (tmp_path / ".0001").mkdir()
    assert create_run(tmp_path, "faces", 96).name == "0002-faces-96px"


def test_an_output_that_cannot_be_created_is_one_line(tmp_path):
    blocked = tmp_path / "file"
    blocked.touch()
    with pytest.raises(UserError) as error:
        create_run(blocked, "faces", 96)
    assert str(blocked) in one_line(error)
    with pytest.raises(UserError):
        create_run(blocked / "inside", "faces", 96)


def test_the_newest_run_has_the_highest_number(tmp_path):
    runs = [make_run(tmp_path) for _ in range(11)]
    os.utime(runs[0], (4e9, 4e9))
    os.utime(runs[0] / "config.json", (4e9, 4e9))
    os.utime(runs[-1], (1, 1))
    assert find_run(None, tmp_path) == runs[-1] == tmp_path / "0011-faces-96px"


def test_a_folder_without_config_is_not_the_newest_run(tmp_path):
    run = make_run(tmp_path)
    create_run(tmp_path, "killed", 96)
    assert find_run(None, tmp_path) == run


def test_a_run_is_found_by_folder_name_and_number(tmp_path, monkeypatch):
    output = tmp_path / "outputs"
    faces, cats = make_run(output), make_run(output, "меня зовут кот")
    elsewhere = tmp_path / "moved here" / "some run"
    elsewhere.mkdir(parents=True)
    write_info(elsewhere, INFO)
    assert find_run(str(elsewhere), output) == elsewhere
    assert find_run(elsewhere, output) == elsewhere
    assert find_run("0001-faces-96px", output) == faces
    assert find_run(cats.name, output) == cats
    for number in ("2", "0002", "002"):
        assert find_run(number, output) == cats
    monkeypatch.chdir(tmp_path)
    assert find_run("1").resolve() == faces
    assert find_run(None).resolve() == cats
    assert find_run("outputs/0001-faces-96px").resolve() == faces


def test_a_checkpoint_file_or_a_run(tmp_path):
    run, file = make_run(tmp_path), tmp_path / "mine.pt"
    file.touch()
    assert find_run_or_checkpoint(str(file), tmp_path, "train.py") == file
    assert find_run_or_checkpoint(Path("1"), tmp_path, "train.py") == run
    with pytest.raises(UserError, match=r"gone\.pt is not a run"):
        find_run_or_checkpoint("gone.pt", tmp_path, "train.py")


MISSING = ("7", "faces", "²", "", "-3", "x" * 5000, "nowhere/at all", "0001-killed-96px")


@pytest.mark.parametrize("name", MISSING)
def test_a_missing_run_is_reported_with_the_output_folder(tmp_path, name):
    create_run(tmp_path, "killed", 96)
    with pytest.raises(UserError) as error:
        find_run(name, tmp_path)
    assert one_line(error).startswith(f"{name} is not a run")
    assert str(tmp_path) in one_line(error)


@pytest.mark.parametrize("output_exists", [True, False])
def test_no_run_at_all_is_reported_with_the_command_that_creates_one(tmp_path, output_exists):
    output = tmp_path / "outputs"
    if output_exists:
        output.mkdir()
        (output / "README.md").touch()
    with pytest.raises(UserError, match=r"train_gan\.py") as error:
        find_run(None, output)
    assert str(output) in one_line(error)


def test_an_unreadable_output_folder_is_one_line(tmp_path, monkeypatch):
    def refuse(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "iterdir", refuse)
    with pytest.raises(UserError, match="cannot be read: Permission denied") as error:
        find_run(None, tmp_path)
    one_line(error)


def test_checkpoints_and_sample_grids_are_sorted_by_step(tmp_path):
    assert checkpoints(tmp_path) == sample_grids(tmp_path) == []
    steps = [2_000_000, 500, 1000, 0, 999_999]
    touch(*(checkpoint_path(tmp_path, step) for step in steps))
    touch(*(sample_path(tmp_path, step) for step in steps))
    touch(tmp_path / "checkpoints" / "step_1.pt", tmp_path / "checkpoints" / ".step_000700-x.pt")
    touch(tmp_path / "checkpoints" / "step_000100-copy.pt", tmp_path / "samples" / "step_best.png")
    assert [step_of(path) for path in checkpoints(tmp_path)] == sorted(steps)
    assert [step_of(path) for path in sample_grids(tmp_path)] == sorted(steps)
    assert checkpoint_path(tmp_path, 1000).name == "step_001000.pt"
    assert sample_path(tmp_path, 100) == tmp_path / "samples" / "step_000100.png"
    names = [sample_path(tmp_path, step).name for step in (0, 9, 10, 99_999, 100_000, 999_999)]
    assert names == sorted(names)


def test_a_checkpoint_is_found_by_step_name_and_path(tmp_path):
    touch(checkpoint_path(tmp_path, 500), checkpoint_path(tmp_path, 1000))
    mine = tmp_path / "mine.pt"
    mine.touch()
    assert find_checkpoint(tmp_path, None) == checkpoint_path(tmp_path, 1000)
    for checkpoint in (500, "500", "000500", "step_000500.pt", checkpoint_path(tmp_path, 500)):
        assert find_checkpoint(tmp_path, checkpoint) == checkpoint_path(tmp_path, 500)
    assert find_checkpoint(tmp_path, str(mine)) == mine


def test_the_best_checkpoint_precedes_the_newest(tmp_path):
    touch(checkpoint_path(tmp_path, 500))
    with pytest.raises(UserError, match="has no best checkpoint"):
        find_checkpoint(tmp_path, "best")
    touch(best_path(tmp_path))
    assert find_checkpoint(tmp_path, None) == find_checkpoint(tmp_path, "best") == best_path(tmp_path)
    assert find_checkpoint(tmp_path, "newest") == checkpoint_path(tmp_path, 500)
    assert checkpoints(tmp_path) == [checkpoint_path(tmp_path, 500)]


@pytest.mark.parametrize("checkpoint", ["700", 700, "²", "checkpoints"])
def test_a_missing_checkpoint_is_reported_with_the_available_steps(tmp_path, checkpoint):
    touch(checkpoint_path(tmp_path, 1000), checkpoint_path(tmp_path, 500))
    with pytest.raises(UserError, match=rf"no checkpoint {checkpoint}; available steps: 500, 1000$") as error:
        find_checkpoint(tmp_path, checkpoint)
    assert str(tmp_path) in one_line(error)


def test_a_run_without_checkpoints_is_one_line(tmp_path):
    with pytest.raises(UserError, match=r"has no checkpoint yet$"):
        find_checkpoint(tmp_path, None)
    with pytest.raises(UserError, match=r"available steps: none$"):
        find_checkpoint(tmp_path, 5)


def test_config_json_round_trip(tmp_path):
    info = replace(INFO, data={"folder": os.fsdecode(b"caf\xe9/\xe9"), "images": 3, "名": None})
    write_info(tmp_path, info)
    assert read_info(tmp_path) == info
    text = (tmp_path / "config.json").read_text(encoding="utf-8")
    assert "顔 faces" in text
    assert text.endswith("}\n")
    write_info(tmp_path, INFO)
    assert read_info(tmp_path) == INFO
    assert [path.name for path in tmp_path.iterdir()] == ["config.json"]


VALID = {"settings": to_json(Settings()), "data": {}, "environment": {}}


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "not valid JSON"),
        ("{", "not valid JSON"),
        ("[" * 10**5, "not valid JSON"),
        (b"\xff\xfe\x00", "not valid JSON"),
        ("[]", "does not contain settings"),
        ("null", "does not contain settings"),
        ("{}", "does not contain settings"),
        (json.dumps({**VALID, "settings": []}), "does not contain settings"),
        (json.dumps({**VALID, "data": None}), "does not contain settings"),
        (json.dumps({**VALID, "environment": "here"}), "does not contain settings"),
        (json.dumps({**VALID, "settings": {}}), "do not fit this version"),
        (json.dumps({**VALID, "settings": {**VALID["settings"], "seed": "x"}}), "setting seed"),
        (json.dumps({**VALID, "settings": {**VALID["settings"], "image_size": 100}}), "--image-size"),
    ],
)
def test_an_invalid_config_is_reported_with_its_path(tmp_path, text, reason):
    path = tmp_path / "config.json"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(UserError) as error:
        read_info(tmp_path)
    assert one_line(error).startswith(str(path))
    assert reason in one_line(error)


def test_a_missing_config_is_reported_with_its_path(tmp_path):
    with pytest.raises(UserError, match="cannot be read: No such file") as error:
        read_info(tmp_path)
    assert str(tmp_path / "config.json") in one_line(error)
