"""The handle of a run in progress."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from typing import TYPE_CHECKING, Any

import anyio

from flashgraph.run.cause import Cause, End

if TYPE_CHECKING:
    from flashgraph.run.events import Event
    from flashgraph.run.journal.examined import Examined
    from flashgraph.run.result import Result
    from flashgraph.run.spool import EventLog

__all__ = ["Run"]


class Run:
    """A run in progress: iterate over its events, or wait for `result`.

    Iterating yields every event from the first one on. If the ``open_run`` block ends before the run does, the run is
    cancelled, and `result` holds what it reached. `wait` raises the error that ended the run, and so does the
    iteration, after the last event. If the caller used neither, the end of the block raises it.
    """

    def __init__(
        self,
        driver: Any,
        events: EventLog,
        task: str,
        prices: Mapping[str, Mapping[str, Any]],
        examined: Examined | None = None,
        memory: Any = None,
    ) -> None:
        self._driver = driver
        self.memory = memory
        """The store of the run's turns: its journal, or what `open_run`'s ``memory`` returned."""
        self.examined = examined
        """The store of the held-out test's calls; None for a run without a folder."""
        self._events = events
        self._task = task
        self._prices = prices
        self._more: anyio.Event | None = None
        """Set while a caller waits for the next event."""
        self._end = anyio.Event()
        self._over = False
        self._ended: float | None = 0.0
        self._error: Exception | None = None
        self._unraised = True
        """Whether the error still has to be raised to a caller."""

    @property
    def machine(self) -> Any:
        """The scheduler's state, for viewers; read it, never change it."""
        return self._driver.machine

    @property
    def resources(self) -> Mapping[str, Any]:
        """The resources that the run holds open for its stages, by name."""
        found: Mapping[str, Any] = self._driver.resources
        return found

    @property
    def abandoned(self) -> tuple[str, ...]:
        """The jobs that did not end when they were cancelled, each with the line where it was."""
        return tuple(self._driver.abandoned)

    @property
    def elapsed(self) -> float:
        """Seconds since the run began, on its own clock; it stops when the run ends."""
        return float(self._driver.elapsed) if self._ended is None else self._ended

    @property
    def result(self) -> Result:
        """The result so far; final once the run has ended."""
        from flashgraph.run.result import Result

        return Result.of(self._driver.machine, self._task, self.elapsed, self._events.view(), self._prices)

    def drain(self, reason: str = "stopped by the caller") -> None:
        """Start no new work, and end with status ``"stopped"`` when running work has ended; the run can be resumed."""
        self._driver.drain(End("stopped", Cause.CALLER, reason))

    def stop(self, reason: str = "stopped by the caller") -> None:
        """Cancel running work, and end with status ``"cancelled"``; admitted artifacts stay."""
        self._driver.stop(End("cancelled", Cause.CALLER, reason))

    async def wait(self) -> Result:
        """Wait for the end of the run and return its result."""
        await self._end.wait()
        self._raise()
        return self.result

    async def __aiter__(self) -> AsyncIterator[Event]:
        seen = 0
        while True:
            while seen < len(self._events):
                yield self._events[seen]
                seen += 1
            if self._over:
                self._raise()
                return
            if self._more is None:
                self._more = anyio.Event()
            await self._more.wait()

    def _raise(self) -> None:
        """Raise the error that ended the run, if there is one."""
        if self._error is not None:
            self._unraised = False
            raise self._error

    @property
    def unraised(self) -> Exception | None:
        """The error that ended the run, if it was not raised to a caller yet."""
        return self._error if self._unraised else None

    def publish(self) -> None:
        """Wake the callers that wait for events."""
        more, self._more = self._more, None
        if more is not None:
            more.set()

    async def drive(self) -> None:
        """Drive the run to its end."""
        self._ended = None
        try:
            await self._driver.run()
        except Exception as error:
            self._error = error
        finally:
            self._over, self._ended = True, float(self._driver.elapsed)
            self._end.set()
            self.publish()
