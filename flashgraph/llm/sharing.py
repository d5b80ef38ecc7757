"""Resources that several runs share through one model object: the first user creates them, the last one closes them."""

from __future__ import annotations

import threading
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any, Generic, TypeVar

import anyio
import anyio.lowlevel
import attrs

__all__ = ["Shared"]

T = TypeVar("T")


@attrs.define(eq=False)
class _Held(Generic[T]):
    """The resource of one event loop.  ``turn`` is held while it is made or closed; ``users`` hold or await it."""

    turn: anyio.Lock = attrs.field(factory=anyio.Lock)
    users: int = 0
    manager: AbstractAsyncContextManager[T] | None = None
    value: T | None = None


@attrs.define(eq=False)
class Shared(Generic[T]):
    """A resource that exists while it has users, one for each event loop, because it works in no other loop.

    The first user creates it and the last one closes it, so that a run that ends does not take it from another run.
    """

    _held: dict[Any, _Held[T]] = attrs.field(factory=dict)
    _lock: threading.Lock = attrs.field(factory=threading.Lock)
    """Guards ``_held``: event loops may run in several threads."""

    @property
    def value(self) -> T | None:
        """Return the resource of this event loop; None if there is none."""
        held = self._held.get(anyio.lowlevel.current_token())
        return held.value if held is not None else None

    @asynccontextmanager
    async def hold(self, make: Callable[[], AbstractAsyncContextManager[T]]) -> AsyncIterator[T]:
        """Hold the resource; ``make`` creates it if there is none.

        Raises what ``make`` raises; users that waited for it then create it themselves.
        """
        loop = anyio.lowlevel.current_token()
        with self._lock:
            held = self._held.setdefault(loop, _Held())
            held.users += 1
        try:
            async with held.turn:
                if held.manager is None:
                    manager = make()
                    held.value = await manager.__aenter__()
                    held.manager = manager
            yield held.value  # type: ignore[misc]  # it is set, because the manager is
        finally:
            await self._leave(loop, held)

    async def _leave(self, loop: Any, held: _Held[T]) -> None:
        with self._lock:
            held.users -= 1
            last, manager = not held.users, held.manager
            if last and manager is None:
                self._held.pop(loop, None)
        if not last or manager is None:
            return
        held.manager = held.value = None
        # The lock is free, because only users take it, and there are none.  New users wait until this is closed.
        held.turn.acquire_nowait()
        try:
            await manager.__aexit__(None, None, None)
        finally:
            held.turn.release()
            with self._lock:
                if not held.users and held.manager is None:
                    self._held.pop(loop, None)
