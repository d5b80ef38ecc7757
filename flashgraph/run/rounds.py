"""The open rounds, and which of them hold a place in the window of their source."""

from __future__ import annotations

from collections import Counter
from typing import Any

from flashgraph.run.items import RoundState

__all__ = ["Rounds"]


class Rounds:
    """The rounds of one run.  A round with an item that is not late holds a place in the window of its source."""

    def __init__(self) -> None:
        self.open: dict[int, RoundState] = {}
        """By number."""
        self.begun = 0
        """How many rounds there have been."""
        self.ended: Counter[str] = Counter()
        """By source, the rounds that had items, which have all ended."""
        self.holding: Counter[str] = Counter()
        """By source, the rounds that hold a place in its window."""

    def begin(self, source: str, item: Any) -> RoundState:
        """Open a round with the item that its source emitted.  It holds no place until an edge has taken that."""
        round_ = RoundState(self.begun, source, item)
        self.begun += 1
        self.open[round_.id] = round_
        return round_

    def began_with(self, source: str) -> tuple[Any, ...]:
        """Return the items of a source that began the rounds which hold a place in its window, oldest first."""
        return tuple(r.item for r in self.open.values() if r.source == source and r.open)

    def drop(self, round_: RoundState) -> None:
        """Remove a round that never had an item."""
        del self.open[round_.id]

    def count(self, number: int, late: bool, change: int) -> None:
        """Count an item of a round in (``change=1``) or out (``change=-1``)."""
        round_ = self.open[number]
        if late:
            round_.late += change
            return
        before = round_.open
        round_.open += change
        if not before or not round_.open:
            self.holding[round_.source] += change

    def end_if_over(self, number: int) -> RoundState | None:
        """Remove a round without open items and return it; None while it has any."""
        round_ = self.open[number]
        if round_.open or round_.late:
            return None
        del self.open[number]
        self.ended[round_.source] += 1
        return round_
