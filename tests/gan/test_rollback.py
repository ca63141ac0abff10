import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gan.monitor import Alarm
from gan.rollback import MAX_ROLLBACKS, Rollback, UnrecoverableError, rollback_seed

STEPS = st.lists(st.integers(1, 10_000), unique=True, max_size=6)


def alarm(since: int, message: str = "D wins") -> Alarm:
    return Alarm("D wins", since + 300, since, message, certain=True)


def test_before_the_first_alarm_nothing_is_changed():
    assert (Rollback().times, Rollback().rate_factor) == (0, 1.0)


def test_it_goes_back_to_the_newest_checkpoint_from_before_the_trouble():
    recovery = Rollback().next(alarm(1200), [500, 1500, 1000])
    assert recovery == Rollback(times=1, from_step=1000)
    assert Rollback().next(alarm(1000), [500, 1000]).from_step == 1000


def test_without_one_it_starts_again():
    assert Rollback().next(alarm(400), [500, 1000]) == Rollback(times=1, from_step=0)
    assert Rollback().next(alarm(400), []) == Rollback(times=1, from_step=0)


def test_a_checkpoint_from_which_it_went_wrong_again_is_passed_over_where_there_is_an_older_one():
    once = Rollback().next(alarm(1200), [500, 1000])
    assert once.next(alarm(1300), [500, 1000]).from_step == 500
    assert once.next(alarm(1300), [1000]).from_step == 1000
    assert once.next(alarm(1700), [500, 1000, 1500]).from_step == 1500


def test_each_is_gentler_and_draws_other_numbers():
    recoveries = [Rollback()]
    for _ in range(MAX_ROLLBACKS):
        recoveries.append(recoveries[-1].next(alarm(1200), [1000]))
    assert [recovery.rate_factor for recovery in recoveries] == [1, 0.5, 0.25, 0.125]
    assert len({rollback_seed(0, recovery.times) for recovery in recoveries}) == 4


def test_after_the_third_time_it_stops_and_says_what_was_seen():
    third = Rollback(times=3, from_step=1000)
    with pytest.raises(UnrecoverableError, match=r"^samples are becoming one, again after 3 rollbacks$"):
        third.next(alarm(2000, "samples are becoming one"), [1000, 1500])


def test_the_log_names_the_form():
    assert Rollback(2, 1500).describe(1e-4) == (
        "returning to step 1500 with another random seed and a learning rate of 2.5e-05: rollback 2 of 3"
    )
    from_start = Rollback(1, 0).describe(2e-4)
    assert from_start.startswith("starting over at step 0 with another random seed")
    assert from_start.endswith("a learning rate of 0.0001: rollback 1 of 3")


@given(st.integers(0, 3), st.integers(0, 10_000))
def test_its_state_goes_through_a_file(times, from_step):
    recovery = Rollback(times, from_step)
    assert Rollback(**json.loads(json.dumps(recovery.state()))) == recovery


@given(st.integers(0, 2), st.integers(0, 10_000), st.integers(0, 10_000), STEPS)
def test_it_never_goes_to_what_is_not_there_or_not_good(times, from_step, since, steps):
    recovery = Rollback(times, from_step).next(alarm(since), steps)
    good = [step for step in steps if step <= since]
    assert recovery.times == times + 1
    assert recovery.from_step in (good or [0])
    assert recovery == Rollback(times, from_step).next(alarm(since), reversed(steps))


@given(st.integers(0, 2**63 - 1), st.integers(0, 3), st.integers(0, 3))
def test_salts_give_seeds_of_their_own(seed, salt, other):
    assert rollback_seed(seed, 0) == seed
    assert 0 <= rollback_seed(seed, salt) < 2**63
    assert (rollback_seed(seed, salt) == rollback_seed(seed, other)) == (salt == other)
