"""How Ctrl-C, SIGTERM and SIGHUP end a run of the command line."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from types import FrameType
from typing import Any

import anyio

from flashgraph.cli.failures import INTERRUPTED
from flashgraph.text.terminal import flush, last_word, say

__all__ = ["Interrupts", "end_at_once", "rescuing", "say_aside"]

BURST = 0.3
"""Seconds within which several signals count as one: a supervisor may send a burst, a person cannot."""

SIGNALS = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name))
"""SIGHUP arrives when a terminal closes; it stops the run as SIGTERM does."""

LAST = 3
"""The number of signals that force the process to exit after `PATIENCE` seconds."""

PATIENCE = 5.0
"""Seconds that an orderly end may take after signal number `LAST`."""


class Interrupts:
    """At each signal, print the message of the next of `steps` and call it; cancel everything when no step is left.

    The process exits at the fourth signal, or `PATIENCE` seconds after the third, even if the user's code blocks or
    catches every exception.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self.tell: Callable[[str], None] = say_aside
        """Shows the message of a step; a live display replaces it by its own."""
        self.steps: list[tuple[str, Callable[[], None]]] = []
        self._signals = 0
        self._last = float("-inf")

    async def listen(self, scope: anyio.CancelScope, *, task_status: Any = anyio.TASK_STATUS_IGNORED) -> None:
        done = 0
        # Under nohup SIGHUP is ignored, and must stay ignored.
        wanted = [n for n in SIGNALS if n == signal.SIGINT or signal.getsignal(n) is not signal.SIG_IGN]
        with anyio.open_signal_receiver(*wanted) as signals, self._counted(wanted):
            task_status.started()
            async for _ in signals:
                if done == self._signals:
                    continue
                done += 1
                if not self.steps:
                    scope.cancel()
                    continue
                message, step = self.steps.pop(0)
                self.tell(message)
                step()

    @contextmanager
    def _counted(self, wanted: Sequence[signal.Signals]) -> Iterator[None]:
        """Count signals as they arrive, even while a function blocks the event loop."""
        before = {number: signal.getsignal(number) for number in wanted}
        for number, handler in before.items():
            signal.signal(number, partial(self._count, handler))
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _count(self, handler: Any, number: int, frame: FrameType | None) -> None:
        now = self._clock()
        burst, self._last = now - self._last < BURST, now
        if not burst:
            self._signals += 1
            if self._signals == LAST:
                _arm()
            elif self._signals > LAST:
                _end()
        if callable(handler):
            handler(number, frame)


def say_aside(message: str) -> None:
    """Print a message on stderr."""
    say(message, err=True)


def _arm() -> None:
    """End the process after `PATIENCE` seconds, unless it has ended by then."""
    timer = threading.Timer(PATIENCE, _end)
    timer.daemon = True
    timer.start()


RESCUES: list[Callable[[], None]] = []
"""Functions to call before the process is forced to exit."""


@contextmanager
def rescuing(write: Callable[[], None]) -> Iterator[None]:
    """Call ``write`` if the process is forced to exit inside the block."""
    RESCUES.append(write)
    try:
        yield
    finally:
        RESCUES.remove(write)


def _end() -> None:
    for write in RESCUES:
        # In its own thread, so that a disk that hangs delays the exit by `PATIENCE` at most.
        writing = threading.Thread(target=write, daemon=True)
        writing.start()
        writing.join(PATIENCE)
    last_word("exited without a report, because some work did not stop; `flashgraph resume` continues the run")
    os._exit(INTERRUPTED)


def end_at_once(code: int) -> None:
    """Flush the output and exit: a normal exit would wait for threads and tasks that never end."""
    flush()
    os._exit(code)
