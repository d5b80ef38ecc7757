"""Virtual time on both backends: once every task waits, the clock jumps to the next deadline."""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import anyio
import sniffio

__all__ = ["VirtualLoop", "block", "run_virtually", "settle"]

T = TypeVar("T")


class _Selector(selectors.DefaultSelector):
    """Never waits for time: if nothing is ready, the loop's clock jumps to its next timer."""

    loop: VirtualLoop

    def select(self, timeout: float | None = None) -> list[Any]:
        ready = super().select(0)
        if ready or timeout == 0:
            return ready
        if self.loop.wake_settled():
            return []
        if timeout is None:
            return super().select(None)
        self.loop.jump()
        return []


class VirtualLoop(asyncio.SelectorEventLoop):
    """An asyncio event loop on a virtual clock that starts at 0."""

    def __init__(self) -> None:
        self._now = 0.0
        self._idle: list[asyncio.Future[None]] = []
        selector = _Selector()
        selector.loop = self
        super().__init__(selector)

    def time(self) -> float:
        return self._now

    def block(self, seconds: float) -> None:
        """Advance the clock at once."""
        self._now += seconds

    def jump(self) -> None:
        """Move the clock to the next timer."""
        scheduled: list[asyncio.TimerHandle] = self._scheduled  # type: ignore[attr-defined]  # asyncio's own
        self._now = max(self._now, scheduled[0].when())

    def wake_settled(self) -> bool:
        """Wake the tasks that wait in `settled`; return False if there are none."""
        idle, self._idle = self._idle, []
        for future in idle:
            if not future.done():
                future.set_result(None)
        return bool(idle)

    async def settled(self) -> None:
        """Wait until no task can run at this instant."""
        future = self.create_future()
        self._idle.append(future)
        await future


async def settle() -> None:
    """Wait until every other task waits, without advancing time: `open_run`'s ``settle`` on either backend."""
    if sniffio.current_async_library() == "asyncio":
        loop = asyncio.get_running_loop()
        assert isinstance(loop, VirtualLoop)
        await loop.settled()
    else:
        await anyio.wait_all_tasks_blocked()


def block(seconds: float) -> None:
    """Take that many virtual seconds without awaiting, on either backend, as a blocking function does."""
    if sniffio.current_async_library() == "asyncio":
        loop = asyncio.get_running_loop()
        assert isinstance(loop, VirtualLoop)
        loop.block(seconds)
    else:
        import trio.lowlevel
        import trio.testing

        clock = trio.lowlevel.current_clock()
        assert isinstance(clock, trio.testing.MockClock)
        clock.jump(seconds)


def run_virtually(function: Callable[[], Awaitable[T]], backend: str = "trio") -> T:
    """Run an async function under virtual time, on ``"trio"`` (its MockClock) or ``"asyncio"`` (`VirtualLoop`).

    An hour of simulated latency costs only the time of the scheduler's own work. Raises ImportError for ``"trio"`` if
    trio is not installed (the extra ``flashgraph[trio]``).
    """
    if backend == "trio":
        from trio.testing import MockClock

        return anyio.run(function, backend="trio", backend_options={"clock": MockClock(autojump_threshold=0)})
    return anyio.run(function, backend="asyncio", backend_options={"loop_factory": VirtualLoop})
