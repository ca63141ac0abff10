import pytest
import torch

from gan.health import EXIT_CODE, DivergedError, FiniteLatch

NAN, INFINITE = float("nan"), float("inf")


def latch() -> FiniteLatch:
    return FiniteLatch(torch.device("cpu"))


def test_nothing_is_said_while_all_is_finite():
    watched = latch()
    watched.check()
    for step in range(5):
        watched.watch(step, torch.tensor([1.0, -3e38, 0.0]))
    watched.check()


@pytest.mark.parametrize("bad", [NAN, INFINITE, -INFINITE])
@pytest.mark.parametrize("place", [0, 2])
def test_the_first_bad_step_is_named_however_late_one_looks(bad, place):
    watched = latch()
    for step in range(1, 1001):
        values = torch.ones(3)
        if step in (417, 418, 903):
            values[place] = bad
        watched.watch(step, values)
    with pytest.raises(DivergedError, match=r"at step 417$"):
        watched.check()
    with pytest.raises(DivergedError, match=r"at step 417$"):
        watched.check()  # it stays known


def test_step_0_counts():
    watched = latch()
    watched.watch(0, torch.tensor([NAN]))
    watched.watch(1, torch.tensor([0.0]))
    with pytest.raises(DivergedError, match=r"at step 0$"):
        watched.check()


def test_watching_reads_nothing_back():
    """On the meta device, which holds no values, any look at one raises."""
    watched = FiniteLatch(torch.device("meta"))
    watched.watch(1, torch.ones(3, device="meta"))
    with pytest.raises(RuntimeError, match="meta"):
        watched.check()


def test_its_exit_code_is_unlike_the_others():
    assert EXIT_CODE not in (0, 1, 2, 130, 143)
