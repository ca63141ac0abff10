"""What the tests of preparing faces share: how they call it, and how they look at what it made."""

import csv
import hashlib
from collections import Counter

from engine.png import to_pillow
from faces.preparation import PrepareChoice, prepare

SOURCES = ["plain.jpg", "with space.jpg", "日本/ü é.png", "one/same.jpg", "two/same.jpg", "two/same.png"]


def contents(folder):
    """Every file's name, bytes and time of writing."""
    return {
        str(path.relative_to(folder)): (
            hashlib.sha256(path.read_bytes()).hexdigest(),
            path.stat().st_mtime_ns,
        )
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def pixels(out):
    """Name and bytes of every crop and of the manifest."""
    files = [*out.glob("faces/**/*.*"), *out.glob("left_out/**/*.*"), out / "manifest.csv"]
    return {str(path.relative_to(out)): path.read_bytes() for path in files}


def manifest(out):
    with (out / "manifest.csv").open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def verdicts(out):
    return Counter(row["verdict"] for row in manifest(out))


def quick(photos, out, **changes):
    return prepare(PrepareChoice(photos, out, workers=0, **changes))


def folder_of(tmp_path, *photos):
    """A folder with these images, uint8 [3, H, W], as 0.png, 1.png ..."""
    folder = tmp_path / "in"
    folder.mkdir()
    for number, image in enumerate(photos):
        to_pillow(image).save(folder / f"{number}.png")
    return folder
