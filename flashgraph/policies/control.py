"""Control policies: which waiting work gets the next free slot of a model, and how many workers a stage has."""

from __future__ import annotations

import math
from collections.abc import Mapping
from statistics import median
from typing import Any

import attrs

from flashgraph.errors import Flaw

__all__ = ["Balanced", "Control", "DrainFirst", "ShortestFirst", "Waiting", "balanced", "drain_first", "shortest_first"]

SHORTEST_INTERVAL = 0.001
"""Seconds.  A shorter one is lost in the rounding of a long run's clock: adjustments would be due again at once."""


@attrs.frozen
class Waiting:
    """Work that waits for a slot: how far its stage is from the pool (in edges), its round, the newest version it
    carries, whether it is late (its group has gone on without it), its age rank (smaller is older), and how many
    members its group lacks until it is released (1 for an item of its own, infinity for a group not yet begun)."""

    stage: str
    distance: int
    round: int
    version: int
    late: bool
    age: int
    lacks: float = 1


@attrs.frozen
class DrainFirst:
    """The stage nearest the pool first; within a stage what is not late, then the newest line, then the oldest work.

    What is nearest the pool is what the next admission waits for: this keeps a generation's latency short.  Late
    members go behind their own stage's other work but before stages further away: on a busy server they would
    otherwise never end, and what was admitted on a part of its evidence would never be confirmed.
    """

    interval: float | None = None
    """Seconds between adjustments of workers; None for a policy that makes none."""

    def rank(self, waiting: Waiting) -> tuple[Any, ...]:
        """Sort key: the smallest goes first."""
        return (waiting.distance, waiting.late, -waiting.version, waiting.age)

    def priority(self, waiting: Waiting) -> int:
        """What a server that takes priorities is told, the smallest first.

        Coarser than `rank`: servers take whole numbers, and the newest line changes while a request waits there.
        """
        return 2 * waiting.distance + waiting.late

    def start(self, most: int) -> int:
        """Workers of a stage at the beginning, when it may have ``most``."""
        return most

    def adjust(self, workers: Mapping[str, int], finished: Mapping[str, float]) -> dict[str, int]:
        """New worker counts by stage, from the counts now and what each stage finished since the last call, in whole
        items: a member of a group counts as its share of the group."""
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
    """The published rule (FlashEvolve, mechanism 5): a stage producing below half the median rate gains a worker,
    above twice the median it loses one; one step at a time, never below one."""

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
    """What is nearest to go on: the work whose group lacks the fewest members until it is released (shortest remaining
    work first), then what is nearest the pool, then the newest line, then the oldest work.

    A reflection is one request and a validation a hundred: begun first, its long tail passes while validations fill
    the server.
    """

    def rank(self, waiting: Waiting) -> tuple[Any, ...]:
        return (waiting.late, waiting.lacks, waiting.distance, -waiting.version, waiting.age)

    def __str__(self) -> str:
        return "shortest_first"


Control = DrainFirst


def shortest_first() -> Control:
    """Serve what lacks the fewest requests until it can go on."""
    return ShortestFirst()


def drain_first() -> Control:
    """Serve the stage nearest the pool first; the default."""
    return DrainFirst()


def balanced(interval: float = 5.0) -> Control:
    """Serve in order of age and let worker counts follow production rates, every ``interval`` seconds (from 0.001)."""
    return Balanced(interval)
