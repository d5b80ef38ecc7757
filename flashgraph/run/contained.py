"""Containment of the user's functions: none of them ends more than its own job.

``sys.exit()`` in a score, ``quit()``, ``loop.stop()`` or a ``KeyboardInterrupt`` that a function raises fails its own
job.  A real Ctrl-C and a cancellation pass through.

asyncio lets a `SystemExit` of any task out of the event loop, and no other task can catch it.  The loop's task factory
therefore wraps every task that starts inside of a job in a `Guarded`.
"""

from __future__ import annotations

import asyncio
import dis
import signal
import sys
from collections.abc import Coroutine, Generator, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import partial
from types import CodeType, TracebackType
from typing import Any

import anyio
import anyio.lowlevel
import attrs
import sniffio

from flashgraph.errors import FlashgraphError, described, is_own
from flashgraph.llm.secrets import without_secrets
from flashgraph.run.floor import Floor

__all__ = [
    "GRACE",
    "INSIDE",
    "Escaped",
    "Guarded",
    "Inside",
    "contained",
    "escaped",
    "reason",
    "swept",
    "within",
]

RAISES = {dis.opmap["RAISE_VARARGS"]}
HANDLERS = ("asyncio.runners", "trio._core._ki", "signal")
"""Modules whose code raises a `KeyboardInterrupt` for a real Ctrl-C."""

GRACE = 10.0
"""Seconds in which a cancelled job, or a task that it left behind, must end; after them it is abandoned."""

ABANDONED: list[Any] = []
"""Coroutines that stay suspended forever: freeing one would run it again."""


class Escaped(FlashgraphError):
    """A function has raised an error that would have ended the whole process."""


@attrs.define(eq=False)
class Inside:
    """A job's function while it runs: ``what`` names it, ``floor`` measures how long it holds the event loop."""

    what: str
    floor: Floor
    cancelled: bool = False
    abandoned: bool = False
    guards: list[Guarded] = attrs.field(factory=list)
    """The guards of its tasks that have not ended."""

    def place(self) -> str:
        """Return the innermost line of user code at which its first task is suspended."""
        return self.guards[0].place() if self.guards else self.what

    def abandon(self) -> bool:
        """Leave its tasks suspended forever; the event loop then counts them as ended.

        Return False if that is not possible: trio ends no task with open scopes, and under a foreign task factory the
        tasks are not guarded.
        """
        if not self.guards or any(guard.task is None for guard in self.guards):
            return False
        self.abandoned = True
        for guard in self.guards:
            guard.leave()
        return True


INSIDE: ContextVar[Inside | None] = ContextVar("flashgraph.inside", default=None)


class Guarded(Coroutine[Any, Any, Any]):
    """Drives a coroutine of a job.

    It converts raised errors by `escaped` and measures how long each step holds the event loop.  Before a step it waits
    if another function has held the loop for long.
    """

    def __init__(self, coro: Any, inside: Inside) -> None:
        self.coro = coro
        self.task: asyncio.Task[Any] | None = None
        """The task that runs it, on asyncio."""
        self.inside = inside
        self._waits: Coroutine[Any, Any, None] | None = None
        self._value: Any = None
        inside.guards.append(self)
        GUARDS.add(self)

    def __await__(self) -> Generator[Any, Any, Any]:
        return self

    def __iter__(self) -> Guarded:
        return self

    def __next__(self) -> Any:
        return self.send(None)

    def __getattr__(self, name: str) -> Any:
        # Event loops ask a coroutine for its frame, its name, and whether it was started.
        return getattr(self.coro, name)

    def send(self, value: Any) -> Any:
        if self._waits is None:
            self._value = value
        while True:
            if self.inside.abandoned:
                raise StopIteration
            if self._waits is None:
                if not self.inside.floor.held:
                    return self._step(self.coro.send, self._value)
                self._waits, value = self._wait_for_floor(), None
            try:
                return self._waits.send(value)
            except StopIteration:
                self._waits = None
            except BaseException as error:  # it is cancelled
                self._waits = None
                return self._step(self.coro.throw, error)

    async def _wait_for_floor(self) -> None:
        """Wait for the floor.  Raises the cancellation of the job."""
        # Otherwise a deadline that has woken the task, as in trio's sleep, would end this wait too.
        with anyio.CancelScope(shield=True):
            await self.inside.floor.wait()
        if self.inside.cancelled:
            await anyio.lowlevel.checkpoint()

    def throw(self, typ: Any, val: Any = None, tb: TracebackType | None = None) -> Any:
        error = typ if isinstance(typ, BaseException) else val if val is not None else typ()
        waits, self._waits = self._waits, None
        if waits is not None:
            waits.close()
        if self.inside.abandoned:
            raise StopIteration
        return self._step(self.coro.throw, error)

    def close(self) -> None:
        if self._waits is not None:
            self._waits.close()
        self._ended()
        self.coro.close()

    def leave(self) -> None:
        """See `Inside.abandon`."""
        assert self.task is not None
        ABANDONED.append(self.coro)
        self.task.cancel()

    def place(self) -> str:
        """Return the innermost line of user code at which it is suspended, or else its own name."""
        at: Any = self.coro
        found = getattr(at, "__qualname__", repr(at))
        while at is not None:
            frame = getattr(at, "cr_frame", None) or getattr(at, "gi_frame", None) or getattr(at, "ag_frame", None)
            if frame is not None and is_own(str(frame.f_globals.get("__name__", "")), frame.f_code.co_filename):
                found = f"{frame.f_code.co_name} ({frame.f_code.co_filename}, line {frame.f_lineno})"
            at = getattr(at, "cr_await", None) or getattr(at, "gi_yieldfrom", None)
        return str(found)

    def _step(self, resume: Any, argument: Any) -> Any:
        floor = self.inside.floor
        began = floor.enter(self.inside.what)
        try:
            return resume(argument)
        except StopIteration:
            self._ended()
            raise
        except BaseException as error:
            self._ended()
            if (failure := escaped(error)) is None:
                raise
            raise failure from error
        finally:
            floor.leave(began)

    def _ended(self) -> None:
        GUARDS.discard(self)
        if self in self.inside.guards:
            self.inside.guards.remove(self)


@contextmanager
def within(inside: Inside) -> Iterator[None]:
    """Start a task of a job inside of this block."""
    token = INSIDE.set(inside)
    try:
        yield
    finally:
        INSIDE.reset(token)


@contextmanager
def contained(inside: Inside) -> Iterator[None]:
    """Call a synchronous function of a job inside of this block.  Raises its errors, converted by `escaped`."""
    token = INSIDE.set(inside)
    began = inside.floor.enter(inside.what)
    try:
        yield
    except BaseException as error:
        if (failure := escaped(error)) is None:
            raise
        raise failure from error
    finally:
        inside.floor.leave(began)
        INSIDE.reset(token)


def escaped(error: BaseException, *, cancelled: bool = True) -> Exception | None:
    """Return an error that would end the process as the failure of one job.

    None if ``error`` passes through as it is: an ordinary exception, a cancellation or a real Ctrl-C.  With
    ``cancelled=False`` the job itself was not cancelled, and a cancellation in a group does not pass the group through.
    """
    if isinstance(error, Exception):
        return None
    leaves = _leaves(error)
    if any(_is_interrupt(leaf) or (cancelled and _is_cancellation(leaf)) for leaf in leaves):
        return None
    # The error that ended a group: the cancellations in it only follow from that error.
    telling = [leaf for leaf in leaves if not _is_cancellation(leaf)] or leaves
    first = next((leaf for leaf in telling if not isinstance(leaf, Exception)), telling[0])
    if isinstance(first, Exception):
        return first
    said = described(first)
    for nothing in (": ", ": None", ": 0"):  # from `exit()`
        said = said.removesuffix(nothing)
    failure = Escaped(f"{said} (it ends this job alone; fix: raise an Exception in its place)")
    return failure.with_traceback(error.__traceback__)


def reason(error: Exception) -> str:
    """Return the reason of a user function's failure with ``error``, without secrets of the environment."""
    return without_secrets(str(error) if isinstance(error, Escaped) else described(error))


def _leaves(error: BaseException) -> list[BaseException]:
    found, waiting = [], [error]
    while waiting:
        one = waiting.pop()
        if isinstance(one, BaseExceptionGroup):
            waiting += reversed(one.exceptions)
        else:
            found.append(one)
    return found


def _is_cancellation(error: BaseException) -> bool:
    trio = sys.modules.get("trio")
    return isinstance(error, asyncio.CancelledError) or (trio is not None and isinstance(error, trio.Cancelled))


def _is_interrupt(error: BaseException) -> bool:
    """Whether this is a real Ctrl-C."""
    return isinstance(error, KeyboardInterrupt) and not _own_interrupt(error)


def _own_interrupt(error: KeyboardInterrupt) -> bool:
    """Whether a statement raised it, and not a signal that came while the function ran."""
    at = error.__traceback__
    if at is None:
        return False
    while at.tb_next is not None:
        at = at.tb_next
    code = at.tb_frame.f_code
    raised = code.co_code[at.tb_lasti] in RAISES
    return raised and str(at.tb_frame.f_globals.get("__name__")) not in HANDLERS and code is not _handler()


def _handler() -> CodeType | None:
    """Return the code of the handler of Ctrl-C."""
    handler: Any = signal.getsignal(signal.SIGINT)
    while isinstance(handler, partial):
        handler = handler.func
    return getattr(getattr(handler, "__func__", handler), "__code__", None)


GUARDS: set[Guarded] = set()
"""The guards of tasks that have not ended."""


async def swept(grace: float) -> None:
    """Cancel the tasks that jobs have left behind in this event loop, before it ends.

    Tasks that do not end within ``grace`` seconds are abandoned.
    """
    if sniffio.current_async_library() != "asyncio":
        return
    loop = asyncio.get_running_loop()
    left = [g for g in GUARDS if g.task is not None and g.task.get_loop() is loop and not g.task.done()]
    if not left:
        return
    tasks = [guard.task for guard in left if guard.task is not None]
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks, timeout=grace)
    for guard in left:
        if guard.task is not None and not guard.task.done():
            guard.inside.abandon()
