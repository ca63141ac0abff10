"""A folder of photos worked through, from where an earlier sitting stopped, and what stands in the end.

OUT/
    faces/trip/IMG 12.jpg-0.jpg     crops, in folders as their sources are; train on this folder
    left_out/...                    likewise, those that were left out
    manifest.csv                    a row for each face, and each photo without one
    kept.png, left_out.png          contact sheets
    prepare.json                    with what it was made, and whether it is finished
"""

from __future__ import annotations

import contextlib
import json
from collections import Counter
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from tqdm import tqdm

from engine.errors import UserError
from engine.files import atomic_write, sha256_of
from engine.lock import locked
from engine.png import to_pillow
from engine.runs import find_checkpoint
from engine.signals import SignalHandler, exit_code
from engine.worker_pool import parallel_map, worker_count
from faces.preparation.contact_sheets import save_sheet
from faces.preparation.cropper import Crop, Outcome, load_cutter, work
from faces.preparation.manifest import KEPT, LEFT_OUT, NO_FACE, UNREADABLE, Manifest, Row, crop_row, empty_row
from faces.preparation.options import PrepareChoice
from faces.preparation.quality import REASONS, NearCopies
from faces.preparation.sources import Job, crop_name, find_jobs

FORMAT = 1
"""Raised whenever the same choices come to give other crops, so that no folder mixes the two."""

MANIFEST = "manifest.csv"

NOTE = "prepare.json"
"""Where it is kept by which rules the folder is made, and whether it is finished."""

_NAMED = 10
"""Unreadable files that the summary names; the manifest has them all."""


@dataclass(frozen=True)
class Summary:
    """What stands in a folder of prepared faces.

    Attributes:
        out: the folder.
        jobs: photos and stretches of videos there are.
        done: of them, by this sitting and those before.
        new: of them, by this sitting.
        verdicts: how often each verdict was given.
        faceless: photos and videos in which no face was found, though all of them could be read.
        unreadable: (name, first reason) of photos and videos that could not be read, or not to their end.
        exit_code: 0, or 128 plus the number of the signal that ended the sitting.
    """

    out: Path
    jobs: int
    done: int
    new: int
    verdicts: Counter[str]
    faceless: int
    unreadable: list[tuple[str, str]]
    exit_code: int

    def lines(self) -> list[str]:
        """For people."""
        if not self.new and not self.exit_code:
            return [f"{self.out} holds the faces of all {self.jobs:,} photos already: nothing to do"]
        kept, left_out = self.verdicts["kept"], sum(self.verdicts[reason] for reason in REASONS)
        told = [f"{kept + left_out:,} faces, {kept:,} of them kept in {self.out / KEPT}"]
        told += [f"  {self.verdicts[reason]:,} {reason}" for reason in REASONS if self.verdicts[reason]]
        told.append(f"{self.faceless:,} photos without a face")
        if self.unreadable:
            told.append(f"{len(self.unreadable):,} files that could not be read, or not to their end:")
            told += [f"  {name}: {reason}" for name, reason in self.unreadable[:_NAMED]]
            if len(self.unreadable) > _NAMED:
                told.append(f"  and more, in {self.out / MANIFEST}")
        if self.exit_code:
            told.append(f"stopped after {self.done:,} of {self.jobs:,} photos; the same command goes on")
        return told


def prepare(choice: PrepareChoice) -> Summary:
    """Cut the faces out of a folder of photos; go on where an earlier sitting stopped.

    Photos that are new since then are added; what came of those that changed or are gone stays. Ctrl-C and
    SIGTERM end the sitting after the photo at hand, and a kill loses at most what `parallel_map` had
    handed out: two photos, or stretches of 64 frames of a video, for each process, and one more.

    Raises:
        UserError: the folders do not fit, what is there was made otherwise, the detector or the network of
            landmarks cannot be loaded, OUT cannot be written to, or none of the photos can be read (all is
            written even so).
    """
    jobs = find_jobs(choice)
    try:
        return _prepare(choice, jobs)
    except OSError as error:
        raise UserError(
            f"{choice.out} cannot be written to: {error.strerror or error}; what is done stays, and the same "
            "command goes on"
        ) from None


def _prepare(choice: PrepareChoice, jobs: list[Job]) -> Summary:
    out = choice.out
    digests = _check_kind(choice)
    if not (out / NOTE).exists():
        load_cutter(choice)  # where it cannot be had, nothing is left behind
    out.mkdir(parents=True, exist_ok=True)
    with locked(out, "preparing faces"):
        finished = bool(_read_note(out).get("finished"))
        if not finished:
            _write_note(choice, digests, finished=False)  # first, so that what is here is always known
        manifest = Manifest(out / MANIFEST, None if finished else {job.key for job in jobs})
        done = manifest.done()
        waiting = [job for job in jobs if job.key not in done]
        new = exit_code = 0
        if waiting or not finished:
            load_cutter(choice)
            _write_note(choice, digests, finished=False)
            new, exit_code = _work_through(choice, waiting, len(jobs), manifest)
            _save_sheets(choice, manifest.rows)
            _write_note(choice, digests, finished=not exit_code)
    unreadable: dict[str, str] = {}
    for row in manifest.rows:
        if row.verdict == UNREADABLE:
            unreadable.setdefault(row.source, row.note)
    if not exit_code and all(row.verdict == UNREADABLE for row in manifest.rows):
        name, reason = next(iter(unreadable.items()))
        raise UserError(
            f"none of the {len(unreadable):,} photos and videos in {choice.photos} can be read; the first is "
            f"{name}: {reason}; {out / MANIFEST} names all. Put others there, and the same command adds them"
        )
    empty = {row.source for row in manifest.rows if row.verdict == NO_FACE}
    return Summary(
        out=out,
        jobs=len(jobs),
        done=len(jobs) - len(waiting) + new,
        new=new,
        verdicts=Counter(row.verdict for row in manifest.rows),
        faceless=len(empty - {row.source for row in manifest.rows if row.verdict != NO_FACE}),
        unreadable=[*unreadable.items()],
        exit_code=exit_code,
    )


def _work_through(
    choice: PrepareChoice, waiting: list[Job], total: int, manifest: Manifest
) -> tuple[int, int]:
    """Do the jobs; how many were done, and the exit code."""
    copies = NearCopies(choice.near_copy)
    for row in manifest.rows:
        if row.verdict == "kept":
            copies.keep(row.source.rpartition("/")[0], row.fingerprint)
    done = 0
    with (
        SignalHandler() as interrupt,
        tqdm(desc="faces", total=total, initial=total - len(waiting), unit=" photos") as progress,
        contextlib.closing(
            parallel_map(partial(work, choice), waiting, worker_count(choice.workers))
        ) as outcomes,
    ):
        for job, outcome in zip(waiting, outcomes, strict=True):
            rows = _rows_of(choice, job, outcome, copies)
            manifest.add(rows)  # before the crops, so that after a kill none is there that no row tells of
            for crop, row in zip(outcome.crops, rows, strict=False):  # the last row may be of no crop
                _write(choice.out / row.file, crop)
            done += 1
            progress.update()
            if interrupt.received is not None:
                break
    return done, exit_code(interrupt.received)


def _rows_of(choice: PrepareChoice, job: Job, outcome: Outcome, copies: NearCopies) -> list[Row]:
    """The rows of a job: of its crops in their order, then of what was wrong."""
    rows: list[Row] = []
    for crop in outcome.crops:
        verdict: str = crop.verdict
        if verdict == "kept":
            if copies.known(job.folder, crop.fingerprint):
                verdict = "near-copy"
            else:
                copies.keep(job.folder, crop.fingerprint)
        folder = KEPT if verdict == "kept" else LEFT_OUT
        file = f"{folder}/{crop_name(job, crop.frame, crop.index, choice.ending)}"
        rows.append(crop_row(job, crop, verdict, file))
    if outcome.problem or not rows:
        rows.append(empty_row(job, outcome.problem))
    return rows


def _write(path: Path, crop: Crop) -> None:
    # What a loss of power takes is made again with its job; no need to wait for the disk each time.
    with atomic_write(path, durable=False) as temporary:
        to_pillow(crop.image).save(temporary, quality=95)


def _save_sheets(choice: PrepareChoice, rows: list[Row]) -> None:
    out, size = choice.out, choice.size
    kept = [row for row in rows if row.verdict == "kept"]
    left_out = [row for row in rows if row.verdict in REASONS]
    save_sheet(out / "kept.png", out, kept, size)
    save_sheet(out / "left_out.png", out, left_out, size, labelled=True)


def _check_kind(choice: PrepareChoice) -> dict[str, str]:
    """Refuse a folder that holds something else, or faces made by other rules; the digests to note there."""
    out, digests = choice.out, _digests(choice)
    if out.exists() and not out.is_dir():
        raise UserError(f"{out} is a file; name a folder for the faces")
    if not out.exists() or not any(not path.name.startswith(".") for path in out.iterdir()):
        return digests
    note = _read_note(out)
    found = note.get("rules")
    if not isinstance(found, dict):
        raise UserError(f"{out} holds files that are no prepared faces; name a new or empty folder")
    wanted = _rules(choice)
    for name in [*wanted, *found]:
        if found.get(name) != wanted.get(name):
            flag = name if name in ("photos", "format") else f"--{name.replace('_', '-')}"
            raise UserError(
                f"{out} was begun with {flag} {found.get(name)}, and now it is {wanted.get(name)}: name "
                "another folder, or delete this one to begin anew"
            )
    known = note.get("digests", {})  # none in folders begun before they were noted: those are taken on trust
    for name, digest in digests.items():
        if known.get(name, digest) != digest:
            raise UserError(
                f"{out} was begun with another --{name}: what {wanted[name]} holds has changed since. Name "
                "another folder, or delete this one to begin anew"
            )
    return known | digests


def _digests(choice: PrepareChoice) -> dict[str, str]:
    """Of the files of the networks that were chosen, where they are there."""
    landmarks = choice.landmarks
    if landmarks is not None and landmarks.is_dir():
        landmarks = find_checkpoint(landmarks, None)
    files = {"landmarks": landmarks, "detector": choice.detector}
    found = {name: sha256_of(file) for name, file in files.items() if file is not None}
    return {name: digest for name, digest in found.items() if digest}


def _rules(choice: PrepareChoice) -> dict[str, Any]:
    return {"format": FORMAT, **choice.rules()}


def _write_note(choice: PrepareChoice, digests: dict[str, str], *, finished: bool) -> None:
    with atomic_write(choice.out / NOTE) as path:
        note = {"finished": finished, "rules": _rules(choice), "digests": digests}
        path.write_text(json.dumps(note, indent=1) + "\n", encoding="utf-8")


def _read_note(out: Path) -> dict[str, Any]:
    try:
        note = json.loads((out / NOTE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return note if isinstance(note, dict) else {}
