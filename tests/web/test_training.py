"""The training page's data, from a real server."""

from __future__ import annotations

import io
import json
import shutil
import time
from pathlib import Path

import httpx
import numpy as np
import pytest
from filelock import FileLock
from PIL import Image

from engine.errors import UserError
from engine.lock import LOCK
from engine.runs import sample_path
from faces.landmarks.trainer import PICTURE_SCALE
from lab.kinds import KINDS
from tests.web.runs import COLUMNS, SIZE, TILES, add_sample, line, make_run
from tests.web.serving import serving
from web import strip
from web.context import Context

NAME = "0002-faces-16px"


@pytest.fixture
def output(tmp_path: Path) -> Path:
    folder = tmp_path / "outputs"
    make_run(folder / "0001-faces-16px")
    make_run(folder / NAME)
    make_run(folder / "landmarks" / "0001-eyes-16px", kind="landmarks")
    make_run(folder / "classifiers" / "0001-people-16px", kind="classifier")
    return folder


@pytest.fixture
def http(output: Path):
    with serving(Context(output=output)) as address, httpx.Client(base_url=address, timeout=20) as client:
        yield client


def picture(answer: httpx.Response) -> np.ndarray:
    assert answer.headers["content-type"] == "image/png"
    return np.asarray(Image.open(io.BytesIO(answer.content)))


def follow(http: httpx.Client, runs: list[str], until, seconds: float = 10) -> list[dict]:
    """The messages of a stream until one fulfils a condition."""
    messages = []
    with http.stream("GET", "/api/training/stream", params={"run": runs}) as answer:
        assert answer.headers["content-type"].startswith("text/event-stream")
        deadline = time.monotonic() + seconds
        for text in answer.iter_lines():
            if text.startswith("data: "):
                messages.append(json.loads(text[6:]))
                if until(messages[-1]):
                    return messages
            assert time.monotonic() < deadline
    raise AssertionError("the stream ended")


def test_runs_of_all_kinds_are_listed_and_the_running_one_is_shown(http, output):
    answer = http.get("/api/training/runs").json()
    names = [run["name"] for run in answer["runs"]]
    assert names == [NAME, "0001-faces-16px", "classifiers/0001-people-16px", "landmarks/0001-eyes-16px"]
    assert answer["shown"] == NAME
    with FileLock(output / "landmarks" / "0001-eyes-16px" / LOCK):
        answer = http.get("/api/training/runs").json()
    assert answer["shown"] == "landmarks/0001-eyes-16px"
    assert [run["name"] for run in answer["runs"] if run["running"]] == ["landmarks/0001-eyes-16px"]


def test_a_run_outside_the_output_is_listed_if_it_is_given(output, tmp_path):
    elsewhere = make_run(tmp_path / "elsewhere" / "0009-friend-16px")
    for given, shown, count in (
        (elsewhere, "0009-friend-16px", 5),
        (output / "0001-faces-16px", "0001-faces-16px", 4),
    ):
        with serving(Context(run=given, output=output)) as address:
            answer = httpx.get(f"{address}/api/training/runs").json()
        assert (answer["shown"], len(answer["runs"])) == (shown, count)


def test_a_given_run_and_a_listed_one_of_the_same_name_are_both_shown(output, tmp_path):
    elsewhere = make_run(tmp_path / "elsewhere" / NAME, samples=(0, 700))
    with serving(Context(run=elsewhere, output=output)) as address:
        answer = httpx.get(f"{address}/api/training/runs").json()
    steps = {run["name"]: run["step"] for run in answer["runs"]}
    assert (answer["shown"], steps[f"{NAME} (2)"], steps[NAME]) == (f"{NAME} (2)", 700, 500)
    assert len(steps) == 5


def test_a_given_run_that_is_removed_is_no_longer_listed(output):
    with serving(Context(run=output / NAME, output=output)) as address:
        shutil.rmtree(output / NAME)
        answer = httpx.get(f"{address}/api/training/runs").json()
        assert httpx.get(f"{address}/api/recogniser/sources").status_code == 200
    assert answer["shown"] == "0001-faces-16px"
    assert NAME not in [run["name"] for run in answer["runs"]]


def test_a_config_with_values_that_json_lacks_is_shown_without_them(http, output):
    config = {"settings": {"lr": float("nan"), "folder": "\udcff"}, "data": {"a": [float("inf")]}}
    (output / NAME / "config.json").write_text(json.dumps(config))
    answer = http.get("/api/training/run", params={"run": NAME})
    assert answer.status_code == 200
    assert answer.json()["settings"] == {"lr": None, "folder": "\udcff"}
    assert answer.json()["data"] == {"a": [None]}


def test_tiles_are_kept_by_their_bytes_and_a_strip_that_is_too_large_is_refused(output, monkeypatch):
    tiles = strip._Tiles()
    monkeypatch.setattr(strip, "MAX_KEPT", 3 * 3 * SIZE**2)
    grid = sample_path(output / NAME, 100)
    found = [tiles.get(grid, 1, SIZE, index)[1, 0, 0] for index in (0, 1, 2, 3, 1)]
    assert found == [0, 10, 20, 30, 10]
    assert [key[3] for key in tiles._kept] == [2, 3, 1]
    assert tiles._bytes == strip.MAX_KEPT
    with pytest.raises(UserError, match="64 tiles of 2048 pixels are too large"):
        strip.make_strip([(grid, 1)] * 64, 2048, 0)


def test_a_runs_description_has_settings_panels_and_the_shape_of_its_grids(http):
    answer = http.get("/api/training/run", params={"run": NAME}).json()
    assert answer["settings"]["batch_size"] == 32
    assert answer["grid"] == {"rows": TILES // COLUMNS, "columns": COLUMNS, "size": SIZE}
    assert [panel["title"] for panel in answer["panels"]] == [title for title, _ in KINDS["gan"].panels]
    answer = http.get("/api/training/run", params={"run": "landmarks/0001-eyes-16px"}).json()
    assert answer["grid"]["size"] == 3 * SIZE
    assert KINDS["landmarks"].picture_scale == PICTURE_SCALE


def test_a_line_reaches_the_page_within_two_seconds(http, output):
    path, appended = output / NAME / "metrics.jsonl", []

    def is_new(message: dict) -> bool:
        if not appended:
            assert message["columns"]["step"][-1] == 500
            appended.append(time.monotonic())
            with path.open("a") as file:
                file.write(line(510))
            return False
        return message["columns"].get("step") == [510.0]

    messages = follow(http, [NAME], is_new)
    assert time.monotonic() - appended[0] < 2
    assert [message["reset"] for message in messages] == [True, False]


def test_one_stream_follows_several_runs_and_new_samples(http, output):
    names = [NAME, "landmarks/0001-eyes-16px"]
    seen: list[str] = []

    def is_new_sample(message: dict) -> bool:
        seen.append(message["run"])
        if len(seen) == 2:
            add_sample(output / NAME, 600)
        return message["status"]["samples"][-1][0] == 600

    follow(http, names, is_new_sample)
    assert seen == [*names, NAME]


def test_sample_grids_are_sent_as_they_are(http, output):
    answer = http.get("/api/training/sample", params={"run": NAME, "step": 300})
    assert answer.content == (output / NAME / "samples" / "step_000300.png").read_bytes()
    assert "immutable" in answer.headers["cache-control"]
    assert http.get("/api/training/sample", params={"run": NAME, "step": 350}).status_code == 404
    assert http.get("/api/training/real", params={"run": NAME}).status_code == 404


def test_a_strip_shows_one_tile_at_each_step(http):
    strip = picture(http.get("/api/training/strip", params={"run": NAME, "tile": 11, "step": [0, 200, 500]}))
    assert strip.shape == (SIZE, 3 * SIZE + 2 * 2, 3)
    for index, step in enumerate((0, 200, 500)):
        tile = strip[:, index * (SIZE + 2) : index * (SIZE + 2) + SIZE]
        assert (tile[..., 1] == 110).all()
        assert (tile[..., 0] == step % 256).all()


def test_a_strip_survives_damaged_grids_and_refuses_too_much(http, output):
    (output / NAME / "samples" / "step_000200.png").write_bytes(b"no picture")
    query = {"run": NAME, "tile": 1, "step": [100, 200]}
    strip = picture(http.get("/api/training/strip", params=query))
    assert (strip[:, SIZE + 2 :] == 128).all()
    for change in ({"step": list(range(65))}, {"step": []}, {"tile": -1}, {"tile": "x"}):
        assert http.get("/api/training/strip", params=query | change).status_code == 400
    assert http.get("/api/training/strip", params=query | {"step": [7]}).status_code == 404


def test_the_number_of_runs_in_a_stream_is_limited(http):
    assert http.get("/api/training/stream").status_code == 400
    assert http.get("/api/training/stream", params={"run": [str(n) for n in range(7)]}).status_code == 400
    assert http.get("/api/training/stream", params={"run": "none"}).status_code == 404
