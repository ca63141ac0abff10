"""Measurements in new processes, spreads, exponents, tables."""

from __future__ import annotations

import json
import sys

import pytest

from benchmarks.measuring import (
    Cost,
    Spread,
    call_in_subprocess,
    exponent,
    interleave,
    print_rows,
    rounded,
    run_python,
)
from engine.errors import UserError

on_linux = pytest.mark.skipif(sys.platform != "linux", reason="memory can be measured on Linux only")


def test_exponent_of_a_power_law_and_its_error():
    x = [1.0, 2.0, 4.0, 8.0]
    assert exponent(x, [3 * value**1.5 for value in x]) == pytest.approx((1.5, 0), abs=1e-9)
    # By hand: logarithms (0, 0), (1, 1), (2, 3); the line 1.5 x - 1/6 misses them by 1/6, -1/3, 1/6.
    e = 2.718281828459045
    assert exponent([1, e, e**2], [1, e, e**3]) == pytest.approx((1.5, (1 / 12) ** 0.5))


def test_spread_is_the_median_and_the_range():
    assert Spread.of([3.0, 1.0, 2.0, 9.0]) == Spread(2.5, 1.0, 9.0, 4)
    assert str(Spread.of([3.0, 1.0, 2.0])) == "2 (1 to 3)"
    assert str(Spread.of([0.25])) == "0.25"
    assert [rounded(value) for value in (12345.6, 12.345, 0.012345)] == ["12,346", "12.3", "0.0123"]


def test_tasks_are_interleaved():
    calls = []
    tasks = {name: lambda name=name: calls.append(name) or len(calls) for name in "ab"}
    assert interleave(tasks, 2) == {"a": [1, 3], "b": [2, 4]}
    assert calls == ["a", "b", "a", "b"]


def test_rows_are_printed_as_a_table_or_as_json_with_unrounded_numbers(capsys):
    rows = [{"what": "one", "seconds": Spread.of([1.23456, 2.0]), "target": None}]
    print_rows(rows, as_json=False)
    lines = capsys.readouterr().out.splitlines()
    assert lines == ["| what | seconds | target |", "|---|---|---|", "| one | 1.62 (1.23 to 2) |  |"]
    print_rows(rows, as_json=True)
    (row,) = json.loads(capsys.readouterr().out)
    assert row["seconds"] == {"median": 1.61728, "min": 1.23456, "max": 2.0, "count": 2}


@on_linux
def test_time_and_memory_of_a_process(tmp_path):
    programs = [f"import time; data = b'x' * {size}; time.sleep(1)" for size in (80_000_000, 1)]
    large, small = (run_python("-c", program, folder=tmp_path) for program in programs)
    # An interpreter's own memory differs by some pages from one start to the next.
    assert 75 < large.memory - small.memory < 100
    assert small.cpu_seconds > 0
    assert small.seconds > 1


@on_linux
def test_a_failed_script_is_reported_with_its_last_line(tmp_path):
    (tmp_path / "bad.py").write_text("import sys; print('note', file=sys.stderr); sys.exit('error: no run')")
    with pytest.raises(UserError, match=r"^bad\.py failed: no run$"):
        run_python("bad.py", folder=tmp_path)


@on_linux
def test_a_function_is_called_in_a_subprocess():
    value, cost = call_in_subprocess(sorted, [3, 1, 2])
    assert value == [1, 2, 3]
    assert isinstance(cost, Cost)
    assert cost.seconds > 0


@on_linux
def test_a_failed_function_is_reported():
    with pytest.raises(UserError, match=r"^int failed, see above$"):
        call_in_subprocess(int, "three")
