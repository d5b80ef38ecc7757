"""Tries of a request after a fault that may pass: it backs off without a slot, and then queues for one again."""

from __future__ import annotations

import math
import random
from collections import Counter, defaultdict
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Literal, TypeVar

import anyio
import attrs
import tenacity

from flashgraph.errors import (
    MalformedReply,
    ModelError,
    ModelRefused,
    ModelUnavailable,
    PassingFault,
    RequestFailed,
    Throttled,
)
from flashgraph.llm.protocol import Message, Model, Reply
from flashgraph.run.paid_replies import request_key

__all__ = [
    "LONGEST_PAUSE",
    "EndpointHealth",
    "Patience",
    "Ruling",
    "ending",
    "passing",
    "patiently",
    "reply_of",
    "suspect",
]

T = TypeVar("T")

LONGEST_PAUSE = 60.0
"""Seconds between two tries where the server asks for no pause of its own."""


REFUSED = 3
"""Tries of a request that an endpoint refuses, as with 403, although it has answered others."""

MANY = 5
"""Failed requests at an endpoint, with none answered between them, that put the endpoint at fault.

Fewer may be a few prompts that a filter or a defect of the server always refuses.
"""

FULL = 4
"""Factor on the tries of a throttled request at an endpoint that lets others in: it is full, and the request is sound.
"""

ELSEWHERE = 12
"""Tries of a request that one endpoint fails, in total, if other endpoints may answer it."""

Ruling = Literal["again", "request", "endpoint"]
"""The consequence of a fault: try again, or the request is at fault, or the endpoint is."""


@attrs.define(eq=False)
class Patience:
    """The faults that one request has met, by kind.

    Faults of an endpoint are counted by endpoint: one that takes nothing must not end a request that another would
    answer.  All others are the request's own.
    """

    _met: Counter[tuple[type[Exception], str]] = attrs.field(factory=Counter)
    _since: dict[str, float] = attrs.field(factory=dict)

    def ends(self, endpoint: str, fault: PassingFault) -> bool:
        """Count a fault; return whether the request has used up its tries, so that `PassingFault.final` holds."""
        kind = type(fault) if isinstance(fault, Throttled) else type(fault.final)
        met = (kind, endpoint if isinstance(fault.final, ModelUnavailable | ModelRefused) else "")
        self._met[met] += 1
        return self._met[met] >= fault.tries

    @property
    def total(self) -> int:
        """The number of faults that the request has met."""
        return self._met.total()

    def since(self, endpoint: str, now: float) -> float:
        """Return the time of the request's first fault at an endpoint.  If it had none, that is ``now``."""
        return self._since.setdefault(endpoint, now)


@attrs.define(eq=False)
class EndpointHealth:
    """The recent answers and faults of endpoints, to tell an endpoint's fault from a request's.

    A prompt that always gets a 403 or a 5xx must not end a run whose other requests are answered.  An endpoint that is
    down, or refuses its key, must not fail one request after the other.
    """

    _answered: dict[str, float] = attrs.field(factory=dict)
    """By endpoint, when the latest of the answered requests was sent."""
    _failing: defaultdict[str, dict[str, float]] = attrs.field(factory=lambda: defaultdict(dict))
    """By endpoint and request, the time of the last fault, if no later request was answered."""

    def answered(self, endpoint: str, sent: float) -> None:
        """Note the answer to a request that was ``sent`` then: the endpoint was up at that time."""
        self._answered[endpoint] = sent = max(sent, self._answered.get(endpoint, sent))
        self._failing[endpoint] = {r: at for r, at in self._failing[endpoint].items() if at >= sent}

    def failed(self, endpoint: str, request: str, at: float) -> None:
        """Note a request, by its key, that has met a fault which may be the endpoint's."""
        self._failing[endpoint][request] = at

    def rule(
        self,
        patience: Patience,
        fault: PassingFault,
        endpoint: str,
        request: str,
        now: float,
        *,
        beside: int = 0,
        others: bool = False,
    ) -> Ruling:
        """Return the consequence of a ``fault`` that a request has met at an endpoint.

        ``beside`` counts the other requests that the endpoint works on; ``others`` says that another endpoint may
        answer the request.
        """
        ends = patience.ends(endpoint, fault)
        if not suspect(fault):
            return "request" if ends else "again"
        since = patience.since(endpoint, now)
        certain = not isinstance(fault.final, MalformedReply)
        if isinstance(fault.final, ModelRefused) and fault.final.certain:
            beside = 0  # a refused key does not depend on the request
        ruling = self._ruling(endpoint, request, since, beside, certain=certain)
        lets_others_in = self._answered_since(endpoint, since)
        clear = isinstance(fault.final, ModelRefused) and (ruling == "endpoint" or lets_others_in)
        if not ends and not clear:
            return "again"
        if ruling != "request":
            return ruling
        more = 0
        if others and certain:
            more = ELSEWHERE
        elif isinstance(fault, Throttled) and lets_others_in:
            more = FULL * fault.tries
        return "again" if patience.total < more else "request"

    def _ruling(self, endpoint: str, request: str, since: float, beside: int, *, certain: bool) -> Ruling:
        """Return who is at fault, by the answers and faults of others since the request's first fault (``since``).

        ``certain`` says that an endpoint without any answer is at fault, unless it still works on other requests.
        """
        if self._answered_since(endpoint, since):
            return "request"
        if len(self._failing[endpoint].keys() | {request}) >= MANY:
            return "endpoint"
        if endpoint not in self._answered and certain:
            return "again" if beside else "endpoint"
        return "request"

    def _answered_since(self, endpoint: str, since: float) -> bool:
        return self._answered.get(endpoint, since) > since


def passing(error: PassingFault | ModelRefused) -> PassingFault:
    """Return a passing fault for ``error``; an endpoint that refuses a request gets a few tries."""
    return error if isinstance(error, PassingFault) else PassingFault(error, tries=REFUSED)


def suspect(fault: PassingFault) -> bool:
    """Whether a fault may be its endpoint's: it is down, refuses all requests, or sends malformed replies."""
    return isinstance(fault.final, ModelUnavailable | ModelRefused | MalformedReply)


def ending(fault: PassingFault, ruling: Ruling) -> ModelError:
    """Return the error that ends a request, by whether the ``ruling`` finds it or its endpoint at fault."""
    if ruling == "request":
        if not fault.final.fatal:
            return fault.final
        return RequestFailed(f"{fault.final} (Only this request: others are answered.)")
    if isinstance(fault.final, MalformedReply):
        return ModelUnavailable(f"{fault.final} (It has answered {MANY} requests so, and none otherwise.)")
    return fault.final


async def patiently(ask: Callable[[], Awaitable[T]], key: str) -> T:
    """Await ``ask`` until it raises no `PassingFault`; other errors pass through at once.

    ``ask`` itself ends the tries, with a `Patience`.  The pause is the one that the server asked for, or else a
    doubling one.  A random part of up to a quarter is added, so that requests do not come back all at one moment.  It
    is drawn from ``key``, so that a run can be replayed.
    """
    try:
        return await ask()
    except PassingFault as fault:
        return await _again(ask, key, fault)


async def reply_of(model: Model, messages: Sequence[Message], params: Mapping[str, Any]) -> Reply:
    """Return the reply of ``model`` without a scheduler, with further tries after faults that may pass.

    Raises the model's errors, and the ``final`` of a `PassingFault` that does not pass.
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
    """Try again after a first failed try; in a function of its own, so that successful requests do not pay for it."""
    earlier = [first]

    def wait(state: tenacity.RetryCallState) -> float:
        fault = _fault(state)
        doubled = min(fault.backoff * 2.0 ** (state.attempt_number - 1), LONGEST_PAUSE)
        pause = doubled if fault.pause is None or not 0 <= fault.pause < math.inf else fault.pause
        return pause * (1 + random.Random(f"{key}/{state.attempt_number}").random() / 4)

    retrying = tenacity.AsyncRetrying(
        sleep=anyio.sleep,
        wait=wait,
        retry=tenacity.retry_if_exception_type(PassingFault),
        reraise=True,
    )

    # tenacity awaits only what it recognises as a coroutine function, which a partial is not.
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
