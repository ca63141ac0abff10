import shutil
from functools import partial
from pathlib import Path

import imageio.v2 as imageio
import numpy as np
import pytest
from PIL import Image

from engine.png import load_png, save_png
from engine.runs import sample_path
from tests.in_process import call

plot_run = partial(call, "plot_run.py")
LEVELS = {0: 10, 100: 80, 1000: 160, 2_000_000: 240}


@pytest.fixture
def run(tiny_run, tmp_path) -> Path:
    """Metrics of the tiny run and four plain sample grids of 40 x 44 pixels."""
    run = tmp_path / "runs" / tiny_run.name
    run.mkdir(parents=True)
    for name in ("config.json", "metrics.jsonl"):
        shutil.copy(tiny_run / name, run)
    for step, level in LEVELS.items():
        save_png(sample_path(run, step), np.full((3, 40, 44), level, np.uint8))
    save_png(run / "samples" / "other.png", np.zeros((3, 7, 7), np.uint8))
    return run


def error_of(run: Path, *options: object) -> str:
    code, lines, error = plot_run(run, *options)
    assert (code, lines) == (2, [])
    assert error.count("\n") == 1
    return error


class TestCurves:
    @pytest.fixture(autouse=True)
    def _matplotlib(self):
        pytest.importorskip("matplotlib", reason="the extra 'plots' is not installed")

    @pytest.mark.parametrize("name", ["0001-faces-32px", "0002-$x^{ лица", "0003-顔写真"])
    def test_run_of_any_name_is_plotted_without_warnings(self, run, name):
        run = run.rename(run.with_name(name))
        code, lines, error = plot_run("--output", run.parent)
        assert (code, lines, error) == (0, [str(run / "curves.png")], "")
        assert load_png(run / "curves.png").std() > 10

    def test_the_best_step_is_marked(self, run, monkeypatch):
        kids = {250: 9.0, 500: 3.0, 750: 4.0, 1000: 30.0}  # means of three: 9, 6, 5.33, 12.3
        rows = [f'{{"step": {step}, "score/kid": {kid}}}\n' for step, kid in kids.items()]
        (run / "metrics.jsonl").write_text("".join(rows))
        lines = []
        monkeypatch.setattr("matplotlib.axes.Axes.axvline", lambda *a, **k: lines.append((a[1], k["label"])))
        assert plot_run(run).code == 0
        assert lines == [(750, "best step, 750 (mean of 3)")]
        monkeypatch.undo()
        assert plot_run(run).code == 0
        (run / "metrics.jsonl").write_text('{"step": 250, "score/kid": NaN}\n')
        assert plot_run(run).code == 0

    @pytest.mark.parametrize(
        ("content", "message"),
        [
            (None, "cannot be read: No such file or directory"),
            ("", "nothing has been logged yet"),
            ('{"step": 1, "loss/training": 2}\n', "contains no curve of a GAN"),
            ('{"step": 1}\n', "contains no curve of a GAN"),
            ("[" * 100_000 + "\n", "cannot be read"),
            ('{"step": 1e400, "loss/generator": 1}\n', "cannot be read"),
            (f'{{"step": {"9" * 400}, "loss/generator": 1}}\n', "cannot be read"),
            ('{"step": 1, "loss/generator": -1e300}\n', "out of range"),
        ],
    )
    def test_unusable_metrics(self, run, content, message):
        (run / "metrics.jsonl").unlink()
        if content is not None:
            (run / "metrics.jsonl").write_text(content)
        assert message in error_of(run)

    def test_unwritable_picture(self, run):
        (run / "curves.png").mkdir()
        assert "curves.png" in error_of(run)

    def test_scale_and_file(self, run, tmp_path):
        (unscaled,) = plot_run(run).lines
        code, lines, _ = plot_run(run, "--scale", 2, "--file", tmp_path / "larger")
        assert (code, lines) == (0, [str(tmp_path / "larger.png")])
        assert load_png(lines[0]).shape[1:] == tuple(2 * side for side in load_png(unscaled).shape[1:])
        assert plot_run(run, "--file", tmp_path / "curves.pdf").code == 0
        assert (tmp_path / "curves.pdf").read_bytes().startswith(b"%PDF")

    def test_values_that_are_not_finite_or_positive(self, run):
        rows = [
            '{"step": 1, "loss/generator": NaN, "gradient/generator": 0}',
            '{"step": 2, "loss/generator": 1e999}',
        ]
        (run / "metrics.jsonl").write_text("\n".join(rows) + "\n")
        code, _, error = plot_run(run)
        assert (code, error) == (0, "")


class TestFilm:
    def test_gif_of_the_newest_run(self, run):
        code, lines, _ = plot_run("--output", run.parent, "--film", "gif", "--fps", 10, "--hold", 1.5)
        assert code == 0
        assert Path(lines[-1]) == run / "timelapse.gif"
        with Image.open(lines[-1]) as film:
            assert film.size == (22, 20)
            durations, levels = [], []
            for index in range(film.n_frames):
                film.seek(index)
                durations.append(film.info["duration"])
                levels.append(np.asarray(film.convert("RGB"))[0, 0, 0])
        assert levels == list(LEVELS.values())
        assert durations == [100, 100, 100, 1600]

    def test_mp4_of_full_size(self, run):
        _, lines, _ = plot_run(run, "--film", "mp4", "--scale", 1, "--fps", 4, "--hold", 1)
        assert Path(lines[-1]) == run / "timelapse.mp4"
        with imageio.get_reader(lines[-1]) as film:
            assert film.get_meta_data()["size"] == (44, 40)
            means = [frame.mean() for frame in film]
        assert means == pytest.approx([10, 80, 160, 240, 240, 240, 240, 240], abs=4)

    def test_the_suffix_of_a_file_makes_a_film(self, run, tmp_path):
        code, lines, _ = plot_run(run, "--scale", 2, "--fps", 4, "--file", tmp_path / "film.gif")
        assert (code, lines) == (0, [str(tmp_path / "film.gif")])
        with Image.open(lines[0]) as film:
            assert film.size == (88, 80)

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            (("--film", "gif", "--file", "film.mp4"), "--file film.mp4 must end in .gif"),
            (("--file", "curves.txt"), "must end in .png or .pdf or .svg or .gif or .mp4"),
            (("--shrink", 4), "unknown option --shrink: use --scale"),
            (("--film", "gif", "--scale", 0), "--scale must be 0.1 to 16"),
            (("--film", "gif", "--fps", "nan"), "frames per second"),
            (("--film", "gif", "--hold", -1), "--hold must be 0 to 60"),
            (("--film", "gif", "--hold", "nan"), "--hold must be 0 to 60"),
            (("--film", "webm"), "--film"),
            (("--fps", 3), "--fps is an option of a film"),
        ],
    )
    def test_wrong_options(self, run, options, message):
        assert message in error_of(run, *options)

    def test_missing_or_damaged_grids(self, run):
        sample_path(run, 100).write_bytes(b"truncated")
        assert "step_000100.png" in error_of(run, "--film", "gif")
        assert not (run / "timelapse.gif").exists()
        shutil.rmtree(run / "samples")
        assert "contains 0 sample grids" in error_of(run, "--film", "gif")
        assert plot_run(run.parent / "missing", "--film", "gif")[0] == 2
