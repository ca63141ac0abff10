import json
import random
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.finite import EXIT_DIVERGED, DivergedError, FiniteCheck
from gan.metrics.pixels import pairwise_distances
from gan.monitor import Limits, Monitor, not_finite

NAN, INFINITE = float("nan"), float("inf")
SHORT = Limits(grace=50, window=100, sample_window=100, late=600)
REAL_DISTANCE = 0.6  # of faces, about


def finite_check() -> FiniteCheck:
    return FiniteCheck(torch.device("cpu"))


def images(distance: float) -> np.ndarray:
    """Ten with a mean distance of nearly that: uint8 [10, 3, 8, 8]."""
    noise = np.random.default_rng(0).normal(0, distance * 127.5 / 2**0.5, (10, 3, 8, 8))
    return np.clip(128 + noise, 0, 255).astype(np.uint8)


def values(
    discriminator: float = 0.3, generator: float = 3.0, gradient: float = 30.0, probability: float = 0.1
) -> dict[str, float]:
    return {
        "loss/discriminator": discriminator,
        "loss/generator": generator,
        "probability/fake": probability,
        "gradient/generator": gradient,
    }


def monitor(limits: Limits | None = SHORT) -> Monitor:
    return Monitor(images(REAL_DISTANCE), limits)


def alarms_about(monitored: Monitor, steps: range, **changed: float) -> list:
    """What is alarms over these steps, in which the same is logged again and again."""
    alarms = [monitored.check_statistics(step, values(**changed)) for step in steps]
    return [alarm for alarm in alarms if alarm]


def sample_alarms(
    monitored: Monitor, distances_of_looks: list[float], first: int = 100, every: int = 50
) -> list:
    alarms = [monitored.check_samples(first + i * every, images(d)) for i, d in enumerate(distances_of_looks)]
    return [alarm for alarm in alarms if alarm]


def test_nothing_is_said_while_all_is_finite():
    monitored = finite_check()
    monitored.check()
    for step in range(5):
        monitored.watch(torch.tensor(step), torch.tensor([1.0, -3e38, 0.0]))
    monitored.check()


@pytest.mark.parametrize("bad", [NAN, INFINITE, -INFINITE])
@pytest.mark.parametrize("place", [0, 2])
def test_the_first_bad_step_is_named_however_late_one_looks(bad, place):
    monitored = finite_check()
    for step in range(1, 1001):
        values = torch.ones(3)
        if step in (417, 418, 903):
            values[place] = bad
        monitored.watch(torch.tensor(step), values)
    with pytest.raises(DivergedError, match=r"at step 417$"):
        monitored.check()
    with pytest.raises(DivergedError, match=r"at step 417$"):
        monitored.check()  # it stays known


def test_step_0_counts():
    monitored = finite_check()
    monitored.watch(torch.tensor(0), torch.tensor([NAN]))
    monitored.watch(torch.tensor(1), torch.tensor([0.0]))
    with pytest.raises(DivergedError, match=r"at step 0$"):
        monitored.check()


def test_watching_reads_nothing_back():
    """On the meta device, which holds no values, any look at one raises."""
    monitored = FiniteCheck(torch.device("meta"))
    monitored.watch(torch.tensor(1, device="meta"), torch.ones(3, device="meta"))
    with pytest.raises(RuntimeError, match="meta"):
        monitored.check()


def test_its_exit_code_is_unlike_the_others():
    assert EXIT_DIVERGED not in (0, 1, 2, 130, 143)


def test_a_value_that_is_not_finite_is_a_certain_alarm():
    alarm = not_finite(DivergedError("a loss or gradient was NaN or infinite at step 417"), 420)
    assert (alarm.name, alarm.step, alarm.since, alarm.certain) == ("not finite", 420, 420, True)
    assert alarm.message.endswith("at step 417")


def test_d_wins_for_good():
    monitored = monitor()
    assert alarms_about(monitored, range(10, 201, 10)) == []
    alarms = alarms_about(monitored, range(210, 321, 10), probability=0.0006, generator=7.4)
    assert [(alarm.step, alarm.certain) for alarm in alarms] == [(260, False), (310, True), (320, True)]
    assert {(alarm.name, alarm.since) for alarm in alarms} == {("D wins", 200)}
    assert alarms[1].message == (
        "D wins: D(G(z)) has been below 0.005 since step 200, at step 310 0.0006, and G's loss is 7.4"
    )


def test_d_fails_for_good():
    monitored = monitor()
    assert alarms_about(monitored, range(10, 201, 10), discriminator=4.9) == []
    alarms = alarms_about(monitored, range(210, 311, 10), discriminator=45.0)
    assert [(alarm.step, alarm.certain) for alarm in alarms] == [(260, False), (310, True)]
    assert {(alarm.name, alarm.since) for alarm in alarms} == {("D fails", 200)}
    assert alarms[1].message == (
        "D fails: its loss has been above 5 since step 200, at step 310 45; guessing gives 1.39"
    )
    assert alarms_about(monitored, range(320, 400, 10), discriminator=1.4) == []


def test_a_d_that_loses_once_does_not_win_for_good():
    monitored = monitor()
    for start in range(100, 3000, 100):
        alarms = alarms_about(monitored, range(start, start + 90, 10), probability=0.0001)
        assert not any(alarm.certain for alarm in alarms)
        assert alarms_about(monitored, range(start + 90, start + 100, 10), probability=0.006) == []


def test_nothing_counts_during_the_grace():
    monitored = monitor(replace(SHORT, grace=1000, window=0))
    assert alarms_about(monitored, range(10, 1001, 10), probability=0.0, gradient=0.0) == []
    assert sample_alarms(monitored, [0.0] * 18) == []
    (alarm,) = alarms_about(monitored, range(1010, 1011), probability=0.0)
    assert alarm.since == 1000


def test_the_gradient_of_g_is_gone():
    monitored = monitor()
    assert alarms_about(monitored, range(10, 501, 10), gradient=33.0) == []
    assert alarms_about(monitored, range(510, 1001, 10), gradient=0.4) == []  # low, but there
    monitored = monitor()
    alarms_about(monitored, range(10, 501, 10), gradient=33.0)
    alarms = alarms_about(monitored, range(510, 611, 10), gradient=0.3)
    assert [(alarm.name, alarm.step, alarm.since, alarm.certain) for alarm in alarms] == [
        ("gradient gone", 560, 500, False),
        ("gradient gone", 610, 500, True),
    ]
    assert "0.3 at step 610" in alarms[1].message
    assert "median was 33 until step 500" in alarms[1].message


def test_a_gradient_that_never_was_there_is_gone():
    alarms = alarms_about(monitor(), range(10, 301, 10), gradient=0.0)
    assert alarms[-1].name == "gradient gone"
    assert alarms[-1].certain


def test_the_median_does_not_follow_a_gradient_that_is_gone():
    monitored = monitor()
    alarms_about(monitored, range(10, 501, 10), gradient=33.0)
    alarms = alarms_about(monitored, range(510, 5001, 10), gradient=0.1)
    assert alarms[-1].step == 5000


@settings(max_examples=25)
@given(st.lists(st.floats(1.0, 50.0), min_size=60, max_size=60))
def test_no_gradient_within_a_factor_of_50_is_gone(norms):
    monitored = monitor()
    assert not any(
        monitored.check_statistics(10 * i, values(gradient=norm)) for i, norm in enumerate(norms, 1)
    )


def test_a_certain_alarm_is_told_before_a_warning():
    monitored = monitor()
    alarms_about(monitored, range(10, 201, 10))
    alarms_about(monitored, range(210, 251, 10), gradient=0.0)
    alarms = alarms_about(monitored, range(260, 311, 10), gradient=0.0, probability=0.0)
    assert [alarm.certain for alarm in alarms] == [False, True]
    assert {alarm.name for alarm in alarms} == {"gradient gone"}


def test_a_g_made_constant():
    monitored = monitor()
    assert sample_alarms(monitored, [0.05, 0.1, 0.1]) == []  # at steps 100, 150, 200
    alarms = sample_alarms(monitored, [0.06, 0.009, 0.004, 0.0], first=250)
    assert [(alarm.step, alarm.certain) for alarm in alarms] == [(350, False), (400, True)]
    assert {(alarm.name, alarm.since) for alarm in alarms} == {("samples one", 250)}
    real = float(pairwise_distances(images(REAL_DISTANCE)).mean())
    assert f"is 0.0000, that of real images {real:.4f}, and their own maximum" in alarms[1].message


def test_a_set_that_was_diverse_and_falls_to_a_few_faces():
    monitored = monitor()
    alarms = sample_alarms(monitored, [0.2, 0.45, 0.4, 0.28, 0.18, 0.05, 0.05, 0.04])
    assert [(alarm.step, alarm.certain) for alarm in alarms] == [(400, False), (450, True)]
    assert alarms[-1].since == 250  # from then on it was less than half of its best


def test_a_set_that_lost_much_but_is_still_diverse():
    assert sample_alarms(monitor(), [0.55, 0.12, 0.12, 0.12, 0.12, 0.12]) == []


def test_one_poor_look_is_no_alarm():
    monitored = monitor()
    assert sample_alarms(monitored, [0.4, 0.0, 0.4, 0.0, 0.4], every=90) == []


def test_a_set_that_never_became_diverse():
    """It has no good time to go back to."""
    monitored = monitor()
    alarms = sample_alarms(monitored, [0.04] * 13)
    assert [(alarm.step, alarm.since, alarm.certain) for alarm in alarms] == [(650, 0, False), (700, 0, True)]
    assert sample_alarms(monitor(), [0.04] * 8 + [0.08] * 8) == []


@pytest.mark.parametrize("at_start", [0.004, 0.19], ids=["grey", "noise"])
@pytest.mark.parametrize("seed", range(5))
def test_no_alarm_in_a_healthy_run(at_start, seed):
    """With the numbers of recorded runs: the ranges are those seen, the textbook form's included."""
    rng = random.Random(seed)
    monitored = monitor(Limits())
    low = rng.uniform(0.033, 0.1)  # one blurred face at first
    high = rng.uniform(0.15, 0.45)
    diverse_from = rng.uniform(250, 1500)
    for step in range(10, 7001, 10):
        if step <= 450:  # noise, then blurs are told from faces with ease
            loss, generator = rng.choice([0.02, 0.05, 0.1, 1.7]), rng.choice([3.0, 8.0, 22.0, 70.0])
        else:
            loss, generator = rng.choice([0.02, 0.08, 0.2, 0.5]), rng.uniform(2, 5)
        gradient = rng.uniform(15, 115)
        assert monitored.check_statistics(step, values(loss, generator, gradient)) is None
        if step % 100 == 0:
            grown = min(1.0, step / diverse_from) ** 3
            distance = (low + (high - low) * grown) * rng.uniform(0.65, 1.0)
            assert monitored.check_samples(step, images(at_start if step < 100 else distance)) is None


EVENT = st.tuples(
    st.sampled_from([0.0, 0.005, 0.3]), st.sampled_from([0.0, 0.2, 30.0]), st.sampled_from([0.0, 0.05, 0.4])
)


@settings(max_examples=25)
@given(st.lists(EVENT, min_size=12, max_size=40), st.data())
def test_one_that_goes_on_from_its_state_says_the_same(events, data):
    """Also where the state went through a file."""
    sets = {distance: images(distance) for distance in (0.0, 0.05, 0.4)}

    def alarms(monitored: Monitor, start: int, stop: int) -> list:
        return [
            alarm
            for i in range(start, stop)
            for alarm in (
                monitored.check_statistics(20 * i, values(events[i][0], 3.0, events[i][1])),
                monitored.check_samples(20 * i, sets[events[i][2]]),
            )
        ]

    cut = data.draw(st.integers(0, len(events)))
    without_stop = alarms(monitor(), 0, len(events))
    first, second = monitor(), monitor()
    before = alarms(first, 0, cut)
    state = json.loads(json.dumps(first.state()))
    alarms(first, cut, len(events))  # what was given is no view of what goes on
    second.load_state(state)
    assert before + alarms(second, cut, len(events)) == without_stop


def test_what_was_usual_is_not_forgotten_by_going_on_from_a_state():
    first, second = monitor(), monitor()
    alarms_about(first, range(10, 201, 10), gradient=33.0)
    sample_alarms(first, [0.45, 0.4])
    second.load_state(first.state())
    (_, gone) = alarms_about(second, range(210, 311, 10), gradient=0.2)
    assert "its median was 33" in gone.message
    (_, fallen) = sample_alarms(second, [0.05, 0.05, 0.05], first=200)
    assert fallen.since == 150


def test_a_state_is_no_view():
    monitored = monitor()
    alarms_about(monitored, range(10, 101, 10))
    state = monitored.state()
    kept = json.dumps(state)
    alarms_about(monitored, range(110, 301, 10), probability=0.0, gradient=0.0)
    sample_alarms(monitored, [0.4, 0.0, 0.0])
    assert json.dumps(state) == kept
    other = monitor()
    other.load_state(state)
    alarms_about(other, range(110, 301, 10), probability=0.0, gradient=0.0)
    assert json.dumps(state) == kept


def test_a_smaller_learning_rate_is_given_more_steps():
    slow = Limits().at(2.5e-5)
    assert (slow.grace, slow.window, slow.sample_window, slow.late) == (2000, 1200, 800, 12000)
    assert slow.collapsed_share == Limits().collapsed_share
    assert Limits().at(1e-2) == Limits().at(1e-4) == Limits()
