"""Resuming folders whose preparation was stopped or killed."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time

import pytest

from engine.errors import UserError
from faces.preparation import PrepareArguments, cropper, prepare
from faces.preparation import folder as preparation
from tests.faces.photos import save_photo
from tests.faces.preparation.helpers import (
    contents,
    crops,
    output_files,
    prepare_here,
    read_manifest,
    verdicts,
)
from tests.in_process import ROOT

pytest.importorskip("cv2", reason="needs the extra 'photos'")


def test_workers_without_remaining_jobs(tmp_path, monkeypatch):
    folder, out = tmp_path / "in", tmp_path / "out"
    for number in (1, 3):
        save_photo(folder / f"{number}.png", number)

    def die(*_):
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(preparation, "save_sheets", die)
        with pytest.raises(Killed):
            prepare_here(folder, out)
    (folder / "3.png").unlink()
    summary = prepare(PrepareArguments(folder, out, workers=2))
    assert (summary.new, summary.done, summary.jobs) == (0, 1, 1)
    assert (out / "kept.png").is_file()


class Killed(BaseException):
    pass


def test_resume_after_kill_before_the_manifest(tmp_path, monkeypatch):
    save_photo(tmp_path / "in" / "a.png", 1)

    def die(*_, **__):
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(preparation, "Manifest", die)
        with pytest.raises(Killed):
            prepare_here(tmp_path / "in", tmp_path / "out")
    assert prepare_here(tmp_path / "in", tmp_path / "out").new == 1


@pytest.mark.parametrize("where", ["between jobs", "within a row of the manifest", "before the sheets"])
def test_resume_after_kill_gives_the_same_output(photos, prepared, tmp_path, monkeypatch, where):
    out = tmp_path / "out"
    started = []

    def process_job(arguments, job):
        started.append(job.source)
        if where != "before the sheets" and len(started) == 5:
            raise Killed
        return cropper.process_job(arguments, job)

    def die(*_):
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(preparation, "process_job", process_job)
        if where == "before the sheets":
            patch.setattr(preparation, "save_sheets", die)
        with pytest.raises(Killed):
            prepare_here(photos, out)
    path = out / "manifest.csv"
    if where == "within a row of the manifest":
        path.write_bytes(path.read_bytes()[:-20])
    (out / "faces" / f".{started[0]}-0-1a2b3c.jpg").write_bytes(b"half of a")
    summary = prepare_here(photos, out)
    assert summary.done == summary.jobs == 9
    assert summary.new < 9
    files = {name: data for name, data in output_files(out).items() if "/." not in name}
    assert files == output_files(prepared[1])
    assert (out / "kept.png").read_bytes() == (prepared[1] / "kept.png").read_bytes()


def test_ctrl_c_stops_and_the_same_command_resumes(tmp_path):
    folder, out = tmp_path / "in", tmp_path / "out"
    save_photo(folder / "000.png", 1)
    for number in range(1, 400):
        (folder / f"{number:03d}.png").hardlink_to(folder / "000.png")
    process = subprocess.Popen(
        [sys.executable, ROOT / "prepare_faces.py", folder, out, "--workers", "1"],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    while not (out / "manifest.csv").exists() or (out / "manifest.csv").read_bytes().count(b"\n") < 4:
        assert process.poll() is None, process.communicate()
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    output, error = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "Traceback" not in error
    rows = len(read_manifest(out))
    assert 3 <= rows < 400
    assert f"stopped after {rows} of 400 photos; the same command resumes" in output
    assert (out / "left_out.png").is_file()
    for path in sorted(folder.iterdir())[rows + 2 :]:
        path.unlink()
    assert prepare_here(folder, out).new <= 3
    assert verdicts(out) == {"kept": 1, "near-copy": rows + 1}


def test_resume_after_sigkill(photos, prepared, tmp_path):
    folder, out = tmp_path / "in", tmp_path / "out"
    shutil.copytree(photos, folder)
    program = (
        "import sys, time; from faces.preparation import folder, cropper, prepare, PrepareArguments\n"
        "from pathlib import Path\n"
        "def process_job(arguments, job):\n"
        "    if job.source.startswith('two/'): time.sleep(600)\n"
        "    return cropper.process_job(arguments, job)\n"
        "folder.process_job = process_job\n"
        "prepare(PrepareArguments(Path(sys.argv[1]), Path(sys.argv[2]), workers=0))"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", program, folder, out], env={**os.environ, "PYTHONPATH": str(ROOT)}
    )
    while not (out / "manifest.csv").exists() or b"one/same" not in (out / "manifest.csv").read_bytes():
        assert process.poll() is None
        time.sleep(0.02)
    with pytest.raises(UserError, match="another process is preparing faces in"):
        prepare_here(folder, out)
    process.kill()  # after the row, possibly while its crop is being written
    process.wait()
    summary = prepare_here(folder, out)
    assert 0 < summary.new < 9
    assert output_files(out) == output_files(prepared[1])


def test_near_duplicates_of_an_earlier_run(tmp_path):
    save_photo(tmp_path / "in" / "1.png", 1)
    prepare_here(tmp_path / "in", tmp_path / "out")
    save_photo(tmp_path / "in" / "2.png", 1)
    prepare_here(tmp_path / "in", tmp_path / "out")
    assert verdicts(tmp_path / "out") == {"kept": 1, "near-copy": 1}


def mark_unfinished(out):
    """Mark a finished folder as unfinished, as after Ctrl-C."""
    note = json.loads((out / "prepare.json").read_text())
    (out / "prepare.json").write_text(json.dumps(note | {"finished": False}))


def test_repeated_job_moves_its_crop(tmp_path):
    folder, out = tmp_path / "in", tmp_path / "out"
    save_photo(folder / "b.png", 1)
    prepare_here(folder, out)
    mark_unfinished(out)
    shutil.copy(folder / "b.png", folder / "a.png")
    prepare_here(folder, out)
    assert crops(out) == ["faces/a.png-0.jpg", "left_out/b.png-0.jpg"]
    assert crops(out) == sorted(row["file"] for row in read_manifest(out))


def test_wrong_numbers_change_nothing_in_an_unfinished_folder(tmp_path):
    folder, out = tmp_path / "in", tmp_path / "out"
    save_photo(folder / "b.png", 1)
    prepare_here(folder, out)
    mark_unfinished(out)
    before = contents(out)
    for numbers in ({"reject": (58,)}, {"restore": (1, 58)}):
        with pytest.raises(UserError, match="no crop has the number 58"):
            prepare_here(folder, out, exclude=("*.bmp",), **numbers)
        assert contents(out) == before
    prepare_here(folder, out, reject=(1,))
    assert verdicts(out) == {"rejected": 1}


def test_crop_of_a_removed_last_photo_stays(tmp_path):
    folder, out = tmp_path / "in", tmp_path / "out"
    save_photo(folder / "b.png", 1)
    prepare_here(folder, out)
    mark_unfinished(out)
    (folder / "b.png").rename(folder / "a.png")
    prepare_here(folder, out)
    assert crops(out) == ["faces/b.png-0.jpg", "left_out/a.png-0.jpg"]
    assert crops(out) == sorted(row["file"] for row in read_manifest(out))


def test_kill_while_writing_leaves_no_crop_without_a_row(tmp_path, monkeypatch):
    folder, out = tmp_path / "in", tmp_path / "out"
    save_photo(folder / "b.png", 1)
    write = preparation._write_crop

    def die(path, crop):
        write(path, crop)
        (path.parent / f".{path.stem}-0123456789ab.jpg").write_bytes(b"half of a")
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(preparation, "_write_crop", die)
        with pytest.raises(Killed):
            prepare_here(folder, out)
    shutil.copy(folder / "b.png", folder / "a.png")
    prepare_here(folder, out)
    assert crops(out) == ["faces/a.png-0.jpg", "left_out/b.png-0.jpg"]


def test_video_resumes_by_segment(video, tmp_path, monkeypatch):
    monkeypatch.setattr("faces.preparation.sources.FRAMES_PER_JOB", 3)
    whole = prepare_here(video, tmp_path / "whole", fps=2.5, near_copy=-1)
    assert whole.jobs == 1 + 4
    calls = []

    def process_job(arguments, job):
        calls.append(job.part)
        if job.part == 2:
            raise Killed
        return cropper.process_job(arguments, job)

    with monkeypatch.context() as patch:
        patch.setattr(preparation, "process_job", process_job)
        with pytest.raises(Killed):
            prepare_here(video, tmp_path / "out", fps=2.5, near_copy=-1)
    assert prepare_here(video, tmp_path / "out", fps=2.5, near_copy=-1).new == 3
    assert output_files(tmp_path / "out") == output_files(tmp_path / "whole")
