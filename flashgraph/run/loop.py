"""Guard the event loop of a run against what jobs do to it.

A job may not stop the loop or change it for all jobs, and no callback of a job ends it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from typing import Any, TypeVar
from weakref import WeakKeyDictionary

import anyio
import sniffio

from flashgraph.errors import FlashgraphError
from flashgraph.run.contained import INSIDE, Escaped, Guarded, escaped

__all__ = ["guarded_loop", "loop_clock", "run_alone"]

T = TypeVar("T")


def run_alone(function: Callable[[], Awaitable[T]], backend: str) -> T:
    """Run an async function in an event loop of its own, and return its result.

    Raises `FlashgraphError` if a job has cancelled the tasks of the run itself.
    """
    try:
        return anyio.run(function, backend=backend)
    except asyncio.CancelledError as error:
        raise FlashgraphError(
            "the run was cancelled by a function that it called, for example one that cancels "
            "all of `asyncio.all_tasks()`."
            "\nFix: let the function cancel only tasks that it has begun; a run that has a folder can be resumed."
        ) from error


def loop_clock() -> Callable[[], float]:
    """Return the clock of the running event loop, which is read at each step of each job, so it must be fast."""
    if sniffio.current_async_library() == "asyncio":
        return asyncio.get_running_loop().time
    return anyio.current_time


_runs: WeakKeyDictionary[asyncio.AbstractEventLoop, int] = WeakKeyDictionary()
"""By event loop, the number of its runs."""


@contextmanager
def guarded_loop() -> Iterator[bool]:
    """Guard the tasks of jobs in the running event loop, and guard the loop against ``stop()`` by a job.

    The block receives whether the tasks are guarded, which is not possible on trio.
    """
    if sniffio.current_async_library() != "asyncio":
        yield False
        return
    loop = asyncio.get_running_loop()
    _runs[loop] = _runs.get(loop, 0) + 1
    if _runs[loop] == 1:
        _guard(loop)
    try:
        yield loop.get_task_factory() is _begin
    finally:
        _runs[loop] -= 1
        if not _runs[loop]:
            del _runs[loop]
            for name in (*REFUSED, *CALLING):
                with suppress(AttributeError):
                    delattr(loop, name)  # the guard: the class's own is there again
            if loop.get_task_factory() is _begin:
                loop.set_task_factory(None)


REFUSED = (
    "stop", "close", "set_task_factory", "set_exception_handler", "set_default_executor", "add_signal_handler",
    "remove_signal_handler",
)  # fmt: skip
"""Methods of an event loop that change it for all jobs."""

CALLING = {"call_soon": 0, "call_soon_threadsafe": 0, "call_at": 1, "add_reader": 1, "add_writer": 1}
"""Methods of an event loop that take a callback, and at which place.  The others call these."""


def _guard(loop: asyncio.AbstractEventLoop) -> None:
    if loop.get_task_factory() is None:  # one of the user's own stays, and their tasks are not guarded
        loop.set_task_factory(_begin)
    with suppress(AttributeError):  # of a loop that is no Python object
        for name in REFUSED:
            setattr(loop, name, _refusing(name, getattr(loop, name)))
        for name, place in CALLING.items():
            setattr(loop, name, _containing(place, getattr(loop, name)))


def _refusing(name: str, method: Callable[..., Any]) -> Callable[..., Any]:
    def guarded(*given: Any, **named: Any) -> Any:
        if INSIDE.get() is not None:
            raise Escaped(f"loop.{name}() is not for a job to call: other jobs run in the loop (fix: leave it out)")
        return method(*given, **named)

    return guarded


def _containing(place: int, method: Callable[..., Any]) -> Callable[..., Any]:
    """Let no callback of a job end the event loop, which asyncio ends for a SystemExit and a KeyboardInterrupt."""

    def guarded(*given: Any, **named: Any) -> Any:
        context = named.get("context")
        if (INSIDE.get() if context is None else context.get(INSIDE)) is not None and len(given) > place:
            given = (*given[:place], partial(_called, given[place]), *given[place + 1 :])
        return method(*given, **named)

    return guarded


def _called(callback: Callable[..., Any], *given: Any) -> None:
    try:
        callback(*given)
    except BaseException as error:
        if (failure := escaped(error)) is None:
            raise
        raise failure from error  # which the event loop logs


def _begin(loop: asyncio.AbstractEventLoop, coro: Any, **options: Any) -> asyncio.Task[Any]:
    """The loop's task factory."""
    inside = INSIDE.get()
    if inside is None or not asyncio.iscoroutine(coro):
        return asyncio.Task(coro, loop=loop, **options)
    guard = Guarded(coro, inside)
    guard.task = asyncio.Task(guard, loop=loop, **options)
    return guard.task
