"""What the scores of an evaluation mean, in a sentence or two.

Each score is judged in proportion to its floor, the score of real images in place of generated ones. The
limits rest on a run without packs (docs/measures.md): where raters in three rounds of four took about
half of the faces for photos, precision and coverage were above 0.9 of their floors; with half of the
coverage, faces were clear but hair and background rough.
"""

from __future__ import annotations

from itertools import pairwise

from gan.metrics.compare import CLOSE_TO_TRAINING, NEARER_TO_TRAINING
from gan.metrics.evaluate import Evaluation, Score

NEAR, FAR = 0.9, 0.5
"""Shares of its floor: at NEAR or above, a score counts as that of real images; below FAR, as far from it."""
BLUR, NOISE = 0.8, 1.3
"""Energy at the highest frequencies relative to real images: below, images are blurred; above, they have
noise or a grid. A blur of a pixel in 96 gives 0.5 to 0.8, noise of 10 levels 1.5 (docs/measures.md)."""
MIN_IMAGES = 100
"""Images in each set below which the scores are too uncertain for a verdict."""

LEGEND = (
    f"verdict: from {NEAR:.0%} of the floor, close to real and as varied; below {FAR:.0%}, far and much less "
    "varied."
)


def verdict(evaluation: Evaluation, images: int) -> str:
    """Say whether the images are close to real ones, whether they vary, and whether they are copied.

    Args:
        evaluation: the scores; of several feature spaces, the first one counts.
        images: number of images in each compared set.
    """
    quality = _quality(evaluation, next(filter(None, evaluation.scores)))
    if images < MIN_IMAGES:
        quality = f"{images} images in each set are few, so this is uncertain. {quality}"
    return f"{quality} {_copies(evaluation)}"


def _quality(evaluation: Evaluation, space: str) -> str:
    scores = evaluation.scores[space]
    precision, recall, coverage = (_share(scores[name]) for name in ("precision", "recall", "coverage"))
    realism, lower = min((precision, "precision"), (coverage, "coverage"))
    near = "close to" if realism >= NEAR else "far from" if realism < FAR else "not yet close to"
    varied = "as varied" if recall >= NEAR else "much less varied" if recall < FAR else "less varied"
    findings = [
        (realism >= NEAR, f"{near} real ones ({lower} is {realism:.0%} of its floor)"),
        (recall >= NEAR, f"{varied} (recall {recall:.0%})"),
    ]
    energy = _share(evaluation.scores[""]["checkerboard"])
    if not BLUR <= energy <= NOISE:
        findings.insert(1, (False, "blurred" if energy < BLUR else "noisy or checkered"))
    text = findings[0][1]
    for (before, _), (good, finding) in pairwise(findings):
        text += f" {'and' if good == before else 'but'} {finding}"
    return f"The generated images are {text}."


def _copies(evaluation: Evaluation) -> str:
    close = evaluation.scores[""].get(CLOSE_TO_TRAINING)
    if close is None:
        return "Whether they are copied was not measured."
    if _is_above_floor(close):
        return f"About {max(close.value, 0.01):.0%} of them are likely copies of training images."
    nearer = [scores[NEARER_TO_TRAINING] for space, scores in evaluation.scores.items() if space]
    if any(_is_above_floor(score) for score in nearer):
        return "They are nearer to training images than to others: some may be copied in part."
    return "There is no sign of copied training images."


def _share(score: Score) -> float:
    return score.value / score.floor if score.floor else 1.0


def _is_above_floor(score: Score) -> bool:
    """Whether the score's confidence interval lies above that of its floor."""
    assert score.interval is not None, "scores of copies have intervals"
    assert score.floor_interval is not None, "scores of copies have intervals"
    return score.interval[0] > score.floor_interval[1]
