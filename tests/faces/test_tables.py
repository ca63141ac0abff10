"""Writing and reading CSV tables."""

import csv
import os
from pathlib import Path

import pytest

from engine.errors import UserError
from faces.tables import open_csv, write_csv


def rows(path: Path) -> list[list[str]]:
    with open_csv(path) as file:
        return list(csv.reader(file))


def test_round_trip(tmp_path):
    path = tmp_path / "below" / "table.csv"
    write_csv(path, ["file", "score"], (pair for pair in [("чужой, 1.png", 0.5), ('"a"\nb', None)]))
    assert rows(path) == [["file", "score"], ["чужой, 1.png", "0.5"], ['"a"\nb', ""]]


def test_names_that_are_not_utf_8(tmp_path):
    name = os.fsdecode(b"caf\xe9.png")
    write_csv(tmp_path / "table.csv", ["file"], [[name]])
    assert rows(tmp_path / "table.csv") == [["file"], [r"caf\udce9.png"]]
    (tmp_path / "raw.csv").write_bytes(b"\xef\xbb\xbffile\ncaf\xe9.png\n")
    assert rows(tmp_path / "raw.csv") == [["file"], [name]]


def test_failing_row_leaves_the_existing_table(tmp_path):
    path = tmp_path / "table.csv"
    write_csv(path, ["a"], [[1]])
    with pytest.raises(ZeroDivisionError):
        write_csv(path, ["b"], ([1 / number] for number in (1, 0)))
    assert rows(path) == [["a"], ["1"]]
    assert list(tmp_path.iterdir()) == [path]


def test_unreadable_csv_is_one_line(tmp_path):
    with pytest.raises(UserError, match=r"nowhere\.csv cannot be read: No such file"):
        rows(tmp_path / "nowhere.csv")
    (tmp_path / "long.csv").write_text("x" * (csv.field_size_limit() + 1))
    with pytest.raises(UserError, match=r"long\.csv is not a CSV: field larger"):
        rows(tmp_path / "long.csv")
