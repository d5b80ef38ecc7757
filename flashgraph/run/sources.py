"""Sources: which one may open its next round, and which view it draws from."""

from __future__ import annotations

import random
from typing import Any

import attrs

from flashgraph.run.flow import Flow
from flashgraph.run.plan import Plan
from flashgraph.run.pools import PoolState

__all__ = ["SourceState", "Sources"]


@attrs.define(eq=False)
class SourceState:
    """``waits_past`` is the pool version at which the source had nothing to emit: it is asked again when the pool
    has changed."""

    name: str
    emissions: int = 0
    drawing: bool = False
    exhausted: bool = False
    waits_past: int | None = None
    narrowed: bool = False
    """Whether the view it draws from now shows only the best line."""
    widen: bool = False
    """It had nothing to draw from a narrowed view: the next one is whole."""
    unrouted: int = 0
    """Emissions in a row that no edge took."""


UNROUTED_IN_A_ROW = 100
"""After so many emissions that no edge takes, a source waits for its pool to change rather than spin."""


class Sources:
    """The sources of one run."""

    def __init__(self, plan: Plan, flow: Flow, pools: dict[str, PoolState], seed: int) -> None:
        self.states = {n: SourceState(n) for n in plan.sources}
        self._plan = plan
        self._flow = flow
        self._pools = pools
        self._seed = seed

    def next(self) -> SourceState | None:
        """The source that emits next, if any can.  The one that has emitted least goes first: none starves, and the
        order does not depend on time."""
        able = [s for s in self.states.values() if self._can_emit(s)]
        return min(able, key=lambda s: s.emissions, default=None)

    def _can_emit(self, source: SourceState) -> bool:
        spec = self._plan.sources[source.name]
        if source.exhausted or source.drawing:
            return False
        if spec.rounds is not None and source.emissions >= spec.rounds:
            return False
        if spec.reads is not None and source.waits_past == self._pools[spec.reads].version:
            return False
        return self.open_rounds(source.name) < self._plan.schedule.window

    def open_rounds(self, source: str) -> int:
        """Rounds of ``source`` that hold a place in its window."""
        return sum(r.open > 0 for r in self._flow.rounds.values() if r.source == source)

    def view(self, source: SourceState, pool: PoolState) -> Any:
        """The pool's newest value; narrowed to its best line for the schedule's share of emissions, as long as other
        rounds are open beside it."""
        share = self._plan.schedule.focus
        stream = random.Random(f"{self._seed}/focus/{source.name}/{source.emissions}")
        beside = share > 0 and not source.widen and self.open_rounds(source.name) > 0
        source.narrowed = beside and stream.random() < share
        return pool.value.focus() if source.narrowed else pool.value

    def had_nothing(self, source: SourceState, version: int | None) -> None:
        """The source returned None for the view at ``version`` (None: it reads no pool, and is exhausted)."""
        if source.narrowed:
            source.widen = True
            return
        source.widen = False
        source.waits_past, source.exhausted = version, version is None

    def emitted(self, source: SourceState, version: int | None, *, routed: bool) -> None:
        """The source has emitted; ``routed`` says whether an edge took what it emitted."""
        source.emissions += 1
        source.widen = False
        source.unrouted = 0 if routed else source.unrouted + 1
        if source.unrouted >= UNROUTED_IN_A_ROW:
            source.unrouted, source.waits_past, source.exhausted = 0, version, version is None
