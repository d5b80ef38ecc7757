"""Values of generated graphs, and the pool that admits them.

A token's number is a hash of its path through the graph.  Latencies, failures and filtered results are hashes of that
number.  A run therefore depends on nothing but its shape, its schedule and its seeds.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence

import attrs

import flashgraph as fg

__all__ = ["Ledgered", "Rival", "Token", "draw", "provisional"]


def draw(*key: object) -> float:
    """Return a number in [0, 1) that is a hash of ``key``."""
    return int.from_bytes(hashlib.sha256(repr(key).encode()).digest()[:6], "big") / 2**48


@attrs.frozen
class Token:
    """A value of a generated graph.

    ``path`` is a hash of its way through the graph.  ``version`` and ``side`` are the versions of the first and the
    second pool that its data comes from.  ``named`` holds the artifacts (pool, number) that stages named as parents on
    the way.  ``loose`` holds those that were provisional in a view from which a stage named none.
    """

    path: int
    version: int
    named: frozenset[tuple[str, int]] = frozenset()
    loose: frozenset[tuple[str, int]] = frozenset()
    side: int | None = None

    def via(self, *key: object) -> Token:
        return attrs.evolve(self, path=int(draw(self.path, *key) * 2**40))


@attrs.frozen
class Rival(fg.Contender):
    """A contender, and the token from which its members are made."""

    token: Token

    def members(self, width: int) -> list[Token]:
        return [self.token.via("rival", i) for i in range(width)]


@attrs.frozen
class Ledgered:
    """A pool that counts its own versions and keeps what reaches ``threshold`` (a hash in [0, 1)).

    ``strays`` are the artifacts whose parents differ from those that their tokens name.  ``narrowed`` marks a view that
    shows only the best line.
    """

    threshold: float = 0.0
    name: str = "pool"
    version: int = 0
    artifacts: Mapping[int, fg.Artifact] = attrs.field(factory=dict)
    strays: tuple[int, ...] = ()
    narrowed: bool = False

    def apply(self, event: fg.PoolEvent[Token | fg.Group[Token, Token] | fg.Group[Rival, Token]]) -> Ledgered:
        value = event.value
        if isinstance(value, fg.Group) and isinstance(value.origin, Rival):
            return self._learned(event.artifact, value.values)
        tokens = (value,) if isinstance(value, Token) else value.values
        whole = tokens if isinstance(value, Token) else (value.origin, *value.values)
        named = {artifact for token in whole for pool, artifact in token.named if pool == self.name}
        stray = event.kind != "retract" and sorted(event.parents) != sorted(named)
        score = sum(draw(t.path, "score") for t in tokens) / len(tokens) if tokens else 0.0
        rest = {i: a for i, a in self.artifacts.items() if i != event.artifact}
        if score >= self.threshold and event.kind != "retract":
            rest[event.artifact] = fg.Artifact(event.artifact, score, event.parents, score, provisional=event.partial)
        elif event.kind == "admit":
            return self
        strays = (*self.strays, event.artifact) if stray else self.strays
        return attrs.evolve(self, version=self.version + 1, artifacts=dict(sorted(rest.items())), strays=strays)

    def _learned(self, artifact: int, tokens: Sequence[Token]) -> Ledgered:
        """Return the pool with more evidence for an artifact; unchanged without members, or if the artifact is gone."""
        before = self.artifacts.get(artifact)
        if before is None or not tokens:
            return self
        score = ((before.score or 0.0) + sum(draw(t.path, "score") for t in tokens)) / (1 + len(tokens))
        held = {**self.artifacts, artifact: attrs.evolve(before, score=score)}
        return attrs.evolve(self, version=self.version + 1, artifacts=held)

    def best(self) -> fg.Artifact | None:
        return max(self.artifacts.values(), key=lambda a: a.score or 0.0, default=None)

    def best_line(self) -> Ledgered:
        return attrs.evolve(self, narrowed=True)


def provisional(view: Ledgered) -> frozenset[tuple[str, int]]:
    """Return the provisional artifacts of a view."""
    return frozenset((view.name, artifact.id) for artifact in view.artifacts.values() if artifact.provisional)
