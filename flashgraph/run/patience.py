"""Asking again after a fault that may pass: who has met one waits without a slot, and then queues for one anew."""

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
"""Tries of a request that an endpoint refuses for good, as with 403, although it has answered others."""

MANY = 5
"""Requests that fail at an endpoint with none answered between them: then the endpoint is at fault and not a request.
Fewer may be a few prompts that a filter or a defect of the server always refuses."""

FULL = 4
"""How many times as often as usual a request is turned away by an endpoint that lets others in: it is full, and no
request is at fault."""

ELSEWHERE = 12
"""Tries of a request that one endpoint fails, in all, where a role has others that may answer it."""

Ruling = Literal["again", "request", "endpoint"]
"""What follows a fault: ask again, or the request has failed, or the endpoint has."""


@attrs.define(eq=False)
class Patience:
    """How often one request has met each kind of fault.  One that is an endpoint's is counted by endpoint, since one
    that takes nothing must not end a request that another would answer; any other is the request's, wherever it is
    met."""

    _met: Counter[tuple[type[Exception], str]] = attrs.field(factory=Counter)
    _since: dict[str, float] = attrs.field(factory=dict)

    def ends(self, endpoint: str, fault: PassingFault) -> bool:
        """Take note of ``fault``: whether it has now been met as often as it may be, and `PassingFault.final` holds."""
        kind = type(fault) if isinstance(fault, Throttled) else type(fault.final)
        met = (kind, endpoint if isinstance(fault.final, ModelUnavailable | ModelRefused) else "")
        self._met[met] += 1
        return self._met[met] >= fault.tries

    @property
    def total(self) -> int:
        """How many faults the request has met."""
        return self._met.total()

    def since(self, endpoint: str, now: float) -> float:
        """Return when the request has met the first fault of an endpoint: ``now``, if this is it."""
        return self._since.setdefault(endpoint, now)


@attrs.define(eq=False)
class EndpointHealth:
    """What endpoints have done lately, by which a fault is the endpoint's or a request's.

    A prompt that always gets a 403 or a 5xx must not end a run whose other requests are answered.  An endpoint that is
    down, or refuses its key, must not fail one request after the other.
    """

    _answered: dict[str, float] = attrs.field(factory=dict)
    """When the request was sent that was sent last of those that were answered, by endpoint."""
    _failing: defaultdict[str, dict[str, float]] = attrs.field(factory=lambda: defaultdict(dict))
    """When requests have met a fault the last time, by endpoint and request, since it has answered a later one."""

    def answered(self, endpoint: str, sent: float) -> None:
        """An endpoint has answered a request that was ``sent`` then: it was up at that time, and not only before."""
        self._answered[endpoint] = sent = max(sent, self._answered.get(endpoint, sent))
        self._failing[endpoint] = {r: at for r, at in self._failing[endpoint].items() if at >= sent}

    def failed(self, endpoint: str, request: str, at: float) -> None:
        """A request, by its key, has met a fault that may be the endpoint's."""
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
        """Return what follows a ``fault`` that a request has met at an endpoint, which works on so many ``beside`` it.

        ``others`` says that other endpoints may answer the request.
        """
        ends = patience.ends(endpoint, fault)
        if not suspect(fault):
            return "request" if ends else "again"
        since = patience.since(endpoint, now)
        certain = not isinstance(fault.final, MalformedReply)
        if isinstance(fault.final, ModelRefused) and fault.final.certain:
            beside = 0  # what it says of the key does not depend on the request
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
        """Return who is at fault, by what others have met at the endpoint ``since`` the request met it first.

        ``certain`` says that one which has never answered is: unless it still works on others, which will show it.
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
    """Return ``error``, or as a fault that may pass one of an endpoint that refuses a request."""
    return error if isinstance(error, PassingFault) else PassingFault(error, tries=REFUSED)


def suspect(fault: PassingFault) -> bool:
    """Whether a fault may be its endpoint's: it is down, refuses all requests, or answers with what is no reply."""
    return isinstance(fault.final, ModelUnavailable | ModelRefused | MalformedReply)


def ending(fault: PassingFault, ruling: Ruling) -> ModelError:
    """Return the error that a request ends with: by the ``ruling`` it is at fault, or its endpoint is."""
    if ruling == "request":
        if not fault.final.fatal:
            return fault.final
        return RequestFailed(f"{fault.final} (Only this request: others are answered.)")
    if isinstance(fault.final, MalformedReply):
        return ModelUnavailable(f"{fault.final} (It has answered {MANY} requests so, and none otherwise.)")
    return fault.final


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
        pause = doubled if fault.pause is None or not 0 <= fault.pause < math.inf else fault.pause
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
