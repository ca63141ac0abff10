"""evaluate.py from the command line."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest

from engine.png import load_png
from tests.in_process import ROOT, call

SCRIPT = ROOT / "evaluate.py"
evaluate = partial(call, "evaluate.py")
FLAGS = ("--k", 3, "--draws", 2)


@pytest.fixture
def run(tiny_run, tmp_path, monkeypatch) -> Path:
    """A copy of the tiny run to write into; its cache is below the test's own folder."""
    monkeypatch.chdir(tmp_path)
    return Path(shutil.copytree(tiny_run, tmp_path / "outputs" / tiny_run.name))


def test_newest_run_is_measured_against_its_training_folder(run, pictures):
    code, lines, _ = evaluate(*FLAGS)
    assert code == 0
    table = "\n".join(lines)
    assert f"12 generated images against 12 of 24 images in {pictures}" in table
    assert "FID" not in " ".join(line.partition(":")[0] for line in lines)
    for score in (
        "Fréchet distance",
        "KID",
        "precision",
        "recall",
        "density",
        "coverage",
        "nearer to training",
    ):
        assert any(line.split()[: len(score.split())] == score.split() for line in lines), score
    for part in (
        "features: random, the project's small network (digest",
        "seeds 0, 1",
        "Lanczos, antialiased",
        "floor:",
        "MS-SSIM",
    ):
        assert part in table
    place = Path(lines[-1])
    assert place.parent.resolve() == run / "evaluation"
    result = json.loads(place.read_text(encoding="utf-8"))
    assert result["conditions"]["step"] == 6
    assert result["conditions"]["images"] == 12
    assert len(result["conditions"]["spaces"][0]["digest"]) >= 4
    for line, name in zip(lines[-3:-1], ("faces", "nearest"), strict=True):
        assert load_png(line.partition(": ")[0]).ndim == 3
        assert Path(line.partition(": ")[0]) == place.with_name(f"{place.stem}-{name}.png")
    verdict = lines[-4].removeprefix("verdict: ")
    assert verdict == result["verdict"]
    assert verdict.startswith(
        "12 images in each set are few, so this is uncertain. The generated images are far"
    )


def test_other_conditions_do_not_overwrite_an_evaluation(run):
    _, lines, _ = evaluate(run, *FLAGS)
    first = Path(lines[-1])
    content = first.read_bytes()
    for arguments, name in (
        (("--raw", "--seed", 7), "step_000006-raw-"),
        (("--checkpoint", 4), "step_000004-"),
    ):
        code, lines, _ = evaluate(run, *FLAGS, *arguments)
        assert code == 0
        assert Path(lines[-1]).name.startswith(name)
    assert len(list((run / "evaluation").glob("*.json"))) == 3
    assert first.read_bytes() == content
    _, lines, _ = evaluate(run, *FLAGS)
    assert Path(lines[-1]) == first
    assert first.read_bytes() == content


class TestUserErrors:
    @staticmethod
    def error_of(*arguments: object) -> str:
        code, lines, error = evaluate(*arguments)
        assert code == 2
        assert lines == []
        result = [line for line in error.splitlines() if line.startswith("error: ")]
        assert len(result) == 1
        return result[0]

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            (("--count", 0), "--count must be 1 or more"),
            (("--k", 0), "--k must be 1 or more"),
            (("--draws", 1), "--draws must be 2 or more"),
            (("--seed", -1), "--seed must be 0 or more"),
            (("--seed", 2**63 - 2), "at most 2**63"),
            (("--features", "telepathy"), "telepathy"),
            (("--features", "random", "random"), "each once"),
            (("--features",), "one or more"),
            (("--weights", "a.pth"), "add --features inception"),
            (("--checkpoint", 123456), "no checkpoint 123456"),
            (("nowhere",), "nowhere is not a run"),
        ],
    )
    def test_invalid_arguments(self, run, arguments, message):
        assert message in self.error_of(*arguments)
        assert not (run / "evaluation").exists()

    def test_run_without_checkpoints(self, run):
        shutil.rmtree(run / "checkpoints")
        assert "has no checkpoint yet" in self.error_of(run)

    def test_empty_real_folder(self, run, tmp_path):
        (tmp_path / "empty").mkdir()
        assert f"no image in {tmp_path / 'empty'}" in self.error_of(run, "--real", tmp_path / "empty")

    def test_real_folder_that_is_a_file_or_missing(self, run, tmp_path):
        assert "is a file" in self.error_of(run, "--real", run / "config.json")
        assert "no folder" in self.error_of(run, "--real", tmp_path / "nowhere")

    def test_fewer_images_than_neighbours(self, run, pictures, tmp_path):
        assert "k = 12 needs 13 images in each set, but there are 12" in self.error_of(run, "--k", 12)
        (tmp_path / "few").mkdir()
        for picture in sorted(pictures.iterdir())[:5]:
            shutil.copy(picture, tmp_path / "few")
        assert "needs 6 images in each set, but there are 2" in self.error_of(run, "--real", tmp_path / "few")

    def test_missing_inception_weights(self, run, tmp_path, monkeypatch):
        pytest.importorskip("torch_fidelity")
        monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
        assert "inception" in self.error_of(run, "--features", "inception")
        named = self.error_of(run, "--features", "inception", "--weights", tmp_path / "w.pth")
        assert str(tmp_path / "w.pth") in named

    def test_checkpoint_of_another_image_size(self, run):
        config = json.loads((run / "config.json").read_text(encoding="utf-8"))
        config["settings"]["image_size"] = 48
        (run / "config.json").write_text(json.dumps(config), encoding="utf-8")
        assert "contains networks whose shapes differ" in self.error_of(run, *FLAGS)

    @pytest.mark.parametrize("folder", [None, 7, "a\0b"])
    def test_config_without_a_folder_of_images(self, run, folder):
        config = json.loads((run / "config.json").read_text(encoding="utf-8"))
        config["data"]["folder"] = folder
        (run / "config.json").write_text(json.dumps(config), encoding="utf-8")
        assert "names no folder" in self.error_of(run, *FLAGS)

    def test_unwritable_evaluation_folder(self, run):
        (run / "evaluation").write_text("in the way")
        code, _, error = evaluate(run, *FLAGS)
        assert code == 2
        assert "cannot be written" in error


def test_help_needs_no_torch_and_a_mistake_exits_with_2(run):
    code = (
        "import sys, runpy; sys.argv = ['evaluate.py', '--help']\n"
        f"try: runpy.run_path({str(SCRIPT)!r}, run_name='__main__')\n"
        "except SystemExit as end: print(end.code, 'torch' in sys.modules)"
    )
    command = [sys.executable, "-c", code]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert result.stdout.splitlines()[-1] == "0 False"
    for flag in ("real", "features", "weights", "count", "draws", "k", "seed", "only-held-out"):
        assert f"--{flag}" in result.stdout
    failed = subprocess.run(
        [sys.executable, SCRIPT, run, "--count", "0"], capture_output=True, text=True, check=False
    )
    assert failed.returncode == 2
    assert failed.stderr.startswith("error: --count")
