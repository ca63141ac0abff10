import json
import random
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.finite import DivergedError, FiniteCheck
from gan.metrics.pixels import pairwise_distances
from gan.monitor import EXIT_CODE, Limits, Watch, not_finite

NAN, INFINITE = float("nan"), float("inf")
SHORT = Limits(grace=50, window=100, look_window=100, late=600)
REAL_DISTANCE = 0.6  # of faces, about


def latch() -> FiniteCheck:
    return FiniteCheck(torch.device("cpu"))


def images(distance: float) -> np.ndarray:
    """Ten with a mean distance of nearly that: uint8 [10, 3, 8, 8]."""
    noise = np.random.default_rng(0).normal(0, distance * 127.5 / 2**0.5, (10, 3, 8, 8))
    return np.clip(128 + noise, 0, 255).astype(np.uint8)


def values(
    discriminator: float = 0.3, generator: float = 3.0, gradient: float = 30.0, believed: float = 0.1
) -> dict[str, float]:
    return {
        "loss/discriminator": discriminator,
        "loss/generator": generator,
        "probability/fake": believed,
        "gradient/generator": gradient,
    }


def watch(limits: Limits | None = SHORT) -> Watch:
    return Watch(images(REAL_DISTANCE), limits)


def observe(watched: Watch, steps: range, **changed: float) -> list:
    """What is said over these steps, in which the same is logged again and again."""
    said = [watched.observe(step, values(**changed)) for step in steps]
    return [alarm for alarm in said if alarm]


def look(watched: Watch, distances_of_looks: list[float], first: int = 100, every: int = 50) -> list:
    said = [watched.look(first + i * every, images(d)) for i, d in enumerate(distances_of_looks)]
    return [alarm for alarm in said if alarm]


def test_nothing_is_said_while_all_is_finite():
    watched = latch()
    watched.check()
    for step in range(5):
        watched.watch(torch.tensor(step), torch.tensor([1.0, -3e38, 0.0]))
    watched.check()


@pytest.mark.parametrize("bad", [NAN, INFINITE, -INFINITE])
@pytest.mark.parametrize("place", [0, 2])
def test_the_first_bad_step_is_named_however_late_one_looks(bad, place):
    watched = latch()
    for step in range(1, 1001):
        values = torch.ones(3)
        if step in (417, 418, 903):
            values[place] = bad
        watched.watch(torch.tensor(step), values)
    with pytest.raises(DivergedError, match=r"at step 417$"):
        watched.check()
    with pytest.raises(DivergedError, match=r"at step 417$"):
        watched.check()  # it stays known


def test_step_0_counts():
    watched = latch()
    watched.watch(torch.tensor(0), torch.tensor([NAN]))
    watched.watch(torch.tensor(1), torch.tensor([0.0]))
    with pytest.raises(DivergedError, match=r"at step 0$"):
        watched.check()


def test_watching_reads_nothing_back():
    """On the meta device, which holds no values, any look at one raises."""
    watched = FiniteCheck(torch.device("meta"))
    watched.watch(torch.tensor(1, device="meta"), torch.ones(3, device="meta"))
    with pytest.raises(RuntimeError, match="meta"):
        watched.check()


def test_its_exit_code_is_unlike_the_others():
    assert EXIT_CODE not in (0, 1, 2, 130, 143)


def test_a_value_that_is_not_finite_is_a_certain_alarm():
    alarm = not_finite(DivergedError("a loss or gradient was NaN or infinite at step 417"), 420)
    assert (alarm.kind, alarm.step, alarm.since, alarm.certain) == ("not finite", 420, 420, True)
    assert alarm.message.endswith("at step 417")


def test_d_wins_for_good():
    watched = watch()
    assert observe(watched, range(10, 201, 10)) == []
    said = observe(watched, range(210, 321, 10), believed=0.0006, generator=7.4)
    assert [(alarm.step, alarm.certain) for alarm in said] == [(260, False), (310, True), (320, True)]
    assert {(alarm.kind, alarm.since) for alarm in said} == {("D wins", 200)}
    assert said[1].message == (
        "D wins: its belief in generated images is under 0.005 since step 200, at step 310 0.0006, and G's "
        "loss is 7.4"
    )


def test_d_fails_for_good():
    watched = watch()
    assert observe(watched, range(10, 201, 10), discriminator=4.9) == []
    said = observe(watched, range(210, 311, 10), discriminator=45.0)
    assert [(alarm.step, alarm.certain) for alarm in said] == [(260, False), (310, True)]
    assert {(alarm.kind, alarm.since) for alarm in said} == {("D fails", 200)}
    assert said[1].message == (
        "D fails: its loss is over 5 since step 200, at step 310 45, where one that knows nothing has 1.39"
    )
    assert observe(watched, range(320, 400, 10), discriminator=1.4) == []


def test_a_d_that_loses_once_does_not_win_for_good():
    watched = watch()
    for start in range(100, 3000, 100):
        said = observe(watched, range(start, start + 90, 10), believed=0.0001)
        assert not any(alarm.certain for alarm in said)
        assert observe(watched, range(start + 90, start + 100, 10), believed=0.006) == []


def test_nothing_counts_during_the_grace():
    watched = watch(replace(SHORT, grace=1000, window=0))
    assert observe(watched, range(10, 1001, 10), believed=0.0, gradient=0.0) == []
    assert look(watched, [0.0] * 18) == []
    (alarm,) = observe(watched, range(1010, 1011), believed=0.0)
    assert alarm.since == 1000


def test_the_gradient_of_g_is_gone():
    watched = watch()
    assert observe(watched, range(10, 501, 10), gradient=33.0) == []
    assert observe(watched, range(510, 1001, 10), gradient=0.4) == []  # low, but there
    watched = watch()
    observe(watched, range(10, 501, 10), gradient=33.0)
    said = observe(watched, range(510, 611, 10), gradient=0.3)
    assert [(alarm.kind, alarm.step, alarm.since, alarm.certain) for alarm in said] == [
        ("gradient gone", 560, 500, False),
        ("gradient gone", 610, 500, True),
    ]
    assert "0.3 at step 610" in said[1].message
    assert "median was 33 until step 500" in said[1].message


def test_a_gradient_that_never_was_there_is_gone():
    said = observe(watch(), range(10, 301, 10), gradient=0.0)
    assert said[-1].kind == "gradient gone"
    assert said[-1].certain


def test_the_median_does_not_follow_a_gradient_that_is_gone():
    watched = watch()
    observe(watched, range(10, 501, 10), gradient=33.0)
    said = observe(watched, range(510, 5001, 10), gradient=0.1)
    assert said[-1].step == 5000


@settings(max_examples=25)
@given(st.lists(st.floats(1.0, 50.0), min_size=60, max_size=60))
def test_no_gradient_within_a_factor_of_50_is_gone(norms):
    watched = watch()
    assert not any(watched.observe(10 * i, values(gradient=norm)) for i, norm in enumerate(norms, 1))


def test_a_certain_alarm_is_told_before_a_warning():
    watched = watch()
    observe(watched, range(10, 201, 10))
    observe(watched, range(210, 251, 10), gradient=0.0)
    said = observe(watched, range(260, 311, 10), gradient=0.0, believed=0.0)
    assert [alarm.certain for alarm in said] == [False, True]
    assert {alarm.kind for alarm in said} == {"gradient gone"}


def test_a_g_made_constant():
    watched = watch()
    assert look(watched, [0.05, 0.1, 0.1]) == []  # at steps 100, 150, 200
    said = look(watched, [0.06, 0.009, 0.004, 0.0], first=250)
    assert [(alarm.step, alarm.certain) for alarm in said] == [(350, False), (400, True)]
    assert {(alarm.kind, alarm.since) for alarm in said} == {("samples one", 250)}
    real = float(pairwise_distances(images(REAL_DISTANCE)).mean())
    assert f"is 0.0000, that of real images {real:.4f} and their own best" in said[1].message


def test_a_set_that_was_diverse_and_falls_to_a_few_faces():
    watched = watch()
    said = look(watched, [0.2, 0.45, 0.4, 0.28, 0.18, 0.05, 0.05, 0.04])
    assert [(alarm.step, alarm.certain) for alarm in said] == [(400, False), (450, True)]
    assert said[-1].since == 250  # from then on it was less than half of its best


def test_a_set_that_lost_much_but_is_still_diverse():
    assert look(watch(), [0.55, 0.12, 0.12, 0.12, 0.12, 0.12]) == []


def test_one_poor_look_is_no_alarm():
    watched = watch()
    assert look(watched, [0.4, 0.0, 0.4, 0.0, 0.4], every=90) == []


def test_a_set_that_never_became_diverse():
    """It has no good time to go back to."""
    watched = watch()
    said = look(watched, [0.04] * 13)
    assert [(alarm.step, alarm.since, alarm.certain) for alarm in said] == [(650, 0, False), (700, 0, True)]
    assert look(watch(), [0.04] * 8 + [0.08] * 8) == []


@pytest.mark.parametrize("at_start", [0.004, 0.19], ids=["grey", "noise"])
@pytest.mark.parametrize("seed", range(5))
def test_no_alarm_in_a_healthy_run(at_start, seed):
    """With the numbers of recorded runs: the ranges are those seen, the textbook form's included."""
    rng = random.Random(seed)
    watched = watch(Limits())
    low = rng.uniform(0.033, 0.1)  # one blurred face at first
    high = rng.uniform(0.15, 0.45)
    diverse_from = rng.uniform(250, 1500)
    for step in range(10, 7001, 10):
        if step <= 450:  # noise, then blurs are told from faces with ease
            loss, generator = rng.choice([0.02, 0.05, 0.1, 1.7]), rng.choice([3.0, 8.0, 22.0, 70.0])
        else:
            loss, generator = rng.choice([0.02, 0.08, 0.2, 0.5]), rng.uniform(2, 5)
        gradient = rng.uniform(15, 115)
        assert watched.observe(step, values(loss, generator, gradient)) is None
        if step % 100 == 0:
            grown = min(1.0, step / diverse_from) ** 3
            distance = (low + (high - low) * grown) * rng.uniform(0.65, 1.0)
            assert watched.look(step, images(at_start if step < 100 else distance)) is None


EVENT = st.tuples(
    st.sampled_from([0.0, 0.005, 0.3]), st.sampled_from([0.0, 0.2, 30.0]), st.sampled_from([0.0, 0.05, 0.4])
)


@settings(max_examples=25)
@given(st.lists(EVENT, min_size=12, max_size=40), st.data())
def test_one_that_goes_on_from_its_state_says_the_same(events, data):
    """Also where the state went through a file."""
    sets = {distance: images(distance) for distance in (0.0, 0.05, 0.4)}

    def said(watched: Watch, start: int, stop: int) -> list:
        return [
            alarm
            for i in range(start, stop)
            for alarm in (
                watched.observe(20 * i, values(events[i][0], 3.0, events[i][1])),
                watched.look(20 * i, sets[events[i][2]]),
            )
        ]

    cut = data.draw(st.integers(0, len(events)))
    without_stop = said(watch(), 0, len(events))
    first, second = watch(), watch()
    before = said(first, 0, cut)
    state = json.loads(json.dumps(first.state()))
    said(first, cut, len(events))  # what was given is no view of what goes on
    second.load_state(state)
    assert before + said(second, cut, len(events)) == without_stop


def test_what_was_usual_is_not_forgotten_by_going_on_from_a_state():
    first, second = watch(), watch()
    observe(first, range(10, 201, 10), gradient=33.0)
    look(first, [0.45, 0.4])
    second.load_state(first.state())
    (_, gone) = observe(second, range(210, 311, 10), gradient=0.2)
    assert "its median was 33" in gone.message
    (_, fallen) = look(second, [0.05, 0.05, 0.05], first=200)
    assert fallen.since == 150


def test_a_state_is_no_view():
    watched = watch()
    observe(watched, range(10, 101, 10))
    state = watched.state()
    kept = json.dumps(state)
    observe(watched, range(110, 301, 10), believed=0.0, gradient=0.0)
    look(watched, [0.4, 0.0, 0.0])
    assert json.dumps(state) == kept
    other = watch()
    other.load_state(state)
    observe(other, range(110, 301, 10), believed=0.0, gradient=0.0)
    assert json.dumps(state) == kept


def test_a_smaller_learning_rate_is_given_more_steps():
    slow = Limits().at(2.5e-5)
    assert (slow.grace, slow.window, slow.look_window, slow.late) == (2000, 1200, 800, 12000)
    assert slow.one_share == Limits().one_share
    assert Limits().at(1e-2) == Limits().at(1e-4) == Limits()
