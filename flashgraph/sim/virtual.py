"""Running under a virtual clock: an hour of simulated latency takes the time that the scheduler's own work takes."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeVar

import anyio

__all__ = ["run_virtually"]

T = TypeVar("T")


def run_virtually(function: Callable[[], Awaitable[T]]) -> T:
    """Run an async function on trio's MockClock, which jumps to the next deadline whenever all tasks wait.

    Raises ImportError without trio (the extra ``flashgraph[trio]``).
    """
    from trio.testing import MockClock

    return anyio.run(function, backend="trio", backend_options={"clock": MockClock(autojump_threshold=0)})
