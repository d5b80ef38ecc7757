"""Run a user's function on the event loop, in a thread, or in a process."""

from __future__ import annotations

import inspect
import pickle
import sys
import threading
from collections.abc import Callable
from functools import partial
from typing import Any, Literal, get_args

import anyio
import anyio.from_thread
import anyio.lowlevel
import anyio.to_process
import anyio.to_thread
import cloudpickle

from flashgraph.errors import DataError, described, did_you_mean

__all__ = ["PLACES", "Runs", "from_any_thread", "is_async", "place_named", "run_in"]

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


async def run_in(place: Runs, workers: int, function: Callable[..., Any], *arguments: Any) -> Any:
    """Call ``function`` in ``place`` and return its result, awaited if it is awaitable.

    At most ``workers`` calls run at once in threads, and as many in processes. A thread has a copy of the context
    variables. It cannot be ended: if the caller is cancelled, the thread continues alone, and its result is dropped. A
    process is killed. Functions, arguments and results go to a process by cloudpickle, so that they may come from a
    file that the process cannot import.

    Raises what the function raises; an exception that cannot be pickled becomes a `RuntimeError` with its text.
    """
    if place == "loop" or is_async(function):
        made = function(*arguments)
    elif place == "thread":
        made = await anyio.to_thread.run_sync(
            partial(function, *arguments), abandon_on_cancel=True, limiter=_limiter("thread", workers)
        )
    else:
        with _by_value():
            call = cloudpickle.dumps((function, arguments))
        raised, value = pickle.loads(
            await anyio.to_process.run_sync(_called, call, cancellable=True, limiter=_limiter("process", workers))
        )
        if raised is not None:
            raise raised
        made = value
    return await made if inspect.isawaitable(made) else made


def _limiter(kind: str, workers: int) -> anyio.CapacityLimiter:
    """Return the limiter that all calls of this event loop with this number of workers share."""
    found = _limiters.get({})
    limiter = found.get((kind, workers))
    if limiter is None:
        limiter = found[kind, workers] = anyio.CapacityLimiter(workers)
        _limiters.set(found)
    return limiter


class _by_value:
    """Pickle modules that were loaded from files by value, because a worker process cannot import them by name."""

    def __enter__(self) -> None:
        self._modules = [m for name, m in sys.modules.items() if name.startswith("flashgraph_file_")]
        for module in self._modules:
            cloudpickle.register_pickle_by_value(module)

    def __exit__(self, *_: object) -> None:
        for module in self._modules:
            cloudpickle.unregister_pickle_by_value(module)


def _called(call: bytes) -> bytes:
    """Run a pickled call in a worker process; return its pickled exception and result."""
    function, arguments = pickle.loads(call)
    try:
        return bytes(cloudpickle.dumps((None, function(*arguments))))
    except Exception as error:
        return _raised(error)
    except BaseException as error:  # sys.exit() fails this call alone
        return _raised(RuntimeError(described(error)))


def _raised(error: Exception) -> bytes:
    try:
        found = cloudpickle.dumps((error, None))
        pickle.loads(found)  # some exceptions can be pickled but not unpickled
    except Exception:
        found = cloudpickle.dumps((RuntimeError(described(error)), None))
    return bytes(found)


def from_any_thread(llm: Callable[..., Any]) -> Callable[..., Any]:
    """Return ``llm`` for functions that may run in a thread, where a call blocks and returns the reply."""
    loop = threading.get_ident()

    def call(*messages: Any, **params: Any) -> Any:
        if threading.get_ident() == loop:
            return llm(*messages, **params)
        return anyio.from_thread.run(partial(llm, *messages, **params))

    return call
