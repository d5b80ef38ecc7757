"""The small statistics behind learned profiles."""

from __future__ import annotations

import random
from statistics import mean

import pytest

from flashgraph.sim.fitting import OpenCount, nonnegative_least_squares, surviving_quantiles


def test_least_squares_without_negative_factors() -> None:
    """The factors are exact if possible, and 0 for a negative or a redundant column."""
    rows = [((1.0, float(x), float(x * x)), 3 + 2.0 * x) for x in range(10)]
    assert nonnegative_least_squares(rows) == pytest.approx((3, 2, 0), abs=1e-6)
    falling = [((1.0, float(x)), 5.0 - x) for x in range(4)]
    assert nonnegative_least_squares(falling) == pytest.approx((3.5, 0))
    same = [((float(x), 2.0 * x), 4.0 * x) for x in range(1, 5)]
    assert nonnegative_least_squares(same) == pytest.approx((4, 0))


def test_the_mean_load_of_an_interval() -> None:
    """The mean load of two intervals that overlap by half of one and a third of the other."""
    load = OpenCount([(0, 2), (1, 4)])
    assert load.most == 2
    assert load.mean(0, 2) == pytest.approx(1.5)
    assert load.mean(1, 4) == pytest.approx(4 / 3)


def test_quantiles_without_cuts() -> None:
    """Without censoring, the quantiles are the values themselves."""
    assert surviving_quantiles([3, 1, 2], [], 3) == (1, 2, 3)
    assert surviving_quantiles(list(range(100)), [], 4) == (12, 37, 62, 87)


def test_censored_lengths_count_as_longer() -> None:
    """The mean is recovered although a third of the values is censored, mostly long ones."""
    stream = random.Random(1)
    values = [round(stream.lognormvariate(6, 0.9)) for _ in range(6000)]
    limits = [round(stream.lognormvariate(6.5, 0.9)) for _ in values]
    ended = [v for v, limit in zip(values, limits, strict=True) if v <= limit]
    cut = [float(limit) for v, limit in zip(values, limits, strict=True) if v > limit]
    assert len(cut) > 1500
    assert mean(ended) < 0.75 * mean(values)
    assert mean(surviving_quantiles(ended, cut, 500)) == pytest.approx(mean(values), rel=0.1)


def test_the_longest_may_have_been_cut() -> None:
    """If the longest value is censored, the longest complete one replaces it."""
    assert surviving_quantiles([5], [9.0], 2) == (5, 5)
