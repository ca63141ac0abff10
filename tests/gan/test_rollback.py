import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gan.monitor import Alarm
from gan.rollback import Rollback, UnrecoverableError, rollback_seed

STEPS = st.lists(st.integers(1, 10_000), unique=True, max_size=6)


def alarm(since: int, message: str = "D wins") -> Alarm:
    return Alarm("D wins", since + 300, since, message, certain=True)


@pytest.mark.parametrize(
    ("since", "checkpoints", "step"),
    [(1200, [500, 1500, 1000], 1000), (1000, [500, 1000], 1000), (400, [500, 1000], 0), (400, [], 0)],
)
def test_a_rollback_returns_to_the_newest_checkpoint_from_before_the_trouble(since, checkpoints, step):
    assert Rollback().next(alarm(since), checkpoints) == Rollback(times=1, from_step=step)


def test_a_checkpoint_after_which_training_failed_again_gives_way_to_an_older_one():
    once = Rollback().next(alarm(1200), [500, 1000])
    assert once.next(alarm(1300), [500, 1000]).from_step == 500
    assert once.next(alarm(1300), [1000]).from_step == 1000
    assert once.next(alarm(1700), [500, 1000, 1500]).from_step == 1500


def test_each_rollback_halves_the_learning_rate():
    assert [Rollback(times).rate_factor for times in range(4)] == [1, 0.5, 0.25, 0.125]


def test_the_fourth_rollback_is_refused():
    third = Rollback(times=3, from_step=1000)
    with pytest.raises(UnrecoverableError, match=r"^mode collapse, again after 3 rollbacks$"):
        third.next(alarm(2000, "mode collapse"), [1000, 1500])


def test_the_description_names_step_learning_rate_and_number():
    assert Rollback(2, 1500).describe(1e-4) == (
        "returning to step 1500 with another random seed and a learning rate of 2.5e-05: rollback 2 of 3"
    )
    assert Rollback(1, 0).describe(2e-4) == (
        "starting over at step 0 with another random seed and a learning rate of 0.0001: rollback 1 of 3"
    )


def test_the_state_survives_a_round_trip_through_json():
    rollback = Rollback(2, 1500)
    assert Rollback(**json.loads(json.dumps(rollback.state()))) == rollback


@given(st.integers(0, 2), st.integers(0, 10_000), st.integers(0, 10_000), STEPS)
def test_a_rollback_returns_only_to_existing_good_checkpoints(times, from_step, since, steps):
    rollback = Rollback(times, from_step).next(alarm(since), steps)
    good = [step for step in steps if step <= since]
    assert rollback.times == times + 1
    assert rollback.from_step in (good or [0])
    assert rollback == Rollback(times, from_step).next(alarm(since), reversed(steps))


@given(st.integers(0, 2**63 - 1))
def test_each_rollback_has_its_own_seed(seed):
    seeds = [rollback_seed(seed, times) for times in range(4)]
    assert seeds[0] == seed
    assert len(set(seeds)) == 4
    assert all(0 <= seed < 2**63 for seed in seeds)
