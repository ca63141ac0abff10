import json
import random
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.finite import DivergedError
from gan.metrics.pixels import pairwise_distances
from gan.monitor import Alarm, Limits, Monitor, not_finite

SHORT = Limits(grace=50, window=100, sample_window=100, late=600)
REAL_DISTANCE = 0.6  # about that of faces


def images(distance: float) -> np.ndarray:
    """Ten images with nearly this mean distance, uint8 [10, 3, 8, 8]."""
    noise = np.random.default_rng(0).normal(0, distance * 127.5 / 2**0.5, (10, 3, 8, 8))
    return np.clip(128 + noise, 0, 255).astype(np.uint8)


def statistics(
    discriminator: float = 0.3, generator: float = 3.0, gradient: float = 30.0, probability: float = 0.1
) -> dict[str, float]:
    return {
        "loss/discriminator": discriminator,
        "loss/generator": generator,
        "probability/fake": probability,
        "gradient/generator": gradient,
    }


def new_monitor(limits: Limits = SHORT) -> Monitor:
    return Monitor(images(REAL_DISTANCE), limits)


def log(monitor: Monitor, steps: range, **changes: float) -> list[Alarm]:
    """The alarms when the same statistics are logged at each of these steps."""
    alarms = [monitor.check_statistics(step, statistics(**changes)) for step in steps]
    return [alarm for alarm in alarms if alarm]


def sample(monitor: Monitor, sample_distances: list[float], first: int = 100, every: int = 50) -> list[Alarm]:
    """The alarms when samples with these distances are drawn one after the other."""
    steps = range(first, first + len(sample_distances) * every, every)
    alarms = [monitor.check_samples(*pair) for pair in zip(steps, map(images, sample_distances), strict=True)]
    return [alarm for alarm in alarms if alarm]


def steps_and_certainty(alarms: list[Alarm]) -> list[tuple[int, bool]]:
    return [(alarm.step, alarm.certain) for alarm in alarms]


def test_another_loss_has_no_limits_for_d():
    monitor = Monitor(images(REAL_DISTANCE), SHORT, check_discriminator=False)
    assert log(monitor, range(10, 501, 10), discriminator=45.0, probability=0.0) == []


def test_a_value_that_is_not_finite_is_a_certain_alarm():
    alarm = not_finite(DivergedError("a loss or gradient was NaN or infinite at step 417"), 420)
    assert (alarm.name, alarm.step, alarm.since, alarm.certain) == ("not finite", 420, 420, True)
    assert alarm.message.endswith("at step 417")


def test_d_wins():
    monitor = new_monitor()
    assert log(monitor, range(10, 201, 10)) == []
    alarms = log(monitor, range(210, 321, 10), probability=0.0006, generator=7.4)
    assert steps_and_certainty(alarms) == [(260, False), (310, True), (320, True)]
    assert {(alarm.name, alarm.since) for alarm in alarms} == {("D wins", 200)}
    assert alarms[1].message == (
        "D wins: D(G(z)) has been below 0.005 since step 200, at step 310 0.0006, and G's loss is 7.4"
    )


def test_d_fails():
    monitor = new_monitor()
    assert log(monitor, range(10, 201, 10), discriminator=4.9) == []
    alarms = log(monitor, range(210, 311, 10), discriminator=45.0)
    assert steps_and_certainty(alarms) == [(260, False), (310, True)]
    assert {(alarm.name, alarm.since) for alarm in alarms} == {("D fails", 200)}
    assert alarms[1].message == (
        "D fails: its loss has been above 5 since step 200, at step 310 45; guessing gives 1.39"
    )
    assert log(monitor, range(320, 400, 10), discriminator=1.4) == []


def test_the_gradient_of_g_is_gone():
    monitor = new_monitor()
    assert log(monitor, range(10, 501, 10), gradient=33.0) == []
    assert log(monitor, range(510, 1001, 10), gradient=0.4) == []  # above a hundredth of the median
    monitor = new_monitor()
    log(monitor, range(10, 501, 10), gradient=33.0)
    alarms = log(monitor, range(510, 5001, 10), gradient=0.3)
    assert steps_and_certainty(alarms)[:2] == [(560, False), (610, True)]
    assert {(alarm.name, alarm.since) for alarm in alarms} == {("vanishing gradient", 500)}
    assert "0.3 at step 610" in alarms[1].message
    assert "median was 33 until step 500" in alarms[1].message
    assert alarms[-1].step == 5000  # the median does not follow a vanished gradient


def test_a_gradient_that_was_always_0_is_gone():
    alarms = log(new_monitor(), range(10, 301, 10), gradient=0.0)
    assert (alarms[-1].name, alarms[-1].certain) == ("vanishing gradient", True)


@settings(max_examples=25)
@given(st.lists(st.floats(1.0, 50.0), min_size=60, max_size=60))
def test_a_gradient_within_a_factor_of_50_raises_no_alarm(norms):
    monitor = new_monitor()
    assert not any(
        monitor.check_statistics(10 * i, statistics(gradient=norm)) for i, norm in enumerate(norms, 1)
    )


def test_an_interruption_restarts_the_window():
    monitor = new_monitor()
    for start in range(100, 3000, 100):
        alarms = log(monitor, range(start, start + 90, 10), probability=0.0001)
        assert not any(alarm.certain for alarm in alarms)
        assert log(monitor, range(start + 90, start + 100, 10), probability=0.006) == []
    assert sample(new_monitor(), [0.4, 0.0, 0.4, 0.0, 0.4], every=90) == []


def test_no_alarm_is_raised_during_the_grace():
    monitor = new_monitor(replace(SHORT, grace=1000, window=0))
    assert log(monitor, range(10, 1001, 10), probability=0.0, gradient=0.0) == []
    assert sample(monitor, [0.0] * 18) == []
    (alarm,) = log(monitor, range(1010, 1011), probability=0.0)
    assert alarm.since == 1000


def test_a_certain_alarm_takes_precedence_over_a_warning():
    monitor = new_monitor()
    log(monitor, range(10, 201, 10))
    log(monitor, range(210, 251, 10), gradient=0.0)
    alarms = log(monitor, range(260, 311, 10), gradient=0.0, probability=0.0)
    assert [(alarm.name, alarm.certain) for alarm in alarms] == [
        ("vanishing gradient", False),
        ("vanishing gradient", True),
    ]


def test_samples_collapse_into_one():
    monitor = new_monitor()
    assert sample(monitor, [0.05, 0.1, 0.1]) == []  # at steps 100, 150 and 200
    alarms = sample(monitor, [0.06, 0.009, 0.004, 0.0], first=250)
    assert steps_and_certainty(alarms) == [(350, False), (400, True)]
    assert {(alarm.name, alarm.since) for alarm in alarms} == {("mode collapse", 250)}
    real = float(pairwise_distances(images(REAL_DISTANCE)).mean())
    assert f"is 0.0000, that of real images {real:.4f}, and the samples' own maximum" in alarms[1].message


def test_diverse_samples_collapse_into_a_few():
    alarms = sample(new_monitor(), [0.2, 0.45, 0.4, 0.28, 0.18, 0.05, 0.05, 0.04])
    assert steps_and_certainty(alarms) == [(400, False), (450, True)]
    assert alarms[-1].since == 250  # later samples had less than half of the maximum


def test_samples_that_never_became_diverse_have_no_good_step():
    alarms = sample(new_monitor(), [0.04] * 13)
    assert [(alarm.step, alarm.since, alarm.certain) for alarm in alarms] == [(650, 0, False), (700, 0, True)]


@pytest.mark.parametrize("sample_distances", [[0.55, *[0.12] * 5], [0.04] * 8 + [0.08] * 8])
def test_samples_that_are_still_diverse_raise_no_alarm(sample_distances):
    assert sample(new_monitor(), sample_distances) == []


@pytest.mark.parametrize("start", [0.004, 0.19], ids=["grey", "noise"])
@pytest.mark.parametrize("seed", range(5))
def test_a_healthy_run_raises_no_alarm(start, seed):
    """The ranges are those of recorded runs, including the textbook form."""
    rng = random.Random(seed)
    monitor = new_monitor(Limits())
    low, high = rng.uniform(0.033, 0.1), rng.uniform(0.15, 0.45)  # one blurred face at first
    diverse_from = rng.uniform(250, 1500)
    for step in range(10, 7001, 10):
        if step <= 450:  # D easily tells noise, and then blurred images, from faces
            loss, generator = rng.choice([0.02, 0.05, 0.1, 1.7]), rng.choice([3.0, 8.0, 22.0, 70.0])
        else:
            loss, generator = rng.choice([0.02, 0.08, 0.2, 0.5]), rng.uniform(2, 5)
        gradient = rng.uniform(15, 115)
        assert monitor.check_statistics(step, statistics(loss, generator, gradient)) is None
        if step % 100 == 0:
            growth = min(1.0, step / diverse_from) ** 3
            distance = (low + (high - low) * growth) * rng.uniform(0.65, 1.0)
            assert monitor.check_samples(step, images(start if step < 100 else distance)) is None


EVENT = st.tuples(
    st.sampled_from([0.0, 0.005, 0.3]), st.sampled_from([0.0, 0.2, 30.0]), st.sampled_from([0.0, 0.05, 0.4])
)


@settings(max_examples=25)
@given(st.lists(EVENT, min_size=12, max_size=40), st.data())
def test_a_resumed_monitor_raises_the_same_alarms(events, data):
    """Also when its state was stored as JSON."""
    sets = {distance: images(distance) for distance in (0.0, 0.05, 0.4)}

    def alarms(monitor: Monitor, start: int, stop: int) -> list[Alarm | None]:
        return [
            alarm
            for i, (probability, gradient, distance) in enumerate(events[start:stop], start)
            for alarm in (
                monitor.check_statistics(20 * i, statistics(gradient=gradient, probability=probability)),
                monitor.check_samples(20 * i, sets[distance]),
            )
        ]

    cut = data.draw(st.integers(0, len(events)))
    first, second = new_monitor(), new_monitor()
    before = alarms(first, 0, cut)
    state = first.state()
    stored = json.dumps(state)
    alarms(first, cut, len(events))
    assert json.dumps(state) == stored  # a copy, not a view
    second.load_state(json.loads(stored))
    assert before + alarms(second, cut, len(events)) == alarms(new_monitor(), 0, len(events))


def test_a_resumed_monitor_remembers_the_median_gradient_and_the_maximum_distance():
    first, second = new_monitor(), new_monitor()
    log(first, range(10, 201, 10), gradient=33.0)
    sample(first, [0.45, 0.4])
    second.load_state(first.state())
    assert "its median was 33" in log(second, range(210, 311, 10), gradient=0.2)[-1].message
    assert sample(second, [0.05, 0.05, 0.05], first=200)[-1].since == 150


def test_a_smaller_learning_rate_stretches_the_windows():
    slow = Limits().at(2.5e-5)
    assert (slow.grace, slow.window, slow.sample_window, slow.late) == (2000, 1200, 800, 12000)
    assert slow.collapsed_share == Limits().collapsed_share
    assert Limits().at(1e-2) == Limits().at(1e-4) == Limits()
