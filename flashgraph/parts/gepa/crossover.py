"""Crossover of two candidates that differ from a common ancestor in different components (GEPA's merge).

The published implementation draws pairs, ancestors and ties from the run's one stream and walks sets of small
integers; both are kept here, because lockstep must draw the same.
"""

from __future__ import annotations

import math
import random
from collections.abc import Mapping, Sequence

import attrs

from flashgraph.graph.ports import Artifact

__all__ = ["Cross", "Crossings"]

ATTEMPTS = 10
"""Rounds of the search, and pairs that are drawn in each."""
SUBSAMPLE = 5
"""Validation samples that a cross is tried on."""

Artifacts = Mapping[int, Artifact]


@attrs.frozen
class Cross:
    """Two artifacts crossed: its text, its parents, and the samples where it has to reach the better one's sum."""

    text: dict[str, str]
    parents: tuple[int, int]
    samples: tuple[int, ...]
    to_reach: float


@attrs.frozen
class Crossings:
    """What a source of crosses remembers: how many are ``due``, how many were ``accepted``, and what was tried.

    ``tried`` holds (parent, parent, ancestor), ``made`` holds (parent, parent, whom each component came from).
    """

    newest: int = -1
    due: int = 0
    accepted: int = 0
    tried: frozenset[tuple[int, int, int]] = frozenset()
    made: frozenset[tuple[int, int, tuple[int, ...]]] = frozenset()

    def count(self, artifacts: Artifacts, most: int) -> tuple[bool, Crossings]:
        """Whether other children than crosses have been admitted since the last count, and the cursor after it.

        Each of them makes one cross due as long as fewer than ``most`` have been accepted; an accepted one is no
        longer due.
        """
        due, accepted, grown = self.due, self.accepted, False
        crossed = {(first, second) for first, second, _ in self.tried}
        for artifact in artifacts.values():
            if artifact.id <= self.newest or not artifact.parents:
                continue
            if artifact.parents in crossed:
                due, accepted = due - 1, accepted + 1
            else:
                due, grown = due + (accepted < most), True
        newest = max((self.newest, *artifacts))
        return grown, attrs.evolve(self, newest=newest, due=due, accepted=accepted)

    def draw(
        self, artifacts: Artifacts, candidates: Sequence[int], overlap: int, stream: random.Random
    ) -> tuple[Cross | None, Crossings]:
        """A cross of two of the ``candidates`` that was not made before, and the cursor after it; None after
        too many attempts.  Its parents share the scores of at least ``overlap`` samples."""
        if len(candidates) < 2 or len(artifacts) < 3:
            return None, self
        for _ in range(ATTEMPTS):
            found = self._pair(artifacts, candidates, stream)
            if found is None:
                continue
            first, second, ancestor = (artifacts[i] for i in found)
            text, origins = _crossed(first, second, ancestor, stream)
            made = (first.id, second.id, origins)
            if made in self.made or len(first.scores.keys() & second.scores.keys()) < overlap:
                continue
            samples = _subsample(first.scores, second.scores, stream)
            to_reach = max(sum(parent.scores[s] for s in samples) for parent in (first, second))
            cross = Cross(text, (first.id, second.id), samples, to_reach)
            return cross, attrs.evolve(self, tried=self.tried | {found}, made=self.made | {made})
        return None, self

    def _pair(
        self, artifacts: Artifacts, candidates: Sequence[int], stream: random.Random
    ) -> tuple[int, int, int] | None:
        """Two candidates and a common ancestor that neither does worse than, by its score."""
        for _ in range(ATTEMPTS):
            first, second = sorted(stream.sample(list(candidates), 2))
            before, beside = _ancestors(first, artifacts), _ancestors(second, artifacts)
            if first in beside or second in before:
                continue
            common = [a for a in set(before) & set(beside) if self._fits(artifacts, first, second, a)]
            if common:
                weights = [artifacts[a].score or 0.0 for a in common]
                if sum(weights) <= 0:
                    return first, second, stream.choice(common)
                return first, second, stream.choices(common, k=1, weights=weights)[0]
        return None

    def _fits(self, artifacts: Artifacts, first: int, second: int, ancestor: int) -> bool:
        """Whether the ancestor is no better than both, and some component was changed on one side only."""
        if (first, second, ancestor) in self.tried:
            return False
        one, other, old = artifacts[first], artifacts[second], artifacts[ancestor]
        if (old.score or 0.0) > min(one.score or 0.0, other.score or 0.0):
            return False
        return any(
            one.value[name] != other.value[name] and text in (one.value[name], other.value[name])
            for name, text in old.value.items()
        )


def _ancestors(artifact: int, artifacts: Artifacts) -> list[int]:
    """All ancestors that are still held, each branch to its end before the next one."""
    found: set[int] = set()
    ahead = [*reversed(artifacts[artifact].parents)]
    while ahead:
        ancestor = ahead.pop()
        if ancestor not in found and ancestor in artifacts:
            found.add(ancestor)
            ahead += reversed(artifacts[ancestor].parents)
    return list(found)


def _crossed(
    first: Artifact, second: Artifact, ancestor: Artifact, stream: random.Random
) -> tuple[dict[str, str], tuple[int, ...]]:
    """The text of a cross, and the artifact that each component came from.

    A component that one side changed is that side's; one that both changed is the better one's.
    """
    text: dict[str, str] = {}
    origins: list[int] = []
    for name, old in ancestor.value.items():
        one, other = first.value[name], second.value[name]
        if old not in (one, other):
            origin = _better(first, second, stream)
        else:
            origin = second if one == old and other != old else first
        text[name] = origin.value[name]
        origins.append(origin.id)
    return text, tuple(origins)


def _better(first: Artifact, second: Artifact, stream: random.Random) -> Artifact:
    if first.score == second.score:
        return stream.choice([first, second])
    return first if (first.score or 0.0) > (second.score or 0.0) else second


def _subsample(first: Mapping[int, float], second: Mapping[int, float], stream: random.Random) -> tuple[int, ...]:
    """Samples that both have scores for: some where each is better, some where they are equal, then any others."""
    common = list(set(first) & set(second))
    better = [s for s in common if first[s] > second[s]]
    worse = [s for s in common if first[s] < second[s]]
    equal = [s for s in common if first[s] == second[s]]
    chosen: list[int] = []
    for bucket in (better, worse, equal):
        take = min(len(bucket), math.ceil(SUBSAMPLE / 3), SUBSAMPLE - len(chosen))
        if take > 0:
            chosen += stream.sample(bucket, k=take)
    lacking = SUBSAMPLE - len(chosen)
    unused = [s for s in common if s not in chosen]
    if lacking and len(unused) >= lacking:
        chosen += stream.sample(unused, k=lacking)
    elif lacking:
        chosen += stream.choices(common, k=lacking)
    return tuple(chosen)
