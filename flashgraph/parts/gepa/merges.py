"""Merge two candidates that differ from a common ancestor in different components (GEPA, appendix F).

The published implementation draws pairs, ancestors and ties from the run's single random stream, and iterates over sets
of small integers. This module does the same, because lockstep must make the same draws.
"""

from __future__ import annotations

import math
import random
from collections.abc import Mapping, Sequence

import attrs

from flashgraph.graph.ports import Artifact

__all__ = ["Merge", "Merges"]

ATTEMPTS = 10
"""The rounds of the search, and the pairs drawn in each."""
SUBSAMPLE = 5
"""The validation samples that a merge is tried on."""

Artifacts = Mapping[int, Artifact]


@attrs.frozen
class Merge:
    """A merge of two artifacts: its text, its parents, and the samples on which its sum of scores must reach
    ``to_reach``.

    ``to_reach`` is the sum of the better parent.
    """

    text: dict[str, str]
    parents: tuple[int, int]
    samples: tuple[int, ...]
    to_reach: float


@attrs.frozen
class Merges:
    """The memory of a source of merges: how many are ``due``, how many were ``accepted``, and which were tried.

    ``tried`` holds (parent, parent, ancestor); ``made`` holds (parent, parent, the origin of each component).
    """

    newest: int = -1
    due: int = 0
    accepted: int = 0
    tried: frozenset[tuple[int, int, int]] = frozenset()
    made: frozenset[tuple[int, int, tuple[int, ...]]] = frozenset()

    def count(self, artifacts: Artifacts, most: int) -> tuple[bool, Merges]:
        """Return whether children other than merges were admitted since the last count, and the cursor after it.

        Each such child makes one merge due, while fewer than ``most`` were accepted. An accepted merge is no longer
        due.
        """
        due, accepted, grown = self.due, self.accepted, False
        merged = {(first, second) for first, second, _ in self.tried}
        for artifact in artifacts.values():
            if artifact.id <= self.newest or not artifact.parents:
                continue
            if artifact.parents in merged:
                due, accepted = due - 1, accepted + 1
            else:
                due, grown = due + (accepted < most), True
        newest = max((self.newest, *artifacts))
        return grown, attrs.evolve(self, newest=newest, due=due, accepted=accepted)

    def draw(
        self, artifacts: Artifacts, candidates: Sequence[int], overlap: int, stream: random.Random
    ) -> tuple[Merge | None, Merges]:
        """Return a new merge of two of the ``candidates``, or None after too many attempts, and the cursor after it.

        Its parents both have scores for at least ``overlap`` samples.
        """
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
            merge = Merge(text, (first.id, second.id), samples, to_reach)
            return merge, attrs.evolve(self, tried=self.tried | {found}, made=self.made | {made})
        return None, self

    def _pair(
        self, artifacts: Artifacts, candidates: Sequence[int], stream: random.Random
    ) -> tuple[int, int, int] | None:
        """Return two candidates and a common ancestor whose score is no better than either's."""
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
        """Return whether the ancestor is no better than either, and some component changed on one side only."""
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
    """Return all ancestors that the pool still holds, each branch to its end before the next."""
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
    """Return the text of a merge, and the artifact that each component came from.

    A component that one side changed comes from that side; one that both changed comes from the better side.
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
    """Return samples that both have scores for: some where each is better, some equal ones, then any others."""
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
