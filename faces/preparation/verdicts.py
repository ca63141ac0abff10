"""Verdicts that change after the crops are made: of near-duplicates, and by the user."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import replace
from pathlib import Path

from engine.errors import UserError
from faces.preparation.manifest import FACES, KEPT, LEFT_OUT, REJECTED, Manifest, Row
from faces.preparation.quality import NEAR_COPY, NearDuplicates


def check_numbers(manifest: Manifest, numbers: Collection[int], allowed: Collection[str]) -> None:
    """Check the numbers of crops to reject or to restore.

    Args:
        manifest: with the crops.
        numbers: of some crops.
        allowed: verdicts that these may have.

    Raises:
        UserError: no crop has one of these numbers, or it has another verdict.
    """
    crops = [row for row in manifest.rows if row.number and row.crop_name]
    verdicts = {int(row.number): row.verdict for row in crops}
    for number in numbers:
        if number not in verdicts:
            raise UserError(
                f"no crop has the number {number}: the sheets kept.png and left_out.png, and manifest.csv, "
                "have the numbers"
            )
        if verdicts[number] not in allowed:
            raise UserError(
                f"crop {number} was left out already ({verdicts[number]}), which --reject and --restore do "
                "not change"
            )


def set_verdict(out: Path, manifest: Manifest, verdict: str, numbers: Collection[int]) -> int:
    """Change the verdict of the crops with these numbers, and return how many had another."""
    chosen = {*map(str, numbers)}
    return _change(out, manifest, lambda row: verdict if row.number in chosen else row.verdict)


def keep_largest(out: Path, manifest: Manifest, distance: int) -> None:
    """Keep only one of near-duplicates: the crop with the most pixels in its photo; of equal ones, the first.

    A crop that was deleted, or rejected by the user, still excludes its near-duplicates.

    Args:
        out: folder of the manifest.
        manifest: changed if verdicts do.
        distance: see `NearDuplicates`.
    """
    duplicates = NearDuplicates(distance)
    candidates = [
        row for row in manifest.rows if row.verdict in (KEPT, REJECTED, NEAR_COPY) and row.crop_name
    ]
    settled = {
        row.number
        for row in candidates
        if row.verdict == REJECTED
        or not any((out / place / str(row.crop_name)).exists() for place in (FACES, LEFT_OUT))
    }
    verdicts: dict[str, str] = {}
    for row in sorted(candidates, key=lambda row: (row.number not in settled, -row.crop_side)):
        verdict, folder = row.verdict, row.source.rpartition("/")[0]
        if row.number not in settled:
            verdict = NEAR_COPY if duplicates.contains(folder, row.perceptual_hash) else KEPT
        if verdict != NEAR_COPY:
            duplicates.add(folder, row.perceptual_hash)
        verdicts[row.number] = verdict
    _change(out, manifest, lambda row: verdicts.get(row.number, row.verdict))


def _change(out: Path, manifest: Manifest, verdict_of: Callable[[Row], str]) -> int:
    """Give rows other verdicts, and return their number.

    The crops are moved before the manifest is rewritten: a repetition after a kill moves the rest.
    """
    changed = 0
    for index, row in enumerate(manifest.rows):
        verdict = verdict_of(row)
        if verdict == row.verdict:
            continue
        file = f"{FACES if verdict == KEPT else LEFT_OUT}/{row.crop_name}"
        (out / file).parent.mkdir(parents=True, exist_ok=True)
        if (out / row.file).exists():
            (out / row.file).replace(out / file)
        manifest.rows[index] = replace(row, verdict=verdict, file=file)
        changed += 1
    if changed:
        manifest.write()
    return changed
