"""Run a function in a forked child that may be killed at any moment; no interpreter starts, so a kill is cheap."""

from __future__ import annotations

import os
import pickle
import select
import signal
import time
import traceback
from collections.abc import Callable
from typing import Any

import attrs

__all__ = ["ChildFailed", "Ended", "die", "in_child", "killed"]

killed = 0
"""The number of children that SIGKILL has ended so far."""

LONGEST = 120.0
"""Seconds after which a child counts as hung."""


class ChildFailed(AssertionError):
    """The child's function raised; the text is its traceback."""


@attrs.frozen
class Ended:
    """The end of a child: ``killed``, or the ``value`` that its function returned."""

    killed: bool
    value: Any = None


def die() -> None:
    """Kill this process as `kill -9` does: without flushing, closing or handling anything."""
    os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(60)  # the signal is delivered before this returns


def in_child(function: Callable[[], Any], *, kill_after: float | None = None) -> Ended:
    """Run ``function`` in a fork of this process and return its end.

    With ``kill_after``, the child is killed from outside after that many seconds, unless it has ended.  Raises
    `ChildFailed` when the function raises or the child hangs.
    """
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(reading)
        _child(function, writing)
    os.close(writing)
    try:
        data, hung = _gather(reading, pid, kill_after)
    finally:
        os.close(reading)
    _, status = os.waitpid(pid, 0)
    if hung:
        raise ChildFailed(f"the child still ran after {LONGEST:g} seconds")
    if os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL:
        global killed
        killed += 1
        return Ended(killed=True)
    if not data:
        raise ChildFailed(f"the child ended with status {status} and said nothing")
    good, value = pickle.loads(data)
    if not good:
        raise ChildFailed(value)
    return Ended(killed=False, value=value)


def _gather(reading: int, pid: int, kill_after: float | None) -> tuple[bytes, bool]:
    """Return all that the child writes until it ends, and whether it was killed because it hung."""
    begun = time.monotonic()
    data, hung, killed = b"", False, False
    while True:
        limit = LONGEST if kill_after is None or killed else kill_after
        ready, _, _ = select.select([reading], [], [], max(0.0, begun + limit - time.monotonic()))
        if ready:
            part = os.read(reading, 1 << 20)
            if not part:
                return data, hung
            data += part
            continue
        hung = hung or kill_after is None or killed
        killed = True
        os.kill(pid, signal.SIGKILL)


def _child(function: Callable[[], Any], writing: int) -> None:
    try:
        try:
            said = pickle.dumps((True, function()))
        except BaseException:
            said = pickle.dumps((False, traceback.format_exc()))
        while said:
            said = said[os.write(writing, said) :]
    finally:
        os._exit(0)
