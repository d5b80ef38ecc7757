"""A run's hook: a function that is called with every event, until it raises or holds the run up."""

from __future__ import annotations

import logging
from collections.abc import Callable

import anyio

from flashgraph.run.contained import escaped
from flashgraph.run.events import Event

__all__ = ["Hook"]

SECONDS = 5.0
"""Seconds that a hook may use in total, beside its `SHARE` of the run's time."""

SHARE = 0.05

_log = logging.getLogger("flashgraph")


class Hook:
    """Calls a function with events, on the event loop between two turns, so that the machine is at rest.

    Everything waits until it returns.  A function that raises, or takes too much of the run's time, is dropped.
    """

    def __init__(self, call: Callable[[Event], None]) -> None:
        self._call: Callable[[Event], None] | None = call
        self._took = 0.0

    def tell(self, event: Event) -> None:
        """Call the function with an event."""
        if self._call is None:
            return
        began = anyio.current_time()
        try:
            self._call(event)
        except BaseException as error:
            if not isinstance(error, Exception) and escaped(error, cancelled=False) is None:
                raise  # Ctrl-C
            self._call = None
            _log.exception("on_event raised and is not called again; the run goes on")
            return
        self._took += anyio.current_time() - began
        if self._took > SECONDS + SHARE * event.at:
            self._call = None
            _log.warning(
                "on_event has taken %.1f s, for which the run had to wait, and is not called again; the run goes on. "
                "Fix: iterate over the run in a task of its own, which may take its time: async for event in run.",
                self._took,
            )
