"""Small statistics: load from intervals, non-negative least squares, and quantiles of censored lengths."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Sequence
from itertools import accumulate, pairwise

__all__ = ["OpenCount", "nonnegative_least_squares", "surviving_quantiles"]


class OpenCount:
    """The number of intervals that are open at a time."""

    def __init__(self, intervals: Iterable[tuple[float, float]]) -> None:
        changes = sorted(change for start, end in intervals for change in ((start, 1), (end, -1)))
        self._times = [at for at, _ in changes]
        self._open = list(accumulate(by for _, by in changes))
        self.most = max(self._open, default=0)
        areas = (count * (end - start) for count, (start, end) in zip(self._open, pairwise(self._times), strict=False))
        self._area = [0.0, *accumulate(areas)]

    def mean(self, start: float, end: float) -> float:
        """Return the mean number between two moments, each the start or end of an interval."""
        first, last = bisect_left(self._times, start), bisect_right(self._times, end) - 1
        return (self._area[last] - self._area[first]) / (end - start)


def surviving_quantiles(ended: Sequence[int], cut: Sequence[float], count: int) -> tuple[int, ...]:
    """Return evenly spaced quantiles of lengths; those in ``cut`` are only known to be longer than their value.

    Kaplan and Meier's estimator moves the weight of censored lengths to longer ones that ended. Weight beyond the
    longest of those counts as that one.
    """
    left = len(ended) + len(cut)
    weights: list[tuple[int, float]] = []
    surviving = 1.0
    # At equal lengths, the one that ended comes first, because the censored one lived longer.
    for length, whole in sorted(
        [*((float(n), False) for n in cut), *((float(n), True) for n in ended)], key=_ended_first
    ):
        if whole:
            weights.append((round(length), surviving / left))
            surviving -= surviving / left
        left -= 1
    weights[-1] = (weights[-1][0], weights[-1][1] + surviving)
    reached = list(accumulate(weight for _, weight in weights))
    places = (bisect_left(reached, (k + 0.5) / count * reached[-1]) for k in range(count))
    return tuple(weights[min(place, len(weights) - 1)][0] for place in places)


def _ended_first(entry: tuple[float, bool]) -> tuple[float, bool]:
    length, whole = entry
    return length, not whole


def nonnegative_least_squares(rows: Sequence[tuple[Sequence[float], float]]) -> tuple[float, ...]:
    """Return non-negative factors of the columns that come nearest to the rows' values.

    A column that would need a negative factor, or that equals another column, has the factor 0.
    """
    size = len(rows[0][0])
    free = list(range(size))
    while free:
        matrix = [[sum(x[a] * x[b] for x, _ in rows) for b in free] for a in free]
        found = _solved(matrix, [sum(x[a] * y for x, y in rows) for a in free])
        if found is not None and min(found) >= 0:
            factors = dict(zip(free, found, strict=True))
            return tuple(factors.get(k, 0.0) for k in range(size))
        free.pop(-1 if found is None else found.index(min(found)))
    return (0.0,) * size


def _solved(matrix: list[list[float]], values: list[float]) -> list[float] | None:
    """Return the solution of linear equations by elimination; None if there is none or more than one."""
    rows = [[*row, value] for row, value in zip(matrix, values, strict=True)]
    scale = [max(map(abs, row[:-1]), default=0.0) for row in rows]
    for k in range(len(rows)):
        pivot = max(range(k, len(rows)), key=lambda r: abs(rows[r][k]))
        if abs(rows[pivot][k]) <= 1e-9 * (scale[pivot] or 1.0):
            return None
        rows[k], rows[pivot], scale[k], scale[pivot] = rows[pivot], rows[k], scale[pivot], scale[k]
        for r in range(len(rows)):
            if r != k:
                factor = rows[r][k] / rows[k][k]
                rows[r] = [a - factor * b for a, b in zip(rows[r], rows[k], strict=True)]
    return [row[-1] / row[k] for k, row in enumerate(rows)]
