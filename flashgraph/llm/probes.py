"""What an endpoint makes at one limit, and whether a larger limit makes more.

A server that queues does not say when it is full: more requests only make each of them slower.  It shows in what the
server makes.  By Little's law that is the requests in flight divided by the seconds that one takes, so the answered
requests suffice, however many others were cancelled.
"""

from __future__ import annotations

import math

import attrs

__all__ = ["ROUNDING", "Sample", "between", "makes_more"]

FEWEST = 6
"""Answers of a sample.  A line through fewer says little of how far they lie from it."""

PRECISION = 0.07
"""The relative standard error of a sample's mean with which it can be compared."""

WORTH = 1 / 3
"""The share of a rise of the limit by which throughput has to rise.  While a server has free slots it rises by half of
it at least, as more requests slow each other down a little; in a full one, not at all."""

BEND = 1.5
"""How much further than throughput the limit rises, for the same reason."""

ROUNDING = 1e-9
"""More than the rounding error of what is compared, so that equal is equal."""


@attrs.frozen
class Sample:
    """Answers to requests that were sent at one ``limit``, after the moment ``since``, while every slot was in use.

    Their seconds are fitted by a line over the tokens of their replies (ordinary least squares), so that samples of
    longer and of shorter replies can be compared.  Long requests are cancelled more often than short ones: that shifts
    which replies a sample has, and not the line.
    """

    limit: int
    since: float = -math.inf
    count: int = 0
    tokens: float = 0.0
    seconds: float = 0.0
    tokens_squared: float = 0.0
    seconds_squared: float = 0.0
    product: float = 0.0

    def with_answer(self, tokens: float, seconds: float) -> Sample:
        """Return the sample with one more answer."""
        return Sample(
            self.limit,
            self.since,
            self.count + 1,
            self.tokens + tokens,
            self.seconds + seconds,
            self.tokens_squared + tokens * tokens,
            self.seconds_squared + seconds * seconds,
            self.product + tokens * seconds,
        )

    @property
    def is_precise(self) -> bool:
        """Whether it can be compared: the line fits well, or there are as many answers as slots."""
        if self.count < FEWEST:
            return False
        spread, shared = self._moments()
        unexplained = self.count * self.seconds_squared - self.seconds**2
        if spread > 0:
            unexplained -= shared**2 / spread
        fits = unexplained <= (PRECISION * self.seconds) ** 2 * (self.count - 2)
        return fits or self.count >= self.limit

    def time(self, tokens: float) -> float:
        """Return the seconds of a reply with so many tokens, by the line; neither of its two parts is negative."""
        spread, shared = self._moments()
        slope = min(max(0.0, shared / spread), self.seconds / self.tokens) if spread > 0 else 0.0
        return (self.seconds + slope * (self.count * tokens - self.tokens)) / self.count

    def _moments(self) -> tuple[float, float]:
        spread = self.count * self.tokens_squared - self.tokens**2
        return spread, self.count * self.product - self.tokens * self.seconds


def makes_more(small: Sample, large: Sample) -> bool:
    """Whether the larger limit is worth it: throughput rises by at least a third of what the limit does."""
    before, after = _throughputs(small, large)
    return after >= before * (1 + WORTH * (large.limit / small.limit - 1)) * (1 - ROUNDING)


def between(small: Sample, large: Sample) -> int:
    """Return the limit at which throughput stops rising, if `makes_more` says that it does."""
    before, after = _throughputs(small, large)
    return min(large.limit, int(small.limit * (1 + BEND * max(0.0, after / before - 1)) + ROUNDING))


def _throughputs(small: Sample, large: Sample) -> tuple[float, float]:
    """Replies of one length in a unit of time that both have in common."""
    tokens = (small.tokens + large.tokens) / (small.count + large.count)
    return small.limit * large.time(tokens), large.limit * small.time(tokens)
