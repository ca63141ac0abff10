import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from engine.errors import UserError
from faces.recognition.folder import hold_out, load_labelled_images


def write(path: Path, seed: int) -> None:
    """Write a random image of 20 x 20 pixels."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, (20, 20, 3), np.uint8)).save(path)


@pytest.fixture
def folder(tmp_path) -> Path:
    """Three classes of 10, 4 and 2 images."""
    for number, (name, count) in enumerate({"бутылка": 10, "cat": 4, "dog dog": 2}.items()):
        for index in range(count):
            write(tmp_path / "data" / name / f"{index}.png", 100 * number + index)
    return tmp_path / "data"


def load(folder: Path, **options):
    options = {"cache": folder.parent / "cache", "workers": 0, "held_out": 0.2, **options}
    return load_labelled_images(folder, options.pop("side", 16), **options)


def error_line(folder: Path, **options) -> str:
    with pytest.raises(UserError) as caught:
        load(folder, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_sub_folder_is_a_class(folder):
    data = load(folder)
    assert data.classes == ("cat", "dog dog", "бутылка")
    assert np.bincount(data.labels).tolist() == [4, 2, 10]
    assert data.images.shape == (16, 3, 16, 16)
    assert [name.split("/")[0] for name in data.files] == data.class_names()
    assert "16 images of 3 classes" in data.summary()


def test_folders_of_systems_are_no_classes(folder):
    for number, name in enumerate(("__MACOSX", "@eaDir", "#recycle")):
        write(folder / name / "0.png", 1000 + number)
    data = load(folder)
    assert data.classes == ("cat", "dog dog", "бутылка")
    assert [name for name, _ in data.skipped] == ["#recycle", "@eaDir", "__MACOSX"]


def test_split_is_stratified_and_reproducible(folder):
    data = load(folder)
    held = np.bincount(data.labels[data.held_out], minlength=3)
    assert held.tolist() == [1, 1, 2]
    assert sorted([*data.training_indices, *data.held_out_indices]) == list(range(16))
    again = load(folder)
    assert np.array_equal(data.held_out, again.held_out)
    assert data.digest == again.digest
    assert data.digest != load(folder, held_out=0.5).digest
    assert not load(folder, held_out=0).held_out.any()


def test_equal_images_are_on_the_same_side():
    fingerprints = [7, 7, 7, 8, 9, 9]
    held = hold_out(["a"] * 6, fingerprints, 0.4)
    assert held.tolist() == [True, True, True, False, False, False]
    with pytest.raises(UserError, match="the class a has one image"):
        hold_out(["a"] * 3, fingerprints[:3], 0.4)


def test_near_duplicates_are_on_the_same_side():
    names, fingerprints = ["a"] * 4 + ["b"] * 2, [1, 2, 3, 4, 5, 6]
    keys = [4, 2, 3, 4, 6, 6]
    assert hold_out(names, fingerprints, 0.4, keys).tolist() == [False, True, False, False, True, False]


def test_folder_with_train_and_validate(folder, tmp_path):
    split = tmp_path / "split"
    shutil.copytree(folder, split / "train")
    for seed, name in enumerate(("cat", "dog dog", "бутылка"), 1000):
        write(split / "validate" / name / "a.png", seed)
    data = load(split)
    assert data.has_split
    assert data.classes == ("cat", "dog dog", "бутылка")
    assert [data.files[row] for row in data.held_out_indices] == [
        "validate/cat/a.png",
        "validate/dog dog/a.png",
        "validate/бутылка/a.png",
    ]
    shutil.copy(split / "train" / "cat" / "0.png", split / "validate" / "cat" / "again.png")
    assert "train/cat/0.png and validate/cat/again.png are the same image" in error_line(split)
    shutil.rmtree(split / "validate" / "cat")
    assert "the class cat has no image in validate/" in error_line(split)


@pytest.mark.parametrize("others", [("val",), ("validate", "test"), ()])
def test_train_beside_other_folders_is_an_error(folder, tmp_path, others):
    split = tmp_path / "split"
    shutil.copytree(folder, split / "train")
    for seed, other in enumerate(others, 1000):
        write(split / other / "cat" / "a.png", seed)
    line = error_line(split)
    assert (
        f"beside it is {', '.join(f'{name}/' for name in sorted(others)) or 'nothing'} instead of val" in line
    )
    assert len(load(split / "train").classes) == 3


@pytest.mark.parametrize(
    "parts", [("Train", "Test"), ("training", "validation"), ("val", "test"), ("TRAIN", "dev", "eval")]
)
def test_split_with_other_names_is_an_error(folder, tmp_path, parts):
    split = tmp_path / "split"
    for part in parts:
        shutil.copytree(folder, split / part)
    line = error_line(split)
    assert f"is split into {', '.join(f'{name}/' for name in sorted(parts))}, all with sub" in line
    assert len(load(split / parts[0]).classes) == 3


def test_classes_with_sub_folders_may_have_names_of_a_split(folder):
    for name in ("cat", "dog dog"):
        (folder / name).rename(folder / "moved")
        (folder / name).mkdir()
        (folder / "moved").rename(folder / name / "one week")
    assert load(folder).classes == ("cat", "dog dog", "бутылка")
    (folder / "cat").rename(folder / "test")
    (folder / "dog dog").rename(folder / "Dev")
    assert load(folder).classes == ("Dev", "test", "бутылка")
    shutil.rmtree(folder / "Dev" / "one week")
    (folder / "бутылка").rename(folder / "eval")
    for seed in range(3):
        write(folder / "Dev" / f"{seed}.png", 2000 + seed)
    assert load(folder).classes == ("Dev", "eval", "test")


def test_class_may_be_called_train(folder):
    (folder / "cat").rename(folder / "train")
    assert "train" in load(folder).classes


def test_class_with_one_image(folder):
    (folder / "dog dog" / "1.png").unlink()
    line = error_line(folder)
    assert "the class dog dog has one image" in line
    assert "add more" in line


def test_empty_class(folder):
    (folder / "empty").mkdir()
    assert f"the class {folder / 'empty'} has no usable image" in error_line(folder)
    (folder / "empty" / "broken.png").write_bytes(b"no image")
    assert "(empty/broken.png: not a JPEG" in error_line(folder)


def test_two_classes_with_the_same_images(folder):
    shutil.copytree(folder / "cat", folder / "kitty")
    line = error_line(folder)
    assert "the classes cat and kitty contain the same image (cat/0.png, kitty/0.png; 4 such pairs" in line


def test_corrupt_image_is_skipped(folder):
    (folder / "cat" / "2.png").write_bytes((folder / "cat" / "2.png").read_bytes()[:300])
    data = load(folder)
    assert len(data.images) == 15
    assert [name for name, _ in data.skipped] == ["cat/2.png"]


def test_image_outside_class_folders_is_skipped(folder):
    write(folder / "stray.png", 999)
    assert ("stray.png", "not in a class folder") in load(folder).skipped


@pytest.mark.parametrize("class_count", [0, 1])
def test_fewer_than_two_classes(tmp_path, class_count):
    write(tmp_path / "data" / "loose.png", 1)
    for index in range(3 * class_count):
        write(tmp_path / "data" / "one" / f"{index}.png", index + 2)
    line = error_line(tmp_path / "data")
    assert ("has one" if class_count else "has none") in line
    assert "sub-folder for each class" in line


def test_missing_folder(tmp_path):
    assert "no folder" in error_line(tmp_path / "gone")


def test_classes_by_column_or_file_name(tmp_path):
    flat = tmp_path / "flat"
    for index in range(6):
        write(flat / f"{20 + index}_{index % 2}_x.png", index)
    data = load(flat, label=r"^\d+_([01])_")
    assert data.classes == ("0", "1")
    assert data.labels.tolist() == [0, 1, 0, 1, 0, 1]
    empty = load(flat, label="^(?:22)?([0-9]*)_", held_out=0)
    assert (empty.classes[0], empty.skipped[0][0]) == ("20", "22_0_x.png"), "an empty name is no class"
    rows = "".join(f"{20 + index}_{index % 2}_x.png,{'ab'[index > 2]}\n" for index in range(5))
    (flat / "labels.csv").write_text("file,kind\n" + rows)
    data = load(flat, label="kind")
    assert (data.classes, data.labels.tolist()) == (("a", "b"), [0, 0, 0, 1, 1])
    assert data.skipped == [("25_1_x.png", "no class by kind")]
    assert "neither a column of" in error_line(flat, label="colour")
    assert "not a regular expression" in error_line(flat, label="(")


def test_centre_crop(folder):
    whole = load(folder, side=16).images
    centre = load(folder, side=8, centre=0.5).images
    assert np.array_equal(centre, whole[:, :, 4:12, 4:12])
