"""Signals to a process that torchrun started; what they do to one alone is in tests/test_interruption.py."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable

import pytest

from engine.signals import SignalHandler, grace_period

LONG = 60.0


def code_of(work: Callable[[], None]) -> int | None:
    """The exit code of a process that does this."""
    process = multiprocessing.get_context("fork").Process(target=work)
    process.start()
    process.join(20)
    if process.is_alive():
        process.kill()
        process.join()
    return process.exitcode


def hit(*numbers: signal.Signals) -> None:
    for number in numbers:
        os.kill(os.getpid(), number)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_it_ends_late_whatever_it_waits_for(number):
    def waiting_for_ever() -> None:
        with SignalHandler(grace_period=lambda: 0.2):
            hit(number, number)
            threading.Event().wait()

    start = time.monotonic()
    assert code_of(waiting_for_ever) == 128 + number
    assert time.monotonic() - start < 10


def test_the_first_signal_counts_and_more_do_no_harm():
    def ending_well() -> None:
        with SignalHandler(grace_period=lambda: LONG) as interrupt:
            hit(signal.SIGTERM, signal.SIGINT, signal.SIGTERM)
        os._exit(int(interrupt.received or 0))

    assert code_of(ending_well) == signal.SIGTERM


def test_a_block_that_ended_is_let_be():
    def going_on() -> None:
        with SignalHandler(grace_period=lambda: 0.1):
            hit(signal.SIGTERM)
        before = signal.set_wakeup_fd(-1)
        with SignalHandler(grace_period=lambda: 0.1):
            pass
        time.sleep(0.5)
        os._exit(7 if before == signal.set_wakeup_fd(-1) == -1 else 8)

    assert code_of(going_on) == 7


def test_patience_is_longer_than_two_turns_and_a_slow_first_step_has_some():
    assert grace_period(0.01) == pytest.approx(20, abs=1)
    assert grace_period(30.0) > 2 * 30 + 15
    assert grace_period(None) > 60
