"""What rounds cost, and whether the budget pays for another one beside those that are open.

A window of rounds that is opened at once may use up a small budget before one of its proposals has been judged: eight
minibatches and eight trials, and nothing left for a validation.  A source therefore opens a round beside others only
if the budget pays for the rest of the open ones, at what a round takes on average, and for a whole new one, at the
most that a round has taken.  Costs are learned from the run's own events, so that a replayed run decides alike.

Rounds that are open at once have the same parents.  If they take the whole budget, no child becomes a parent, as it
would in lockstep.  Open rounds therefore take at most one part in `GENERATIONS` of what the budget still pays for.

Where a whole window costs a small share of a limit it is opened as ever: what is lost at the end is not worth a wait.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable
from typing import Any

import attrs

from flashgraph.graph.analysis import downstream
from flashgraph.graph.spec import GraphSpec
from flashgraph.run import events as ev
from flashgraph.run.budget import Ledger
from flashgraph.run.plan import Plan

__all__ = ["Affordable"]

OF_REQUESTS = ("calls", "tokens", "usd")
"""Limits that a request spends: a round's share of them is known at its end, of other limits when a stage starts."""

SMALL = 0.1
"""A window that costs at most this share of a limit is opened without asking."""

GENERATIONS = 4
"""Open rounds take at most one part in so many of what is left, so that later rounds build on what they found."""

CAUTION = 2.0
"""Before a round of a source has ended, one is taken to cost so many times what is known: of the rounds of others, as
the seed's validation, and of those that are open, as the minibatch that a trial will be as large as."""


@attrs.define
class _Round:
    """What a round has spent, and what waits in it for stages that spend, by limit."""

    source: str
    spent: dict[str, float] = attrs.field(factory=lambda: defaultdict(float))
    waits: Counter[str] = attrs.field(factory=Counter)
    admitted: bool = False
    """Whether a pool has taken something of it: then it is a whole one."""

    def known(self, limit: str) -> float:
        return self.spent[limit] + self.waits[limit]


@attrs.define
class _Costs:
    """What the rounds of a source that have ended took, by limit: in sum, and the most that one did, of those that led
    to an admission as soon as there are any."""

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
    """Which sources may open a round beside those that are open.  `on_event` hears everything that happens."""

    def __init__(self, plan: Plan, ledger: Ledger) -> None:
        self._plan = plan
        self._ledger = ledger
        self.leads = {source: _leads_to(plan.graph, source) for source in plan.sources}
        """By source, the limits that its rounds may spend of."""
        self._spends = {name: stage.spec.spends for name, stage in plan.stages.items()}
        self._before = {e.name: e.dst for e in plan.edges.values() if not e.gather and self._spends.get(e.dst)}
        """By edge whose items wait for a stage that spends, that stage.  Members of a group that is still gathered wait
        for each other."""
        self._open: dict[int, _Round] = {}
        self._ended: dict[str, _Costs] = {source: _Costs() for source in plan.sources}
        self._items: dict[int, tuple[int, str]] = {}
        """By item that waits for a stage which spends: its round, and the stage."""
        self._jobs: dict[int, int] = {}
        """The rounds of jobs that run."""
        self._rounds: dict[int, int] = {}
        """The rounds of open items."""
        self._hears: dict[type, Callable[[Any], None]] = {
            ev.Emitted: self._emitted,
            ev.Created: self._created,
            ev.JobStarted: self._started,
            ev.JobEnded: self._job_ended,
            ev.CallEnded: self._call_ended,
            ev.Admitted: self._admitted,
            ev.Ended: self._item_ended,
            ev.RoundEnded: self._round_ended,
        }

    # ---- what happens ------------------------------------------------------------------------------------

    def on_event(self, event: ev.Event) -> None:
        """Take note of an event."""
        if (hear := self._hears.get(type(event))) is not None:
            hear(event)

    def _emitted(self, event: ev.Emitted) -> None:
        self._open[event.round] = _Round(event.source)

    def _created(self, event: ev.Created) -> None:
        self._rounds[event.item] = event.round
        if (stage := self._before.get(event.edge)) is not None:
            self._items[event.item] = event.round, stage
            self._open[event.round].waits.update(self._spends[stage])

    def _waits_no_more(self, item: int) -> None:
        if (found := self._items.pop(item, None)) is not None:
            self._open[found[0]].waits.subtract(self._spends[found[1]])

    def _started(self, event: ev.JobStarted) -> None:
        if event.item is None or (round_ := self._rounds.get(event.item)) is None:
            return
        self._jobs[event.job] = round_
        if self._items.get(event.item, (0, ""))[1] == event.stage:  # else it is repaired first
            self._waits_no_more(event.item)
        for limit in self._spends[event.stage]:
            self._open[round_].spent[limit] += 1

    def _job_ended(self, event: ev.JobEnded) -> None:
        self._jobs.pop(event.job, None)

    def _call_ended(self, event: ev.CallEnded) -> None:
        round_ = self._open.get(self._jobs.get(event.job, -1))
        if round_ is not None and event.how != "throttled":
            tokens = event.prompt_tokens + event.completion_tokens
            for limit, amount in (("calls", 1), ("tokens", tokens), ("usd", event.usd or 0.0)):
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

    # ---- what it costs -----------------------------------------------------------------------------------

    def pays(self, source: str) -> bool:
        """Whether the budget pays for another round of ``source`` beside those that are open."""
        if not self._open or self._plan.sources[source].evidence:
            return True  # nothing is lost by trying; evidence goes before new rounds
        return all(self._pays(source, limit, most) for limit, most in self._ledger.limits.items())

    def _pays(self, source: str, limit: str, most: float) -> bool:
        if limit not in self.leads[source]:
            return True
        usual, whole = self._usual(source, limit), self._whole(source, limit)
        if self._plan.schedule.window * usual <= SMALL * most:
            return True
        # What is reserved for a request is the most that it may take, not what it will.
        taken = 0.0 if limit in OF_REQUESTS else self._ledger.reserved[limit]
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
        """What a round of a source takes on average."""
        ended = self._ended[source]
        return ended.total[limit] / ended.rounds if ended.rounds else CAUTION * self._guess(source, limit)

    def _whole(self, source: str, limit: str) -> float:
        """What a round of a source takes that leads to an admission."""
        ended = self._ended[source]
        if ended.admitted:
            return ended.most[limit]
        guess = self._guess(source, limit)
        return max(ended.most[limit], guess) if ended.rounds else CAUTION * guess

    def _guess(self, source: str, limit: str) -> float:
        """The most that a round is known to take, of another source or an open one."""
        if limit not in self.leads[source]:
            return 0.0
        known = [costs.most[limit] for costs in self._ended.values()]
        known += [round_.known(limit) for round_ in self._open.values()]
        return max(0.0 if limit in ("tokens", "usd") else 1.0, *known)


def _leads_to(graph: GraphSpec, source: str) -> frozenset[str]:
    """The limits that rounds of a source may spend of, before they come to a pool."""
    reached = downstream(graph, source)
    stages = [stage for stage in graph.stages if stage.name in reached]
    spends = {limit for stage in stages for limit in stage.spends}
    return frozenset(spends | (set(OF_REQUESTS) if any(stage.llm is not None for stage in stages) else set()))
