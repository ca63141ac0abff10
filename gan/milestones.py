"""What a run's samples look like by which step, and what its scores mean in words.

The only place with these numbers. They come from the runs of docs/faces.md, docs/recipes.md and
docs/experiments.md: change them together. Steps count, not minutes: without packs, the same step shows much
the same in batches of 32 as of 96; with them, batches of 96 take three quarters of the steps of 48.
"""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from math import ceil, prod
from pathlib import Path

from engine.best import SMOOTHED, BestTracker
from engine.budget import clock_time, format_seconds
from gan.config import Settings


@dataclass(frozen=True)
class Milestone:
    """A step of the run in docs/faces.md: the default, with packs, at 96 px on 10,800 photos."""

    step: int
    samples: str
    """What the sample grid of this step shows."""
    kid: float
    """The run's own KID at about this step, a mean of up to three scores as in `engine.best.BestTracker`."""
    kid_without_packs: float
    """The same of a run with `--pack 1` when its samples look about as good: at steps 250, 500, 750, 1,000,
    3,000 and 7,000."""


MILESTONES = (
    Milestone(100, "a grey field", 32.0, 34.0),
    Milestone(300, "smudges", 32.0, 25.0),
    Milestone(1000, "rough faces", 17.0, 19.0),
    Milestone(2000, "clear faces", 1.2, 8.8),
    Milestone(3000, "faces with every part in place, but smears", 0.27, 0.35),
    Milestone(7000, "faces of which a fifth to a half pass for photos at a glance", 0.075, 0.11),
)
ROUGH, CLEAR = MILESTONES[2], MILESTONES[3]
SOURCE = "docs/faces.md"
FEW_IMAGES = 1000
"""Images down to which faces are about as good as with ten times as many (docs/recipes.md, at 48 px)."""

# Factors on the steps.
REFERENCE_SIZE = 96
"""Larger images are taken to need more steps in proportion; they are not measured. Smaller ones need no more:
at 48 px some faces are clear by step 500, at 32 px on 600 photos nearly clear by 750."""
REFERENCE_BATCH = 32
"""Smaller batches are taken to need as many images as this one; at 96 px they are not measured."""
REFERENCE_RATE = 1e-4
"""Learning rate below which each step does less, as in `gan.monitor.Limits`."""
TEXTBOOK_FACTOR = 1.5
"""The preset `textbook` shows clear faces by step 3,000 (seed 1), in batches of 96."""
MARGIN = 1.2
"""Time with scores, samples and checkpoints, relative to the steps alone."""


def steps_factors(settings: Settings) -> list[float]:
    """Factors on the steps of the milestones, in which a run with these settings differs from the source."""
    factors = [
        max(1.0, settings.image_size / REFERENCE_SIZE),
        max(1.0, REFERENCE_BATCH / settings.batch_size),
        max(1.0, REFERENCE_RATE / settings.learning_rate),
        TEXTBOOK_FACTOR if settings.preset == "textbook" else 1.0,
    ]
    return [factor for factor in factors if factor != 1]


def milestone_step(milestone: Milestone, settings: Settings) -> int:
    """The step at which a run with these settings reaches a milestone, to two digits."""
    return int(float(f"{milestone.step * prod(steps_factors(settings)):.2g}"))


def preview(settings: Settings, images: int) -> list[str]:
    """What to expect of a new run on so many images, before its first step."""
    course = ", ".join(
        f"{milestone.samples} at step {milestone_step(milestone, settings):,}" for milestone in MILESTONES[:4]
    )
    scaled = ", scaled to these settings" if steps_factors(settings) else ""
    lines = [f"what to expect: {course} (from {SOURCE}{scaled})"]
    if images < FEW_IMAGES:
        lines.append(
            f"{images:,} images are few: below {FEW_IMAGES:,}, faces may vary less or copy them; evaluate.py "
            "checks both (docs/troubleshooting.md)"
        )
    return lines


def forecast(settings: Settings, step: int, end: int | None, step_seconds: float) -> str:
    """When to expect what.

    Args:
        settings: of the run.
        step: steps so far.
        end: the last step, if there is one.
        step_seconds: duration of a step.
    """

    def when(milestone_or_end: int) -> str:
        return f"step {milestone_or_end:,} (about {clock_time((milestone_or_end - step) * step_seconds)})"

    steps = {milestone: milestone_step(milestone, settings) for milestone in (ROUGH, CLEAR)}
    ahead = [f"{milestone.samples} at {when(at)}" for milestone, at in steps.items() if at > step]
    line = f"{format_seconds(step_seconds)} a step"
    if end is None:
        return "; ".join([line, *ahead])
    if steps[CLEAR] <= end:
        return "; ".join([line, *ahead, f"the end at {when(end)}"])
    early = "too early for faces" if end < steps[ROUGH] else "too early for clear faces"
    by_steps = settings.minutes is None or end == settings.steps
    minutes = ceil(MARGIN * (steps[CLEAR] - step) * step_seconds / 60)
    flag = f"--steps {steps[CLEAR]}" if by_steps else f"--minutes {minutes}"
    return (
        f"{line}; the end at {when(end)} is {early}, which is normal; {'; '.join(ahead)}, with {flag} or "
        "a later --resume"
    )


def conclusion(
    settings: Settings, run: Path, step: int, best: BestTracker, *, fine_tuned: bool = False
) -> list[str]:
    """How good a run is at its end, in words, and what to do next.

    Args:
        settings: of the run.
        run: its folder.
        step: its last step.
        best: its best step.
        fine_tuned: whether it started from the networks of another run.
    """
    clear = milestone_step(CLEAR, settings)
    by_step = [milestone for milestone in MILESTONES if milestone_step(milestone, settings) <= step]
    by_kid = [
        milestone
        for milestone in MILESTONES
        if (milestone.kid_without_packs if settings.pack == 1 else milestone.kid) >= best.score
    ]
    # A striped field may have a better KID than smudges: 14 at step 250, 32 at step 500.
    early = not fine_tuned and step < milestone_step(ROUGH, settings)
    shown = ((by_step if early or best.step is None else by_kid) or MILESTONES[:1])[-1]
    subject = f"step {step:,}"
    if best.step is not None:
        subject = (
            f"best step: {best.step:,}, with a KID of {best.score:.3g} (mean of up to {SMOOTHED} in a row; "
            "0 is as near to the held-out images as other real ones), which"
        )
    line = f"{subject} usually shows {shown.samples}"
    if shown.step < CLEAR.step and not fine_tuned:
        normal = "; that is normal so early" * (step < clear)
        late = ": see docs/troubleshooting.md#what-is-normal" * (step >= clear)
        line += f"{normal}; clear faces usually come by step {clear:,}{late}"
    quoted = shlex.quote(str(run))
    is_over = settings.steps is not None and step >= settings.steps
    more = f" --steps {max(2 * step, clear)}" if is_over else ""
    lines = [] if fine_tuned and best.step is None else [line]
    return [
        *lines,
        f"next: `python sample.py {quoted}` draws faces, `python evaluate.py {quoted}` measures them, "
        f"`python train_gan.py --resume {quoted}{more}` continues",
    ]
