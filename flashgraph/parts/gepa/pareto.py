"""GEPA's pool: every validated candidate, and the best candidates on each validation sample."""

from __future__ import annotations

import math
import random
from collections import Counter
from collections.abc import Hashable, Iterable, Mapping
from functools import cached_property
from typing import Any, Literal, TypeVar, get_args

import attrs

from flashgraph.errors import DataError
from flashgraph.evidence import Drift, anchor, sampling_variance, unit_of, weigh
from flashgraph.graph.ports import Artifact, Group, PoolEvent
from flashgraph.parts.evaluation import Attempt, Candidate, Validated
from flashgraph.tasks.task import Task

__all__ = ["FRONTIERS", "Frontier", "ParetoFrontier"]

K = TypeVar("K", bound=Hashable)

Frontier = Literal["instance", "objective", "hybrid", "cartesian"]
"""The values that fronts rank: scores on samples, means of objectives, both, or objectives on samples."""
FRONTIERS: tuple[Frontier, ...] = get_args(Frontier)

STEP = 0.25
"""The share of all samples in one step of a contender, so that a more promising one can take over between steps."""
WIDTH = 1.0
"""In units of the worst drift: artifacts this close to the most promising one share the focus."""
RECENT = 60
"""The number of newest children that estimate the drift."""

Scores = Mapping[int, float]
"""Scores by sample."""

Objectives = Mapping[int, Mapping[str, float]]
"""Named scores by sample."""


@attrs.frozen
class Tried:
    """The samples that one artifact was tried on.

    ``scores`` holds a score by sample. Samples that ``failed`` count as the least score; ``running`` ones are still
    open. ``strata`` holds the stratum of every sample when it was first sent, and ``size`` is the number of samples.
    """

    scores: Scores
    failed: frozenset[int] = frozenset()
    running: frozenset[int] = frozenset()
    strata: Mapping[int, int] = attrs.field(factory=dict)
    size: int = 0

    @property
    def sent(self) -> frozenset[int]:
        """The samples that the artifact was sent to."""
        return self.running.union(self.scores)


@attrs.frozen
class ParetoFrontier:
    """A Pareto frontier over validation samples and objectives (GEPA, arXiv 2507.19457, section 3).

    Every admitted candidate stays in ``artifacts``; being on a front only decides how often `draw` picks it. An
    artifact competes on the samples that it has scores for. ``objectives`` holds the artifacts' named scores.

    An artifact's score is the unbiased estimate of `flashgraph.evidence.weigh`, with its best parent's scores as the
    control. ``predicted`` holds a score for every sample: the artifact's own, or its control's.
    """

    artifacts: Mapping[int, Artifact] = attrs.field(factory=dict)
    objectives: Mapping[int, Objectives] = attrs.field(factory=dict)
    tried: Mapping[int, Tried] = attrs.field(factory=dict)
    predicted: Mapping[int, Scores] = attrs.field(factory=dict)
    estimated_objectives: Mapping[int, Objectives] = attrs.field(factory=dict)
    completed_by: Mapping[int, int] = attrs.field(factory=dict)
    """For each artifact, the best of its parents, which is its control."""
    bounds: tuple[float, float] = (0.0, 1.0)

    def for_task(self, task: Task[Any, Any]) -> ParetoFrontier:
        """Return the empty frontier of a task."""
        return attrs.evolve(self, bounds=task.bounds)

    def apply(self, event: PoolEvent[Group[Candidate | Validated, Attempt]]) -> ParetoFrontier:
        """Add a candidate, complete it, give it more evidence, or remove it."""
        known = self.tried.get(event.artifact)
        tried = None if event.kind == "retract" else self._tried(event, known)
        if tried is None or tried.failed.issuperset(tried.scores):
            # Every sample failed, so the candidate has no evidence to stay on.
            return self._only(a for a in self.artifacts if a != event.artifact)
        named = {a.index: a.objectives for a in event.value.values if a.objectives}
        before = self.artifacts.get(event.artifact)
        if event.kind == "evidence":
            if before is None:
                return self
            parents, text, provisional = before.parents, before.value, before.provisional
            named = {**self.objectives.get(event.artifact, {}), **named}
        else:
            parents, text, provisional = event.parents, event.value.origin.text, event.partial
        artifact = Artifact(event.artifact, text, parents, 0.0, tried.scores, provisional)
        by = self.completed_by.get(artifact.id) if before is not None else self._best_of(parents)
        return attrs.evolve(
            self,
            artifacts={**self.artifacts, artifact.id: artifact},
            objectives={**self.objectives, artifact.id: named} if named else self.objectives,
            tried={**self.tried, artifact.id: tried},
            completed_by=self.completed_by if by is None else {**self.completed_by, artifact.id: by},
        )._estimated(artifact.id)

    def _tried(self, event: PoolEvent[Group[Candidate | Validated, Attempt]], known: Tried | None) -> Tried:
        """Return the samples that an artifact was tried on, with one more group added."""
        group, samples = event.value, event.value.origin.samples
        scores = {s: y for s, y in known.scores.items() if s not in samples} if known else {}
        failed, least = {s for s in known.failed if s not in samples} if known else set[int](), self.bounds[0]
        for sample, member in zip(samples, group.members, strict=True):
            if member.state == "arrived" and member.value is not None:
                scores[sample] = member.value.score
            elif member.state == "failed" and math.isfinite(least):
                scores[sample] = least
                failed.add(sample)
        running = {s for s, m in zip(samples, group.members, strict=True) if m.state == "open" and event.partial}
        running |= (known.running if known else frozenset()) - set(samples)
        strata = known.strata if known else dict(zip(samples, group.strata, strict=False))
        size = known.size if known else len(samples)
        return Tried(scores, frozenset(failed), frozenset(running - scores.keys()), strata, size)

    def _estimated(self, changed: int) -> ParetoFrontier:
        """Return the frontier with new evidence for an artifact and for every artifact that it is the control of."""
        artifacts, predicted = dict(self.artifacts), dict(self.predicted)
        named, anew, drift = dict(self.estimated_objectives), {changed}, self.drift()
        if (root := self.completed_by.get(changed)) is not None and root not in self.completed_by:
            anew.add(root)  # its children tell how lucky it was
        for artifact in self.artifacts.values():  # parents come before their children
            by = self.completed_by.get(artifact.id)
            if artifact.id not in anew and by not in anew:
                continue
            anew.add(artifact.id)
            tried = self.tried[artifact.id]
            control, parent = (predicted[by], artifacts[by].evidence) if by is not None else ({}, None)
            size = max(len(control), tried.size)
            children = self._children(artifact.id) if by is None else ()
            evidence = weigh(
                tried.scores, size, bounds=self.bounds, failed=len(tried.failed), control=control or None,
                strata=tried.strata, parent=parent, drift=drift, children=children,
            )  # fmt: skip
            guess = {} if control else dict.fromkeys(range(size), evidence.mean)
            predicted[artifact.id] = {**guess, **control, **tried.scores}
            if artifact.id in self.objectives:
                given = named.get(by, {}) if by is not None else {}
                named[artifact.id] = {**given, **self.objectives[artifact.id]}
            # A mean with a control may leave the bounds.
            score = min(max(evidence.mean, self.bounds[0]), self.bounds[1])
            artifacts[artifact.id] = attrs.evolve(artifact, score=score, evidence=evidence)
        return attrs.evolve(self, artifacts=artifacts, predicted=predicted, estimated_objectives=named)

    def _children(self, root: int) -> list[tuple[float, float]]:
        """Return the mean of each child of a root, and the sampling variance of its difference.

        A child that has just changed is weighed after its root, so its change counts from the next event on.
        """
        unit, found = unit_of(self.bounds), []
        for child, by in self.completed_by.items():
            evidence = self.artifacts[child].evidence if by == root and child in self.artifacts else None
            if evidence is not None:
                noise = sampling_variance(self.tried[child].scores, self.predicted.get(root), unit)
                found.append((evidence.mean, noise))
        return found

    def drift(self) -> Drift:
        """Return how much the newest children differ from their parents."""
        seen, unit = [], unit_of(self.bounds)
        for child in list(self.artifacts)[-RECENT:]:
            by = self.completed_by.get(child)
            if by is not None and child in self.predicted and by in self.predicted:
                mine, parent = self.artifacts[child].evidence, self.artifacts[by].evidence
                noise = sampling_variance(self.tried[child].scores, self.predicted[by], unit)
                if mine is not None and parent is not None:
                    seen.append(((mine.mean - anchor(parent)) / unit, noise / unit**2))
        return Drift.of(seen)

    def _best_of(self, parents: tuple[int, ...]) -> int | None:
        """Return the parent with the highest score among those still held, the first among equals."""
        return max((p for p in parents if p in self.artifacts), key=lambda p: _score(self.artifacts[p]), default=None)

    def _only(self, ids: Iterable[int]) -> ParetoFrontier:
        """Return the frontier with only some artifacts; removed controls stay in the estimates."""
        kept = dict.fromkeys(i for i in ids if i in self.artifacts)
        return ParetoFrontier(
            {i: self.artifacts[i] for i in kept},
            {i: self.objectives[i] for i in kept if i in self.objectives},
            {i: self.tried[i] for i in kept},
            {i: self.predicted[i] for i in kept},
            {i: self.estimated_objectives[i] for i in kept if i in self.estimated_objectives},
            {i: by for i, by in self.completed_by.items() if i in kept and by in kept},
            self.bounds,
        )

    def contender(
        self, stream: random.Random, sent: Mapping[int, int], champion: Artifact | None = None
    ) -> Validated | None:
        """Return the artifact that needs evidence most, and its next samples: the champion, or else the most promising.

        ``sent`` counts, by artifact, the samples that were sent.
        """
        if not self.artifacts:
            return None
        promising = max(self.artifacts.values(), key=lambda a: (_promise(a), -a.id))
        first = [self.artifacts[champion.id]] if champion is not None and champion.id in self.artifacts else []
        for artifact in [*first, promising]:
            tried, size = self.tried[artifact.id], self.tried[artifact.id].size
            left = [s for s in range(size) if s not in tried.sent]
            if not left or sent.get(artifact.id, 0) > len(tried.sent):
                continue
            count = min(len(left), math.ceil(size * STEP))
            return Validated(artifact.id, artifact.value, tuple(sorted(stream.sample(left, count))))
        return None

    # ---- fronts ------------------------------------------------------------------------------------------

    @cached_property
    def fronts(self) -> dict[int, tuple[int, ...]]:
        """For each sample, in ascending order, the ids with the best score there, in order of admission."""
        return dict(sorted(_fronts((a.id, a.scores) for a in self.artifacts.values()).items()))

    def fronts_of(self, frontier: Frontier) -> Mapping[Any, tuple[int, ...]]:
        """Return the fronts of a frontier: by sample, by objective, by both, or by (sample, objective).

        Raises `DataError` if a frontier of objectives finds none.
        """
        if frontier == "instance":
            return self.fronts
        if self.artifacts and not self.objectives:
            raise DataError(
                f"frontier={frontier!r} compares objectives; found none in the validated scores, expected some."
                '\nFix: Score(value, objectives={"name": number}) in the task\'s score, or frontier="instance".'
            )
        if frontier == "cartesian":
            return _fronts((i, _flat(named)) for i, named in self.objectives.items())
        means = _fronts((i, self._means(i)) for i in self.objectives)
        return means if frontier == "objective" else {**self.fronts, **means}

    def _means(self, artifact: int) -> dict[str, float]:
        """Return the mean of each objective over its samples, with the control's values where it has none of its
        own."""
        totals: dict[str, float] = {}
        counts: Counter[str] = Counter()
        for named in self.estimated_objectives[artifact].values():
            for objective, score in named.items():
                totals[objective] = totals.get(objective, 0.0) + score
                counts[objective] += 1
        return {objective: total / counts[objective] for objective, total in totals.items()}

    # ---- choices -----------------------------------------------------------------------------------------

    def draw(self, stream: random.Random, frontier: Frontier = "instance", top: int | None = None) -> Artifact | None:
        """Draw a parent with probability proportional to the number of its fronts, once dominated artifacts are
        removed.

        With ``top``, only the artifacts with that many of the highest scores count; if none of them is on a front, the
        best is drawn. Returns None while the pool is empty.
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
        """Return the ids that are left on the fronts once dominated ones are removed."""
        return list({artifact for front in self._reduced(self._walked(frontier)) for artifact in front})

    def _walked(self, frontier: Frontier) -> list[set[int]]:
        """Return fronts as sets of small integers, copied once.

        The published implementation iterates over such sets, and its choices depend on their order. Lockstep must make
        the same choices.
        """
        return [set(ids).copy() for ids in self.fronts_of(frontier).values()]

    def _reduced(self, fronts: list[set[int]]) -> list[set[int]]:
        """Return the fronts without dominated artifacts, removed from the lowest mean score up.

        An artifact is dominated if each of its fronts also holds another survivor.
        """
        seen = dict.fromkeys(a for front in fronts for a in front)
        ascending = sorted(seen, key=lambda a: _score(self.artifacts[a]))
        survivors = set(ascending)
        for artifact in ascending:
            if all(len(front & survivors) > 1 for front in fronts if artifact in front):
                survivors.discard(artifact)
        return [{a for a in front if a in survivors} for front in fronts]

    def best(self) -> Artifact | None:
        """Return the artifact with the highest score, the oldest among equals; a confirmed one beats any provisional
        one."""
        confirmed = [a for a in self.artifacts.values() if not a.provisional]
        return max(confirmed or self.artifacts.values(), key=_score, default=None)

    def best_line(self) -> ParetoFrontier:
        """Return the most promising artifact alone (the newest among equals), which is the deepest line.

        If children do worse than their parents on average, depth gains nothing. Then artifacts whose expected score is
        lower by up to that difference stay too.
        """
        if not self.artifacts:
            return self
        top = max(self.artifacts.values(), key=lambda a: (_promise(a), a.id))
        least = _promise(top) - WIDTH * max(0.0, -self.drift().mean) * unit_of(self.bounds)
        return self._only([a.id for a in self.artifacts.values() if a is top or _promise(a) > least])


def _promise(artifact: Artifact) -> float:
    """Return the expected score of an artifact."""
    return artifact.evidence.estimate if artifact.evidence is not None else _score(artifact)


def _score(artifact: Artifact) -> float:
    return artifact.score or 0.0


def _flat(named: Objectives) -> dict[tuple[int, str], float]:
    return {(sample, objective): score for sample, scores in named.items() for objective, score in scores.items()}


def _fronts(rows: Iterable[tuple[int, Mapping[K, float]]]) -> dict[K, tuple[int, ...]]:
    """Return for each key, in order of first appearance, the ids with the highest value there, in the given order."""
    best: dict[K, float] = {}
    fronts: dict[K, list[int]] = {}
    for artifact, values in rows:
        for key, value in values.items():
            if key not in best or value > best[key]:
                best[key], fronts[key] = value, [artifact]
            elif value == best[key]:
                fronts[key].append(artifact)
    return {key: tuple(ids) for key, ids in fronts.items()}
