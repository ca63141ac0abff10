"""What a page is told of a run, while it trains and afterwards."""

from __future__ import annotations

import json
import os
import time

from filelock import FileLock

from engine.lock import LOCK
from tests.web.runs import line, make_run
from web import progress
from web.progress import Follower, Progress, downsample, list_samples, to_columns


def steps(news: dict) -> list[float]:
    return news["columns"].get("step", [])


def test_lines_are_read_once_and_an_incomplete_one_later(tmp_path):
    run = make_run(tmp_path / "run", logged=30)
    follower = Follower(run)
    first, rows = follower.poll()
    assert first
    assert [row["step"] for row in rows] == [10, 20, 30]
    assert follower.poll() == (False, [])
    with (run / "metrics.jsonl").open("a") as file:
        file.write(line(40) + line(50)[:20])
        file.flush()
        assert [row["step"] for row in follower.poll()[1]] == [40]
        file.write(line(50)[20:])
    assert [row["step"] for row in follower.poll()[1]] == [50]


def test_a_file_that_is_replaced_as_by_a_rollback_starts_over(tmp_path):
    run = make_run(tmp_path / "run", logged=50)
    follower = Follower(run)
    follower.poll()
    (run / "new").write_text(line(10) + line(20))
    (run / "new").replace(run / "metrics.jsonl")
    again, rows = follower.poll()
    assert again
    assert [row["step"] for row in rows] == [10, 20]
    (run / "metrics.jsonl").unlink()
    assert follower.poll() == (True, [])
    assert follower.poll() == (False, [])


def test_damaged_lines_and_values_are_left_out(tmp_path):
    run = make_run(tmp_path / "run", logged=10)
    lines = [
        "[1]",
        "{",
        '{"step": "x"}',
        '{"step": 20, "a": NaN, "b": 1e999, "c": "x", "d": 2}',
        "[" * 100_000,
    ]
    with (run / "metrics.jsonl").open("a") as file:
        file.write("\n".join(lines) + "\n")
    assert Follower(run).poll()[1][1:] == [{"step": 20, "d": 2.0}]
    json.dumps(Progress(run).poll(), allow_nan=False)


def test_columns_have_a_value_or_none_for_each_row():
    rows = [{"step": 10, "a": 1.23456789}, {"step": 20, "b": 2.0}]
    assert to_columns(rows) == {"step": [10, 20], "a": [1.23457, None], "b": [None, 2.0]}


def test_a_long_run_is_thinned_but_keeps_its_scores_and_its_end():
    rows = [{"step": step} | ({"score/kid": 1.0} if step % 777 == 0 else {}) for step in range(1, 10_001)]
    kept = downsample(rows, 100)
    assert 100 <= len(kept) < 130
    assert {row["step"] for row in rows if "score/kid" in row} <= {row["step"] for row in kept}
    assert kept[-1]["step"] == 10_000


def test_a_run_that_ended_has_its_best_step_and_no_time_left(tmp_path):
    run = make_run(tmp_path / "run", steps=500)
    (run / "events.txt").write_text("step 1,200: alarm: D wins\nstep 44: interrupted by SIGTERM\nodd\n")
    news = Progress(run).poll()
    status = news["status"]
    assert news["reset"]
    assert steps(news)[-1] == 500
    assert (status["state"], status["step"], status["seconds_left"]) == ("ended", 500, None)
    # The lowest mean of three KIDs: 2, 1 and 2 at steps 200, 300 and 400.
    assert (status["best"], status["label"]) == (400, "KID")
    assert [(event["step"], event["alarm"]) for event in status["events"]] == [(1200, True), (44, False)]
    assert [step for step, _ in status["samples"]] == [0, 100, 200, 300, 400, 500]


def test_the_time_left_follows_from_speed_and_budget(tmp_path):
    run = make_run(tmp_path / "run", steps=1000)
    timed = make_run(tmp_path / "timed", steps=None, minutes=10)
    os.utime(timed / "config.json", (time.time() - 120,) * 2)
    (timed / f"events.out.tfevents.{int(time.time()) - 10}.host.1.0").touch()  # of a rollback
    with FileLock(run / LOCK), FileLock(timed / LOCK):
        status = Progress(run).poll()["status"]
        assert status["state"] == "running"
        assert status["seconds_left"] == 500 * 32 / 64  # steps, images a step, images a second
        assert 470 < Progress(timed).poll()["status"]["seconds_left"] <= 480


def test_every_kind_of_run_has_its_score(tmp_path):
    for kind, label in (("landmarks", "NME"), ("classifier", "error")):
        status = Progress(make_run(tmp_path / kind, kind=kind)).poll()["status"]
        assert (status["label"], status["best"]) == (label, 500)


def test_a_damaged_run_is_shown_as_far_as_it_goes(tmp_path):
    run = make_run(tmp_path / "run", steps=500)
    for content in (
        "",
        "[]",
        '{"settings": 3}',
        '{"settings": {"steps": "x", "minutes": [], "batch_size": true}}',
    ):
        (run / "config.json").write_text(content)
        assert Progress(run).poll()["status"]["step"] == 500


def test_damaged_events_are_left_out(tmp_path):
    run = make_run(tmp_path / "run")
    (run / "events.txt").write_text(f"step ,: a\nstep {'9' * 5000}: b\nstep 1,200: alarm: c\n")
    assert Progress(run).poll()["status"]["events"] == [{"step": 1200, "text": "alarm: c", "alarm": True}]


def test_samples_that_vanish_are_left_out(tmp_path):
    run = make_run(tmp_path / "run")
    (run / "samples" / "step_000300.png").unlink()
    (run / "samples" / "step_000700.png").symlink_to("nowhere")
    assert [step for step, _ in list_samples(run)] == [0, 100, 200, 400, 500]


def test_the_lock_is_looked_at_now_and_then_only(tmp_path, monkeypatch):
    looks = []
    monkeypatch.setattr(progress, "run_state", lambda *_: looks.append(1) or "running")
    followed = Progress(make_run(tmp_path / "run"))
    for _ in range(5):
        followed.poll()
    assert len(looks) == 1
