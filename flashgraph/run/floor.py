"""Functions that block the event loop: they are named in a warning, and other tasks run between two of them.

While a function computes or waits without awaiting, nothing else runs: no request is read, no Ctrl-C is processed, no
deadline is kept.  The delays of several blocking functions in a row would add up, for example of all members of a new
group.
"""

from __future__ import annotations

import logging
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

import anyio
import attrs

from flashgraph.errors import is_own

__all__ = ["Floor"]

LONG = 0.05
"""Seconds after which other tasks run before the next function."""

WARNED = 0.5
"""Seconds after which a function that has returned is named in a warning."""

STILL = 5.0
"""Seconds after which a function that has not returned is named in a warning."""

TICK = 0.2
"""Seconds between two looks at the event loop."""

_log = logging.getLogger("flashgraph")


@attrs.define
class _Slow:
    """The total of seconds for which a function held the event loop, and the total at the next warning."""

    times: int = 0
    seconds: float = 0.0
    next: float = 0.0


class Floor:
    """The right to run on the event loop, in one run.

    ``clock`` is the event loop's.  ``wake`` makes the run call `release` soon; without it functions never wait, and are
    only named in warnings.
    """

    def __init__(self, clock: Callable[[], float], wake: Callable[[], None] | None = None) -> None:
        self.held = False
        """Whether a function has held the floor for long since the last release."""
        self._clock = clock
        self._wake = wake
        self._free = anyio.Event()
        self._thread = threading.get_ident()
        self._what = ""
        self._since: float | None = None
        self._seen: tuple[float, str] | None = None
        """When the present function took the floor, and the user's function that was seen running since."""
        self._warned: float | None = None
        """When the function took the floor that was last named in a warning before it returned."""
        self._slow: dict[str, _Slow] = {}

    def enter(self, what: str) -> float:
        """Give the floor to a function and return the time for `leave`.

        ``what`` names the function if no function of the user's is seen running.
        """
        self._what, self._since = what, time.monotonic()
        return self._clock()

    def leave(self, began: float) -> None:
        """Take the floor from a function that has returned, or awaits something."""
        since, self._since = self._since, None
        took = self._clock() - began
        if took < LONG:
            return
        if self._wake is not None:
            self.held = True
            self._wake()
        if took >= WARNED:
            seen, self._seen = self._seen, None
            self._warn(seen[1] if seen is not None and seen[0] == since else self._what, took)

    async def wait(self) -> None:
        """Wait for the floor to be released."""
        await self._free.wait()

    def release(self) -> None:
        """Let the waiting functions continue: other tasks have run."""
        if self.held:
            self.held = False
            free, self._free = self._free, anyio.Event()
            free.set()

    @contextmanager
    def watched(self) -> Iterator[None]:
        """Look from a thread, at intervals, at the function that holds the floor."""
        over = threading.Event()

        def watch() -> None:
            while not over.wait(TICK):
                self.look()

        threading.Thread(target=watch, name="flashgraph: who holds the event loop", daemon=True).start()
        try:
            yield
        finally:
            over.set()

    def look(self) -> None:
        """Note the user's function that holds the floor, if it has held it for a moment."""
        since = self._since
        if since is None or (held := time.monotonic() - since) < TICK / 2:
            return
        place = _place(sys._current_frames().get(self._thread))
        if place is None or self._since != since:
            return
        self._seen = (since, place)
        if held >= STILL and self._warned != since:
            self._warned = since
            _log.warning("%s has held the event loop for %.0f s, and still does: nothing else runs", place, held)

    def _warn(self, place: str, took: float) -> None:
        slow = self._slow.setdefault(place, _Slow())
        slow.times += 1
        slow.seconds += took
        if slow.seconds < slow.next:
            return
        slow.next = 4 * slow.seconds
        often = f" ({slow.times} times, {slow.seconds:.1f} s in all)" if slow.times > 1 else ""
        _log.warning(
            "%s held the event loop for %.1f s%s: no request, Ctrl-C or deadline was served meanwhile.\n"
            "Fix: run it in a thread, or in a process if it computes: fg.Task(..., runs='thread') for a score, "
            "@graph.stage(runs='thread') for a stage; in an async function, await anyio.to_thread.run_sync(...).",
            place, took, often,
        )  # fmt: skip


def _place(frame: FrameType | None) -> str | None:
    """Return the innermost function of the user's on a stack, and the line of its definition."""
    while frame is not None:
        code = frame.f_code
        if is_own(str(frame.f_globals.get("__name__", "")), code.co_filename):
            return f"{code.co_name} ({code.co_filename}, line {code.co_firstlineno})"
        frame = frame.f_back
    return None
