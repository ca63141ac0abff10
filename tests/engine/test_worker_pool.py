import contextlib
import multiprocessing
import os
import signal
from functools import partial

import pytest

from engine.errors import UserError
from engine.worker_pool import parallel_map, worker_count


def test_one_worker_per_available_core(monkeypatch):
    assert worker_count(0) == 0
    assert worker_count(5) == 5
    monkeypatch.setattr(os, "cpu_count", lambda: 64)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {1, 5, 6}, raising=False)
    assert worker_count(None) == 3
    monkeypatch.delattr(os, "sched_getaffinity")
    assert worker_count(None) == 64
    monkeypatch.setattr(os, "cpu_count", lambda: None)
    assert worker_count(None) == 1


@pytest.mark.parametrize("workers", [0, 2])
def test_results_are_in_order(workers):
    assert list(parallel_map(abs, [-3, 1, -2, *range(30)], workers)) == [3, 1, 2, *range(30)]


@pytest.mark.parametrize("workers", [0, 2])
def test_no_jobs(workers):
    assert list(parallel_map(abs, [], workers)) == []


def test_workers_are_not_forked(monkeypatch):
    """A lock that another thread holds during a fork would stay locked in the child forever."""
    monkeypatch.delattr(os, "fork", raising=False)
    assert list(parallel_map(abs, [-1, -2], 2)) == [1, 2]


def test_a_dead_worker_is_one_line():
    with pytest.raises(UserError, match="--workers 0"):
        list(parallel_map(os._exit, [1, 1], 1))


def test_signals_of_the_terminal_are_left_to_the_parent():
    signals = [signal.SIGINT, signal.SIGHUP]
    assert list(parallel_map(signal.getsignal, signals, 1)) == [signal.SIG_IGN] * 2


def test_workers_end_when_the_iterator_is_closed():
    with contextlib.closing(parallel_map(abs, range(100), 1)) as results:
        assert next(results) == 0
    assert not multiprocessing.active_children()


@pytest.mark.skipif(not hasattr(signal, "pthread_sigmask"), reason="needs signal masks, which Windows lacks")
def test_ctrl_c_does_not_reach_a_worker_that_is_still_starting():
    blocked_signals = partial(signal.pthread_sigmask, signal.SIG_BLOCK)
    (blocked,) = parallel_map(blocked_signals, [()], 1)
    assert {signal.SIGINT, signal.SIGHUP} <= blocked
    assert signal.SIGINT not in blocked_signals(())
