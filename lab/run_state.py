"""Whether a run is training, has ended, or was interrupted. Nothing here imports torch."""

from __future__ import annotations

from pathlib import Path

from engine.lock import is_locked
from engine.runs import INTERRUPTED, gave_up, has_checkpoint, last_event

RUNNING = "running"


def run_state(run: Path, step: int, saved: int, steps: int | None, minutes: float | None) -> str:
    """The state of a run, in words.

    Args:
        run: its folder.
        step: steps it has made.
        saved: step of its newest checkpoint.
        steps: steps after which it ends, by its settings; None for no limit.
        minutes: minutes after which it ends, by its settings; None for no limit.
    """
    if is_locked(run):
        return RUNNING
    if gave_up(run):
        return "gave up, see events.txt"
    if steps is not None and step >= steps:
        return "ended"
    if not has_checkpoint(run):
        return "interrupted, has no checkpoint"
    interrupted = last_event(run).startswith(f"step {step}: {INTERRUPTED}")
    # A run that ends in time is saved at its last step; a killed one has logged more, as a rule.
    return "ended" if minutes is not None and saved >= step and not interrupted else "interrupted"
