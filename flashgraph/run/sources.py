"""Sources: which one may open its next round, and which view it draws from."""

from __future__ import annotations

import random
from collections.abc import Callable, Collection
from typing import Any

import attrs

from flashgraph.run.flow import Flow
from flashgraph.run.jobs import Job
from flashgraph.run.plan import Plan
from flashgraph.run.pools import PoolState

__all__ = ["SourceState", "Sources"]


@attrs.define(eq=False)
class SourceState:
    """``waits_past`` is when the source had nothing to emit, as the pool's version and the number of its rounds that
    had ended: it is asked again when either has changed."""

    name: str
    emissions: int = 0
    drawing: Job | None = None
    """Its emission under way."""
    exhausted: bool = False
    waits_past: tuple[int, int] | None = None
    narrowed: bool = False
    """Whether the view it draws from now shows only the best line."""
    widen: bool = False
    """It had nothing to draw from a narrowed view: the next one is whole."""
    ended: int = 0
    """How many of its rounds had ended when it was asked: one that ends while it draws must have it asked again."""
    unrouted: int = 0
    """Emissions in a row that no edge took, of a source that could emit for ever; once it waits for that, it begins
    anew."""


UNROUTED_IN_A_ROW = 100
"""After so many emissions that no edge takes, a source without ``rounds`` waits for its pool to change rather than
spin: one that reads no pool has ended.  One with ``rounds`` comes to an end by itself."""


class Sources:
    """The sources of one run."""

    def __init__(self, plan: Plan, flow: Flow, pools: dict[str, PoolState], seed: int) -> None:
        self.states = {n: SourceState(n) for n in plan.sources}
        self.closed: Collection[str] = ()
        """Sources that open no rounds for now."""
        self.pays: Callable[[str], bool] = lambda source: True
        """Whether the budget pays for another round of a source."""
        self._plan = plan
        self._flow = flow
        self._pools = pools
        self._seed = seed

    def next(self) -> SourceState | None:
        """The source that emits next, if any can: one of evidence first, then the one that has emitted least.  None
        starves, and the order does not depend on time."""
        able = [s for s in self.states.values() if self._can_emit(s)]
        return min(able, key=lambda s: (not self._plan.sources[s.name].evidence, s.emissions), default=None)

    def _can_emit(self, source: SourceState) -> bool:
        spec = self._plan.sources[source.name]
        if (
            source.drawing is not None
            or source.exhausted
            or source.name in self.closed
            or self.open_rounds(source.name) >= self._plan.schedule.window
        ):
            return False
        if spec.rounds is not None and source.emissions >= spec.rounds:
            return False
        if spec.reads is not None:
            now = self._pools[spec.reads].version, self._flow.rounds.ended[source.name]
            if source.waits_past == now:
                return False
        return self.pays(source.name)

    @property
    def silence(self) -> str:
        """Why none of them emits any more, for the end of the run."""
        unheard = [repr(n) for n, s in self.states.items() if s.unrouted == UNROUTED_IN_A_ROW]
        why = f": no edge took the last {UNROUTED_IN_A_ROW} emissions of {' and '.join(unheard)}" if unheard else ""
        return f"the sources have nothing to emit{why}"

    @property
    def turn(self) -> int:
        """Emissions of all sources that draw from the sequential stream."""
        return sum(s.emissions for n, s in self.states.items() if self._plan.sources[n].stream == "sequential")

    def open_rounds(self, source: str) -> int:
        """Rounds of ``source`` that hold a place in its window."""
        return self._flow.rounds.holding[source]

    def view(self, source: SourceState, pool: PoolState) -> Any:
        """The pool's newest value; narrowed to its best line for the schedule's share of emissions, as long as other
        rounds are open beside it."""
        source.ended = self._flow.rounds.ended[source.name]
        share = 0.0 if self._plan.sources[source.name].evidence else self._plan.schedule.focus
        beside = share > 0 and not source.widen and self.open_rounds(source.name) > 0
        source.narrowed = (
            beside and random.Random(f"{self._seed}/focus/{source.name}/{source.emissions}").random() < share
        )
        return pool.narrowed() if source.narrowed else pool.value

    def had_nothing(self, source: SourceState, version: int | None) -> None:
        """The source returned None for the view at ``version`` (None: it reads no pool, and is exhausted)."""
        if source.narrowed:
            source.widen = True
            return
        source.widen = False
        source.unrouted = 0
        self._wait(source, version)

    def _wait(self, source: SourceState, version: int | None) -> None:
        source.exhausted = version is None
        source.waits_past = None if version is None else (version, source.ended)

    def emitted(self, source: SourceState, version: int | None, *, routed: bool) -> None:
        """The source has emitted; ``routed`` says whether an edge took what it emitted."""
        source.emissions += 1
        source.widen = False
        if routed or self._plan.sources[source.name].rounds is not None:
            source.unrouted = 0
            return
        source.unrouted = source.unrouted % UNROUTED_IN_A_ROW + 1
        if source.unrouted == UNROUTED_IN_A_ROW:
            self._wait(source, version)
