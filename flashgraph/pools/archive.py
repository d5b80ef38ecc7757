"""The simplest pool: what scores at least a threshold, best first when asked."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import attrs

from flashgraph.graph.ports import Artifact, Group, PoolEvent

__all__ = ["Archive"]


@attrs.frozen
class Archive:
    """Keeps every artifact whose mean score is at least ``threshold``; one that falls below it once all of its
    evidence is there is retracted.

    It takes groups whose members have a ``score`` (as `flashgraph.evaluation.Attempt` has).
    """

    threshold: float = float("-inf")
    artifacts: Mapping[int, Artifact] = attrs.field(factory=dict)

    def apply(self, event: PoolEvent[Group[Any, Any]]) -> Archive:
        """Add, complete or remove one artifact."""
        rest = {i: a for i, a in self.artifacts.items() if i != event.artifact}
        if event.kind == "retract":
            return attrs.evolve(self, artifacts=rest)
        scores = {m.index: float(m.value.score) for m in event.value.members if m.value is not None}
        mean = sum(scores.values()) / len(scores) if scores else float("-inf")
        if mean >= self.threshold and scores:
            rest[event.artifact] = Artifact(
                event.artifact, event.value.origin, event.parents, mean, scores, event.partial
            )
        return attrs.evolve(self, artifacts=dict(sorted(rest.items())))

    def best(self) -> Artifact | None:
        """The highest mean score, a confirmed artifact before any provisional one."""
        confirmed = [a for a in self.artifacts.values() if not a.provisional]
        return max(confirmed or self.artifacts.values(), key=lambda a: a.score or 0.0, default=None)

    def focus(self) -> Archive:
        top = max(self.artifacts.values(), key=lambda a: (a.score or 0.0, a.id), default=None)
        return attrs.evolve(self, artifacts={top.id: top} if top else {})
