"""Virtual time on both backends: sleeping jumps to the next deadline once every task waits."""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import anyio

__all__ = ["VirtualLoop", "run_virtually"]

T = TypeVar("T")


class _Selector(selectors.DefaultSelector):  # type: ignore[misc, valid-type]  # chosen by the platform
    """Never waits: the time that `select` was to wait is added to the loop's clock instead."""

    now = 0.0

    def select(self, timeout: float | None = None) -> list[Any]:
        ready = super().select(0)
        if not ready and timeout:
            self.now += timeout
        elif not ready and timeout is None:
            ready = super().select(None)
        return ready


class VirtualLoop(asyncio.SelectorEventLoop):
    """An asyncio event loop on a virtual clock that starts at 0."""

    def __init__(self) -> None:
        self._virtual = _Selector()
        super().__init__(self._virtual)

    def time(self) -> float:
        return self._virtual.now


def run_virtually(function: Callable[[], Awaitable[T]], backend: str = "trio") -> T:
    """Run an async function under virtual time, on ``"trio"`` (its MockClock) or ``"asyncio"`` (`VirtualLoop`)."""
    if backend == "trio":
        from flashgraph.sim.virtual import run_virtually as on_trio

        return on_trio(function)
    return anyio.run(function, backend="asyncio", backend_options={"loop_factory": VirtualLoop})
