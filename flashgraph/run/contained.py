"""Functions of the user's own while they run: none of them ends more than itself.

``sys.exit()`` in a score, ``quit()``, a ``KeyboardInterrupt`` that a function raises, ``loop.stop()``: each fails its
own job.  A Ctrl-C of the person at the keyboard is none of these, and goes on its way; so does a cancellation.

asyncio lets a `SystemExit` of any task out of the event loop, so that no other task can catch it.  Every task that is
begun inside of a job is therefore driven by a `Guarded` of its own, which the loop's task factory puts around it.
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
"""Seconds that a job, or a task that it has left behind, has to end in after it was cancelled; then it is abandoned."""

ABANDONED: list[Any] = []
"""Coroutines that are left suspended for ever: to let go of one would run it once more."""


class Escaped(FlashgraphError):
    """A function has raised what would have ended the whole process."""


@attrs.define(eq=False)
class Inside:
    """A job's function while it runs: ``what`` names it, ``floor`` is told how long it holds the event loop."""

    what: str
    floor: Floor
    cancelled: bool = False
    abandoned: bool = False
    guards: list[Guarded] = attrs.field(factory=list)
    """Of its tasks that have not ended."""

    def place(self) -> str:
        """The innermost line of the user's own at which its first task stands."""
        return self.guards[0].place() if self.guards else self.what

    def abandon(self) -> bool:
        """Leave its tasks suspended for ever where they stand, which the event loop then takes as ended.  False where
        that is not possible: trio ends no task whose scopes are open, and where a task factory of somebody else's is in
        place the tasks are not guarded."""
        if not self.guards or any(guard.task is None for guard in self.guards):
            return False
        self.abandoned = True
        for guard in self.guards:
            guard.leave()
        return True


INSIDE: ContextVar[Inside | None] = ContextVar("flashgraph.inside", default=None)


class Guarded(Coroutine[Any, Any, Any]):
    """Drives a coroutine of a job's: converts what it raises by `escaped`, measures how long each of its steps holds
    the event loop, and lets it wait where another one has held that for long."""

    def __init__(self, coro: Any, inside: Inside) -> None:
        self.coro = coro
        self.task: asyncio.Task[Any] | None = None
        """That it is all of, on asyncio."""
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
        # What event loops ask a coroutine for: its frame, its name, whether it was started.
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
                self._waits, value = self._let_on(), None
            try:
                return self._waits.send(value)
            except StopIteration:
                self._waits = None
            except BaseException as error:  # it is cancelled
                self._waits = None
                return self._step(self.coro.throw, error)

    async def _let_on(self) -> None:
        """Wait for the floor.  Raises the cancellation of the job."""
        # Else a deadline that has woken the task, as trio's sleep does it, would end this wait too.
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
        """The innermost line of the user's own at which it is suspended; else its own name."""
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
    """Begin a task of a job's."""
    token = INSIDE.set(inside)
    try:
        yield
    finally:
        INSIDE.reset(token)


@contextmanager
def contained(inside: Inside) -> Iterator[None]:
    """Call a function that is no coroutine.  Raises what that raises, by `escaped`."""
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
    """Return what a function of the user's own has raised, as the failure of that function alone; None for what is to
    go on as it is: an ordinary exception, a cancellation, a real Ctrl-C.

    Without ``cancelled`` nobody has cancelled the function, and a cancellation within a group is no reason to go on.
    """
    if isinstance(error, Exception):
        return None
    leaves = _leaves(error)
    if any(_is_interrupt(leaf) or (cancelled and _is_cancellation(leaf)) for leaf in leaves):
        return None
    # Of a group, what has ended it: the cancellations in it only follow from that.
    telling = [leaf for leaf in leaves if not _is_cancellation(leaf)] or leaves
    first = next((leaf for leaf in telling if not isinstance(leaf, Exception)), telling[0])
    if isinstance(first, Exception):
        return first
    said = described(first)
    for nothing in (": ", ": None", ": 0"):  # as of `exit()`
        said = said.removesuffix(nothing)
    failure = Escaped(f"{said} (it ends this job alone; fix: raise an Exception in its place)")
    return failure.with_traceback(error.__traceback__)


def reason(error: Exception) -> str:
    """Return why a function of the user's has failed that raised ``error``, without secrets of the environment."""
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
    """Return whether this is a Ctrl-C of the person at the keyboard."""
    return isinstance(error, KeyboardInterrupt) and not _own_interrupt(error)


def _own_interrupt(error: KeyboardInterrupt) -> bool:
    """Whether a statement of some function has raised it, and not a signal that came while the function ran."""
    at = error.__traceback__
    if at is None:
        return False
    while at.tb_next is not None:
        at = at.tb_next
    code = at.tb_frame.f_code
    raised = code.co_code[at.tb_lasti] in RAISES
    return raised and str(at.tb_frame.f_globals.get("__name__")) not in HANDLERS and code is not _handler()


def _handler() -> CodeType | None:
    """The code of what is called at a Ctrl-C."""
    handler: Any = signal.getsignal(signal.SIGINT)
    while isinstance(handler, partial):
        handler = handler.func
    return getattr(getattr(handler, "__func__", handler), "__code__", None)


GUARDS: set[Guarded] = set()
"""Of tasks that have not ended."""


async def swept(grace: float) -> None:
    """End the tasks that jobs have left behind in this event loop, which ends too: cancel them, and abandon those that
    do not end within ``grace`` seconds."""
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
