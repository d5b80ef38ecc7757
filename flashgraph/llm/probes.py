"""Measure an endpoint's throughput at one limit, and compare it with that at a larger limit.

A server that queues does not say when it is full: more requests only slow each one down.  The throughput shows it.  By
Little's law it is the requests in flight divided by the seconds of one request.  So the answered requests suffice,
however many others were cancelled.
"""

from __future__ import annotations

import math

import attrs

__all__ = ["ROUNDING", "Sample", "between", "makes_more"]

FEWEST = 6
"""Minimum answers in a sample: with fewer, the residuals of the fitted line say little."""

PRECISION = 0.07
"""The relative standard error of a sample's mean at which the sample is precise enough to compare."""

WORTH = 1 / 3
"""The required rise of throughput, as a share of the rise of the limit.

While a server has free slots, throughput rises by at least half of the limit's rise, because more requests slow each
other down a little.  In a full server it does not rise.
"""

BEND = 1.5
"""How much further than throughput the limit rises, because more requests slow each other down a little."""

ROUNDING = 1e-9
"""A tolerance above the rounding error of compared numbers, so that equal ones compare as equal."""


@attrs.frozen
class Sample:
    """Answers to requests that were sent at one ``limit``, after the moment ``since``, while every slot was in use.

    A line (ordinary least squares) is fitted to their seconds over the tokens of their replies.  So samples of longer
    and of shorter replies can be compared.  Long requests are cancelled more often than short ones; that changes
    which replies are in a sample, but not the line.
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
        """Return whether the sample can be compared: the line fits well, or there are as many answers as slots."""
        if self.count < FEWEST:
            return False
        spread, shared = self._moments()
        unexplained = self.count * self.seconds_squared - self.seconds**2
        if spread > 0:
            unexplained -= shared**2 / spread
        fits = unexplained <= (PRECISION * self.seconds) ** 2 * (self.count - 2)
        return fits or self.count >= self.limit

    def time(self, tokens: float) -> float:
        """Return the seconds of a reply with that many tokens, by the line; neither of its coefficients is negative."""
        spread, shared = self._moments()
        slope = min(max(0.0, shared / spread), self.seconds / self.tokens) if spread > 0 else 0.0
        return (self.seconds + slope * (self.count * tokens - self.tokens)) / self.count

    def _moments(self) -> tuple[float, float]:
        spread = self.count * self.tokens_squared - self.tokens**2
        return spread, self.count * self.product - self.tokens * self.seconds


def makes_more(small: Sample, large: Sample) -> bool:
    """Return whether the larger limit is worth it: throughput rises by at least a third of the rise of the limit."""
    before, after = _throughputs(small, large)
    return after >= before * (1 + WORTH * (large.limit / small.limit - 1)) * (1 - ROUNDING)


def between(small: Sample, large: Sample) -> int:
    """Return the limit at which throughput stops rising, if `makes_more` says that it does."""
    before, after = _throughputs(small, large)
    return min(large.limit, int(small.limit * (1 + BEND * max(0.0, after / before - 1)) + ROUNDING))


def _throughputs(small: Sample, large: Sample) -> tuple[float, float]:
    """Return the throughput of both limits for replies of one length, in a common unit of time."""
    tokens = (small.tokens + large.tokens) / (small.count + large.count)
    return small.limit * large.time(tokens), large.limit * small.time(tokens)
