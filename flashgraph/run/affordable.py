"""The costs of rounds, and whether the budget pays for another one beside the open ones.

A window of rounds that is opened at once may use up a small budget before one proposal has been judged.  Eight
minibatches and eight trials may leave nothing for a validation.  The budget must therefore pay for the rest of the open
rounds, at the average cost.  It must also pay for a whole new round, at the greatest cost so far.  Costs are learned
from the run's own events, so that a replay decides alike.

Rounds that are open at once have the same parents.  If they take the whole budget, no child becomes a parent, as it
would in lockstep.  Open rounds therefore take at most one part in `GENERATIONS` of the rest of the budget.

A window that costs a small share of a limit is opened without delay: the loss at the end is not worth a wait.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable
from typing import Any

import attrs

from flashgraph.graph.analysis import downstream
from flashgraph.graph.spec import GraphSpec
from flashgraph.run import events as ev
from flashgraph.run.budget import OF_REQUESTS, Ledger, unit, with_role
from flashgraph.run.plan import Plan

__all__ = ["Affordable"]

SMALL = 0.1
"""A window that costs at most this share of a limit is opened without delay."""

GENERATIONS = 4
"""Open rounds take at most one part in this many of the rest, so that later rounds build on their finds."""

CAUTION = 2.0
"""Factor on the known cost before a round of a source has ended.

The cost is known from rounds of other sources, such as the seed's validation.  It is also known from open rounds: a
trial is as large as its minibatch.
"""


@attrs.define
class _Round:
    """The amounts that a round has spent, and those of its items that wait for stages that spend, by limit."""

    source: str
    spent: dict[str, float] = attrs.field(factory=lambda: defaultdict(float))
    waits: Counter[str] = attrs.field(factory=Counter)
    admitted: bool = False
    """Whether a pool has admitted one of its items."""

    def known(self, limit: str) -> float:
        return self.spent[limit] + self.waits[limit]


@attrs.define
class _Costs:
    """The costs of the ended rounds of a source, by limit: their sum, and the greatest.

    The greatest is that of rounds with an admission, once there are any.
    """

    rounds: int = 0
    admitted: bool = False
    total: dict[str, float] = attrs.field(factory=lambda: defaultdict(float))
    most: dict[str, float] = attrs.field(factory=lambda: defaultdict(float))

    def add(self, round_: _Round) -> None:
        self.rounds += 1
        if round_.admitted and not self.admitted:
            self.admitted = True
            self.most.clear()
        for limit, amount in round_.spent.items():
            self.total[limit] += amount
            if round_.admitted or not self.admitted:
                self.most[limit] = max(self.most[limit], amount)


class Affordable:
    """Decides which sources may open a round beside the open ones.  `on_event` must get every event."""

    def __init__(self, plan: Plan, ledger: Ledger) -> None:
        self._plan = plan
        self._ledger = ledger
        self.leads = {source: _leads_to(plan.graph, source) for source in plan.sources}
        """By source, the units of the limits that its rounds may spend."""
        self._counts = {name: stage.spec.counts for name, stage in plan.stages.items()}
        self._before = {e.name: e.dst for e in plan.edges.values() if not e.gather and self._counts.get(e.dst)}
        """By edge, the stage that its items wait for, if that stage spends.

        Gathering edges have none: their members wait for each other.
        """
        self._open: dict[int, _Round] = {}
        self._ended: dict[str, _Costs] = {source: _Costs() for source in plan.sources}
        self._items: dict[int, tuple[int, str]] = {}
        """By item that waits for a stage that spends: its round, and the stage."""
        self._jobs: dict[int, int] = {}
        """The rounds of jobs that run."""
        self._rounds: dict[int, int] = {}
        """The rounds of open items."""
        self._handlers: dict[type, Callable[[Any], None]] = {
            ev.Emitted: self._emitted,
            ev.Created: self._created,
            ev.JobStarted: self._started,
            ev.JobEnded: self._job_ended,
            ev.CallEnded: self._call_ended,
            ev.Admitted: self._admitted,
            ev.Ended: self._item_ended,
            ev.RoundEnded: self._round_ended,
        }

    # ---- events ------------------------------------------------------------------------------------------

    def on_event(self, event: ev.Event) -> None:
        """Count an event."""
        if (handle := self._handlers.get(type(event))) is not None:
            handle(event)

    def _emitted(self, event: ev.Emitted) -> None:
        self._open[event.round] = _Round(event.source)

    def _created(self, event: ev.Created) -> None:
        self._rounds[event.item] = event.round
        if (stage := self._before.get(event.edge)) is not None:
            self._items[event.item] = event.round, stage
            self._open[event.round].waits.update(self._counts[stage])

    def _waits_no_more(self, item: int) -> None:
        if (found := self._items.pop(item, None)) is not None:
            self._open[found[0]].waits.subtract(self._counts[found[1]])

    def _started(self, event: ev.JobStarted) -> None:
        if event.item is None or (round_ := self._rounds.get(event.item)) is None:
            return
        self._jobs[event.job] = round_
        if self._items.get(event.item, (0, ""))[1] == event.stage:  # otherwise it is repaired first
            self._waits_no_more(event.item)
        for limit in self._counts[event.stage]:
            self._open[round_].spent[limit] += 1

    def _job_ended(self, event: ev.JobEnded) -> None:
        self._jobs.pop(event.job, None)

    def _call_ended(self, event: ev.CallEnded) -> None:
        round_ = self._open.get(self._jobs.get(event.job, -1))
        if round_ is not None and event.how != "throttled":
            tokens = event.prompt_tokens + event.completion_tokens
            spent = {"calls": 1.0, "tokens": float(tokens), "usd": event.usd or 0.0}
            for limit, amount in with_role(event.role, spent).items():
                round_.spent[limit] += amount

    def _admitted(self, event: ev.Admitted) -> None:
        if (round_ := self._rounds.get(event.item)) is not None:
            self._open[round_].admitted = True

    def _item_ended(self, event: ev.Ended) -> None:
        self._waits_no_more(event.item)
        self._rounds.pop(event.item, None)

    def _round_ended(self, event: ev.RoundEnded) -> None:
        round_ = self._open.pop(event.round, None)
        if round_ is not None and round_.spent:
            self._ended[round_.source].add(round_)

    # ---- costs -------------------------------------------------------------------------------------------

    def pays(self, source: str) -> bool:
        """Whether the budget pays for another round of ``source`` beside those that are open."""
        if not self._open or self._plan.sources[source].evidence:
            return True  # nothing is lost by a try, and evidence comes before new rounds
        return all(self._pays(source, limit, most) for limit, most in self._ledger.limits.items())

    def _pays(self, source: str, limit: str, most: float) -> bool:
        if unit(limit) not in self.leads[source]:
            return True
        usual, whole = self._usual(source, limit), self._whole(source, limit)
        if self._plan.schedule.window * usual <= SMALL * most:
            return True
        # The costs of requests are known at their end, others when a stage starts.  A reservation for a request is the
        # most that it may cost, not the likely cost.
        taken = 0.0 if unit(limit) in OF_REQUESTS else self._ledger.reserved[limit]
        left = most - self._ledger.settled[limit] - taken
        if left < whole:
            return False
        rest = sum(max(self._usual(r.source, limit) - r.spent[limit], r.waits[limit]) for r in self._open.values())
        if left - max(0.0, rest) < whole:
            return False
        beside = [r for r in self._open.values() if not self._plan.sources[r.source].evidence]
        open_, spent = sum(self._usual(r.source, limit) for r in beside), sum(r.spent[limit] for r in beside)
        return GENERATIONS * (open_ + usual) <= left + spent

    def _usual(self, source: str, limit: str) -> float:
        """Return the average cost of a round of a source."""
        ended = self._ended[source]
        return ended.total[limit] / ended.rounds if ended.rounds else CAUTION * self._guess(source, limit)

    def _whole(self, source: str, limit: str) -> float:
        """Return the cost of a round of a source that leads to an admission."""
        ended = self._ended[source]
        if ended.admitted:
            return ended.most[limit]
        guess = self._guess(source, limit)
        return max(ended.most[limit], guess) if ended.rounds else CAUTION * guess

    def _guess(self, source: str, limit: str) -> float:
        """Return the greatest known cost of a round, of another source or an open one."""
        if unit(limit) not in self.leads[source]:
            return 0.0
        known = [costs.most[limit] for costs in self._ended.values()]
        known += [round_.known(limit) for round_ in self._open.values()]
        return max(0.0 if unit(limit) in ("tokens", "usd") else 1.0, *known)


def _leads_to(graph: GraphSpec, source: str) -> frozenset[str]:
    """Return the units of the limits that rounds of a source may spend, before they come to a pool."""
    reached = downstream(graph, source)
    stages = [stage for stage in graph.stages if stage.name in reached]
    spends = {limit for stage in stages for limit in stage.counts}
    return frozenset(spends | (set(OF_REQUESTS) if any(stage.model is not None for stage in stages) else set()))
