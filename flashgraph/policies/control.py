"""Control policies: the work that gets the next free slot of a model, and the number of workers of each stage."""

from __future__ import annotations

import math
from collections.abc import Mapping
from statistics import median
from typing import Any

import attrs

from flashgraph.errors import Flaw

__all__ = ["Balanced", "Control", "DrainFirst", "ShortestFirst", "Waiting", "balanced", "drain_first", "shortest_first"]

SHORTEST_INTERVAL = 0.001
"""Seconds. A long run's clock would round a shorter interval to 0, and adjustments would follow without a pause."""


@attrs.frozen
class Waiting:
    """Work that waits for a slot.

    ``distance`` is the number of edges from its stage to the pool, ``version`` the newest version that it carries. Work
    is ``late`` if its group was released without it. ``age`` is a rank: smaller is older. ``lacks`` is the number of
    members that its group still needs for its release. It is 1 for an item without a group, and infinity for a group
    that has not begun.
    """

    stage: str
    distance: int
    round: int
    version: int
    late: bool
    age: int
    lacks: float = 1


@attrs.frozen
class DrainFirst:
    """The stage nearest the pool goes first. Within a stage, late members go last, newer versions first, then older
    work.

    The next admission waits for the work nearest the pool, so this order keeps a generation's latency short.  Late
    members go after their own stage's other work, but before stages further away. On a busy server they would otherwise
    never end, and artifacts with partial evidence would never be confirmed.
    """

    interval: float | None = None
    """Seconds between adjustments of workers; None for a policy that makes none."""

    def rank(self, waiting: Waiting) -> tuple[Any, ...]:
        """Return a sort key: the smallest goes first."""
        return (waiting.distance, waiting.late, -waiting.version, waiting.age)

    def priority(self, waiting: Waiting) -> int:
        """Return the priority for a server that supports priorities; the smallest goes first.

        It is coarser than `rank`, because servers take whole numbers, and versions change while a request waits there.
        """
        return 2 * waiting.distance + waiting.late

    def start(self, most: int) -> int:
        """Return the number of workers of a stage at the start of a run; ``most`` is the stage's limit."""
        return most

    def adjust(self, workers: Mapping[str, int], finished: Mapping[str, float]) -> dict[str, int]:
        """Return the new number of workers of each stage.

        ``finished`` is the number of items that each stage finished since the last call; a member counts as its share
        of a group.
        """
        return dict(workers)

    def flaw(self) -> Flaw | None:
        interval: Any = self.interval
        timed = isinstance(interval, int | float) and not isinstance(interval, bool)
        if interval is None or (timed and SHORTEST_INTERVAL <= interval < math.inf):
            return None
        expected = f"seconds from {SHORTEST_INTERVAL}"
        return Flaw(f"interval={interval!r}", expected, "balanced(5) adjusts every 5 seconds")

    def __str__(self) -> str:
        return "drain_first"


@attrs.frozen
class Balanced(DrainFirst):
    """The published rule (FlashEvolve, mechanism 5): adjust workers to the production rates of stages.

    A stage below half the median rate gains a worker. A stage above twice the median rate loses one, but keeps at least
    one.
    """

    def rank(self, waiting: Waiting) -> tuple[Any, ...]:
        return (waiting.late, waiting.age)

    def priority(self, waiting: Waiting) -> int:
        return int(waiting.late)

    def start(self, most: int) -> int:
        return min(most, 8)

    def adjust(self, workers: Mapping[str, int], finished: Mapping[str, float]) -> dict[str, int]:
        middle = median(finished.get(stage, 0) for stage in workers) if workers else 0
        changed = dict(workers)
        for stage, count in workers.items():
            rate = finished.get(stage, 0)
            if rate < middle / 2:
                changed[stage] = count + 1
            elif rate > middle * 2 and count > 1:
                changed[stage] = count - 1
        return changed

    def __str__(self) -> str:
        return "balanced"


@attrs.frozen
class ShortestFirst(DrainFirst):
    """The work whose group needs the fewest further members for its release goes first (shortest remaining work first).

    Ties go to the stage nearest the pool, then to the newest version, then to the oldest work. A reflection is one
    request, a validation is about a hundred. If the reflection starts first, validations fill the server meanwhile.
    """

    def rank(self, waiting: Waiting) -> tuple[Any, ...]:
        return (waiting.late, waiting.lacks, waiting.distance, -waiting.version, waiting.age)

    def __str__(self) -> str:
        return "shortest_first"


Control = DrainFirst


def shortest_first() -> Control:
    """Serve the work first whose group needs the fewest further members for its release."""
    return ShortestFirst()


def drain_first() -> Control:
    """Serve the stage nearest the pool first; the default."""
    return DrainFirst()


def balanced(interval: float = 5.0) -> Control:
    """Serve the oldest work first, and adjust workers to production rates every ``interval`` seconds (from 0.001)."""
    return Balanced(interval)
