"""The standing of a program: accuracy and context by data set, dominance, and when a candidate cannot recover."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import attrs

from flashgraph.graph.ports import Group
from flashgraph.parts.meta_harness.items import OVERALL, Points, Prediction, Stakes

__all__ = ["HarnessScore", "beaten", "dominates", "hopeless", "marks", "undominated"]


@attrs.frozen
class HarnessScore:
    """The mean score and the mean context characters of ``count`` predictions; ``failures`` of them failed."""

    accuracy: float
    characters: float
    count: int
    failures: int

    @property
    def point(self) -> tuple[float, float]:
        return self.accuracy, self.characters


def marks(predictions: Sequence[Prediction]) -> dict[str, HarnessScore]:
    """Return a score for each data set with predictions, and the mean over them; every data set counts the same."""
    by_dataset: dict[str, list[Prediction]] = {}
    for prediction in predictions:
        by_dataset.setdefault(prediction.dataset, []).append(prediction)
    found = {
        name: HarnessScore(
            sum(p.score for p in made) / len(made),
            sum(p.characters for p in made) / len(made),
            len(made),
            sum(bool(p.failure) for p in made),
        )
        for name, made in by_dataset.items()
    }
    if not found:
        return {}
    each = list(found.values())
    overall = HarnessScore(
        sum(m.accuracy for m in each) / len(each),
        sum(m.characters for m in each) / len(each),
        sum(m.count for m in each),
        sum(m.failures for m in each),
    )
    return {**found, OVERALL: overall}


def dominates(one: tuple[float, float], other: tuple[float, float]) -> bool:
    """Return whether (accuracy, characters) ``one`` is at least as good as ``other`` in both, and better in one."""
    return one[0] >= other[0] and one[1] <= other[1] and one != other


def undominated(points: Mapping[int, tuple[float, float]]) -> tuple[int, ...]:
    """Return the keys whose points no other dominates, in the given order; equal points are both kept."""
    return tuple(key for key, point in points.items() if not any(dominates(other, point) for other in points.values()))


def hopeless(group: Group[Any, Prediction]) -> bool:
    """Return whether the candidate can be on no frontier any more: a predicate for `flashgraph.decided`."""
    return beaten(group.values)


def beaten(predictions: Sequence[Prediction]) -> bool:
    """Return whether a candidate can be on no frontier, however its remaining predictions turn out.

    The bound is sound. The remaining predictions may all have the greatest score and cost nothing; a known rival still
    dominates that on every data set and overall. Without a finite greatest score, nothing is settled.
    """
    stakes = next((p.stakes for p in predictions if p.stakes is not None), None)
    if stakes is None or not stakes.rivals or not math.isfinite(stakes.greatest):
        return False
    best = _best_case(predictions, stakes)
    return all(any(_beats(rival, name, point) for rival in stakes.rivals) for name, point in best.items())


def _beats(rival: Points, name: str, point: tuple[float, float]) -> bool:
    return name in rival and dominates(rival[name], point)


def _best_case(predictions: Iterable[Prediction], stakes: Stakes) -> Points:
    sizes, greatest = stakes.sizes, stakes.greatest
    reached = {name: greatest * size for name, size in sizes.items()}
    spent = dict.fromkeys(sizes, 0)
    for prediction in predictions:
        reached[prediction.dataset] -= greatest - prediction.score
        spent[prediction.dataset] += prediction.characters
    points = {name: (reached[name] / size, spent[name] / size) for name, size in sizes.items()}
    overall = tuple(sum(point[i] for point in points.values()) / len(points) for i in (0, 1))
    return {**points, OVERALL: (overall[0], overall[1])}
