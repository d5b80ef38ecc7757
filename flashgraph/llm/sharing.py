"""Resources that several runs hold at once through one model object: made by the first, closed by the last."""

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
    """What one event loop holds.  ``turn`` is taken by who makes or closes it; ``users`` counts who has it or waits."""

    turn: anyio.Lock = attrs.field(factory=anyio.Lock)
    users: int = 0
    manager: AbstractAsyncContextManager[T] | None = None
    value: T | None = None


@attrs.define(eq=False)
class Shared(Generic[T]):
    """A resource for as long as somebody holds it, one for each event loop: what belongs to a loop works in no other.

    Who comes first makes it, and who leaves last closes it, so that a run which ends takes it from no other run.
    """

    _held: dict[Any, _Held[T]] = attrs.field(factory=dict)
    _lock: threading.Lock = attrs.field(factory=threading.Lock)
    """Of ``_held``: event loops may be in several threads."""

    @property
    def value(self) -> T | None:
        """What this event loop holds; None if it holds nothing."""
        held = self._held.get(anyio.lowlevel.current_token())
        return held.value if held is not None else None

    @asynccontextmanager
    async def hold(self, make: Callable[[], AbstractAsyncContextManager[T]]) -> AsyncIterator[T]:
        """Hold the resource, which ``make`` makes if nobody holds it.

        Raises what making raises; who waited for it meanwhile makes it anew.
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
            yield held.value  # type: ignore[misc]  # it is there, since the manager is
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
        # It is free: who makes it is a user, and there are none.  Who comes from now on waits until it is closed.
        held.turn.acquire_nowait()
        try:
            await manager.__aexit__(None, None, None)
        finally:
            held.turn.release()
            with self._lock:
                if not held.users and held.manager is None:
                    self._held.pop(loop, None)
