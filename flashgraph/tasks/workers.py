"""Run a user's function on the event loop, in a thread, or in a process."""

from __future__ import annotations

import contextvars
import inspect
import os
import pickle
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import cache, partial
from typing import Any, Literal, get_args

import anyio
import anyio.from_thread
import anyio.lowlevel
import anyio.to_process
import cloudpickle
import sniffio

from flashgraph.errors import DataError, described, did_you_mean

__all__ = ["PLACES", "Runs", "TookTooLong", "from_any_thread", "is_async", "place_named", "run_in"]

Runs = Literal["loop", "thread", "process"]
PLACES: tuple[Runs, ...] = get_args(Runs)

_limiters: anyio.lowlevel.RunVar[dict[tuple[str, int], anyio.CapacityLimiter]] = anyio.lowlevel.RunVar(
    "flashgraph.workers"
)


def place_named(what: str, place: object) -> Runs:
    """Return ``place`` if it is one of `PLACES`. Otherwise raise `DataError` that names ``what``."""
    for known in PLACES:
        if place == known:
            return known
    raise DataError(
        f"{what}: runs={place!r}; expected one of {', '.join(PLACES)}.\nFix: {did_you_mean(str(place), PLACES)}"
    )


def is_async(function: Callable[..., Any]) -> bool:
    """Return whether calling ``function`` gives a coroutine; partials and objects with ``__call__`` count too."""
    while isinstance(function, partial):
        function = function.func
    return inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(getattr(function, "__call__", None))  # noqa: B004


class TookTooLong(TimeoutError):
    """A function that `run_in` called took longer than its time limit."""


async def run_in(
    place: Runs, workers: int, function: Callable[..., Any], *arguments: Any, seconds: float | None = None
) -> Any:
    """Call ``function`` in ``place`` and return its result, awaited if it is awaitable.

    At most ``workers`` calls run at once in threads, and as many in processes. A thread has a copy of the context
    variables. It cannot be ended: if the caller is cancelled, the thread continues alone, and its result is dropped. A
    process is killed. Functions, arguments and results go to a process by cloudpickle, so that they may come from a
    file that the process cannot import.

    ``seconds`` limits a call, counted from its start, without the wait for a free thread or process. After that it
    raises `TookTooLong`. Raises `RuntimeError` if a process ends by itself, and what the function raises. An exception
    that cannot be pickled becomes a `RuntimeError` with its text.
    """
    if place == "loop" or is_async(function):
        with _time_limit(seconds):
            made = function(*arguments)
            return await made if inspect.isawaitable(made) else made
    limiter, borrower = _limiter(place, workers), object()
    await limiter.acquire_on_behalf_of(borrower)
    with _time_limit(seconds):
        try:
            made = await (_in_thread if place == "thread" else _in_process)(function, arguments)
        finally:
            limiter.release_on_behalf_of(borrower)
        return await made if inspect.isawaitable(made) else made


@contextmanager
def _time_limit(seconds: float | None) -> Iterator[None]:
    with anyio.move_on_after(seconds) as scope:
        yield
    if scope.cancelled_caught:
        raise TookTooLong(f"it took longer than {seconds:g} s")


async def _in_thread(function: Callable[..., Any], arguments: tuple[Any, ...]) -> Any:
    """Call a function in a daemon thread: Python and the event loop wait for other threads when they end.

    The exception is raised by this coroutine itself. A future would throw it in, and a thrown `GeneratorExit` closes
    the coroutines above without their handlers.
    """
    token, ended, context = anyio.lowlevel.current_token(), anyio.Event(), contextvars.copy_context()
    context.run(sniffio.current_async_library_cvar.set, None)
    results: list[tuple[Any, BaseException | None]] = []

    def work() -> None:
        try:
            results.append((function(*arguments), None))
        except BaseException as error:
            results.append((None, error))
        with suppress(RuntimeError):  # the event loop has ended without this thread
            anyio.from_thread.run_sync(ended.set, token=token)

    threading.Thread(target=context.run, args=(work,), name="flashgraph-worker", daemon=True).start()
    await ended.wait()
    value, error = results[0]
    if isinstance(error, StopIteration):
        raise RuntimeError("the function raised StopIteration") from error
    if error is not None:
        raise error
    return value


async def _in_process(function: Callable[..., Any], arguments: tuple[Any, ...]) -> Any:
    with _by_value():
        call = cloudpickle.dumps((function, arguments))
    try:
        # `run_in` has limited the number of processes.
        answer = await anyio.to_process.run_sync(_called, call, cancellable=True, limiter=anyio.CapacityLimiter(1))
    except anyio.BrokenWorkerProcess as error:
        raise RuntimeError(
            "its process ended before it returned: os._exit, a crash, a kill, or too little memory"
        ) from error
    raised, value = pickle.loads(answer)
    if raised is not None:
        raise raised
    return value


def _limiter(kind: str, workers: int) -> anyio.CapacityLimiter:
    """Return the limiter that all calls of this event loop with this number of workers share."""
    found = _limiters.get({})
    limiter = found.get((kind, workers))
    if limiter is None:
        limiter = found[kind, workers] = anyio.CapacityLimiter(workers)
        _limiters.set(found)
    return limiter


class _by_value:
    """Pickle by value the modules that were loaded from files: a worker process cannot import them by name."""

    def __enter__(self) -> None:
        self._modules = [m for name, m in sys.modules.items() if name.startswith("flashgraph_file_")]
        for module in self._modules:
            cloudpickle.register_pickle_by_value(module)

    def __exit__(self, *_: object) -> None:
        for module in self._modules:
            cloudpickle.unregister_pickle_by_value(module)


def _called(call: bytes) -> bytes:
    """Run a pickled call in a worker process; return its pickled exception and result."""
    _settle(os.getppid())
    with _without_channel():
        try:
            function, arguments = pickle.loads(call)
            return bytes(cloudpickle.dumps((None, function(*arguments))))
        except Exception as error:
            return _raised(error)
        except BaseException as error:  # sys.exit() fails this call alone
            return _raised(RuntimeError(described(error)))


@cache
def _settle(parent: int) -> None:
    """Let the process that started this worker decide when it ends: not Ctrl-C, which every process of a terminal gets.

    The worker ends when that process does, also in the middle of a function.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(1)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


@contextmanager
def _without_channel() -> Iterator[None]:
    """Point stdin and stdout to the null device: they are the channel to the caller.

    A program that the function starts inherits them. The caller would take its output as a reply, and it would wait for
    input forever.
    """
    kept = [os.dup(number) for number in (0, 1)]
    nowhere = os.open(os.devnull, os.O_RDWR)
    try:
        for number in (0, 1):
            os.dup2(nowhere, number)
        yield
    finally:
        for number, channel in enumerate(kept):
            os.dup2(channel, number)
            os.close(channel)
        os.close(nowhere)


def _raised(error: Exception) -> bytes:
    try:
        found = cloudpickle.dumps((error, None))
        pickle.loads(found)  # some exceptions can be pickled but not unpickled
    except Exception:
        found = cloudpickle.dumps((RuntimeError(described(error)), None))
    return bytes(found)


def from_any_thread(llm: Callable[..., Any]) -> Callable[..., Any]:
    """Return ``llm`` for functions that may run in a thread, where a call blocks and returns the reply."""
    loop, token, context = threading.get_ident(), anyio.lowlevel.current_token(), contextvars.copy_context()

    def call(*messages: Any, **params: Any) -> Any:
        if threading.get_ident() == loop:
            return llm(*messages, **params)
        # Threads that the function has started itself have none of the job's context variables.
        asked = partial(anyio.from_thread.run, partial(llm, *messages, **params), token=token)
        return context.copy().run(asked)

    return call
