"""What ends a run before its budget does: a champion that is good enough, or proposals that no longer improve on it.

The machine looks at its goal itself, and is told it in a turn: a run that is replayed ends as it ended.
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
    """What a run is for.

    It ends when its champion has a score of at least ``target``, or has the score ``perfect`` on all of so many
    ``samples``; and when so many proposals in a row (``patience``) have been judged without a better champion.
    ``seconds`` is the time that it has.
    """

    target: float | None = None
    patience: int | None = None
    perfect: float | None = None
    samples: int = 0
    seconds: float | None = None


NO_GOAL = Goal()


def proposing(graph: GraphSpec) -> frozenset[str]:
    """The sources whose rounds lead to a stage that counts proposals, without passing a pool."""
    stages = {stage.name for stage in graph.stages if "proposals" in stage.spends}
    return frozenset(s.name for s in graph.sources if stages & downstream(graph, s.name))


@attrs.define(eq=False)
class Goals:
    """A run's goal, and how far the run is from it.

    A run that has no patience left opens no new rounds of the sources in ``proposers``, but what is open goes on: a
    better champion from there gives it its patience back.
    """

    proposers: frozenset[str]
    goal: Goal = Goal()
    met: bool = False
    """Whether the champion has reached it."""
    _seen: Artifact | None = None
    """The champion when it was last looked at."""
    _since: float = 0.0
    """Proposals that had been counted when it became the champion."""

    def aim(self, goal: Goal) -> None:
        """Go on with another goal."""
        self.goal, self.met = goal, False

    def look(self, pool: Any, champion: Artifact | None, proposals: float) -> End | None:
        """Take note of the champion, which is in ``pool``, and of how many ``proposals`` there were so far; returns
        how the run ends now; None: it goes on."""
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
        # A validation on some samples may be a lucky one; of a complete one the mean counts, as in published loops.
        known = champion.evidence
        score = champion.score if known is None or known.complete else known.estimate
        # A mean of floats may lie below by a rounding error.
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
        """The sources that open no new rounds."""
        return self.proposers if self._waited(proposals) else ()

    def _waited(self, proposals: float) -> bool:
        return self.goal.patience is not None and proposals - self._since >= self.goal.patience

    def given_up(self, proposals: float) -> End | None:
        """How the run ends when nothing is open any more and it has no patience left; None if it has."""
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
    """Whether a champion improves on the one before: more evidence for the same artifact is no improvement."""
    if before is None:
        return True
    if champion.id == before.id:
        return False
    return champion.score is None or before.score is None or champion.score > before.score
