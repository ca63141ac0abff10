"""What the benchmarks of speed stand on: processes and their cost, spreads, exponents, tables."""

from __future__ import annotations

import json
import sys

import pytest

from benchmarks.measuring import Cost, Spread, exponent, fresh, in_turn, run, short, show
from engine.errors import UserError

on_linux = pytest.mark.skipif(sys.platform != "linux", reason="memory is told on Linux alone")


def test_a_power_law_is_found_and_its_error_is_that_of_the_straight_line():
    x = [1.0, 2.0, 4.0, 8.0]
    assert exponent(x, [3 * value**1.5 for value in x]) == pytest.approx((1.5, 0), abs=1e-9)
    # By hand: logarithms (0, 0), (1, 1), (2, 3); the line 1.5 x - 1/6 misses them by 1/6, -1/3, 1/6.
    e = 2.718281828459045
    assert exponent([1, e, e**2], [1, e, e**3]) == pytest.approx((1.5, (1 / 12) ** 0.5))


def test_a_spread_is_the_median_with_the_least_and_the_most():
    assert Spread.of([3.0, 1.0, 2.0, 9.0]) == Spread(2.5, 1.0, 9.0, 4)
    assert str(Spread.of([3.0, 1.0, 2.0])) == "2 (1 to 3)"
    assert str(Spread.of([0.25])) == "0.25"
    assert [short(value) for value in (12345.6, 12.345, 0.012345)] == ["12,346", "12.3", "0.0123"]


def test_tasks_are_done_in_turn():
    done = []
    tasks = {name: lambda name=name: done.append(name) or len(done) for name in "ab"}
    assert in_turn(tasks, 2) == {"a": [1, 3], "b": [2, 4]}
    assert done == ["a", "b", "a", "b"]


def test_rows_are_a_table_or_json_with_every_number(capsys):
    rows = [{"what": "one", "seconds": Spread.of([1.23456, 2.0]), "target": None}]
    show(rows, as_json=False)
    told = capsys.readouterr().out.splitlines()
    assert told == ["| what | seconds | target |", "|---|---|---|", "| one | 1.62 (1.23 to 2) |  |"]
    show(rows, as_json=True)
    (row,) = json.loads(capsys.readouterr().out)
    assert row["seconds"] == {"median": 1.61728, "least": 1.23456, "most": 2.0, "times": 2}


@on_linux
def test_a_process_costs_time_and_memory(tmp_path):
    programs = [f"import time; held = b'x' * {size}; time.sleep(1)" for size in (80_000_000, 1)]
    hungry, idle = (run("-c", program, folder=tmp_path) for program in programs)
    # An interpreter's own memory differs by some pages from one start to the next.
    assert 75 < hungry.memory - idle.memory < 100
    assert idle.cpu_seconds > 0
    assert idle.seconds > 1


@on_linux
def test_a_script_that_fails_is_told_with_its_last_line(tmp_path):
    (tmp_path / "bad.py").write_text("import sys; print('note', file=sys.stderr); sys.exit('error: no run')")
    with pytest.raises(UserError, match=r"^bad\.py failed: no run$"):
        run("bad.py", folder=tmp_path)


@on_linux
def test_a_function_is_called_in_a_process_of_its_own():
    value, cost = fresh(sorted, [3, 1, 2])
    assert value == [1, 2, 3]
    assert isinstance(cost, Cost)
    assert cost.seconds > 0


@on_linux
def test_a_function_that_fails_is_told_of():
    with pytest.raises(UserError, match=r"^int failed, as told above$"):
        fresh(int, "three")
