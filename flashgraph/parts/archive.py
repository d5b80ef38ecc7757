"""The simplest pool: it keeps every artifact with a sufficient score."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import attrs

from flashgraph.graph.ports import Artifact, Group, PoolEvent
from flashgraph.parts.weighing import anywhere, weighed
from flashgraph.tasks.task import Task, least_score

__all__ = ["Archive"]


@attrs.frozen
class Archive:
    """Keeps every artifact whose mean score is at least ``threshold``.

    An artifact is retracted if its score, once complete, falls below the threshold. The pool takes groups whose members
    have a ``score`` (as `flashgraph.parts.evaluation.Attempt` has). A failed member has the task's least score. The
    mean of an incomplete group is an estimate (`flashgraph.evidence.weigh`).
    """

    threshold: float = float("-inf")
    artifacts: Mapping[int, Artifact] = attrs.field(factory=dict)
    bounds: tuple[float, float] = anywhere

    def for_task(self, task: Task[Any, Any]) -> Archive:
        """Return the empty archive of a task."""
        return attrs.evolve(self, bounds=task.bounds)

    def apply(self, event: PoolEvent[Group[Any, Any]]) -> Archive:
        """Add, complete or remove one artifact."""
        rest = {i: a for i, a in self.artifacts.items() if i != event.artifact}
        if event.kind == "retract":
            return attrs.evolve(self, artifacts=rest)
        group, scores = event.value, {m.index: float(m.value.score) for m in event.value.members if m.value is not None}
        if scores:  # no scores: every member failed
            scores |= {m.index: least_score(self.bounds) for m in group.failures}
            known = weighed(
                scores, group, parents=map(self.artifacts.get, event.parents), bounds=self.bounds,
                failed=len(group.failures),
            )  # fmt: skip
            if known.mean >= self.threshold:
                rest[event.artifact] = Artifact(
                    event.artifact, group.origin, event.parents, known.mean, scores, event.partial, known
                )
        return attrs.evolve(self, artifacts=dict(sorted(rest.items())))

    def best(self) -> Artifact | None:
        """Return the artifact with the highest mean score; a confirmed artifact beats any provisional one."""
        confirmed = [a for a in self.artifacts.values() if not a.provisional]
        return max(confirmed or self.artifacts.values(), key=lambda a: a.score or 0.0, default=None)

    def ranked(self, most: int) -> list[Artifact]:
        """Return up to ``most`` artifacts, the best first; of equal scores the older one is better."""
        return sorted(self.artifacts.values(), key=lambda a: (-(a.score or 0.0), a.id))[:most]

    def best_line(self) -> Archive:
        top = max(self.artifacts.values(), key=lambda a: (a.score or 0.0, a.id), default=None)
        return attrs.evolve(self, artifacts={top.id: top} if top else {})
