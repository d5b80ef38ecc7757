"""GEPA's pool: every validated candidate, and for each validation sample the candidates that are best at it."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Hashable, Iterable, Mapping
from functools import cached_property
from typing import Any, Literal, TypeVar, get_args

import attrs

from flashgraph.errors import DataError
from flashgraph.evaluation import Attempt, Candidate
from flashgraph.graph.ports import Artifact, Group, PoolEvent

__all__ = ["FRONTIERS", "Frontier", "ParetoFrontier"]

K = TypeVar("K", bound=Hashable)

Frontier = Literal["instance", "objective", "hybrid", "cartesian"]
"""What a front is of: a validation sample, an objective's mean, both, or an objective at a sample."""
FRONTIERS: tuple[Frontier, ...] = get_args(Frontier)

Scores = Mapping[int, float]
"""Scores by sample."""

Objectives = Mapping[int, Mapping[str, float]]
"""Named scores by sample."""


@attrs.frozen
class ParetoFrontier:
    """A Pareto frontier over validation samples and objectives (GEPA, arXiv 2507.19457, section 3).

    Every candidate that is admitted stays in ``artifacts``; being on a front only decides how often `draw` picks it.
    An artifact competes on the samples it has scores for.  ``objectives`` holds the artifacts' named scores.
    """

    artifacts: Mapping[int, Artifact] = attrs.field(factory=dict)
    objectives: Mapping[int, Objectives] = attrs.field(factory=dict)
    estimates: Mapping[int, Scores] = attrs.field(factory=dict)
    """By artifact what its score is the mean of: its own scores, and where its validation was cut short those of the
    parent it is completed by for the other samples.  Hard samples go first, so a plain mean over them would be too low
    to compare, and one over whichever samples came first would compare candidates on different ones."""
    estimated_objectives: Mapping[int, Objectives] = attrs.field(factory=dict)
    """The same of the named scores."""
    completed_by: Mapping[int, int] = attrs.field(factory=dict)
    """By artifact whose validation was cut short, its best parent."""

    def apply(self, event: PoolEvent[Group[Candidate, Attempt]]) -> ParetoFrontier:
        """Add, complete or remove one candidate."""
        scores = {} if event.kind == "retract" else {a.index: a.score for a in event.value.values}
        if not scores:
            # Not one sample could be scored: there is no evidence to hold the candidate by.
            return self._only(a for a in self.artifacts if a != event.artifact)
        named = {a.index: a.objectives for a in event.value.values if a.objectives}
        by = self._best_of(event.parents) if event.value.partial else None
        artifact = Artifact(event.artifact, event.value.origin.text, event.parents, 0.0, scores, event.partial)
        others = {i: p for i, p in self.completed_by.items() if i != artifact.id}
        return attrs.evolve(
            self,
            artifacts={**self.artifacts, artifact.id: artifact},
            objectives={**self.objectives, artifact.id: named} if named else self.objectives,
            completed_by=others if by is None else {**others, artifact.id: by},
        )._estimated(artifact.id)

    def _estimated(self, changed: int) -> ParetoFrontier:
        """With the estimates of an artifact, and of those that are completed by it, made anew."""
        artifacts, estimates, named = dict(self.artifacts), dict(self.estimates), dict(self.estimated_objectives)
        anew = {changed}
        for artifact in artifacts.values():  # parents come before their children
            by = self.completed_by.get(artifact.id)
            if artifact.id != changed and by not in anew:
                continue
            anew.add(artifact.id)
            estimate = {**(estimates[by] if by is not None else {}), **artifact.scores}
            estimates[artifact.id] = estimate
            if artifact.id in self.objectives:
                known = named.get(by, {}) if by is not None else {}
                named[artifact.id] = {**known, **self.objectives[artifact.id]}
            artifacts[artifact.id] = attrs.evolve(artifact, score=sum(estimate.values()) / len(estimate))
        return attrs.evolve(self, artifacts=artifacts, estimates=estimates, estimated_objectives=named)

    def _best_of(self, parents: tuple[int, ...]) -> int | None:
        """Of the parents that are held the one with the highest score, the first among equals."""
        return max((p for p in parents if p in self.artifacts), key=lambda p: _score(self.artifacts[p]), default=None)

    def _only(self, ids: Iterable[int]) -> ParetoFrontier:
        """Some of the artifacts; what those were completed by stays in their estimates."""
        kept = dict.fromkeys(i for i in ids if i in self.artifacts)
        return ParetoFrontier(
            {i: self.artifacts[i] for i in kept},
            {i: self.objectives[i] for i in kept if i in self.objectives},
            {i: self.estimates[i] for i in kept},
            {i: self.estimated_objectives[i] for i in kept if i in self.estimated_objectives},
            {i: by for i, by in self.completed_by.items() if i in kept and by in kept},
        )

    # ---- fronts ------------------------------------------------------------------------------------------

    @cached_property
    def fronts(self) -> dict[int, tuple[int, ...]]:
        """For each sample, in ascending order, the ids with the best score there, in order of admission."""
        return dict(sorted(_fronts((a.id, a.scores) for a in self.artifacts.values()).items()))

    def fronts_of(self, frontier: Frontier) -> Mapping[Any, tuple[int, ...]]:
        """The fronts of a frontier: by sample, by objective, by both, or by (sample, objective).

        Raises `DataError` where a frontier of objectives finds none.
        """
        if frontier == "instance":
            return self.fronts
        if self.artifacts and not self.objectives:
            raise DataError(
                f"frontier={frontier!r} compares objectives; found none in the scores of what was validated, expected "
                'some.\nFix: Score(value, objectives={"name": number}) in the task\'s score, or frontier="instance".'
            )
        if frontier == "cartesian":
            return _fronts((i, _flat(named)) for i, named in self.objectives.items())
        means = _fronts((i, self._means(i)) for i in self.objectives)
        return means if frontier == "objective" else {**self.fronts, **means}

    def _means(self, artifact: int) -> dict[str, float]:
        """Means of the objectives over their samples, completed as the score is."""
        totals: dict[str, float] = {}
        counts: Counter[str] = Counter()
        for named in self.estimated_objectives[artifact].values():
            for objective, score in named.items():
                totals[objective] = totals.get(objective, 0.0) + score
                counts[objective] += 1
        return {objective: total / counts[objective] for objective, total in totals.items()}

    # ---- choices -----------------------------------------------------------------------------------------

    def draw(self, stream: random.Random, frontier: Frontier = "instance", top: int | None = None) -> Artifact | None:
        """A parent, with probability proportional to the number of fronts it is on after dominated ones are
        removed; None while the pool is empty.

        With ``top``, only the artifacts with that many of the highest scores are on fronts; where none of them is,
        the best is drawn.
        """
        fronts = self._walked(frontier)
        if top is not None:
            leading = {a.id for a in sorted(self.artifacts.values(), key=_score, reverse=True)[:top]}
            fronts = [kept for front in fronts if (kept := front & leading)]
        if not fronts:
            return self.best()
        counts: dict[int, int] = {}
        for front in self._reduced(fronts):
            for artifact in front:
                counts[artifact] = counts.get(artifact, 0) + 1
        return self.artifacts[stream.choice([a for a, n in counts.items() for _ in range(n)])]

    def dominators(self, frontier: Frontier = "instance") -> list[int]:
        """The ids that are left on the fronts after dominated ones are removed."""
        return list({artifact for front in self._reduced(self._walked(frontier)) for artifact in front})

    def _walked(self, frontier: Frontier) -> list[set[int]]:
        """Fronts as sets of small integers, copied once: the published implementation walks such sets, its choices
        depend on their order, and lockstep must make the same ones."""
        return [set(ids).copy() for ids in self.fronts_of(frontier).values()]

    def _reduced(self, fronts: list[set[int]]) -> list[set[int]]:
        """The fronts without artifacts whose every front also holds another survivor, dropped from the lowest mean
        score up."""
        seen = dict.fromkeys(a for front in fronts for a in front)
        ascending = sorted(seen, key=lambda a: _score(self.artifacts[a]))
        survivors = set(ascending)
        for artifact in ascending:
            if all(len(front & survivors) > 1 for front in fronts if artifact in front):
                survivors.discard(artifact)
        return [{a for a in front if a in survivors} for front in fronts]

    def best(self) -> Artifact | None:
        """The highest score, the oldest among equals; a confirmed artifact before any provisional one."""
        confirmed = [a for a in self.artifacts.values() if not a.provisional]
        return max(confirmed or self.artifacts.values(), key=_score, default=None)

    def focus(self) -> ParetoFrontier:
        """Only the artifact with the highest score or estimate, the newest among equals: the deepest line."""
        if not self.artifacts:
            return self
        return self._only([max(self.artifacts.values(), key=lambda a: (_score(a), a.id)).id])


def _score(artifact: Artifact) -> float:
    return artifact.score or 0.0


def _flat(named: Objectives) -> dict[tuple[int, str], float]:
    return {(sample, objective): score for sample, scores in named.items() for objective, score in scores.items()}


def _fronts(rows: Iterable[tuple[int, Mapping[K, float]]]) -> dict[K, tuple[int, ...]]:
    """For each key, in order of first appearance, the ids with the highest value there, in the order given."""
    best: dict[K, float] = {}
    fronts: dict[K, list[int]] = {}
    for artifact, values in rows:
        for key, value in values.items():
            if key not in best or value > best[key]:
                best[key], fronts[key] = value, [artifact]
            elif value == best[key]:
                fronts[key].append(artifact)
    return {key: tuple(ids) for key, ids in fronts.items()}
