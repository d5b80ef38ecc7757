"""Rates that an API tells of itself: what follows from "of so many are so many left, and in so long all of them".

An API lets through so many requests or tokens in some time, and says in its replies how many are left.  It does not
say what that time is, nor who else uses the same key; both show in what is left.
"""

from __future__ import annotations

from collections.abc import Mapping

import attrs

from flashgraph.llm.protocol import Quota

__all__ = ["COUNTED", "TIMES", "Amount", "Rate", "amount", "learned", "worded"]

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

RESERVE = 0.1
"""The share of a limit (of a minute's worth, where it is for longer) in which less is sent than comes back.  That is
where others are seen: all who share a key slow down alike as it shrinks, before any is turned away."""

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

    def pace(self, left: float) -> float:
        """How many a minute to send while ``left`` are left.

        As many as come back in that time, and of a limit for hours or a day also what has been saved up: nobody waits
        seven minutes for the next of two hundred requests a day as long as there are a hundred.  Of a limit for a
        minute nothing saved up is used: an API may well count by shorter times than it says.
        """
        reserve = RESERVE * min(self.limit, self.per_minute)
        return max(self.per_minute, left) * min(1.0, max(SLOWEST, left / reserve))


def learned(known: Rate | None, quota: Quota) -> Rate | None:
    """The rate after what an API has said; as it was, if that says nothing.

    Whatever the API's way of counting, all are there again after its time at most.  So the shortest time is taken that
    all that it has said allows.  As long as little has been used that can be too short, which does no harm: what is
    left is known, and a time that is too short is given up before it runs out.
    """
    seconds = _shortest(quota) if quota.seconds is None else quota.seconds
    if seconds is None:
        return known
    if known is not None and known.limit == quota.limit and known.seconds >= seconds:
        return known
    return Rate(quota.limit, seconds)


def _shortest(quota: Quota) -> float | None:
    # Where nothing is left there may be a debt, which takes longer than the time.
    if quota.reset is None or quota.left <= 0:
        return None
    if quota.reset > 1:
        return next((seconds for seconds in TIMES if quota.reset <= seconds), None)
    # Almost nothing has been used, unless that much comes back in a second.
    return 1.0 if 0 < quota.reset * quota.limit <= 2 * (quota.limit - quota.left) else None


def worded(of: str, limit: float, seconds: float) -> str:
    """A rate for people: ``240 requests a minute``."""
    return f"{limit:,.12g} {of.replace('_', ' ')} {f'a {TIMES[seconds]}' if seconds in TIMES else f'in {seconds:g} s'}"


def amount(of: str, spent: Amount) -> float:
    """What a rate of one kind counts of ``spent``."""
    return sum(share * part for share, part in zip(COUNTED[of], spent, strict=True))
