"""When a failed request is tried again: passing faults only, with growing pauses, a known number of times."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from email.utils import parsedate_to_datetime
from typing import TypeVar

import anyio
import attrs
import tenacity

from flashgraph.errors import ModelError, ModelUnavailable, Throttled
from flashgraph.llm.protocol import Quota

__all__ = ["ONE_MORE", "PassingFault", "Retry", "retry_after"]

T = TypeVar("T")

ONE_MORE = 2
"""Tries of a request that timed out, which costs its whole time-out each time, or had a malformed reply, which is
rarely chance: one more chance and not six."""

LONGEST_PAUSE = 60.0


class PassingFault(Exception):
    """One try failed in a way that may pass: ``final`` is what to raise if it does not.

    ``pause`` is how long the server asked to wait in seconds, ``tries`` how often at most such a request is tried.
    """

    def __init__(self, final: ModelError, *, pause: float | None = None, tries: int | None = None) -> None:
        super().__init__(str(final))
        self.final = final
        self.pause = pause
        self.tries = tries


@attrs.frozen
class Retry:
    """At most ``tries`` tries, ``backoff`` * 2**n seconds (and up to one ``backoff`` of jitter) between them.

    A pause that the server asks for replaces the computed one.  One above ``longest_asked`` seconds ends the
    request at once: a quota that opens in an hour is for the user to know now.
    """

    tries: int = attrs.field(default=6, validator=attrs.validators.ge(1))
    backoff: float = attrs.field(default=1.0, validator=attrs.validators.ge(0))
    longest_asked: float = 120.0

    def throttled(self, said: str, pause: float | None, quotas: Sequence[Quota] = ()) -> ModelError:
        """What "too many requests" is: `Throttled`, which whoever asked waits out; or the end, if it takes too long."""
        if (pause or 0) > self.longest_asked:
            return ModelUnavailable(f"{said} (it asks to wait for {pause:g} s)")
        return Throttled(said, pause=pause, tries=self.tries, quotas=quotas)

    async def __call__(self, attempt: Callable[[], Awaitable[T]]) -> T:
        """Await ``attempt`` until it succeeds; anything but `PassingFault` goes through at once.

        Raises the `PassingFault.final` of the last try.
        """
        try:
            return await attempt()
        except PassingFault as fault:
            return await self._again(attempt, fault)

    async def _again(self, attempt: Callable[[], Awaitable[T]], failed: PassingFault) -> T:
        """What follows a first try that has ``failed``; apart, so that the others do not pay for it."""
        earlier = [failed]
        doubling = tenacity.wait_exponential(multiplier=self.backoff, max=LONGEST_PAUSE)
        backoff = doubling + tenacity.wait_random(0, self.backoff)

        def wait(state: tenacity.RetryCallState) -> float:
            asked = _fault(state).pause
            return backoff(state) if asked is None else asked

        def stop(state: tenacity.RetryCallState) -> bool:
            fault = _fault(state)
            tries = self.tries if fault.tries is None else min(self.tries, fault.tries)
            return state.attempt_number >= tries or (fault.pause or 0) > self.longest_asked

        retrying = tenacity.AsyncRetrying(
            sleep=anyio.sleep,
            wait=wait,
            stop=stop,
            retry=tenacity.retry_if_exception_type(PassingFault),
            reraise=True,
        )

        # It awaits only what it recognises as a coroutine function, which a lambda or a bound partial is not.
        async def one_try() -> T:
            if earlier:
                raise earlier.pop()
            return await attempt()

        try:
            return await retrying(one_try)
        except PassingFault as fault:
            raise fault.final from fault.__cause__


def _fault(state: tenacity.RetryCallState) -> PassingFault:
    assert state.outcome is not None
    fault = state.outcome.exception()
    assert isinstance(fault, PassingFault)
    return fault


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds that a ``Retry-After`` header asks for, in either of its forms (RFC 9110, 10.2.3).

    A date is read against the reply's own ``Date``, so no clock of ours is involved.
    """
    value = headers.get("retry-after", "").strip()
    try:
        return max(0.0, float(value))
    except ValueError:
        pass
    try:
        then, now = parsedate_to_datetime(value), parsedate_to_datetime(headers.get("date", ""))
        return max(0.0, (then - now).total_seconds())
    except (TypeError, ValueError):
        return None
