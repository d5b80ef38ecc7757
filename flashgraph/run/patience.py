"""Asking again after a fault that may pass: who has met one waits without a slot, and then queues for one anew."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, TypeVar

import anyio
import attrs
import tenacity

from flashgraph.errors import ModelUnavailable, PassingFault, Throttled
from flashgraph.llm.protocol import Message, Model, Reply
from flashgraph.run.resumed import request_key

__all__ = ["LONGEST_PAUSE", "Patience", "patiently", "reply_of"]

T = TypeVar("T")

LONGEST_PAUSE = 60.0
"""Seconds between two tries where the server asks for no pause of its own."""


@attrs.define(eq=False)
class Patience:
    """How often one request has met each kind of fault.  One that is an endpoint's is counted by endpoint, since one
    that takes nothing must not end a request that another would answer; any other is the request's, wherever it is
    met."""

    _met: Counter[tuple[type[Exception], str]] = attrs.field(factory=Counter)

    def ends(self, endpoint: str, fault: PassingFault) -> bool:
        """Take note of ``fault``: whether it has now been met as often as it may be, and `PassingFault.final` holds."""
        kind = type(fault) if isinstance(fault, Throttled) else type(fault.final)
        met = (kind, endpoint if isinstance(fault.final, ModelUnavailable) else "")
        self._met[met] += 1
        return self._met[met] >= fault.tries


async def patiently(ask: Callable[[], Awaitable[T]], key: str) -> T:
    """Await ``ask`` until it raises no `PassingFault`; whatever else it raises goes through at once.  When it has been
    tried often enough is for ``ask`` to say, with a `Patience`.

    The pause is the one that the server asked for, else a doubling one.  Both are stretched by up to a quarter, or
    everybody who met a fault at one moment would come back at one moment; by how much is drawn from ``key``, so
    that a run can be told again.
    """
    try:
        return await ask()
    except PassingFault as fault:
        return await _again(ask, key, fault)


async def reply_of(model: Model, messages: Sequence[Message], params: Mapping[str, Any]) -> Reply:
    """What ``model`` answers to who has no scheduler to ask again for it.

    Raises what the model raises, and of a `PassingFault` that does not pass its ``final``.
    """
    patience = Patience()

    async def ask() -> Reply:
        try:
            return await model.complete(messages, params)
        except PassingFault as fault:
            if patience.ends(model.name, fault):
                raise fault.final from fault
            raise

    return await patiently(ask, request_key(model.name, messages, params))


async def _again(ask: Callable[[], Awaitable[T]], key: str, first: PassingFault) -> T:
    """What follows a first try that has failed; apart, so that the others do not pay for it."""
    earlier = [first]

    def wait(state: tenacity.RetryCallState) -> float:
        fault = _fault(state)
        doubled = min(fault.backoff * 2.0 ** (state.attempt_number - 1), LONGEST_PAUSE)
        pause = doubled if fault.pause is None else fault.pause
        return pause * (1 + random.Random(f"{key}/{state.attempt_number}").random() / 4)

    retrying = tenacity.AsyncRetrying(
        sleep=anyio.sleep,
        wait=wait,
        retry=tenacity.retry_if_exception_type(PassingFault),
        reraise=True,
    )

    # It awaits only what it recognises as a coroutine function, which a bound partial is not.
    async def one_try() -> T:
        if earlier:
            raise earlier.pop()
        return await ask()

    return await retrying(one_try)


def _fault(state: tenacity.RetryCallState) -> PassingFault:
    assert state.outcome is not None
    fault = state.outcome.exception()
    assert isinstance(fault, PassingFault)
    return fault
