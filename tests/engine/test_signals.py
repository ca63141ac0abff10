"""Signals to a process that torchrun started; for a single process see tests/test_interruption.py."""

from __future__ import annotations

import multiprocessing
import os
import runpy
import signal
import threading
import time
from collections.abc import Callable

import pytest

from engine import signals
from engine.signals import SignalHandler, grace_period


def exit_code_of(work: Callable[[], None]) -> int | None:
    """Run this in a process of its own."""
    process = multiprocessing.get_context("fork").Process(target=work)
    process.start()
    process.join(20)
    if process.is_alive():
        process.kill()
        process.join()
    return process.exitcode


def send(*numbers: signal.Signals) -> None:
    for number in numbers:
        os.kill(os.getpid(), number)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_process_that_hangs_exits_after_the_grace_period(number):
    def hang() -> None:
        with SignalHandler(grace_period=lambda: 0.2):
            send(number, number)
            threading.Event().wait()

    start = time.monotonic()
    assert exit_code_of(hang) == 128 + number
    assert time.monotonic() - start < 10


def test_only_the_first_signal_counts():
    def finish() -> None:
        with SignalHandler(grace_period=lambda: 60.0) as interrupt:
            send(signal.SIGTERM, signal.SIGINT, signal.SIGTERM)
        os._exit(int(interrupt.received or 0))

    assert exit_code_of(finish) == signal.SIGTERM


def test_the_process_lives_on_after_the_block():
    def live_on() -> None:
        with SignalHandler(grace_period=lambda: 0.1):
            send(signal.SIGTERM)
        before = signal.set_wakeup_fd(-1)
        with SignalHandler(grace_period=lambda: 0.1):
            pass
        time.sleep(0.5)
        os._exit(7 if before == signal.set_wakeup_fd(-1) == -1 else 8)

    assert exit_code_of(live_on) == 7


def test_the_grace_period_is_longer_than_two_steps():
    assert grace_period(0.01) == pytest.approx(20, abs=1)
    assert grace_period(30.0) > 2 * 30 + 15
    assert grace_period(None) > 60


def test_windows_before_python_3_12(monkeypatch):
    """It has no os.set_blocking, and SIGBREAK instead of SIGHUP."""

    def hang() -> None:
        with SignalHandler(grace_period=lambda: 0.1):
            send(signal.SIGUSR1)
            threading.Event().wait()

    monkeypatch.delattr(os, "set_blocking")
    monkeypatch.delattr(signal, "SIGHUP")
    monkeypatch.setattr(signal, "SIGBREAK", signal.SIGUSR1, raising=False)
    windows = runpy.run_path(signals.__file__)
    assert windows["SIGNALS"] == (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)
    monkeypatch.setattr(signals, "SIGNALS", windows["SIGNALS"])
    assert exit_code_of(hang) == 128 + signal.SIGUSR1
