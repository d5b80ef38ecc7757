"""A run's goal: it ends before its budget does, by a good enough champion or by proposals without improvement.

The goal is part of a turn, and the machine itself checks it, so that a replay ends like the run.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import attrs

from flashgraph.graph.analysis import downstream
from flashgraph.graph.ports import Artifact
from flashgraph.graph.spec import GraphSpec
from flashgraph.run.cause import Cause, End

__all__ = ["NO_GOAL", "Goal", "Goals", "proposing"]


@attrs.frozen
class Goal:
    """The ends of a run that its budget does not set.

    The run ends when its champion has a score of at least ``target``, or the score ``perfect`` on all ``samples``
    samples.  It also ends when ``patience`` proposals in a row were judged without a better champion.  ``seconds`` is
    its time limit.
    """

    target: float | None = None
    patience: int | None = None
    perfect: float | None = None
    samples: int = 0
    seconds: float | None = None


NO_GOAL = Goal()


def proposing(graph: GraphSpec) -> frozenset[str]:
    """Return the sources whose rounds lead to a stage that spends proposals, without passing a pool."""
    stages = {stage.name for stage in graph.stages if "proposals" in stage.counts}
    return frozenset(s.name for s in graph.sources if stages & downstream(graph, s.name))


@attrs.define(eq=False)
class Goals:
    """A run's goal, and how far the run is from it.

    When its patience is used up, a run opens no new rounds of the sources in ``proposers``.  Open rounds continue, and
    a better champion from them restores the patience.
    """

    proposers: frozenset[str]
    goal: Goal = Goal()
    met: bool = False
    """Whether the champion has reached the goal."""
    _seen: Artifact | None = None
    """The champion at the last look."""
    _since: float = 0.0
    """The count of proposals when it became the champion."""

    def aim(self, goal: Goal) -> None:
        """Set another goal."""
        self.goal, self.met = goal, False

    def look(self, pool: Any, champion: Artifact | None, proposals: float) -> End | None:
        """Note the champion, which is in ``pool``, and the number of ``proposals`` so far.

        Return how the run ends now; None if it continues.
        """
        if champion is not None and champion is not self._seen:
            if _better(champion, self._seen):
                self._since = proposals
            self._seen = champion
        end = self._reached(pool) if self._seen is not None and not self.met else None
        self.met = self.met or end is not None
        return end

    def _reached(self, pool: Any) -> End | None:
        goal, champion = self.goal, self._seen
        if champion is None or champion.provisional or champion.score is None:
            return None
        # A partial validation may be lucky, so its estimate counts; for a complete one the mean counts, as published.
        known = champion.evidence
        score = champion.score if known is None or known.complete else known.estimate
        # A mean of floats may be below the target by a rounding error.
        if goal.target is not None and score >= goal.target - 1e-9 * max(1.0, abs(goal.target)):
            said = f"a score of {score:.3f} was reached, the target is {goal.target:g}"
            return End("stopped", Cause.TARGET, said)
        if goal.perfect is None or getattr(pool, "open_ended", False):
            return None
        if len(champion.scores) < goal.samples or min(champion.scores.values()) < goal.perfect:
            return None
        said = f"the best has the greatest score, {goal.perfect:g}, on all {goal.samples} samples of the validation"
        return End("stopped", Cause.PERFECT, said)

    def closed(self, proposals: float) -> Collection[str]:
        """Return the sources that open no new rounds."""
        return self.proposers if self._waited(proposals) else ()

    def _waited(self, proposals: float) -> bool:
        return self.goal.patience is not None and proposals - self._since >= self.goal.patience

    def given_up(self, proposals: float) -> End | None:
        """Return how a run without open rounds ends if it has no patience left; None if it has some."""
        if not self._waited(proposals):
            return None
        return End("stopped", Cause.PATIENCE, self._impatient(proposals))

    def _impatient(self, proposals: float) -> str:
        count = f"{proposals - self._since:.0f} proposals in a row"
        if self._seen is None:
            return f"{count} have come to nothing, the patience is {self.goal.patience}"
        score = "" if self._seen.score is None else f" with a score of {self._seen.score:.3f}"
        return f"{count} have not improved on the best{score}, the patience is {self.goal.patience}"


def _better(champion: Artifact, before: Artifact | None) -> bool:
    """Whether a champion improves on the last one; more evidence for the same artifact is no improvement."""
    if before is None:
        return True
    if champion.id == before.id:
        return False
    return champion.score is None or before.score is None or champion.score > before.score
