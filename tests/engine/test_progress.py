import io
import sys

import pytest

from engine import progress
from engine.progress import ProgressBar
from tests.in_process import Terminal


def shown(stream: io.StringIO, monkeypatch, *, seconds: float = 60.0) -> str:
    """What a loop of three rounds shows on standard error."""
    monkeypatch.setattr(progress, "LOG_SECONDS", seconds)
    monkeypatch.setattr(sys, "stderr", stream)
    for _ in ProgressBar(range(3), "decoding", unit=" images", mininterval=0):
        ProgressBar.write("a note", file=sys.stderr)
    return stream.getvalue()


def test_a_bar_moves_in_a_terminal(monkeypatch):
    text = shown(Terminal(), monkeypatch)
    assert "\r" in text
    assert "decoding: 100%|" in text
    assert "3/3" in text


def test_a_log_has_no_frames_and_nothing_of_what_is_short(monkeypatch):
    assert shown(io.StringIO(), monkeypatch) == 3 * "a note\n"


def test_a_log_has_a_line_now_and_then(monkeypatch):
    lines = shown(io.StringIO(), monkeypatch, seconds=0).splitlines()
    assert [line for line in lines if line != "a note"][-1].startswith("decoding: 3 of 3 images after 00:00")
    assert not any("\r" in line or "|" in line for line in lines)


@pytest.mark.parametrize("total", [None, 7])
def test_a_line_on_request_has_the_values(monkeypatch, total):
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    with ProgressBar(initial=2, total=total, desc="training", unit=" steps") as bar:
        bar.update()
        bar.set_postfix_str("KID 2.6")
        bar.log_line()
    (line,) = sys.stderr.getvalue().splitlines()
    assert line.startswith(f"training: 3 of {total or '?'} steps after")
    assert line.endswith(", KID 2.6")


def test_a_pause_is_left_out_of_the_estimates(monkeypatch):
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    now = 1000.0
    for clock in ("time.time", "tqdm.std.time"):
        monkeypatch.setattr(clock, lambda: now)
    with ProgressBar(total=2, unit=" photos") as bar:
        with bar.paused():
            now += 160
        now += 3
        bar.update()
        assert bar.format_dict["elapsed"] == 3
        assert "00:03, 00:03 left" in str(bar)
