"""Prepare a folder of photos, resuming an earlier run if there is one.

OUT/
    faces/trip/IMG 12.jpg-0.jpg     crops in the folders of their sources; train on this folder
    left_out/...                    the same for crops that were left out
    manifest.csv                    a row for each face, and for each photo without one
    kept.png, left_out.png          contact sheets; kept-2.png ... if there are more than a hundred crops
    prepare.json                    the rules, what was excluded and rejected, and whether it is finished
"""

from __future__ import annotations

import contextlib
import signal
import sys
from collections import Counter
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from engine.errors import UserError
from engine.files import atomic_write
from engine.lock import locked
from engine.output import counted, one_line
from engine.png import to_pillow
from engine.progress import ProgressBar
from engine.signals import SignalHandler, exit_code, label
from engine.worker_pool import parallel_map, worker_count
from faces.preparation.contact_sheets import save_sheets
from faces.preparation.cropper import Crop, CropResult, load_cropper, process_job
from faces.preparation.manifest import (
    FACES,
    KEPT,
    LEFT_OUT,
    NO_FACE,
    REJECTED,
    ROTATED,
    UNREADABLE,
    Manifest,
    Row,
    crop_row,
    empty_row,
    format_hash,
)
from faces.preparation.options import PrepareArguments
from faces.preparation.quality import NEAR_COPY, NOT_A_FACE, REASONS, NearDuplicates
from faces.preparation.sources import Job, crop_name, find_jobs
from faces.preparation.state import (
    STATE,
    RowsByCrop,
    by_crop,
    check_rules,
    read_state,
    recorded_number,
    recorded_patterns,
    recorded_rejections,
    rejected_only,
    write_state,
)
from faces.preparation.verdicts import check_numbers, keep_largest, set_verdict
from images.exclude import Excluded, ExcludePatterns

MANIFEST = "manifest.csv"

_MAX_LISTED = 10
"""Unreadable files listed in the summary; the manifest lists all."""


@dataclass(frozen=True)
class Summary:
    """Summary of a prepared folder.

    Attributes:
        out: the folder.
        jobs: number of photos and video segments.
        done: number of them processed so far.
        new: number of them processed by this call.
        rows: of the manifest.
        exit_code: 0, or 128 plus the number of the signal that stopped this call.
        notes: lines about excluded photos, and about crops that this call rejected, restored or removed.
        idle: whether nothing was to do.
    """

    out: Path
    jobs: int
    done: int
    new: int
    rows: list[Row]
    exit_code: int
    notes: list[str]
    idle: bool

    @property
    def unreadable(self) -> dict[str, str]:
        """First problem of each photo, video or folder that was left out or not processed completely."""
        problems: dict[str, str] = {}
        for row in self.rows:
            if row.verdict == UNREADABLE:
                problems.setdefault(row.source, row.note)
        return problems

    def lines(self) -> list[str]:
        """The lines to print."""
        if self.idle:
            finished = f"nothing to do: all {self.jobs:,} photos have been processed into {self.out}"
            return [finished, *self.notes]
        counts = Counter(row.verdict for row in self.rows)
        reasons = [*REASONS, REJECTED]
        kept, left_out = counts[KEPT], sum(counts[reason] for reason in reasons)
        # A video may have segments with and without faces.
        faceless = {row.source for row in self.rows} - {
            row.source for row in self.rows if row.verdict != NO_FACE
        }
        lines = [f"{counted(kept + left_out, 'face')}, {kept:,} of them kept in {self.out / FACES}"]
        lines += [f"  {counts[reason]:,} {reason}" for reason in reasons if counts[reason]]
        lines.append(f"{counted(len(faceless), 'photo')} without a face")
        if rotated := {row.source for row in self.rows if row.file and row.note.startswith(ROTATED)}:
            lines.append(
                f"{counted(len(rotated), 'photo')} rotated to find a face; the manifest's notes give the "
                "angles"
            )
        if problems := [*self.unreadable.items()]:
            number = counted(len(problems), "file or folder", "files or folders")
            lines.append(f"left out or not read completely: {number}")
            lines += [one_line(f"  {name}: {problem}") for name, problem in problems[:_MAX_LISTED]]
            if len(problems) > _MAX_LISTED:
                lines.append(f"  and more, in {self.out / MANIFEST}")
        if kept:
            lines.append(
                f"{self.out / 'kept.png'} shows them with numbers; --reject NUMBERS leaves crops out"
            )
        lines += self.notes
        if self.exit_code:
            lines.append(f"stopped after {self.done:,} of {self.jobs:,} photos; the same command resumes")
        return lines


def prepare(arguments: PrepareArguments) -> Summary:
    """Crop the faces of a folder of photos, resuming an earlier run if there is one.

    New photos are added. Changed ones are processed again, and so are those that can be read now but could
    not before. The crops of removed photos stay. Ctrl-C and SIGTERM stop after the current photo. A
    kill loses at most the jobs that `parallel_map` has handed out: two photos, or video segments of 64
    frames, per process, and one more.

    Raises:
        UserError: the folders are unsuitable, the output folder was prepared by other rules or cannot be
            written to, the detector or the landmark network cannot be loaded, or none of the photos can be
            read (the output is written even then).
    """
    if arguments.exclude is None:
        arguments = replace(arguments, exclude=recorded_patterns(arguments.out))
    jobs, excluded = find_jobs(arguments)
    try:
        return _prepare(arguments, jobs, excluded)
    except OSError as error:
        raise UserError(
            f"{arguments.out} cannot be written to: {error.strerror or error}; finished work is kept, and "
            "the same command resumes"
        ) from None


def _prepare(arguments: PrepareArguments, jobs: list[Job], excluded: Excluded) -> Summary:
    out = arguments.out
    digests = check_rules(arguments)
    if not (out / STATE).exists():
        load_cropper(arguments)  # if this fails, nothing has been created
    out.mkdir(parents=True, exist_ok=True)
    with locked(out, "preparing faces"):
        finished = bool(read_state(out).get("finished"))
        manifest = Manifest(out / MANIFEST, recorded_number(out))
        # First of all, so that a wrong number changes nothing.
        check_numbers(manifest, arguments.reject, (KEPT, REJECTED))
        check_numbers(manifest, arguments.restore, (KEPT, REJECTED, NOT_A_FACE))
        earlier = recorded_rejections(out) | by_crop(manifest.rows)
        rejected = rejected_only(earlier)
        if not finished:
            # Before the manifest is written, so that the folder is recognised later.
            write_state(arguments, digests, manifest, rejected, finished=False)
            manifest.remove_last_job({job.key for job in jobs})
        versions = {job.source: _version(arguments.photos / job.source) for job in jobs}
        outdated = _changed(manifest.rows, versions) | _readable_now(arguments, jobs, manifest.rows)
        removed = _excluded_jobs(arguments, manifest.rows)
        with_crops = {row.job for row in manifest.rows if row.file}
        done = manifest.done() - outdated - removed
        remaining = [job for job in jobs if job.key not in done]
        chosen = bool(arguments.reject or arguments.restore)
        notes, new, exit_code = excluded.lines(), 0, 0
        if remaining or not finished:
            load_cropper(arguments)
        if remaining or removed or chosen or manifest.converted or not finished:
            write_state(arguments, digests, manifest, rejected, finished=False)
            manifest.remove(outdated | removed)  # also converts a manifest of an earlier version
            if remaining:
                new, exit_code = _process(arguments, remaining, len(jobs), manifest, versions, earlier)
            count = set_verdict(out, manifest, REJECTED, arguments.reject)
            if count:
                notes.append(f"{counted(count, 'crop')} rejected; --restore with the numbers undoes that")
            count = set_verdict(out, manifest, KEPT, arguments.restore)
            if count:
                notes.append(f"{counted(count, 'crop')} restored")
            count = len({source for source, _ in removed & with_crops})
            if count:
                notes.append(f"removed the crops of {counted(count, 'photo')}, now excluded")
            if not exit_code:
                keep_largest(out, manifest, arguments.near_copy)
            _save_sheets(arguments, manifest.rows)
            rejected = rejected_only(rejected | by_crop(manifest.rows))
            write_state(arguments, digests, manifest, rejected, finished=not exit_code)
        elif recorded_patterns(out) != arguments.exclude:
            write_state(arguments, digests, manifest, rejected, finished=True)
    done = len(jobs) - len(remaining) + new
    idle = not new and not chosen and not removed and not exit_code
    summary = Summary(out, len(jobs), done, new, manifest.rows, exit_code, notes, idle)
    if not exit_code and all(row.verdict == UNREADABLE for row in manifest.rows):
        name, problem = next(iter(summary.unreadable.items()))
        raise UserError(
            f"no photo or video in {arguments.photos} can be read ({len(summary.unreadable):,} tried); the "
            f"first: {name}: {problem}; {out / MANIFEST} lists all. Add others and run it again"
        )
    return summary


def _excluded_jobs(arguments: PrepareArguments, rows: list[Row]) -> set[tuple[str, int]]:
    """Keys of the jobs whose photo or video is excluded now."""
    patterns = ExcludePatterns(arguments.exclude or ())
    return {row.job for row in rows if patterns.exclude_path(row.source)}


def _version(path: Path) -> str:
    """Size and time of a file; empty if it cannot be opened."""
    try:
        status = path.stat()
    except OSError:
        return ""
    return f"{status.st_size}-{int(status.st_mtime)}"


def _changed(rows: list[Row], versions: dict[str, str]) -> set[tuple[str, int]]:
    """Keys of the jobs whose photo or video was replaced since; none of a manifest without versions.

    A file without a version now, as on a disk that is not mounted, was not replaced: its crops stay.
    """
    return {
        row.job for row in rows if row.version and (versions.get(row.source) or row.version) != row.version
    }


def _readable_now(arguments: PrepareArguments, jobs: list[Job], rows: list[Row]) -> set[tuple[str, int]]:
    """Keys of the jobs that nothing could be read of, and something can now."""
    notes = {row.job: row.note for row in rows if row.verdict == UNREADABLE}
    partly_read = {row.job for row in rows if row.verdict != UNREADABLE}
    retried = [job for job in jobs if job.key in notes and job.key not in partly_read]
    task = partial(process_job, arguments)
    with contextlib.closing(parallel_map(task, retried, worker_count(arguments.workers))) as results:
        return {
            job.key
            for job, result in zip(retried, results, strict=True)
            if result.crops or result.problem != notes[job.key]
        }


def _acknowledge(received: signal.Signals) -> None:
    text = f"{label(received)}: finishing the photos in progress; Ctrl-C now exits at once"
    ProgressBar.write(text, file=sys.stderr)


def _process(
    arguments: PrepareArguments,
    jobs: list[Job],
    total: int,
    manifest: Manifest,
    versions: dict[str, str],
    earlier: RowsByCrop,
) -> tuple[int, int]:
    """Process the jobs; return the number of completed jobs and the exit code.

    Args:
        arguments: the rules.
        jobs: to process.
        total: number of all jobs, for the progress bar.
        manifest: gets the rows.
        versions: of the sources.
        earlier: rows that there were, also of crops that are made again, and of rejected ones: these keep
            their number, and stay kept or rejected.
    """
    duplicates = NearDuplicates(arguments.near_copy)
    for row in manifest.rows:
        if row.verdict in (KEPT, REJECTED):
            duplicates.add(row.source.rpartition("/")[0], row.perceptual_hash)
    done = 0
    with (
        SignalHandler(acknowledge=_acknowledge) as interrupt,
        ProgressBar(desc="faces", total=total, initial=total - len(jobs), unit=" photos") as progress,
        contextlib.closing(
            parallel_map(partial(process_job, arguments), jobs, worker_count(arguments.workers))
        ) as results,
    ):
        for job, result in zip(jobs, results, strict=True):
            rows = _rows(arguments, job, result, duplicates, earlier)
            rows = [replace(row, version=versions[job.source]) for row in rows]
            manifest.add(rows)  # before the crops, so that a kill leaves no crop without a row
            for crop, row in zip(result.crops, rows, strict=False):  # the last row may have no crop
                _write_crop(arguments.out / row.file, crop)
            done += 1
            progress.update()
            if interrupt.received is not None:
                break
    return done, exit_code(interrupt.received)


def _rows(
    arguments: PrepareArguments,
    job: Job,
    result: CropResult,
    duplicates: NearDuplicates,
    earlier: RowsByCrop,
) -> list[Row]:
    """The rows of a job: of its crops in order, then of its problem, if any."""
    rows: list[Row] = []
    for crop in result.crops:
        verdict = crop.rejection_reason or KEPT
        name = crop_name(job, crop.frame, crop.index, arguments.suffix)
        before = earlier.get((name, format_hash(crop.perceptual_hash)))
        if before and before.verdict in (KEPT, REJECTED):
            verdict = before.verdict
        if verdict == KEPT:
            if duplicates.contains(job.folder, crop.perceptual_hash):
                verdict = NEAR_COPY
            else:
                duplicates.add(job.folder, crop.perceptual_hash)
        folder = FACES if verdict == KEPT else LEFT_OUT
        rows.append(crop_row(job, crop, verdict, f"{folder}/{name}", before.number if before else ""))
    if result.problem or not rows:
        rows.append(empty_row(job, result.problem))
    return rows


def _write_crop(path: Path, crop: Crop) -> None:
    # Not durable, which would wait for the disk: a crop lost with the power is made again with its job.
    with atomic_write(path, durable=False) as temporary:
        to_pillow(crop.image).save(temporary, quality=95)


def _save_sheets(arguments: PrepareArguments, rows: list[Row]) -> None:
    out, size = arguments.out, arguments.size
    kept = [row for row in rows if row.verdict == KEPT]
    left_out = [row for row in rows if row.verdict in (*REASONS, REJECTED)]
    save_sheets(out, "kept", kept, size)
    save_sheets(out, "left_out", left_out, size, verdicts=True)
