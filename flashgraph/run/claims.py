"""Claims on values: an edge with ``distinct=`` takes each value that is in work or admitted once.

The first item with a key claims it, and its descendants inherit the claim.  Another item with that key is filtered
while a descendant is open, and while a pool holds one.  Then the key is free again: a candidate that one minibatch
rejected may pass another, and a retracted one may have met an outage.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Any

import attrs

__all__ = ["Claim", "Claims"]

Key = tuple[Callable[[Any], Hashable], Hashable]
"""An edge's function and its result for a value: edges that share a function share its keys."""


@attrs.define(eq=False)
class Claim:
    """A key, with the number of open items and of artifacts that hold it."""

    key: Key
    carriers: int = 0
    artifacts: int = 0


class Claims:
    """The claims of one run."""

    def __init__(self) -> None:
        self._held: dict[Key, Claim] = {}
        self._admitted: dict[tuple[str, int], Claim] = {}
        """By pool and artifact."""

    def take(self, key: Key, before: Claim | None) -> Claim | None:
        """Claim a key for an item that holds the claim ``before``; return None if another item holds the key."""
        if before is not None and before.key == key:
            return before
        if key in self._held:
            return None
        if before is not None:
            self.drop(before)
        claim = self._held[key] = Claim(key, carriers=1)
        return claim

    def drop(self, claim: Claim) -> None:
        """Count out an item with a claim, which has ended."""
        claim.carriers -= 1
        self._free(claim)

    def admit(self, claim: Claim, pool: str, artifact: int) -> None:
        """Keep a claim as long as its artifact is not retracted."""
        claim.artifacts += 1
        self._admitted[pool, artifact] = claim

    def retract(self, pool: str, artifact: int) -> None:
        """Drop the claim of an artifact that was retracted, if it has one."""
        if (claim := self._admitted.pop((pool, artifact), None)) is not None:
            claim.artifacts -= 1
            self._free(claim)

    def _free(self, claim: Claim) -> None:
        if not claim.carriers and not claim.artifacts:
            self._held.pop(claim.key, None)

    def state(self) -> tuple[tuple[str, int, int], ...]:
        """Return all claims as values: each key, with its open items and its artifacts."""
        return tuple(sorted((repr(c.key[1]), c.carriers, c.artifacts) for c in self._held.values()))
