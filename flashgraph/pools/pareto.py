"""GEPA's pool: every validated candidate, and for each validation sample the candidates that are best at it."""

from __future__ import annotations

import random
from collections.abc import Mapping
from functools import cached_property

import attrs

from flashgraph.evaluation import Attempt, Candidate
from flashgraph.graph.ports import Artifact, Group, PoolEvent

__all__ = ["ParetoFrontier"]


@attrs.frozen
class ParetoFrontier:
    """An instance-wise Pareto frontier (GEPA, arXiv 2507.19457, section 3).

    Every candidate that is admitted stays in ``artifacts``; being on a front only decides how often `draw` picks it.
    A provisional artifact competes on the samples it has scores for.
    """

    artifacts: Mapping[int, Artifact] = attrs.field(factory=dict)

    def apply(self, event: PoolEvent[Group[Candidate, Attempt]]) -> ParetoFrontier:
        """Add, complete or remove one candidate."""
        rest = dict(self.artifacts)
        if event.kind == "retract":
            rest.pop(event.artifact, None)
            return ParetoFrontier(rest)
        scores = {a.index: a.score for a in event.value.values}
        if not scores:
            # Not one sample could be scored: there is no evidence to hold the candidate by.
            rest.pop(event.artifact, None)
            return ParetoFrontier(rest)
        parents = event.parents
        rest[event.artifact] = Artifact(
            event.artifact,
            event.value.origin.text,
            parents,
            self._estimate(scores, parents) if event.partial else sum(scores.values()) / len(scores),
            scores,
            event.partial,
        )
        return ParetoFrontier(rest)

    def _estimate(self, scores: Mapping[int, float], parents: tuple[int, ...]) -> float:
        """Mean over the known samples, the parent's scores standing in for the unknown ones: hard samples go first,
        so a plain mean over them would be too low to compare."""
        known = next((self.artifacts[p].scores for p in parents if p in self.artifacts), {})
        filled = {**known, **scores}
        return sum(filled.values()) / len(filled)

    @cached_property
    def fronts(self) -> dict[int, tuple[int, ...]]:
        """For each sample, in order of first appearance, the ids with the best score there, in order of admission."""
        best: dict[int, float] = {}
        fronts: dict[int, list[int]] = {}
        for artifact in self.artifacts.values():
            for sample, score in artifact.scores.items():
                if sample not in best or score > best[sample]:
                    best[sample], fronts[sample] = score, [artifact.id]
                elif score == best[sample]:
                    fronts[sample].append(artifact.id)
        return {sample: tuple(fronts[sample]) for sample in sorted(fronts)}

    def draw(self, stream: random.Random) -> Artifact | None:
        """A parent, with probability proportional to the number of fronts it is on after dominated ones are
        removed; None while the pool is empty.

        Fronts are walked as sets of small integers, as the published implementation does: its choice depends on
        that order, and lockstep must make the same one.
        """
        if not self.artifacts:
            return None
        fronts = [set(ids) for ids in self.fronts.values()]
        survivors = self._undominated(fronts)
        counts: dict[int, int] = {}
        for front in fronts:
            for artifact in {a for a in front if a in survivors}:
                counts[artifact] = counts.get(artifact, 0) + 1
        return self.artifacts[stream.choice([a for a, n in counts.items() for _ in range(n)])]

    def _undominated(self, fronts: list[set[int]]) -> set[int]:
        """Drop, from the lowest mean score up, artifacts whose every front also holds another survivor."""
        seen = dict.fromkeys(a for front in fronts for a in front)
        ascending = sorted(seen, key=lambda a: self.artifacts[a].score or 0.0)
        survivors = set(ascending)
        for artifact in ascending:
            if all(len(front & survivors) > 1 for front in fronts if artifact in front):
                survivors.discard(artifact)
        return survivors

    def best(self) -> Artifact | None:
        """The highest mean score, the oldest among equals; a confirmed artifact before any provisional one."""
        confirmed = [a for a in self.artifacts.values() if not a.provisional]
        return max(confirmed or self.artifacts.values(), key=lambda a: a.score or 0.0, default=None)

    def focus(self) -> ParetoFrontier:
        """Only the artifact with the highest score or estimate, the newest among equals: the deepest line."""
        if not self.artifacts:
            return self
        top = max(self.artifacts.values(), key=lambda a: (a.score or 0.0, a.id))
        return ParetoFrontier({top.id: top})
