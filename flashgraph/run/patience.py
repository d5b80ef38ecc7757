"""Asking again after "too many requests": who is throttled waits without a slot, and then queues for one anew."""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable
from typing import TypeVar

import anyio
import tenacity

from flashgraph.errors import ModelUnavailable, Throttled

__all__ = ["LONGEST_PAUSE", "patiently"]

T = TypeVar("T")

LONGEST_PAUSE = 60.0
"""Seconds between two tries where the server asks for no pause of its own."""


async def patiently(ask: Callable[[], Awaitable[T]], key: str) -> T:
    """Await ``ask`` until it is not throttled; whatever else it raises goes through at once.

    The pause is the one that the server asked for, else a doubling one.  Both are stretched by up to a quarter, or
    everybody who was turned away at one moment would come back at one moment; by how much is drawn from ``key``, so
    that a run can be told again.

    Raises `ModelUnavailable` after as many tries as the `Throttled` error allows.
    """

    try:
        return await ask()
    except Throttled as error:
        return await _again(ask, key, error)


async def _again(ask: Callable[[], Awaitable[T]], key: str, first: Throttled) -> T:
    """What follows a first try that was throttled; apart, so that the others do not pay for it."""
    earlier = [first]

    def wait(state: tenacity.RetryCallState) -> float:
        asked = _throttled(state).pause
        pause = min(2.0 ** (state.attempt_number - 1), LONGEST_PAUSE) if asked is None else asked
        return pause * (1 + random.Random(f"{key}/{state.attempt_number}").random() / 4)

    retrying = tenacity.AsyncRetrying(
        sleep=anyio.sleep,
        wait=wait,
        stop=lambda state: state.attempt_number >= _throttled(state).tries,
        retry=tenacity.retry_if_exception_type(Throttled),
        reraise=True,
    )

    # It awaits only what it recognises as a coroutine function, which a bound partial is not.
    async def one_try() -> T:
        if earlier:
            raise earlier.pop()
        return await ask()

    try:
        return await retrying(one_try)
    except Throttled as error:
        raise ModelUnavailable(str(error)) from error


def _throttled(state: tenacity.RetryCallState) -> Throttled:
    assert state.outcome is not None
    error = state.outcome.exception()
    assert isinstance(error, Throttled)
    return error
