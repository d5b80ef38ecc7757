"""Scored snapshots of an artifact that another pool evolves, and the scores of its training samples."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

import attrs

from flashgraph.graph.ports import Artifact, Group, PoolEvent
from flashgraph.parts.evaluation import Attempt, Work, same_text
from flashgraph.parts.weighing import anywhere, weighed
from flashgraph.tasks.task import Task

__all__ = ["Checkpoints", "Snapshot", "StepScores", "same_snapshot"]


@attrs.frozen
class Snapshot:
    """The texts of an artifact after ``step`` samples, to be tried on the samples ``indices`` of ``split``.

    A sample that fails scores ``least``.
    """

    text: Mapping[str, str]
    step: int
    split: str
    indices: tuple[int, ...]
    least: float = 0.0

    def work(self) -> list[Work]:
        return [Work(self.text, self.split, index) for index in self.indices]


def same_snapshot(value: Snapshot) -> Hashable:
    """Return the key that tells snapshots apart (for ``distinct=`` on an edge): texts without white space, and
    samples."""
    return same_text(value), value.split, value.indices


@attrs.frozen
class StepScores:
    """The sums of scores of ``samples`` training samples, before and after the artifact learned from them."""

    samples: int
    before: float
    after: float


@attrs.frozen
class Checkpoints:
    """Snapshots with their mean scores.

    On the ``val`` split all are scored on the same samples, and `best` is the first with the highest mean (ACE, arXiv
    2510.04618: a strict comparison). In ACE's online mode each is scored on its own samples, before it learns from
    them. Then the newest is the best, and `cumulative` is the score of all.
    """

    artifacts: Mapping[int, Artifact] = attrs.field(factory=dict)
    steps: Mapping[int, int] = attrs.field(factory=dict)
    """For each artifact, the step of its snapshot."""
    online: bool = False
    answered: int = 0
    before: float = 0.0
    after: float = 0.0
    """Sums of the training samples' scores."""
    bounds: tuple[float, float] = anywhere

    def for_task(self, task: Task[Any, Any]) -> Checkpoints:
        """Return the empty pool of a task."""
        return attrs.evolve(self, bounds=task.bounds)

    def apply(self, event: PoolEvent[Group[Snapshot, Attempt] | StepScores]) -> Checkpoints:
        """Add, complete or remove a snapshot; count a training sample."""
        if isinstance(event.value, StepScores):
            return attrs.evolve(
                self,
                answered=self.answered + event.value.samples,
                before=self.before + event.value.before,
                after=self.after + event.value.after,
            )
        rest = {i: a for i, a in self.artifacts.items() if i != event.artifact}
        origin = event.value.origin
        # Members are numbered within their window; the snapshot names the samples.
        scores = event.value.values
        if event.kind == "retract" or not scores:
            return attrs.evolve(self, artifacts=rest)
        ended = [m for m in event.value.members if m.state != "open"]
        places = {m.index: origin.least if m.value is None else m.value.score for m in ended}
        known = weighed(places, event.value, bounds=self.bounds, failed=len(places) - len(scores))
        by_sample = {origin.indices[place]: score for place, score in places.items()}
        rest[event.artifact] = Artifact(
            event.artifact, origin.text, event.parents, known.mean, by_sample, event.partial, known
        )
        return attrs.evolve(
            self,
            artifacts=dict(sorted(rest.items())),
            steps={**self.steps, event.artifact: origin.step},
            online=origin.split != "val",
        )

    @property
    def cumulative(self) -> float | None:
        """The mean over all samples of all snapshots: each window counts by its size."""
        scores = [score for artifact in self.artifacts.values() for score in artifact.scores.values()]
        return sum(scores) / len(scores) if scores else None

    def best(self) -> Artifact | None:
        """Return the first snapshot with the highest score, a confirmed one before any provisional one; online the
        newest."""
        confirmed = [a for a in self.artifacts.values() if not a.provisional] or list(self.artifacts.values())
        if self.online:
            return max(confirmed, key=lambda a: self.steps[a.id], default=None)
        return max(confirmed, key=lambda a: (a.score or 0.0, -self.steps[a.id]), default=None)

    @property
    def own_champion(self) -> bool:
        """Whether the newest is handed out: online, where no two snapshots share a sample."""
        return self.online

    @property
    def open_ended(self) -> bool:
        """Whether a perfect score leaves work to do: online, where the next window has other samples."""
        return self.online

    def best_line(self) -> Checkpoints:
        return self
