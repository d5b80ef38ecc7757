"""The scheduler's decisions: a synchronous state machine that is told what happened and says what to do next.

It never waits, reads no clock and starts nothing: `step` returns commands, the driver carries them out and reports
back through `completed`, `request` and `answered`.  Every state change happens between two awaits of the driver,
which is what makes runs reproducible under virtual time.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import attrs

from flashgraph.errors import FlashgraphError
from flashgraph.graph.ports import Several, Stale, Verdict
from flashgraph.llm.protocol import Load
from flashgraph.policies.control import Waiting
from flashgraph.policies.limits import Level
from flashgraph.policies.staleness import Decision
from flashgraph.run import events as ev
from flashgraph.run.admission import Admission, Ancestry
from flashgraph.run.budget import Ledger
from flashgraph.run.flow import Flow, Origin
from flashgraph.run.items import Item
from flashgraph.run.jobs import Call, Cancel, Command, Done, Failed, Grant, Job, Outcome, Refuse, Start
from flashgraph.run.plan import Capacity, EdgePlan, Plan, StagePlan
from flashgraph.run.pools import PoolState
from flashgraph.run.queues import EdgeQueue
from flashgraph.run.slots import Endpoint, Slots
from flashgraph.run.sources import Sources, SourceState

__all__ = ["Machine", "SchedulerStalled"]

FAILURES_IN_A_ROW = 20
"""A stage that fails so often without one success is broken: the run stops rather than spend its budget on it."""


class SchedulerStalled(FlashgraphError):
    """Work is open, nothing runs and nothing can: a defect of flashgraph (invariant I9), never of a graph."""


@attrs.define(eq=False)
class StageState:
    plan: StagePlan
    most: int
    busy: int = 0
    finished: float = 0.0
    failures: int = 0
    repairs: list[tuple[Item, str]] = attrs.field(factory=list)
    """Held items that wait for this repair stage, with the name of the edge whose rule sent them."""
    feeds: list[tuple[EdgePlan, EdgeQueue, EdgeQueue | None]] = attrs.field(factory=list)
    """The edges that end here, with their queues, and for a scattering edge the members of opened groups."""
    judged: bool = False
    """Whether the head may depend on what the pools are now."""
    head: Item | None = None
    """What leaves these queues next, found when `changes` was `head_at`."""
    head_at: int = -1


class Machine:
    """The state of one run; see the module's docstring for its use."""

    def __init__(
        self,
        plan: Plan,
        ledger: Ledger,
        emit: Callable[[ev.Event], None],
        seed: int = 0,
    ) -> None:
        self.plan = plan
        self.ledger = ledger
        self.seed = seed
        self.changed = False
        """Whether anything has happened since the driver last took note of it."""

        def note(event: ev.Event) -> None:
            self.changed = True
            emit(event)

        self.flow = Flow(plan, note)
        self.admission = Admission(plan, self.flow, note)
        self.sources = Sources(plan, self.flow, self.admission.pools, seed)
        self.flow.on_running_ended = self._item_gone
        self.flow.on_late = self._item_late
        self.slots = Slots(plan.limits, plan.services, seed)
        self.stages = {n: StageState(s, plan.schedule.control.start(s.workers)) for n, s in plan.stages.items()}
        for name, state in self.stages.items():
            state.feeds = [(e, self.flow.queues[e.name], self.flow.members.get(e.name)) for e in plan.incoming[name]]
            state.judged = any(e.judges for e in plan.incoming[name])
        self.jobs: dict[int, Job] = {}
        self._working: dict[int, Job] = {}
        """By item, the job that works on it."""
        self._delivering: dict[int, Job] = {}
        """Jobs that are done and hold their worker until their results are delivered."""
        self.calls: dict[int, Call] = {}
        self.status: tuple[str, str] | None = None
        """(status, reason) once the run is over."""
        self._emit = note
        self._commands: list[Command] = []
        self._stopping: tuple[str, str] | None = None
        self._draining: str | None = None
        """Why nothing new starts any more; what runs may end."""
        self._phase: str | None = None
        self._stirred = False
        self._commit: list[tuple[Job, Outcome]] = []
        self._next_job = 0
        self.next_call = 0
        """The number of the next model call."""
        self._adjust_at = plan.schedule.control.interval
        self._handlers = {"source": self._emitted, "stage": self._produced, "repair": self._repaired}
        self._by_drain = sorted(self.stages.values(), key=lambda s: (s.plan.distance, -s.plan.rank))
        self._by_rank = sorted(self.stages.values(), key=lambda s: s.plan.rank)

    # ---- what the driver calls ---------------------------------------------------------------------------

    @property
    def now(self) -> float:
        return self.flow.now

    @property
    def stopping(self) -> bool:
        """Whether everything is being cancelled."""
        return self._stopping is not None

    @property
    def running(self) -> list[Job]:
        """Jobs that have started and not ended."""
        return [job for job in self.jobs.values() if not job.done]

    @property
    def pools(self) -> dict[str, PoolState]:
        return self.admission.pools

    def step(self, now: float) -> list[Command]:
        """Everything that can be started at ``now``; sets `status` when the run is over."""
        self.flow.now = now
        if self._stopping is None:
            self._adjust()
            while self._advance() | self.flow.sweep_void():
                pass
        self._finish()
        commands, self._commands = self._commands, []
        return commands

    def next_timer(self) -> float | None:
        """When `step` is due again, even if nothing happens before; a run that is stopping waits for nothing."""
        if self._stopping is not None:
            return None
        due = (self.flow.next_timer(), self._adjust_at, self.slots.next_opening(self.now))
        times = [t for t in due if t is not None]
        return min(times, default=None)

    def completed(self, job: Job, outcome: Outcome, now: float) -> None:
        """A job has ended.  A serial schedule commits results in the order their jobs were started."""
        self.flow.now = now
        # At once: the jobs that its result waits for may be waiting for this very slot.
        self._let_go(job)
        if not self.plan.schedule.serial:
            self._committed(job, outcome)
            return
        self._commit.append((job, outcome))
        self._commit.sort(key=lambda entry: entry[0].id)
        # Jobs stand in the order of their numbers.
        while self._commit and self._commit[0][0] is next(j for j in self.jobs.values() if not j.done):
            self._committed(*self._commit.pop(0))

    def request(self, job: Job, role: str, amounts: Mapping[str, float], now: float, size: float = 0.0) -> Call:
        """A job wants to call ``role``'s model; ``amounts`` are reserved when the call is granted.

        ``size`` is about how many tokens the prompt has.
        """
        self.flow.now = now
        call = Call(self.next_call, job, role, self.plan.endpoints[role], amounts, size)
        self.next_call += 1
        self.calls[call.id] = job.calls[call.id] = call
        endpoint = self._let_go(job)
        if endpoint is None or not endpoint.room(now) or not self._grant(call, endpoint):
            self.slots.wait(call, self._rank(job.node, job.item))
        return call

    def answered(
        self,
        call: Call,
        spent: Mapping[str, float],
        usage: tuple[int, int],
        usd: float | None,
        how: Any,
        now: float,
        finish: str = "",
        *,
        pause: float | None = None,
        outage: str = "",
        estimated: bool = False,
    ) -> None:
        """A granted call has ended, or one that still waited is given up.

        ``pause`` is how long a throttled one was asked to wait, ``outage`` why its endpoint counts as down,
        ``estimated`` whether ``usage`` was not counted by the server.
        """
        self.flow.now = now
        del self.calls[call.id], call.job.calls[call.id]
        if call.reservation is None:
            self.slots.withdraw(call)
            return
        self.ledger.settle(call.reservation, spent)
        endpoint = self.slots.endpoints[call.endpoint]
        before = endpoint.level
        endpoint.ended(call, how, usage, pause, now)
        seconds = now - call.started_at
        self._emit(
            ev.CallEnded(now, call.id, call.job.id, call.role, how, *usage, usd, seconds, finish, estimated)
        )  # fmt: skip
        self._limit_changed(endpoint, before)
        if outage and endpoint.failed(call, now):
            self._emit(ev.EndpointDown(now, endpoint.name, endpoint.shut_until - now, outage))
        elif how == "done" and endpoint.recovered(call):
            self._emit(ev.EndpointUp(now, endpoint.name))

    def measured(self, endpoint: str, load: Load | None, now: float) -> None:
        """An endpoint has said how full it is; None: it could not be asked."""
        self.flow.now = now
        known = self.slots.endpoints[endpoint]
        before = known.level
        self.slots.read(endpoint, load, now)
        self._limit_changed(known, before)

    def stop(self, status: str, reason: str, now: float) -> None:
        """End the run: nothing starts any more, what runs is cancelled, what is open stays open."""
        self.flow.now = now
        if self._stopping is None:
            self._stopping = (status, reason)
            for job in self.jobs.values():
                self._cancel(job)

    def drain(self, reason: str, now: float) -> None:
        """Start nothing new; the run ends when what runs has ended, and its other open work stays open."""
        self.flow.now = now
        self._draining = self._draining or reason

    def reopen(self, limits: Mapping[str, float], now: float) -> None:
        """Go on with a run that ended or was killed, under new limits.

        A request that was out when it ended is lost: what it cost nobody can tell, and it counts as all that was set
        aside for it.
        """
        self.flow.now = now
        self.status = self._stopping = self._draining = None
        for job in self.running:
            if self.reopens(job):
                job.cancelled = False
        for call in list(self.calls.values()):
            sent = call.reservation is not None
            spent = {"tokens": call.size, **call.amounts} if sent else {}
            self.answered(call, spent, (round(call.size), 0), None, "lost", now, estimated=True)
        self.ledger.limits, self.ledger.refused = dict(limits), None
        self._emit(ev.Reopened(now, len(self.jobs) - len(self._delivering)))

    def resize(self, capacity: Capacity) -> None:
        """Go on with other workers and endpoints, while no call is open."""
        self.plan = capacity.put_in(self.plan)
        for name, state in self.stages.items():
            state.plan = self.plan.stages[name]
            state.most = self.plan.schedule.control.start(state.plan.workers)
        before, self.slots = self.slots.limits, Slots(self.plan.limits, self.plan.services, self.seed)
        for name, limit in self.slots.limits.items():
            if limit != before.get(name):
                self._emit(ev.LimitChanged(self.now, name, limit, "a new session"))
        for job in self.jobs.values():
            # Its request will wait for a slot like any other: the one that it had may be of an endpoint that is gone.
            job.slot = None

    def reopens(self, job: Job) -> bool:
        """Whether an interrupted job is run again: its item is still open."""
        return not job.done and (job.item is None or self.flow.is_open(job.item))

    def counts(self) -> tuple[int, int, int]:
        """How many jobs, calls and items there have been."""
        return self._next_job, self.next_call, self.flow.made

    # ---- decisions ---------------------------------------------------------------------------------------

    def _advance(self) -> bool:
        """One round of everything that can be done at this moment; False when another one would find nothing to do."""
        self._stirred = False
        moved = self._deliver() | self.flow.release_due() | self._admit()
        ended = self.flow.ended
        if self._draining is None:
            moved |= self._start() | self._emit_rounds()
        else:
            moved |= self._grant_waiting()
        # What was started has made room, for which only results and groups wait; and what ended on the way there may
        # have let others go on.
        waits = self._delivering or self.flow.pending or self.flow.ended != ended
        return self._stirred or (moved and bool(waits))

    def _deliver(self) -> bool:
        """Hand results on where there is room; a worker is free again when all of its results are delivered."""
        moved = False
        for job in list(self._delivering.values()) if self._delivering else ():
            before, full = job.outbox, set[str]()
            job.outbox = []
            for item in before:
                if not self.flow.is_open(item):
                    continue
                if item.edge in full or not self.flow.put(item):
                    full.add(item.edge)
                    job.outbox.append(item)
            if not job.outbox:
                self._retire(job)
                moved = True
            elif len(job.outbox) < len(before):
                moved = True
        return moved

    def _retire(self, job: Job) -> None:
        del self.jobs[job.id], self._delivering[job.id]
        if job.kind == "source":
            self.sources.states[job.node].drawing = None
        else:
            self.stages[job.node].busy -= 1

    def _admit(self) -> bool:
        admitted = False
        for name in self.plan.pools:
            for edge in self.plan.incoming[name]:
                queue = self.flow.queues[edge.name]
                while (item := self._next_item(edge, queue)) is not None:
                    self.flow.take(item)
                    self.admission.admit(name, item)
                    admitted = True
        return admitted

    def _start(self) -> bool:
        started = False
        for state in self._startable():
            if state.plan.endpoint is None:
                while state.busy < state.most and (head := self._head(state)) is not None:
                    started |= self._take_up(state, *head)
        return self._fill_slots() or started

    def _startable(self) -> list[StageState]:
        """Stages that may start work now: all of them, or in a serial run the first one that has any."""
        if not self.plan.schedule.serial:
            return self._by_drain
        if len(self.jobs) == len(self._delivering):
            able = (s for s in self._by_rank if s.busy < s.most and self._has_work(s))
            self._phase = next((s.plan.spec.name for s in able), None)
        return [self.stages[self._phase]] if self._phase is not None else []

    def _has_work(self, state: StageState) -> bool:
        return bool(state.repairs) or any(
            queue.waiting or (members is not None and members.waiting) for _, queue, members in state.feeds
        )

    def _fill_slots(self) -> bool:
        """Give free slots away: to waiting calls and to stages with queued items, by the control policy's rank."""
        filled = False
        for services in self.slots.sharing:
            able = list(services)
            while able:
                found = [f for s in able if self.slots.room(s, self.now) and (f := self._next_of(s)) is not None]
                if not found:
                    break
                _, service, call, head = min(found, key=lambda entry: entry[0])
                if head is not None:
                    filled |= self._take_up(*head)
                elif call is not None and self._grant(call):
                    filled = True
                else:
                    able.remove(service)
        return filled

    def _next_of(self, service: str) -> tuple[Any, str, Call | None, tuple[StageState, Item, str | None] | None] | None:
        """What goes next of what waits for a service, with its rank: a call, or an item with its stage."""
        call, head = self.slots.first(service), self._first_head(service)
        if head is not None and (call is None or head[0] < call[0]):
            return head[0], service, None, head[1]
        return (call[0], service, call[1], None) if call is not None else None

    def _grant_waiting(self) -> bool:
        """Give free slots to waiting calls alone: nothing new starts."""
        granted = False
        for service in self.slots.services:
            while self.slots.room(service, self.now) and (call := self.slots.first(service)) is not None:
                if not self._grant(call[1]):
                    break
                granted = True
        return granted

    def _first_head(self, service: str) -> tuple[Any, tuple[StageState, Item, str | None]] | None:
        """Of the stages that call this service and have a worker free, what would go next, with its rank."""
        best: tuple[Any, tuple[StageState, Item, str | None]] | None = None
        for state in self._startable():
            if state.plan.endpoint == service and state.busy < state.most and (head := self._head(state)) is not None:
                rank = self._rank(state.plan.spec.name, head[0])
                if best is None or rank < best[0]:
                    best = (rank, (state, *head))
        return best

    def _let_go(self, job: Job) -> Endpoint | None:
        """Take from a job the slot that it holds, if it does."""
        if job.slot is None:
            return None
        endpoint, job.slot = self.slots.endpoints[job.slot], None
        endpoint.used -= 1
        return endpoint

    def _limit_changed(self, endpoint: Endpoint, before: Level) -> None:
        level = endpoint.level
        if level.limit != before.limit:
            self._emit(ev.LimitChanged(self.now, endpoint.name, level.limit, level.reason))

    def _grant(self, call: Call, endpoint: Endpoint | None = None) -> bool:
        """Send a call, refuse it for good, or leave it waiting for amounts that others have reserved."""
        lacking = self.ledger.lacking(call.amounts)
        if lacking is not None:
            if self.ledger.reserved[lacking] > 0:
                return False
            self.slots.withdraw(call)
            self.ledger.refused = lacking
            self._commands.append(Refuse(call, lacking))
            return True
        if endpoint is None:
            endpoint = self.slots.choose(call.service, self.now)
            assert endpoint is not None, "whoever grants has seen that there is room"
        self.slots.withdraw(call)
        call.reservation = self.ledger.reserve(call.amounts)
        call.started_at, call.endpoint = self.now, endpoint.name
        call.priority = self.plan.schedule.control.priority(self._as_waiting(call.job.node, call.job.item))
        endpoint.take()
        call.tokens = endpoint.sent(call.size, self.now)
        self._commands.append(Grant(call))
        self._emit(ev.CallStarted(self.now, call.id, call.job.id, call.role, endpoint.name, endpoint.in_flight))
        return True

    def _rank(self, stage: str, item: Item | None) -> Any:
        return self.plan.schedule.control.rank(self._as_waiting(stage, item))

    def _as_waiting(self, stage: str, item: Item | None) -> Waiting:
        assert item is not None
        distance, lacks = self.plan.stages[stage].distance, self.flow.lacks(item)
        return Waiting(stage, distance, item.round, item.version, item.late, item.id, lacks)

    def _head(self, state: StageState) -> tuple[Item, str | None] | None:
        """The item a stage takes up next, and for a repair the edge that sent it."""
        if state.repairs:
            return state.repairs[0]
        if state.head_at != self._changes(state):
            state.head = self._find_head(state)
            state.head_at = self._changes(state)
        return (state.head, None) if state.head is not None else None

    def _changes(self, state: StageState) -> int:
        """Counts what a stage's head depends on; no count ever falls, so an equal sum means that nothing changed."""
        changes = self.admission.changes if state.judged else 0
        for _, queue, members in state.feeds:
            changes += queue.changes
            if members is not None:
                changes += members.changes
        return changes

    def _find_head(self, state: StageState) -> Item | None:
        best: Item | None = None
        for edge, queue, members in state.feeds:
            item = self._next_item(edge, queue)
            if members is not None:
                # A group that was opened is worked off before the next is; what is late waits for both.
                member = members.head()
                item = member if member is not None and not (member.late and item is not None) else item
            if item is not None and (best is None or (item.late, item.id) < (best.late, best.id)):
                best = item
        return best

    def _take_up(self, state: StageState, item: Item, repairing: str | None) -> bool:
        """Start a stage on what `_head` found, or open a whole that waits on a scattering edge."""
        if repairing is None and self.plan.edges[item.edge].scatter is not None and not self.flow.is_member(item):
            self.flow.open(item)
            return True
        return self._start_job(state, item, repairing)

    def _next_item(self, edge: EdgePlan, queue: EdgeQueue) -> Item | None:
        """The head of an edge's queue once its staleness rule has let it pass; others are dealt with on the way."""
        while (item := queue.head()) is not None:
            if not edge.judges or self.admission.settled(item):
                return item
            lag = self.admission.lag(item)
            try:
                decision = self._decide(edge, item)
            except Exception as error:  # the user's `when`
                self._stirred = True
                self.flow.end(item, "failed", f"staleness rule of {edge.name}: {type(error).__name__}: {error}")
                continue
            if decision.kind in ("accept", "refresh"):
                return item
            self._stirred = True
            if decision.kind == "discard":
                self.flow.end(item, "discarded", f"stale: lag {lag} on {edge.name} ({edge.stale})")
                continue
            self.flow.take(item, hold=True)
            self.stages[decision.stage].repairs.append((item, edge.name))
        return None

    def _decide(self, edge: EdgePlan, item: Item) -> Decision:
        """What the edge's staleness rule says of an item now."""
        return edge.stale.decide(
            self.admission.lag(item),
            item.repairs,
            lambda when: when(item.value, self.pools[self.admission.most_stale(item)].value),
        )

    def _start_job(self, state: StageState, item: Item, repairing: str | None) -> bool:
        """Start a stage on ``item``; False when the budget has no room for what the stage spends."""
        spec, edge = state.plan.spec, self.plan.edges[item.edge]
        amounts = dict.fromkeys(spec.spends, 1.0)
        lacking = self.ledger.lacking(amounts) if amounts else None
        if lacking is not None:
            if repairing:
                state.repairs.pop(0)
            self.flow.end(item, "cancelled", f"budget: no {lacking} left")
            return True
        lag = self.admission.lag(item)
        job = self._new_job(spec.name, "repair" if repairing else "stage", item)
        job.lag = lag
        if amounts:
            job.reservation = self.ledger.reserve(amounts)
        stale = None
        if repairing:
            state.repairs.pop(0)
            pool = self.admission.most_stale(item)
            stale = Stale(item.value, lag, self.pools[pool].changes(item.stamps[pool]))
            job.stamps = {**item.stamps, pool: self.pools[pool].version}
        else:
            (self.flow.take_member if self.flow.is_member(item) else self.flow.take)(item)
            job.stamps = item.stamps
        refreshed = edge.judges and not repairing and self._decide(edge, item).kind == "refresh"
        views = {}
        if spec.reads is not None:
            read = self.pools[spec.reads]
            version = read.version if refreshed or repairing else item.stamps.get(spec.reads, read.version)
            job.stamps = {**job.stamps, spec.reads: version}
            views[spec.reads] = read.view(version)
            self.admission.reads(item.round, {spec.reads: version})
        state.busy += 1
        if state.plan.endpoint is not None and (endpoint := self.slots.choose(state.plan.endpoint, self.now)):
            job.slot = endpoint.name
            endpoint.take()
        self._emit(ev.JobStarted(self.now, job.id, spec.name, item.id, state.busy, lag, item.late))
        self._commands.append(Start(job, item.value, views, refreshed, stale))
        return True

    def _new_job(self, node: str, kind: Any, item: Item | None) -> Job:
        job = Job(self._next_job, node, kind, self.now, item)
        self._next_job += 1
        self.jobs[job.id] = job
        if item is not None:
            self._working[item.id] = job
        return job

    def _emit_rounds(self) -> bool:
        emitted = False
        while (source := self._next_source()) is not None:
            spec = self.plan.sources[source.name]
            job = self._new_job(source.name, "source", None)
            job.emission, source.drawing = source.emissions, job
            views = {}
            if spec.reads is not None:
                pool = self.pools[spec.reads]
                job.stamps = {pool.name: pool.version}
                views[pool.name] = self.sources.view(source, pool)
            self._emit(ev.JobStarted(self.now, job.id, source.name, None, 1, 0))
            beside = self.sources.open_rounds(source.name)
            self._commands.append(Start(job, None, views, beside=beside, turn=self.sources.turn))
            emitted = True
        return emitted

    def _next_source(self) -> SourceState | None:
        one_at_a_time = self.plan.schedule.serial and (self.flow.items or self.jobs)
        return None if one_at_a_time or self.ledger.exhausted() is not None else self.sources.next()

    # ---- results -----------------------------------------------------------------------------------------

    def _committed(self, job: Job, outcome: Outcome) -> None:
        job.done = True
        self._delivering[job.id] = job
        if job.item is not None:
            del self._working[job.item.id]
        if job.reservation is not None:
            self.ledger.settle(job.reservation, dict.fromkeys(self.plan.stages[job.node].spec.spends, 1.0))
        gone = job.item is not None and not self.flow.is_open(job.item)
        share = self.flow.share(job.item) if job.item is not None else 0.0
        if isinstance(outcome, Done) and not gone:
            try:
                self._handlers[job.kind](job, outcome)
            except Exception as error:  # a route's or scatter's own function
                outcome = Failed(f"{type(error).__name__}: {error}")
        if isinstance(outcome, Failed) and not gone:
            self._job_failed(job, outcome)
        how = "cancelled" if gone else "done" if isinstance(outcome, Done) else outcome.how
        reason = outcome.reason if isinstance(outcome, Failed) else ""
        self._emit(ev.JobEnded(self.now, job.id, job.node, how, self.now - job.started_at, reason))
        if job.item is not None:
            self.stages[job.node].finished += share

    def _job_failed(self, job: Job, outcome: Failed) -> None:
        if job.kind == "source":
            self.stop("failed", f"source {job.node!r} failed: {outcome.reason}", self.now)
            return
        assert job.item is not None
        if self._stopping is not None and outcome.how == "cancelled":
            return  # the item stays open: the run was stopped, not its work
        self.flow.end(job.item, outcome.how, outcome.reason)
        state = self.stages[job.node]
        if outcome.how == "failed":
            state.failures += 1
            if state.failures >= FAILURES_IN_A_ROW:
                self.stop(
                    "failed",
                    f"stage {job.node!r} failed {state.failures} times in a row, the last time with: {outcome.reason}",
                    self.now,
                )

    def _emitted(self, job: Job, outcome: Done) -> None:
        source, spec = self.sources.states[job.node], self.plan.sources[job.node]
        if outcome.value is None:
            self.sources.had_nothing(source, job.stamps.get(spec.reads or ""))
            return
        ancestry = self.admission.ancestry(spec.reads, job.stamps.get(spec.reads or "", 0), outcome.uses)
        round_ = self.flow.open_round(job.node)
        self.admission.reads(round_.id, job.stamps)
        self._emit(ev.Emitted(self.now, job.node, round_.id, source.emissions, job.stamps.get(spec.reads or "")))
        origin = Origin(round_.id, stamps=job.stamps, uses=ancestry.uses, lineage=ancestry.lineage)
        made = self.flow.route(job.node, outcome.value, origin)
        job.outbox = made
        self.sources.emitted(source, job.stamps.get(spec.reads or ""), routed=bool(made))
        if not made and self.flow.rounds.pop(round_.id, None) is not None:
            self._emit(ev.RoundEnded(self.now, round_.id, False))
        drawing = (s.drawing for s in self.sources.states.values())
        self.admission.forget_views(j.stamps for j in drawing if j is not None)

    def _produced(self, job: Job, outcome: Done) -> None:
        item, spec = job.item, self.plan.stages[job.node].spec
        assert item is not None
        self.stages[job.node].failures = 0
        uses, lineage = item.uses, item.lineage
        if outcome.uses is not None or job.stamps != item.stamps:
            ancestry = self.admission.ancestry(
                spec.reads, job.stamps.get(spec.reads or "", 0), outcome.uses, Ancestry(uses, lineage)
            )
            if self._orphaned(item, ancestry):
                return
            uses, lineage = ancestry.uses, ancestry.lineage
        origin = Origin(item.round, (item.id,), item.scope, job.stamps, uses, lineage, item.loops, item.late)
        values = outcome.value.items if isinstance(outcome.value, Several) else (outcome.value,)
        if spec.fanout is not None and len(values) > spec.fanout:
            # Room in cycles is made for so many (docs/deadlock.md).
            raise FlashgraphError(
                f"stage {spec.name}: it returned Several of {len(values)}; it declares fanout={spec.fanout}.\n"
                "Fix: declare the true bound, or return fewer."
            )
        made = [new for value in values if value is not None for new in self.flow.route(job.node, value, origin)]
        job.outbox = made
        self.flow.end(item, "consumed" if made else "filtered")

    def _repaired(self, job: Job, outcome: Done) -> None:
        item, verdict = job.item, outcome.value
        assert item is not None
        if not isinstance(verdict, Verdict):
            raise TypeError(f"repair stage {job.node!r} returned {verdict!r}; expected a fg.Verdict")
        self.stages[job.node].failures = 0
        self._emit(ev.Repaired(self.now, item.id, job.node, verdict.kind, job.lag))
        if verdict.kind == "discard":
            self.flow.end(item, "discarded", f"repair: {verdict.reason or 'not worth keeping'}")
            return
        item.stamps = {**item.stamps, **job.stamps}
        item.repairs += 1
        if verdict.kind == "patch":
            item.value = verdict.value
        reads = self.plan.stages[job.node].spec.reads
        if outcome.uses is not None or (reads is not None and verdict.kind == "patch"):
            before = Ancestry(item.uses, item.lineage)
            ancestry = self.admission.ancestry(reads, job.stamps.get(reads or "", 0), outcome.uses, before)
            if self._orphaned(item, ancestry):
                return
            item.uses, item.lineage = ancestry.uses, ancestry.lineage
        self.flow.give_back(item)

    def _orphaned(self, item: Item, ancestry: Ancestry) -> bool:
        """Discard ``item`` if what was made of it names an artifact that was retracted meanwhile."""
        gone = ancestry.retracted
        if gone is None or self.plan.edges[item.edge].keeps_orphans:
            return False
        self.flow.end(item, "discarded", f"orphan of {gone[0]} artifact {gone[1]}, which was retracted")
        return True

    # ---- cancellation and ends ---------------------------------------------------------------------------

    def _item_gone(self, item: Item) -> None:
        """An item that was running or out for repair has ended: so does the job that works on it."""
        if (job := self._working.get(item.id)) is not None:
            self._cancel(job)
            return
        for state in self.stages.values():
            if state.repairs:
                state.repairs = [entry for entry in state.repairs if entry[0] is not item]

    def _cancel(self, job: Job) -> None:
        if not job.done and not job.cancelled:
            job.cancelled = True
            self._commands.append(Cancel(job))

    def _item_late(self, item: Item) -> None:
        if (job := self._working.get(item.id)) is not None:
            for call in job.calls.values():
                if self.slots.is_waiting(call):
                    self.slots.wait(call, self._rank(job.node, item))

    def _adjust(self) -> None:
        control = self.plan.schedule.control
        if control.interval is None or self._adjust_at is None or self.now < self._adjust_at:
            return
        self._adjust_at = self.now + control.interval
        self.changed = True
        models = {n: s for n, s in self.stages.items() if s.plan.endpoint is not None and not s.plan.repairs}
        chosen = control.adjust({n: s.most for n, s in models.items()}, {n: s.finished for n, s in models.items()})
        for name, state in models.items():
            most = min(max(chosen[name], 1), state.plan.workers)
            if most != state.most:
                state.most = most
                self._emit(ev.Resized(self.now, name, most))
            state.finished = 0.0

    def _finish(self) -> None:
        if self.status is not None or len(self.jobs) > len(self._delivering) or self._commands:
            return
        if self._stopping is not None:
            self.status = self._stopping
        elif self._draining is not None:
            self.status = ("stopped", self._draining)
        elif not self.flow.items and not self.jobs:
            limit = self.ledger.exhausted()
            self.status = ("budget", f"no {limit} left") if limit else ("completed", "the sources have nothing to emit")
        elif self.flow.next_timer() is None and self.slots.next_opening(self.now) is None:
            raise SchedulerStalled(
                f"{len(self.flow.items)} items are open and nothing can run; this is a defect of flashgraph"
            )
        if self.status is not None:
            self._emit(ev.RunEnded(self.now, *self.status, len(self.flow.items)))
