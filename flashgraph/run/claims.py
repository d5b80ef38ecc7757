"""Which values are in work or have been admitted: an edge with ``distinct=`` takes each of them once.

The first item with a key claims it, and hands its claim on to all that comes of it.  Another item with that key is
filtered while one of these is open, and as long as a pool holds one.  A key is free again where nothing has come of it:
what was rejected on one minibatch may pass another, and what was retracted may have met an outage.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Any

import attrs

__all__ = ["Claim", "Claims"]

Key = tuple[Callable[[Any], Hashable], Hashable]
"""What an edge's function has made of a value: edges that share a function share its keys."""


@attrs.define(eq=False)
class Claim:
    """A key, how many open items have come of the one that claimed it, and how many artifacts."""

    key: Key
    carriers: int = 0
    artifacts: int = 0


class Claims:
    """The claims that hold, by their keys."""

    def __init__(self) -> None:
        self._held: dict[Key, Claim] = {}
        self._admitted: dict[tuple[str, int], Claim] = {}
        """By pool and artifact."""

    def take(self, key: Key, before: Claim | None) -> Claim | None:
        """Let an item that has come of the claim ``before`` have a key; None where another item has it."""
        if before is not None and before.key == key:
            return before
        if key in self._held:
            return None
        if before is not None:
            self.drop(before)
        claim = self._held[key] = Claim(key, carriers=1)
        return claim

    def drop(self, claim: Claim) -> None:
        """One of the items that carry a claim has ended."""
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
        """All that holds, for comparisons."""
        return tuple(sorted((repr(c.key[1]), c.carriers, c.artifacts) for c in self._held.values()))
