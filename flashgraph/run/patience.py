"""Asking again after "too many requests": who is throttled waits without a slot, and then queues for one anew."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import TypeVar

import anyio
import attrs
import tenacity

from flashgraph.errors import Throttled

__all__ = ["LONGEST_PAUSE", "Patience", "patiently"]

T = TypeVar("T")

LONGEST_PAUSE = 60.0
"""Seconds between two tries where the server asks for no pause of its own."""


@attrs.define(eq=False)
class Patience:
    """How often each endpoint has turned one request away.  By endpoint, since one that takes nothing must not end a
    request that another would answer."""

    _turned_away: Counter[str] = attrs.field(factory=Counter)

    def ends(self, endpoint: str, error: Throttled) -> bool:
        """Take note of ``error``: whether the endpoint has now been asked as often as it allows, and is unavailable."""
        self._turned_away[endpoint] += 1
        return self._turned_away[endpoint] >= error.tries


async def patiently(ask: Callable[[], Awaitable[T]], key: str) -> T:
    """Await ``ask`` until it is not throttled; whatever else it raises goes through at once.  When an endpoint has been
    asked often enough is for ``ask`` to say, with a `Patience`.

    The pause is the one that the server asked for, else a doubling one.  Both are stretched by up to a quarter, or
    everybody who was turned away at one moment would come back at one moment; by how much is drawn from ``key``, so
    that a run can be told again.
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
        retry=tenacity.retry_if_exception_type(Throttled),
        reraise=True,
    )

    # It awaits only what it recognises as a coroutine function, which a bound partial is not.
    async def one_try() -> T:
        if earlier:
            raise earlier.pop()
        return await ask()

    return await retrying(one_try)


def _throttled(state: tenacity.RetryCallState) -> Throttled:
    assert state.outcome is not None
    error = state.outcome.exception()
    assert isinstance(error, Throttled)
    return error
