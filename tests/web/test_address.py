"""How a run says where it can be watched."""

from __future__ import annotations

import shlex
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest
from filelock import FileLock

from engine.lock import LOCK
from explore import ExploreArguments, start_path
from gan import pretrained
from tests.conftest import CLASSIFIER_FLAGS, LANDMARK_FLAGS
from tests.in_process import succeed
from tests.web.runs import make_run
from web.address import PORT, watch_hint
from web.library import Library


def test_the_command_and_the_printed_address_lead_to_the_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run = make_run(Path("outputs", "0001-zwei Gesichter-16px"))
    hint = watch_hint(run)
    _, command, rest = hint.split("`")
    assert ExploreArguments(run=shlex.split(command)[2]).find_run() == run
    address = urlsplit(rest.strip(", "))
    assert (address.path, address.port) == ("/training", PORT)
    (name,) = parse_qs(address.query)["run"]
    assert Library(Path("outputs")).find(name) == run


@pytest.mark.parametrize(
    ("folder", "query"), [("outputs/landmarks", {"run": ["landmarks/0001-a-16px"]}), ("elsewhere", {})]
)
def test_runs_of_the_same_name_in_other_folders_are_told_apart(folder, query, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    make_run(Path("outputs", "0001-a-16px"))
    run = make_run(Path(folder, "0001-a-16px"))
    assert parse_qs(urlsplit(watch_hint(run).split(", ")[-1]).query) == query
    for name in query.get("run", []):
        assert Library(Path("outputs")).find(name) == run


@pytest.mark.parametrize(
    ("script", "output", "flags"),
    [
        ("train_landmarks.py", "outputs/landmarks", LANDMARK_FLAGS),
        ("train_classifier.py", "outputs/classifiers", (*CLASSIFIER_FLAGS, "--label", "glasses")),
    ],
)
def test_other_kinds_of_runs_print_it_too(script, output, flags, drawn_faces, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = succeed(script, drawn_faces, *flags, "--batch-size", 8, "--steps", 1)
    (run,) = Path(output).iterdir()
    assert watch_hint(run) in result.lines


def test_a_run_prints_it_at_its_start(train, pictures, capsys):
    assert train(pictures, "--steps", 2) == 0
    (run,) = Path("outputs").iterdir()
    assert watch_hint(run) in capsys.readouterr().out.splitlines()


def test_the_page_that_opens_is_the_one_of_use(tmp_path):
    run = make_run(tmp_path / "0001-faces-16px")
    assert start_path(run) == "/explorer"
    with FileLock(run / LOCK):
        assert start_path(run) == "/training"
    assert start_path(make_run(tmp_path / "0002-eyes-16px", kind="landmarks")) == "/training"
    assert start_path(Path("faces.safetensors")) == "/explorer"


def test_without_a_run_the_generator_that_comes_with_the_project_is_shown(tmp_path):
    assert ExploreArguments(output=tmp_path).find_run() == pretrained.FILE
    run = make_run(tmp_path / "0001-faces-16px")
    assert ExploreArguments(output=tmp_path).find_run() == run
    assert ExploreArguments(run="drawn", output=tmp_path).find_run() == pretrained.FILE
