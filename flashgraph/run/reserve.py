"""The part of the budget that only sources of evidence may spend."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from flashgraph.run.budget import Ledger, unit
from flashgraph.run.plan import Plan

__all__ = ["Reserve"]


class Reserve:
    """The schedule's reserve of each limit that sources of evidence spend; of other limits it would go unused.

    ``leads`` has the units of the limits that the rounds of each source may spend.
    """

    def __init__(self, plan: Plan, ledger: Ledger, leads: Mapping[str, Collection[str]]) -> None:
        self.closes = frozenset(s.name for s in plan.graph.sources if not s.evidence)
        """The sources that may not spend it: their rounds are no evidence for artifacts of the pool."""
        self._share = plan.schedule.reserve if len(self.closes) < len(plan.sources) else 0.0
        self._ledger = ledger
        self._limits = frozenset[str]().union(*(leads[s.name] for s in plan.graph.sources if s.evidence))

    def reached(self, now: float, seconds: float | None) -> bool:
        """Whether nothing but the reserve is left: of a limit, or of the ``seconds`` that the run has."""
        if not self._share:
            return False
        ledger = self._ledger
        limits = {name: limit for name, limit in ledger.limits.items() if unit(name) in self._limits}
        used = [(ledger.settled[name] + ledger.reserved[name]) / limit for name, limit in limits.items()]
        return max([*used, now / seconds if seconds else 0.0]) >= 1 - self._share
