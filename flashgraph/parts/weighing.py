"""The evidence of an artifact in a pool, with the best of its parents as the control."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import attrs

from flashgraph.evidence import Evidence, weigh
from flashgraph.graph.ports import Artifact, Group

__all__ = ["anywhere", "weighed"]

anywhere = (float("-inf"), float("inf"))
"""The bounds of a pool that was made without a task."""


def weighed(
    scores: Mapping[int, float],
    group: Group[Any, Any],
    *,
    parents: Iterable[Artifact | None] = (),
    bounds: tuple[float, float] = anywhere,
    failed: int = 0,
    exact: bool = False,
) -> Evidence:
    """Return the evidence of an artifact with ``scores``, keyed by the index of the group's members.

    ``scores`` includes failed members, with the least score. The control is the parent with the highest mean among
    those with a score for every sample. Without such a parent, the tried samples stand for all, stratum by stratum.
    With ``exact``, the samples are the objective itself and not drawn from a population. Their mean is then the score,
    with no interval around it.
    """
    known = [p for p in parents if p is not None and p.evidence is not None and len(p.scores) == group.size]
    best = max(known, key=lambda p: p.evidence.mean if p.evidence else 0.0, default=None)
    found = weigh(
        scores, group.size, bounds=bounds, failed=failed, control=None if best is None else best.scores,
        strata=dict(enumerate(group.strata)), parent=None if best is None else best.evidence,
    )  # fmt: skip
    if not exact:
        return found
    interval = (found.mean, found.mean) if found.complete else found.interval
    return attrs.evolve(found, estimate=found.mean, prior=None, interval=interval)
