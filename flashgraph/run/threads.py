"""Threads of an event loop that belongs to a run: a function that never returns does not keep the process from ending.

``asyncio.to_thread`` and ``run_in_executor`` use the event loop's default executor.  A loop waits for its executor
when it ends, and Python waits for its threads.  A thread cannot be cancelled, so one sleeping function would hold
up forever a run that has otherwise ended.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from functools import partial
from typing import Any, ParamSpec, TypeVar

import sniffio

from flashgraph.run.contained import GRACE

__all__ = ["LooseThreads", "use_loose_threads"]

P = ParamSpec("P")
T = TypeVar("T")

MOST = 32
"""Threads at once, as many as asyncio's own executor has at most."""

_log = logging.getLogger("flashgraph")


class LooseThreads(ThreadPoolExecutor):
    """An executor that waits for its functions at most ``grace`` seconds when it shuts down, and then leaves them."""

    def __init__(self, grace: float = GRACE) -> None:
        super().__init__(MOST)
        self._grace = grace
        self._lock = threading.Lock()
        self._waiting: deque[tuple[Future[Any], Callable[[], Any]]] = deque()
        self._unfinished: set[Future[Any]] = set()
        self._busy = 0

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        """Run a function in a thread of its own, as soon as there are fewer than `MOST`."""
        future: Future[T] = Future()
        with self._lock:
            self._unfinished.add(future)
            self._waiting.append((future, partial(fn, *args, **kwargs)))
            begin = self._busy < MOST
            self._busy += begin
        future.add_done_callback(self._unfinished.discard)
        if begin:
            threading.Thread(target=self._work, name="flashgraph-loose", daemon=True).start()
        return future

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Leave the functions that do not return in time, and say how many there are."""
        if cancel_futures:
            for future in list(self._unfinished):
                future.cancel()
        left = _not_done(list(self._unfinished), self._grace) if wait else 0
        if left:
            _log.warning(
                "%d functions in threads do not return after %g s: the run ends without them", left, self._grace
            )

    def _work(self) -> None:
        while True:
            with self._lock:
                if not self._waiting:
                    self._busy -= 1
                    return
                future, function = self._waiting.popleft()
            if not future.set_running_or_notify_cancel():
                continue
            try:
                result = function()
            except BaseException as error:
                future.set_exception(error)
            else:
                future.set_result(result)


def _not_done(futures: list[Future[Any]], seconds: float) -> int:
    return len(wait(futures, timeout=seconds).not_done)


def use_loose_threads() -> None:
    """Give the running event loop, which ends with the run, `LooseThreads`.  Trio's threads are not kept anyway."""
    if sniffio.current_async_library() == "asyncio":
        asyncio.get_running_loop().set_default_executor(LooseThreads())
