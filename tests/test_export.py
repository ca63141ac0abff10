import base64
import re
import shutil
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from engine.png import load_png
from gan.export.page_weights import page_weights
from gan.generator import load_generator
from tests.in_process import call
from tests.web.made_generator import made_directions

export, sample = partial(call, "export.py"), partial(call, "sample.py")


@pytest.fixture
def run(tiny_run, tmp_path) -> Path:
    return Path(shutil.copytree(tiny_run, tmp_path / "runs" / tiny_run.name))


def test_a_file_samples_like_its_run(run, tmp_path):
    file = tmp_path / "faces of mine.safetensors"
    code, lines, _ = export("--output", run.parent, file)
    assert code == 0
    assert "MB" in lines[0]
    assert Path(lines[-1]) == file
    _, lines, _ = sample(run)
    expected = load_png(lines[-1])
    shutil.rmtree(run)
    code, lines, _ = sample(file, "--output", tmp_path / "out")
    assert code == 0
    assert Path(lines[-1]).parent == tmp_path / "out" / "exported" / "faces of mine" / "grids"
    assert np.array_equal(load_png(lines[-1]), expected)
    code, lines, _ = call("interpolate.py", file, "--output", tmp_path / "out", "--arithmetic", "1 - 2 + 3")
    assert code == 0


def test_a_file_that_may_be_meant_as_the_run_is_not_replaced(run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    mine = tmp_path / "mine.safetensors"
    export(run, mine)
    before = mine.read_bytes()
    # Without a run it would be the generator that comes with the project.
    code, _, error = export("mine.safetensors", "--half")
    assert (code, mine.read_bytes()) == (2, before)
    assert "mine.safetensors exists, and contains another generator than that of drawn: to replace" in error
    # A run's file is replaced by the same run's, and by any generator that is named.
    assert export("--output", run.parent, mine, "--half").code == 0
    assert len(mine.read_bytes()) < 0.6 * len(before)
    assert export("drawn", mine).code == 0


def test_a_file_is_evaluated_against_a_folder(run, pictures, tmp_path):
    file = tmp_path / "faces.safetensors"
    export(run, file)
    options = (file, "--output", tmp_path / "out", "--k", 3, "--draws", 2)
    code, lines, _ = call("evaluate.py", *options, "--real", pictures)
    assert code == 0
    assert Path(lines[-1]).parent == tmp_path / "out" / "exported" / "faces" / "evaluation"
    code, _, error = call("evaluate.py", *options)
    assert code == 2
    assert "an exported generator has no folder of training images: give --real FOLDER" in error


def test_a_file_can_be_exported_again_and_half_precision_states_its_error(run, tmp_path):
    export(run, tmp_path / "whole.safetensors")
    code, lines, _ = export(tmp_path / "whole.safetensors", tmp_path / "half.safetensors", "--half")
    assert code == 0
    assert "of 255 on average" in lines[0]


def test_a_page_contains_the_generator_and_its_directions(run, tmp_path):
    file = tmp_path / "page.html"
    code, lines, _ = export(run, file)
    assert code == 0
    assert "with no named directions" in lines[0]
    assert Path(lines[-1]) == file
    generator = load_generator(run)
    made_directions(generator).save(run / "directions.safetensors")
    code, lines, _ = export(run, file)
    assert "with 3 named directions" in lines[0]
    stored = base64.b64decode(re.search(r'id="weights">([^<]*)<', file.read_text())[1])
    assert stored == page_weights(generator, made_directions(generator))
    assert b'{"__metadata__"' in stored
    for content in (stored, file.read_bytes()):
        assert str(tmp_path).encode() not in content


def test_a_page_that_would_be_too_large_is_refused(run, tmp_path, monkeypatch):
    monkeypatch.setattr("web.page_file.MAX_BYTES", 100_000)
    code, _, error = export(run, tmp_path / "page.html")
    assert code == 2
    assert re.search(r"the page would be 0\.\d MB, and the limit is 0 MB: this generator is too large", error)
    assert not (tmp_path / "page.html").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("faces.txt",), r"FILE must end in \.safetensors, \.onnx or \.html, not \.txt"),
        (("faces",), r"FILE must end in .*, not faces"),
        (("faces.onnx", "--half"), r"--half is for \.safetensors"),
        ((), r"give FILE, or RUN FILE$"),
        (("a", "b", "c.onnx"), "give FILE, or RUN FILE, not 3 paths"),
        (("none.safetensors", "faces.safetensors"), r"there is no file none\.safetensors"),
        (("none.safetensors", "faces.safetensors", "--raw"), "omit --checkpoint and --raw"),
        (("no run", "faces.safetensors"), "no run is not a run"),
    ],
)
def test_bad_arguments_end_with_one_line(arguments, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code, _, error = export(*arguments)
    assert code == 2
    assert re.fullmatch(r"error: .*\n", error)
    assert re.search(message, error)
    assert list(tmp_path.iterdir()) == []


def test_a_file_does_not_resume_a_run(run, tmp_path):
    file = tmp_path / "faces.safetensors"
    export(run, file)
    code, _, error = call("train_gan.py", "--init-from", file)
    assert code == 2
    assert "is a file: this needs a run, which is a folder" in error


def test_pictures_of_two_files_of_one_name_do_not_replace_each_other(run, tmp_path):
    pictures = []
    for folder, flags in (("averaged", ()), ("raw", ("--raw",)), ("copy", ())):
        (tmp_path / folder).mkdir()
        export(run, tmp_path / folder / "faces.safetensors", *flags)
        _, lines, _ = sample(tmp_path / folder / "faces.safetensors", "--output", tmp_path / "out")
        pictures.append(Path(lines[-1]))
    averaged, raw, copy = pictures
    assert averaged == copy
    assert averaged.parent == raw.parent
    assert not np.array_equal(load_png(averaged), load_png(raw))
