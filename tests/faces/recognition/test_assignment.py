from itertools import permutations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from faces.recognition.assignment import choose


def test_without_once_each_face_gets_its_best_name():
    scores = [[0.9, 0.1], [0.8, 0.2], [0.3, 0.2]]
    assert choose(scores, 0.5) == [0, 0, None]
    assert choose(scores, 0.3) == [0, 0, 0]
    assert choose(np.zeros((0, 2)), 0.5) == []


def test_once_is_not_greedy_by_order_or_by_score():
    pytest.importorskip("scipy", reason="the extra 'photos' is not installed")
    # Greedy would name the first face 0 with 0.9 and leave the second unknown.
    assert choose([[0.9, 0.8], [0.85, 0.3]], 0.5, once=True) == [1, 0]
    assert choose([[0.85, 0.3], [0.9, 0.8]], 0.5, once=True) == [0, 1]
    assert choose([[0.9], [0.95], [0.7]], 0.5, once=True) == [None, 0, None]
    assert choose([[0.5, 0.4]], 0.5, once=True) == [0], "a score equal to the threshold is enough"


@given(
    st.integers(1, 4).flatmap(
        lambda columns: st.lists(
            st.lists(st.integers(-10, 10), min_size=columns, max_size=columns), min_size=1, max_size=4
        )
    ),
    st.integers(-10, 10),
)
def test_once_has_the_largest_sum(scores, threshold):
    pytest.importorskip("scipy", reason="the extra 'photos' is not installed")
    table = np.array(scores) / 10
    limit = threshold / 10
    chosen = choose(table, limit, once=True)
    names = [column for column in chosen if column is not None]
    assert len({*names}) == len(names)

    def total(columns):
        values = [limit if column is None else table[row, column] for row, column in enumerate(columns)]
        return sum(values)

    options = [*range(table.shape[1]), *[None] * len(table)]
    best = max(
        total(columns)
        for columns in {*permutations(options, len(table))}
        if all(column is None or table[row, column] >= limit for row, column in enumerate(columns))
    )
    assert total(chosen) == pytest.approx(best)
    assert all(column is None or table[row, column] >= limit for row, column in enumerate(chosen))
