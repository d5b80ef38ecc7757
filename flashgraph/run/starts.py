"""Which stage starts on which item: all that has a worker, a slot and room in the budget, by the control policy."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import attrs

from flashgraph.graph.ports import Stale
from flashgraph.run import events as ev
from flashgraph.run.admission import Admission
from flashgraph.run.budget import Ledger
from flashgraph.run.calls import Calls
from flashgraph.run.flow import Flow
from flashgraph.run.items import Item
from flashgraph.run.job_table import JobTable
from flashgraph.run.jobs import Call, Start
from flashgraph.run.plan import Plan
from flashgraph.run.stages import Stages, StageState
from flashgraph.run.withheld import Withheld

__all__ = ["Starts"]

Head = tuple[StageState, Item, str | None]
"""A stage, the item that it takes up next, and for a repair the edge that sent the item."""


@attrs.define(eq=False)
class Starts:
    """Starts the stages of one run."""

    plan: Plan
    ledger: Ledger
    flow: Flow
    admission: Admission
    calls: Calls
    stages: Stages
    withheld: Withheld
    work: JobTable
    emit: Callable[[ev.Event], None]
    phase: str | None = attrs.field(default=None, init=False)
    """In a serial run, the stage that may start work now."""

    def start(self) -> bool:
        """Start everything that can be; True if anything started, or a whole was opened."""
        started = False
        for state in self._startable():
            if state.plan.endpoint is None:
                while self._may_start(state) and (head := self.stages.head(state)) is not None:
                    self._take_up(state, *head)
                    started = True
        return self._fill_slots() or started

    def held_back(self) -> str | None:
        """Return the limit that all work waits for, where nothing runs; None if something may start without more."""
        return self.withheld.limit(self._startable())

    def _startable(self) -> list[StageState]:
        """Return the stages that may start work now: all, or in a serial run the first one that has any."""
        if not self.plan.schedule.serial:
            return self.stages.by_drain
        if self.work.idle:
            able = (s for s in self.stages.by_rank if s.busy < s.most and self.stages.has_work(s))
            self.phase = next((s.plan.spec.name for s in able), None)
        return [self.stages.states[self.phase]] if self.phase is not None else []

    def _fill_slots(self) -> bool:
        """Give free slots to waiting calls and to stages with queued items, by the control policy's rank."""
        filled = False
        for services in self.calls.slots.sharing:
            able = list(services)
            while able:
                room = (s for s in able if self.calls.slots.room(s, self.flow.now))
                found = [f for s in room if (f := self._next_of(s)) is not None]
                if not found:
                    break
                _, service, call, head = min(found, key=lambda entry: entry[0])
                if head is not None:
                    self._take_up(*head)
                    filled = True
                elif call is not None and self.calls.grant(call):
                    filled = True
                else:
                    able.remove(service)
        return filled

    def _next_of(self, service: str) -> tuple[Any, str, Call | None, Head | None] | None:
        """Return what goes next of all that waits for a service, with its rank: a call, or an item with its stage."""
        call, head = self.calls.slots.first(service), self._first_head(service)
        if head is not None and (call is None or head[0] < call[0]):
            return head[0], service, None, head[1]
        return (call[0], service, call[1], None) if call is not None else None

    def _first_head(self, service: str) -> tuple[Any, Head] | None:
        """Return what goes next of the stages that call a service and have a worker free, with its rank."""
        best: tuple[Any, Head] | None = None
        for state in self._startable():
            if (
                state.plan.endpoint == service
                and self._may_start(state)
                and (head := self.stages.head(state)) is not None
            ):
                rank = self.calls.rank(state.plan.spec.name, head[0])
                if best is None or rank < best[0]:
                    best = (rank, (state, *head))
        return best

    def _may_start(self, state: StageState) -> bool:
        """Whether a stage has a worker free, and the budget has room for another execution."""
        return state.busy < state.most and self.withheld.limit_of(state) is None

    def _take_up(self, state: StageState, item: Item, repairing: str | None) -> None:
        """Start a stage on its head, or open a whole that waits on a scattering edge."""
        if repairing is None and self.plan.edges[item.edge].scatter is not None and not self.flow.is_member(item):
            self.flow.open(item)
        else:
            self._start_job(state, item, repairing)

    def _start_job(self, state: StageState, item: Item, repairing: str | None) -> None:
        """Start a stage on ``item``; the budget has room for the execution."""
        spec, edge = state.plan.spec, self.plan.edges[item.edge]
        refreshed = edge.judges and not repairing and self.stages.refreshes(edge, item)
        if not self.flow.is_open(item):
            return  # its rule raised
        lag = self.admission.lag(item)
        job = self.work.begin(spec.name, "repair" if repairing else "stage", self.flow.now, item)
        job.lag = lag
        if spec.counts:
            job.reservation = self.ledger.reserve(dict.fromkeys(spec.counts, 1.0))
        pools, stale = self.admission.pools, None
        if repairing:
            _, _, pool = state.repairs.pop(0)
            stale = Stale(item.value, lag, pools[pool].changes(item.stamps[pool]))
            job.stamps = {**item.stamps, pool: pools[pool].version}
        else:
            self.flow.take_up(item)
            job.stamps = item.stamps
        views = {}
        for name in spec.reads:
            read = pools[name]
            version = read.version if refreshed or repairing else item.stamps.get(name, read.version)
            job.stamps = {**job.stamps, name: version}
            views[name] = read.view(version)
            self.admission.reads(item.round, {name: version})
        state.busy += 1
        slots = self.calls.slots
        if state.plan.endpoint is not None and (endpoint := slots.choose(state.plan.endpoint, self.flow.now)):
            job.slot = endpoint.name
            endpoint.take()
        self.emit(ev.JobStarted(self.flow.now, job.id, spec.name, item.id, state.busy, lag, item.late))
        self.work.commands.append(Start(job, item.value, views, refreshed, stale))
