"""Choose a name for each face from scores. Nothing here imports torch."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from engine.errors import missing_extra


def choose(scores: ArrayLike, threshold: float, *, once: bool = False) -> list[int | None]:
    """The column with the best score of each row, if that is at least the threshold.

    Args:
        scores: float [M, K], of M faces for K people.
        threshold: minimum score.
        once: choose a column for one row at most, so that the sum of the scores, of which a row without a
            column contributes the threshold, is largest (Kuhn 1955).

    Returns:
        M columns; None for a row without one.

    Raises:
        UserError: `once`, and the extra `photos` is not installed.
    """
    table = np.asarray(scores, float)
    if not once:
        return [int(row.argmax()) if row.max() >= threshold else None for row in table]
    try:
        from scipy.optimize import linear_sum_assignment
    except ImportError as missing:
        raise missing_extra("--once needs", "photos", missing) from missing
    count, columns = table.shape
    # Each row may also take a column of its own for nobody. Without the margin a score equal to the
    # threshold could lose to it.
    margin = 1e-9
    gains = np.where(table >= threshold, table - threshold + margin, -1.0)
    nobody = np.where(np.eye(count, dtype=bool), 0.0, -1.0)
    rows, chosen = linear_sum_assignment(np.concatenate([gains, nobody], axis=1), maximize=True)
    by_row = dict(zip(rows.tolist(), chosen.tolist(), strict=True))
    return [by_row[row] if by_row[row] < columns else None for row in range(count)]
