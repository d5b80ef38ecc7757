"""Signals: each is counted on arrival, a burst counts as one, and the third ends the process in any case."""

from __future__ import annotations

import itertools
import os
import signal
import threading
from collections.abc import Callable
from functools import partial

import anyio
import anyio.lowlevel
import pytest

from flashgraph.cli import stopping
from flashgraph.cli.failures import INTERRUPTED
from flashgraph.cli.stopping import Interrupts, end_at_once


@pytest.fixture
def ended(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The exit codes that `os._exit` would have used."""
    codes: list[int] = []
    monkeypatch.setattr(os, "_exit", codes.append)
    return codes


def listening(*signals: int, steps: int = 2, apart: float = 1.0) -> list[str]:
    """Return the steps that ``signals`` carry out."""
    done: list[str] = []
    now = itertools.count(0.0, apart)

    def step(number: int) -> tuple[str, Callable[[], None]]:
        return f"step {number}", lambda: done.append(f"{number}")

    async def main() -> None:
        interrupts = Interrupts(lambda: next(now))
        interrupts.steps = [step(number) for number in range(steps)]
        async with anyio.create_task_group() as tasks:
            await tasks.start(interrupts.listen, tasks.cancel_scope)
            for number in signals:
                signal.raise_signal(number)
                for _ in range(20):  # turns of the event loop; the first one handles the signal
                    await anyio.lowlevel.checkpoint()
            tasks.cancel_scope.cancel()
        if interrupts._signals > steps:
            done.append("cancelled")

    anyio.run(main)
    return done


def test_each_signal_does_the_next_step(ended: list[int]) -> None:
    """Each signal carries out the next step, then everything is cancelled, and handlers are restored."""
    before = signal.getsignal(signal.SIGINT)
    assert listening(signal.SIGINT) == ["0"]
    assert listening(signal.SIGINT, signal.SIGTERM) == ["0", "1"]
    assert listening(signal.SIGINT, signal.SIGINT, steps=1) == ["0", "cancelled"]
    assert signal.getsignal(signal.SIGINT) is before
    assert ended == []


def test_the_third_starts_a_timer_and_the_fourth_exits(
    ended: list[int], monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """The third signal starts a timer for an orderly end; the fourth exits."""
    armed: list[bool] = []
    monkeypatch.setattr(stopping, "_arm", lambda: armed.append(True))
    interrupts = Interrupts(partial(next, itertools.count(0.0)))
    for _ in range(3):
        interrupts._count(None, signal.SIGINT, None)
    assert (armed, ended) == ([True], [])
    interrupts._count(None, signal.SIGINT, None)
    assert ended == [INTERRUPTED]
    assert "exited without a report" in capfd.readouterr().err


def test_the_end_that_is_armed_comes(ended: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    """The timer ends the process from a thread, because the main one may be blocked."""
    came = threading.Event()
    monkeypatch.setattr(stopping, "PATIENCE", 0.0)
    monkeypatch.setattr(stopping, "_end", came.set)
    stopping._arm()
    assert came.wait(10)


def test_a_burst_counts_as_one_signal(ended: list[int]) -> None:
    """Ten signals at once, as a supervisor may send them, count as one."""
    assert listening(*[signal.SIGINT] * 10, apart=0.1) == ["0"]
    assert ended == []


def test_what_was_printed_is_seen(ended: list[int], capsys: pytest.CaptureFixture[str]) -> None:
    """Ending the process at once flushes the output."""
    print("the report")
    end_at_once(3)
    assert ended == [3]
    assert capsys.readouterr().out == "the report\n"


def test_a_terminal_that_is_closed_is_a_wish_to_stop(ended: list[int]) -> None:
    """SIGHUP stops a run as SIGTERM does; under nohup it is ignored."""
    assert listening(signal.SIGHUP, signal.SIGTERM) == ["0", "1"]
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        assert listening(signal.SIGHUP, signal.SIGINT) == ["0"]
        assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)


@pytest.mark.parametrize("fails", [False, True])
def test_the_files_are_written_before_the_process_is_ended(ended: list[int], fails: bool) -> None:
    """Files are written before a forced exit, whether writing succeeds or fails."""
    written: list[bool] = []

    def write() -> None:
        written.append(True)
        assert not fails

    hook, threading.excepthook = threading.excepthook, lambda args: None
    try:
        with stopping.rescuing(write):
            stopping._end()
        stopping._end()
    finally:
        threading.excepthook = hook
    assert (written, ended) == ([True], [INTERRUPTED] * 2)
