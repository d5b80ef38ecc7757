"""Rates: how they are kept to, and what follows from "of so many are so many left, and in so long all of them".

An API lets through so many requests or tokens in some time, and says in its replies how many are left.  It does not
say what that time is, nor who else uses the same key; both show in what is left.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping

import attrs

from flashgraph.llm.protocol import Quota

__all__ = ["COUNTED", "TIMES", "Amount", "Bucket", "Rate", "amount", "learned", "used_up", "worded"]

Amount = tuple[float, float, float]
"""Requests, tokens of their prompts, and tokens of their replies."""

COUNTED: Mapping[str, Amount] = {
    "requests": (1.0, 0.0, 0.0),
    "tokens": (0.0, 1.0, 1.0),
    "prompt_tokens": (0.0, 1.0, 0.0),
    "completion_tokens": (0.0, 0.0, 1.0),
}
"""What each kind of rate counts."""

TIMES: Mapping[float, str] = {1.0: "second", 60.0: "minute", 3600.0: "hour", 86400.0: "day"}
"""The times, in seconds, that APIs limit by."""

BURST_SECONDS = 1.0
"""How much of a rate may be used at once: a second's share.  A larger burst would break a provider's count over any
window that begins after it."""

RESERVE = 0.1
"""The share of a limit (of a minute's worth, where it is for longer) in which less is sent than comes back.  That is
where others are seen: all who share a key slow down alike as it shrinks, before any is turned away."""

DEBT = 0.25
"""The share of a limit that is taken to be owed at most: replies are counted when they are there, whatever is left."""

SLOWEST = 0.25
"""Of a rate, when nothing is left: something has to be sent to hear that there is more again."""


@attrs.frozen
class Rate:
    """``limit`` requests or tokens in ``seconds``."""

    limit: float
    seconds: float

    @property
    def per_minute(self) -> float:
        return self.limit * 60 / self.seconds

    def pace(self, left: float, *, estimated: bool = False) -> float:
        """How many a minute to send while ``left`` are left.

        As many as come back in that time, and of a limit for hours or a day also what has been saved up: nobody waits
        seven minutes for the next of two hundred requests a day as long as there are a hundred.  Of a limit for a
        minute nothing saved up is used: an API may well count by shorter times than it says.

        Tokens are ``estimated`` when they are sent, and those of a request that is cut off for good.  If more than half
        of a limit is left although all of it was sent by our count, then the API counts less: up to twice as much goes
        out by our count as comes back by its own.
        """
        reserve = RESERVE * min(self.limit, self.per_minute)
        more = max(0.0, 2 * left / self.limit - 1) if estimated else 0.0
        return max(self.per_minute * (1 + more), left) * min(1.0, max(SLOWEST, left / reserve))


@attrs.define
class Bucket:
    """A rate as a bucket that fills steadily: ``filled`` was in it at ``at``.

    It may go into debt by one request, since what a request takes is known only when it is answered.

    Looking at it changes nothing: sums of floats come out alike however often somebody has looked.
    """

    per_minute: float
    least: float
    """What has to be in it for a request to be sent."""
    filled: float = attrs.field(init=False)
    at: float = attrs.field(default=0.0, kw_only=True)

    def __attrs_post_init__(self) -> None:
        self.filled = self.capacity

    @property
    def capacity(self) -> float:
        return max(self.least, self.per_minute / 60 * BURST_SECONDS)

    def holds(self, now: float) -> float:
        """What is in it."""
        return min(self.capacity, self.filled + (now - self.at) * self.per_minute / 60)

    def follow(self, per_minute: float, left: float, now: float) -> None:
        """Fill at another rate from now on, and hold no more than ``left``."""
        self.filled, self.at, self.per_minute = min(self.holds(now), left), now, per_minute
        self.filled = min(self.filled, self.capacity)

    def due(self, amount: float) -> float:
        """When it will hold ``amount``; infinity where that is more than it ever does."""
        if amount > self.capacity:
            return math.inf
        return self.at + max(0.0, amount - self.filled) * 60 / self.per_minute

    def has(self, amount: float, now: float) -> bool:
        """Whether it holds ``amount``, by `due`: at the moment when it is due, rounding may make `holds` say less."""
        return self.due(amount) <= now

    def take(self, amount: float, now: float) -> None:
        """Take ``amount`` out; a negative one is put back."""
        self.filled, self.at = min(self.capacity, self.holds(now) - amount), now


def learned(known: Rate | None, quota: Quota) -> Rate | None:
    """The rate after what an API has said; as it was, if that says nothing.

    Whatever the API's way of counting, all are there again after its time at most.  So the shortest time is taken that
    all that it has said allows.  As long as little has been used that can be too short, which does no harm: what is
    left is known, and a time that is too short is given up before it runs out.  Only where nothing is left there may be
    a debt, which takes longer.
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
    # Almost nothing has been used, unless that much comes back in a second.
    return 1.0 if 0 < reset * quota.limit <= 2 * (quota.limit - quota.left) else None


def used_up(quotas: Iterable[Quota], rates: Mapping[str, Rate], needed: Amount) -> bool:
    """Whether less is left of a rate that is known than a request needed: then it was turned away for that, and not for
    how many others were out."""
    return any(quota.of in rates and quota.left < amount(quota.of, needed) for quota in quotas)


def worded(of: str, limit: float, seconds: float) -> str:
    """A rate for people: ``240 requests a minute``."""
    return f"{limit:,.12g} {of.replace('_', ' ')} {f'a {TIMES[seconds]}' if seconds in TIMES else f'in {seconds:g} s'}"


def amount(of: str, spent: Amount) -> float:
    """What a rate of one kind counts of ``spent``."""
    return sum(share * part for share, part in zip(COUNTED[of], spent, strict=True))
