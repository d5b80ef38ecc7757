"""Keep to rate limits, and infer them from an API's reports of the remaining amount and the reset time.

An API allows a number of requests or tokens in a window, and its replies report how many are left.  It does not report
the window, nor who else uses the same key; both can be inferred from the remaining amount.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping

import attrs

from flashgraph.llm.protocol import Quota

__all__ = ["COUNTED", "TIMES", "Amount", "Bucket", "Rate", "amount", "learned", "rate_text", "used_up"]

Amount = tuple[float, float, float]
"""Requests, tokens of their prompts, and tokens of their replies."""

COUNTED: Mapping[str, Amount] = {
    "requests": (1.0, 0.0, 0.0),
    "tokens": (0.0, 1.0, 1.0),
    "prompt_tokens": (0.0, 1.0, 0.0),
    "completion_tokens": (0.0, 0.0, 1.0),
}
"""The amounts that each kind of rate counts."""

TIMES: Mapping[float, str] = {1.0: "second", 60.0: "minute", 3600.0: "hour", 86400.0: "day"}
"""The windows of APIs' limits, in seconds."""

BURST_SECONDS = 1.0
"""Seconds' worth of a rate that may be used at once.  A larger burst would exceed a provider's count over a window that
begins after it."""

RESERVE = 0.1
"""The last share of a limit (of a minute's worth, if its window is longer), in which less is sent than is refilled.

Others who share the key become visible there: all of them slow down alike as the rest shrinks, before any is refused.
"""

DEBT = 0.25
"""The largest assumed debt, as a share of a limit: an API counts replies when they end, whatever is left."""

SLOWEST = 0.25
"""The share of a rate that is sent when nothing is left: without requests there is no news of a refill."""


@attrs.frozen
class Rate:
    """A rate limit of ``limit`` requests or tokens in ``seconds``."""

    limit: float
    seconds: float

    @property
    def per_minute(self) -> float:
        return self.limit * 60 / self.seconds

    def pace(self, left: float, *, estimated: bool = False) -> float:
        """Return how many a minute to send while ``left`` are left.

        It is as many as are refilled in that time.  Of a limit for hours or a day, saved amounts may be used too.  So
        nobody waits seven minutes for the next of two hundred requests a day while a hundred are left.  Of a limit
        for a minute nothing saved is used, because an API may count over shorter windows than it says.

        Tokens are ``estimated`` when they are sent, and for good if their request is cancelled.  If more than half of a
        limit is left although our count says that all was sent, the API counts less.  Then up to twice as much is sent
        by our count as is refilled by the API's.
        """
        reserve = RESERVE * min(self.limit, self.per_minute)
        more = max(0.0, 2 * left / self.limit - 1) if estimated else 0.0
        return max(self.per_minute * (1 + more), left) * min(1.0, max(SLOWEST, left / reserve))


@attrs.define
class Bucket:
    """A rate as a token bucket that fills steadily: it contained ``filled`` at the time ``at``.

    It may go into debt by one request, because the amount of a request is known only after its answer.

    Reading it changes nothing, so that floating-point sums do not depend on how often it is read.
    """

    per_minute: float
    least: float
    """The amount that it must contain for a request to be sent."""
    filled: float = attrs.field(init=False)
    at: float = attrs.field(default=0.0, kw_only=True)

    def __attrs_post_init__(self) -> None:
        self.filled = self.capacity

    @property
    def capacity(self) -> float:
        return max(self.least, self.per_minute / 60 * BURST_SECONDS)

    def holds(self, now: float) -> float:
        """Return the amount in it."""
        return min(self.capacity, self.filled + (now - self.at) * self.per_minute / 60)

    def follow(self, per_minute: float, left: float, now: float) -> None:
        """Fill at another rate from now on, and contain at most ``left``."""
        self.filled, self.at, self.per_minute = min(self.holds(now), left), now, per_minute
        self.filled = min(self.filled, self.capacity)

    def due(self, amount: float) -> float:
        """Return the time when it will contain ``amount``; infinity if it never does."""
        if amount > self.capacity:
            return math.inf
        return self.at + max(0.0, amount - self.filled) * 60 / self.per_minute

    def has(self, amount: float, now: float) -> bool:
        """Return whether `due` has passed; rounding may make `holds` slightly less than ``amount`` at that time."""
        return self.due(amount) <= now

    def take(self, amount: float, now: float) -> None:
        """Remove ``amount``; a negative amount is put back."""
        self.filled, self.at = min(self.capacity, self.holds(now) - amount), now


def learned(known: Rate | None, quota: Quota) -> Rate | None:
    """Return the rate after an API's report; ``known`` if the report adds nothing.

    Whatever the API's way of counting, all is refilled after its window.  So the shortest window is inferred that all
    reports allow.  While little has been used, that can be too short.  This does no harm: the remaining amount is
    known, and a window that is too short is replaced before the limit is used up.  Only when nothing is left may there
    be a debt, which takes longer.
    """
    same = known is not None and known.limit == quota.limit
    if same and quota.left <= 0:
        return known
    seconds = _shortest(quota) if quota.seconds is None else quota.seconds
    if seconds is None or (same and known is not None and known.seconds >= seconds):
        return known
    return Rate(quota.limit, seconds)


def _shortest(quota: Quota) -> float | None:
    if quota.reset is None:
        return None
    reset = quota.reset if quota.left > 0 else quota.reset / (1 + DEBT)
    if reset > 1:
        return next((seconds for seconds in TIMES if reset <= seconds), None)
    # Almost nothing was used, unless that much is refilled in a second.
    return 1.0 if 0 < reset * quota.limit <= 2 * (quota.limit - quota.left) else None


def used_up(quotas: Iterable[Quota], rates: Mapping[str, Rate], needed: Amount) -> bool:
    """Return whether a known rate has less left than a request needed.

    The request was then refused because of that rate, and not because of the number in flight.
    """
    return any(quota.of in rates and quota.left < amount(quota.of, needed) for quota in quotas)


def rate_text(of: str, limit: float, seconds: float) -> str:
    """Return a rate for people: ``240 requests a minute``."""
    return f"{limit:,.12g} {of.replace('_', ' ')} {f'a {TIMES[seconds]}' if seconds in TIMES else f'in {seconds:g} s'}"


def amount(of: str, spent: Amount) -> float:
    """Return the amount of ``spent`` that a rate of one kind counts."""
    return sum(share * part for share, part in zip(COUNTED[of], spent, strict=True))
