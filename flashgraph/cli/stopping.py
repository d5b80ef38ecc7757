"""Ctrl-C, SIGTERM and SIGHUP, and the ways in which a run of the command line ends by them."""

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

__all__ = ["Interrupts", "end_at_once", "rescuing"]

BURST = 0.3
"""Seconds within which several signals are one: a supervisor may send them in a burst, a person cannot."""

SIGNALS = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name))
"""A terminal that is closed is a wish to stop, as SIGTERM is."""

LAST = 3
"""The signal that ends the process whatever it does."""

PATIENCE = 5.0
"""Seconds that an orderly end has after the last signal."""


class Interrupts:
    """Each signal does what the next of `steps` says at that moment, with a line about it; when none is left,
    everything is cancelled.  Where that does not end the process soon after the third, or a fourth comes, the process
    exits: a function that catches everything, or blocks, cannot keep it."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self.steps: list[tuple[str, Callable[[], None]]] = []
        self._heard = 0
        self._last = float("-inf")

    async def listen(self, scope: anyio.CancelScope, *, task_status: Any = anyio.TASK_STATUS_IGNORED) -> None:
        done = 0
        # nohup has SIGHUP ignored, which stays so.
        wanted = [n for n in SIGNALS if n == signal.SIGINT or signal.getsignal(n) is not signal.SIG_IGN]
        with anyio.open_signal_receiver(*wanted) as signals, self._counted(wanted):
            task_status.started()
            async for _ in signals:
                if done == self._heard:
                    continue
                done += 1
                if not self.steps:
                    scope.cancel()
                    continue
                said, step = self.steps.pop(0)
                say(said, err=True)
                step()

    @contextmanager
    def _counted(self, wanted: Sequence[signal.Signals]) -> Iterator[None]:
        """Count signals when they come, also while a function holds the event loop."""
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
            self._heard += 1
            if self._heard == LAST:
                _arm()
            elif self._heard > LAST:
                _end()
        if callable(handler):
            handler(number, frame)


def _arm() -> None:
    """End the process after a while, if it still goes on."""
    timer = threading.Timer(PATIENCE, _end)
    timer.daemon = True
    timer.start()


RESCUES: list[Callable[[], None]] = []
"""What is done before the process is ended whatever it does."""


@contextmanager
def rescuing(write: Callable[[], None]) -> Iterator[None]:
    """Call ``write`` where the process has to be ended meanwhile: it writes what there is."""
    RESCUES.append(write)
    try:
        yield
    finally:
        RESCUES.remove(write)


def _end() -> None:
    for write in RESCUES:
        # In a thread of its own: a disk that does not answer holds nothing up for long.
        writing = threading.Thread(target=write, daemon=True)
        writing.start()
        writing.join(PATIENCE)
    last_word("ended without a report: something does not stop; `flashgraph resume` goes on with what is kept")
    os._exit(INTERRUPTED)


def end_at_once(code: int) -> None:
    """End the process at once, with what was printed: Python would wait for threads and tasks that never end."""
    flush()
    os._exit(code)
