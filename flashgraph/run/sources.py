"""Sources: the one that may emit next, and the view that it draws from."""

from __future__ import annotations

import random
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

import attrs

from flashgraph.run.flow import Flow
from flashgraph.run.jobs import Job
from flashgraph.run.plan import Plan
from flashgraph.run.pools import PoolState

__all__ = ["SourceState", "Sources"]


@attrs.define(eq=False)
class SourceState:
    """The state of one source.

    ``waits_past`` marks when it had nothing to emit: the versions of its pools and the count of its ended rounds.  The
    next call comes when any of these has changed.
    """

    name: str
    emissions: int = 0
    drawing: Job | None = None
    """The job of its present emission."""
    exhausted: bool = False
    waits_past: tuple[Mapping[str, int], int] | None = None
    narrowed: bool = False
    """Whether the view it draws from now shows only the best line."""
    widen: bool = False
    """Whether the next view is whole, because it had nothing to draw from a narrowed one."""
    ended: int = 0
    """The count of its ended rounds at the last call: a round that ends during the draw leads to another call."""
    unrouted: int = 0
    """Emissions in a row that no edge took, of a source without ``rounds``; it starts again at 0 after a wait."""


UNROUTED_IN_A_ROW = 100
"""Emissions in a row without a taker after which a source without ``rounds`` waits for its pool to change.

It would spin otherwise.  One that reads no pool ends.  A source with ``rounds`` ends by itself.
"""


class Sources:
    """The sources of one run."""

    def __init__(self, plan: Plan, flow: Flow, pools: dict[str, PoolState], seed: int) -> None:
        self.states = {n: SourceState(n) for n in plan.sources}
        self.closed: Collection[str] = ()
        """The sources that open no rounds for now."""
        self.pays: Callable[[str], bool] = lambda source: True
        """Whether the budget pays for another round of a source."""
        self._plan = plan
        self._flow = flow
        self._pools = pools
        self._seed = seed

    def next(self) -> SourceState | None:
        """Return the source that emits next, if any can: one of evidence first, then the one with the fewest emissions.

        So no source starves, and the order does not depend on time.
        """
        able = [s for s in self.states.values() if self._can_emit(s)]
        return min(able, key=lambda s: (not self._plan.sources[s.name].evidence, s.emissions), default=None)

    def _can_emit(self, source: SourceState) -> bool:
        spec = self._plan.sources[source.name]
        if (
            source.drawing is not None
            or source.exhausted
            or source.name in self.closed
            or self.open_rounds(source.name) >= self._plan.window_of(spec)
        ):
            return False
        if spec.rounds is not None and source.emissions >= spec.rounds:
            return False
        if source.waits_past is not None:
            now = {name: self._pools[name].version for name in spec.reads}, self._flow.rounds.ended[source.name]
            if source.waits_past == now:
                return False
        return self.pays(source.name)

    @property
    def silence(self) -> str:
        """Why no source emits any more, as the reason of the run's end."""
        unrouted = [repr(n) for n, s in self.states.items() if s.unrouted == UNROUTED_IN_A_ROW]
        why = f": no edge took the last {UNROUTED_IN_A_ROW} emissions of {' and '.join(unrouted)}" if unrouted else ""
        return f"the sources have nothing to emit{why}"

    @property
    def turn(self) -> int:
        """The count of emissions of all sources that draw from the sequential stream."""
        return sum(s.emissions for n, s in self.states.items() if self._plan.sources[n].stream == "sequential")

    def open_rounds(self, source: str) -> int:
        """Return how many rounds of ``source`` hold a place in its window."""
        return self._flow.rounds.holding[source]

    def views(self, source: SourceState, pools: Sequence[PoolState]) -> dict[str, Any]:
        """Return the views of a source's next draw, by pool: the newest values.

        They are narrowed to the best line for the schedule's share of emissions, while other rounds are open.
        """
        source.ended = self._flow.rounds.ended[source.name]
        spec = self._plan.sources[source.name]
        share = self._plan.schedule.focus if pools and spec.focus and not spec.evidence else 0.0
        beside = share > 0 and not source.widen and self.open_rounds(source.name) > 0
        source.narrowed = (
            beside and random.Random(f"{self._seed}/focus/{source.name}/{source.emissions}").random() < share
        )
        return {pool.name: pool.narrowed() if source.narrowed else pool.value for pool in pools}

    def had_nothing(self, source: SourceState, versions: Mapping[str, int]) -> None:
        """Note that a source returned None for the views at ``versions``; one that reads no pool is exhausted."""
        if source.narrowed:
            source.widen = True
            return
        source.widen = False
        source.unrouted = 0
        self._wait(source, versions)

    def _wait(self, source: SourceState, versions: Mapping[str, int]) -> None:
        source.exhausted = not versions
        source.waits_past = (dict(versions), source.ended) if versions else None

    def emitted(self, source: SourceState, versions: Mapping[str, int], *, routed: bool) -> None:
        """Note that a source has emitted; ``routed`` says whether an edge took the item."""
        source.emissions += 1
        source.widen = False
        if routed or self._plan.sources[source.name].rounds is not None:
            source.unrouted = 0
            return
        source.unrouted = source.unrouted % UNROUTED_IN_A_ROW + 1
        if source.unrouted == UNROUTED_IN_A_ROW:
            self._wait(source, versions)
