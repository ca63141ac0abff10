import pytest
import torch

from engine.finite import EXIT_DIVERGED, DivergedError, FiniteCheck

NAN, INFINITY = float("nan"), float("inf")


def finite_check() -> FiniteCheck:
    return FiniteCheck(torch.device("cpu"))


def test_finite_values_pass():
    finite = finite_check()
    finite.check()
    for step in range(5):
        finite.watch(torch.tensor(step), torch.tensor([1.0, -3e38, 0.0]))
    finite.check()


@pytest.mark.parametrize("bad", [NAN, INFINITY, -INFINITY])
@pytest.mark.parametrize(("place", "first"), [(0, 0), (0, 417), (2, 417)])
def test_the_first_bad_step_is_named_at_any_later_check(bad, place, first):
    finite = finite_check()
    for step in range(1000):
        values = torch.ones(3)
        if step in (first, 418, 903):
            values[place] = bad
        finite.watch(torch.tensor(step), values)
    for _ in range(2):
        with pytest.raises(DivergedError, match=rf"at step {first}$"):
            finite.check()


def test_watching_reads_nothing_back():
    """On the meta device, which stores no values, reading one raises."""
    finite = FiniteCheck(torch.device("meta"))
    finite.watch(torch.tensor(1, device="meta"), torch.ones(3, device="meta"))
    with pytest.raises(RuntimeError, match="meta"):
        finite.check()


def test_the_exit_code_differs_from_all_others():
    assert EXIT_DIVERGED not in (0, 1, 2, 130, 143)
