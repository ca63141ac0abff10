"""Patterns of --exclude, and folders that are scanned with them."""

import pytest
from PIL import Image

from engine.errors import UserError
from images.dataset import load_folder
from images.exclude import ExcludePatterns
from images.scan import list_images


@pytest.mark.parametrize(
    ("pattern", "excluded", "others"),
    [
        ("thumbs*", ["thumbs", "a/thumbs.png", "a/thumbs_1/b.png"], ["a/my_thumbs.png"]),
        ("*_mask.png", ["a_mask.png", "a/b/c_mask.png"], ["a_mask.jpg", "a_mask.png.jpg"]),
        ("old/", ["old/a.png", "b/old/a.png"], ["older/a.png", "b/old"]),
        ("old/*.png", ["old/a.png"], ["b/old/a.png", "old/b/a.png", "old/a.jpg"]),
        ("/a.png", ["a.png"], ["b/a.png"]),
        ("./a.png", ["a.png"], ["b/a.png"]),
        ("old/**", ["old/a.png", "old/b/a.png"], ["b/old/a.png"]),
        ("**/old/a.png", ["old/a.png", "b/c/old/a.png"], ["old/b.png"]),
        ("a/**/z.png", ["a/z.png", "a/b/c/z.png"], ["z.png", "b/z.png"]),
        ("IMG_00[12]?.jpg", ["IMG_001a.jpg", "x/IMG_0023.jpg"], ["IMG_0031.jpg", "img_0011.jpg"]),
        ("IMG [1].jpg", ["IMG [1].jpg", "x/IMG [1].jpg", "IMG 1.jpg"], ["IMG [2].jpg", "IMG 2.jpg"]),
        ("trip [a]/*.jpg", ["trip [a]/1.jpg", "trip a/1.jpg"], ["trip [b]/1.jpg"]),
        ("!a.png", ["!a.png"], ["a.png", "b.png"]),
        ("b b/é.png", ["b b/é.png"], ["b/é.png"]),
        ("*", ["a.png", "a/b.png"], []),
    ],
)
def test_patterns(pattern, excluded, others):
    for name in excluded:
        assert ExcludePatterns([pattern]).exclude_path(name), name
    for name in others:
        assert not ExcludePatterns([pattern]).exclude_path(name), name


@pytest.mark.parametrize("pattern", ["", "/", "./", "//"])
def test_empty_patterns_are_an_error(pattern):
    with pytest.raises(UserError, match=r"^--exclude: the pattern '.*' is empty"):
        ExcludePatterns(["*.png", pattern])


@pytest.fixture
def folder(tmp_path):
    folder = tmp_path / "faces"
    names = ("a.png", "a_mask.png", "b/c.png", "b/c_mask.png", "old/d.png", "b/old/e.png", "@eaDir/a.jpg")
    for level, name in enumerate(names):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (40, 40), (20 * level, 0, 0)).save(path)
    (folder / "notes_mask.txt").write_text("no image")
    (folder / "empty_mask.png").touch()
    return folder


def test_excluded_files_and_folders_are_counted(folder):
    patterns = ExcludePatterns(["*_mask*", "old", "thumbs"])
    listing = list_images(folder, exclude=patterns)
    assert listing.files == ["a.png", "b/c.png"]
    assert listing.skipped == [("@eaDir", "not entered: thumbnails or copies")]
    assert listing.excluded.lines() == [
        "3 images and 2 folders excluded by --exclude",
        "--exclude 'thumbs' matches no image or folder",
    ]
    assert list_images(folder).excluded.lines() == []
    assert list_images(folder, exclude=ExcludePatterns(["@ea*"])).skipped == [
        ("empty_mask.png", "empty file")
    ]


def load(folder, exclude=(), size=32):
    cache = folder.parent / "cache"
    return load_folder(folder, size, cache=cache, workers=0, exclude=exclude, progress=False)


def test_cached_images_of_other_patterns_are_not_mixed(folder):
    everything, some = load(folder), load(folder, ["*_mask*", "old"])
    assert (len(everything.images), len(some.images)) == (6, 2)
    assert everything.digest != some.digest
    # Each has an entry of its own, which the other does not outdate; the order of patterns does not matter.
    again = [load(folder), load(folder, ["old", "*_mask*"])]
    assert all(data.from_cache for data in again)
    assert [data.digest for data in again] == [everything.digest, some.digest]
    assert [data.files for data in again] == [everything.files, some.files]
    Image.new("RGB", (40, 40), "blue").save(folder / "a.png")
    assert load(folder, ["old", "*_mask*"]).digest != some.digest


def test_everything_excluded_is_one_line(folder):
    with pytest.raises(UserError, match=r"^no image in \S+; 3 images and 3 folders excluded by --exclude$"):
        load(folder, ["*"])
