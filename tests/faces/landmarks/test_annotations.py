"""Reading landmarks from CSVs and .cat files, and errors that name file and row."""

import csv
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from engine.errors import UserError
from faces.landmarks.annotations import read_annotations, write_landmarks

HEADER = "file,x0,y0,x1,y1"


@pytest.fixture
def folder(tmp_path) -> Path:
    for name in ("Ann_01.jpg", "Ann_02.jpg", "Bo Li_1.jpg", "чужой.png"):
        Image.new("RGB", (20, 10)).save(tmp_path / name)
    return tmp_path


def table(folder: Path, *rows: str, header: str = HEADER, name: str = "landmarks.csv") -> Path:
    path = folder / name
    path.write_text("\n".join([header, *rows, ""]), encoding="utf-8")
    return path


def test_csv_and_people(folder):
    rows = ("Ann_01.jpg,1,2,3,4", "Ann_02.jpg,-1,2.5,1e2,4", "", "Bo Li_1.jpg,0,0,1,1", "чужой.png,1,1,2,2")
    table(folder, *rows)
    annotations = read_annotations(folder)
    assert annotations.files == ["Ann_01.jpg", "Ann_02.jpg", "Bo Li_1.jpg", "чужой.png"]
    assert annotations.points.shape == (4, 2, 2)
    assert annotations.points[1].tolist() == [[-1, 2.5], [100, 4]]
    assert annotations.people == ["Ann", "Ann", "Bo Li", "чужой.png"]


def test_person_pattern(folder):
    table(folder, "Ann_01.jpg,1,2,3,4", "Bo Li_1.jpg,0,0,1,1")
    assert read_annotations(folder, person=r"(.).*").people == ["A", "B"]
    with pytest.raises(UserError, match="not a regular expression"):
        read_annotations(folder, person="(")
    with pytest.raises(UserError, match="has no group"):
        read_annotations(folder, person=".*")


@pytest.mark.parametrize(
    ("files", "people"),
    [
        # A folder per person, possibly in a common folder or with subfolders.
        (["Ann/01.jpg", "Ann/02.jpg", "Bo Li/01.jpg"], ["Ann", "Ann", "Bo Li"]),
        (["all/Ann/1.jpg", "all/Ann/2.jpg", "all/Bo/portrait.jpg"], ["Ann", "Ann", "Bo"]),
        (["Ann/2023/01.jpg", "Ann/2024/01.jpg", "Bo/01.jpg"], ["Ann", "Ann", "Bo"]),
        (["Ann/Ann_0001.jpg", "Ann/Ann_0002.jpg", "Bo/Bo_0001.jpg"], ["Ann", "Ann", "Bo"]),
        # Names with the person, spread over folders; a photo outside the folders.
        (["0/Ann_01.jpg", "1/Ann_02.jpg", "1/Bo_01.jpg"], ["Ann", "Ann", "Bo"]),
        (["Ann_01.jpg", "Ann/02.jpg", "03.jpg"], ["Ann", "Ann", "03.jpg"]),
        # A single folder names nobody.
        (["images/01.jpg", "images/02.jpg"], ["images/01.jpg", "images/02.jpg"]),
        (["01.jpg", "./02.jpg"], ["01.jpg", "./02.jpg"]),
    ],
)
def test_people_from_folders(tmp_path, files, people):
    for file in files:
        (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / file).touch()
    table(tmp_path, *(f"{file},1,2,3,4" for file in files))
    assert read_annotations(tmp_path).people == people


def test_person_pattern_with_a_slash_matches_the_path(folder):
    for person in ("Ann", "Bo"):
        (folder / person).mkdir()
        (folder / person / "IMG_1.jpg").touch()
    table(folder, "Ann/IMG_1.jpg,1,2,3,4", "Bo/IMG_1.jpg,1,2,3,4")
    assert read_annotations(folder).people == ["IMG", "IMG"]
    assert read_annotations(folder, person="([^/]+)/.+").people == ["Ann", "Bo"]
    assert read_annotations(folder, person="(.)MG.*").people == ["I", "I"]


def test_person_column_and_other_columns(folder):
    table(folder, "7,Ann_01.jpg,x,1,2,3,4", "8,Ann_02.jpg,y,1,2,3,4", header="person,file,hat,x0,y0,x1,y1")
    annotations = read_annotations(folder)
    assert annotations.people == ["7", "8"]
    assert annotations.points[0].tolist() == [[1, 2], [3, 4]]
    assert read_annotations(folder, person=r"(.+)_\d+").people == ["Ann", "Ann"]
    table(folder, "7,Ann_01.jpg,1,2,3,4", " ,Ann_02.jpg,1,2,3,4", header="person,file,x0,y0,x1,y1")
    assert read_annotations(folder).people == ["7", "Ann_02.jpg"]


def test_two_faces_per_photo_and_table_elsewhere(folder, tmp_path_factory):
    path = table(tmp_path_factory.mktemp("else"), "Ann_01.jpg,1,2,3,4", "Ann_01.jpg,5,6,7,8", name="a b.csv")
    assert read_annotations(folder, path).points[1, 0].tolist() == [5, 6]


ROWS = ("Ann_01.jpg,1.5,2,3,4", "чужой.png,1,1.25,2,2")


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be"])
@pytest.mark.parametrize(
    ("separator", "decimal"), [(",", "."), (";", ","), ("; ", "."), ("\t", ","), ("\t", ".")]
)
def test_separators_encodings_and_blank_rows(folder, encoding, separator, decimal):
    expected = read_annotations(folder, table(folder, *ROWS, name="plain.csv"))
    rows = [
        separator.join(cell.replace(".", decimal) if cell[0].isdigit() else cell for cell in row.split(","))
        for row in (HEADER, *ROWS)
    ]
    text = "\r\n".join([*rows, separator * 4, "", " ", ""])
    (folder / "landmarks.csv").write_bytes(text.encode(encoding))
    annotations = read_annotations(folder)
    assert annotations.files == expected.files
    assert annotations.points.tobytes() == expected.points.tobytes()


@pytest.mark.parametrize("cells", ["-1,-1", ",", " , ", "NaN,nan", "0,0", "-1.00,-1.0", "nan,"])
def test_points_that_are_not_marked_are_nan(folder, cells):
    table(folder, "Ann_01.jpg,1,2,3,4", f"Ann_02.jpg,{cells},3,4", "Bo Li_1.jpg,-1,0,0,-1")
    annotations = read_annotations(folder)
    assert np.isnan(annotations.points).all(-1).tolist() == [[False, False], [True, False], [False, False]]
    assert np.isnan(annotations.points).sum() == 2
    assert annotations.points[1, 1].tolist() == [3, 4]
    assert annotations.notes[0].startswith("not marked: 1 point of 1 face;")
    assert len(annotations.notes) == (2 if cells == "0,0" else 1)
    assert annotations.select(np.array([1])).notes == annotations.notes


def test_cats_with_a_point_that_is_not_marked(folder):
    (folder / "Ann_01.jpg.cat").write_text("3 1 2 -1 -1 5 6")
    assert np.isnan(read_annotations(folder).points[0, :, 0]).tolist() == [False, True, False]


def test_place_far_from_the_faces_that_many_share_is_reported(drawn_faces):
    annotations = read_annotations(drawn_faces)
    assert annotations.notes == ()
    points = annotations.points.copy()
    points[5:20, 3] = points[30, 7] = (-10, 200)
    points[40:50, 2] = 0
    table = drawn_faces.parent / "shared places.csv"
    write_landmarks(table, annotations.files, points)
    notes = read_annotations(drawn_faces, table).notes
    assert notes[0].startswith("not marked: 10 points of 10 faces;")
    assert notes[1].startswith("10 of 90 faces have points at 0, 0, which counts as not marked")
    assert notes[2].startswith("16 of 90 faces have a point at -10, 200, far from their others")


def test_other_columns_may_contain_other_separators(folder):
    path = table(folder, 'Ann_01.jpg,1,2,3,4,"a;b"', header=f'{HEADER},"hat;coat;scarf;gloves;boots;belt"')
    assert read_annotations(folder, path).points.tolist() == [[[1, 2], [3, 4]]]


def test_backslashes_in_file_names(folder):
    (folder / "Ann").mkdir()
    for name in (r"Ann/01.jpg", r"a\b.jpg"):
        (folder / name).touch()
    table(folder, r"Ann\01.jpg,1,2,3,4", r"a\b.jpg,1,2,3,4")
    assert read_annotations(folder).files == ["Ann/01.jpg", r"a\b.jpg"]


@pytest.mark.parametrize(
    ("header", "row", "encoding", "message"),
    [
        ("file;x0;y0", "Ann_01.jpg;1", "utf-8", r"row 2: 2 columns.*\(.* UTF-8, separated by semicolons\)"),
        ("file;x0;y0", "Ann_01.jpg;1.234;2,5", "utf-8", "row 2: .* both decimal points and commas"),
        ("name\tx0\ty0", "Ann_01.jpg\t1\t2", "utf-16", r"row 1: .*'file'.*\(.* UTF-16, separated by tabs\)"),
        ("file,x0,y0", "gone.jpg,1,2", "utf-8-sig", r"'gone.jpg' .*\(.* UTF-8, separated by commas\)"),
    ],
)
def test_error_names_the_separator_and_the_encoding(folder, header, row, encoding, message):
    (folder / "landmarks.csv").write_text(f"{header}\n{row}\n", encoding=encoding)
    with pytest.raises(UserError, match=message) as error:
        read_annotations(folder)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("Ann_02.jpg,1,2,3", "row 3: 4 columns, but the header has 5"),
        ("Ann_02.jpg,1,2,3,4,5", "row 3: 6 columns, but the header has 5"),
        ("Ann_02.jpg,1,nan,3,4", "row 3, y0: nan is not a finite number"),
        ("Ann_02.jpg,1,2,inf,4", "row 3, x1: inf is not a finite number"),
        ("Ann_02.jpg,1,2,,4", "row 3, x1: '' is not a number"),
        ("Ann_02.jpg,1,2,three,4", "row 3, x1: 'three' is not a number"),
        ("nobody.jpg,1,2,3,4", "row 3: there is no file 'nobody.jpg'"),
        (",1,2,3,4", "row 3: there is no file ''"),
        (f"{'ж' * 200}.jpg,1,2,3,4", "row 3: there is no file 'жж"),
    ],
)
def test_invalid_row_is_one_line_with_file_and_row(folder, row, message):
    path = table(folder, "Ann_01.jpg,1,2,3,4", row)
    with pytest.raises(UserError) as error:
        read_annotations(folder)
    assert str(error.value).startswith(f"{path}, {message}")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("header", "message"),
    [
        ("file,x0,y0,x1", "'y1'|3 coordinate columns"),
        ("file,x0,y0,x2,y2", "'x1'"),
        ("name,x0,y0,x1,y1", "'file'"),
        ("file,x0,x0,y0,y1", "'x0'|'x1'"),
        ("file,a,b,c,d", "0 coordinate columns"),
        ("", "'file'"),
    ],
)
def test_invalid_header_is_one_line(folder, header, message):
    path = table(folder, "Ann_01.jpg,1,2,3,4", header=header)
    with pytest.raises(UserError, match=message) as error:
        read_annotations(folder)
    assert str(error.value).startswith(f"{path}, row 1")


def test_missing_table_rows_or_folder(folder, tmp_path):
    with pytest.raises(UserError, match=r"landmarks.csv.*\.cat.*--csv"):
        read_annotations(folder)
    table(folder)
    with pytest.raises(UserError, match="no rows"):
        read_annotations(folder)
    with pytest.raises(UserError, match="no folder"):
        read_annotations(tmp_path / "nowhere")
    with pytest.raises(UserError, match="cannot be read: File name too long"):
        read_annotations(tmp_path / ("x" * 300))
    with pytest.raises(UserError, match="cannot be read"):
        read_annotations(folder, tmp_path / "nowhere.csv")


def test_cats(folder):
    below = folder / "CAT_00"
    below.mkdir()
    for number in (1, 2):
        Image.new("RGB", (20, 10)).save(below / f"00000001_00{number}.jpg")
        (below / f"00000001_00{number}.jpg.cat").write_text("3 1 2 3 4 5 6 \n")
    annotations = read_annotations(folder)
    assert annotations.files == ["CAT_00/00000001_001.jpg", "CAT_00/00000001_002.jpg"]
    assert annotations.points[0].tolist() == [[1, 2], [3, 4], [5, 6]]
    assert len({*annotations.people}) == 2


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("3 1 2 3 4 5", "6 numbers"),
        ("", "0 numbers"),
        ("0", "1 numbers"),
        ("3 1 2 3 4 5 x", "'x' is not a number"),
        ("2 1 2 3 nan", "nan is not a finite number"),
        ("2 1 2 3 4", "has 2 points, but"),
    ],
)
def test_invalid_cat_is_one_line(folder, text, message):
    (folder / "Ann_01.jpg.cat").write_text("3 1 2 3 4 5 6")
    (folder / "Ann_02.jpg.cat").write_text(text)
    with pytest.raises(UserError, match=message) as error:
        read_annotations(folder)
    assert "Ann_02.jpg.cat" in str(error.value)


def test_cat_without_image(folder):
    (folder / "gone.jpg.cat").write_text("3 1 2 3 4 5 6")
    with pytest.raises(UserError, match=r"gone.jpg.cat: there is no image gone.jpg"):
        read_annotations(folder)


def test_write_and_read(folder):
    points = np.arange(8, dtype=np.float32).reshape(2, 2, 2) + 0.25
    write_landmarks(folder / "landmarks.csv", ["Ann_01.jpg", "чужой.png"], points)
    assert np.array_equal(read_annotations(folder).points, points)
    with (folder / "landmarks.csv").open(encoding="utf-8") as file:
        assert next(csv.reader(file)) == HEADER.split(",")
