"""The scheduler's decisions: a synchronous state machine that is told what happened and says what to do next.

It never waits, reads no clock and starts nothing.  Its parts are told what has happened (`completed`, and the calls'
`request` and `answered`), `step` returns commands, and the driver carries them out.  Every state change happens between
two awaits of the driver, which is what makes runs reproducible under virtual time.

    flow       items in queues, groups and rounds         stages    what each stage takes up next
    admission  pools and who descends from whom           sources   which round is opened next
    calls      requests, slots and limits                 results   the items that a result becomes
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Literal

from flashgraph.errors import FlashgraphError, described
from flashgraph.graph.ports import Artifact, Stale
from flashgraph.llm.secrets import without_secrets
from flashgraph.run import events as ev
from flashgraph.run.admission import Admission
from flashgraph.run.affordable import Affordable
from flashgraph.run.budget import Ledger
from flashgraph.run.calls import Calls
from flashgraph.run.cause import Cause, End, cause_of
from flashgraph.run.edge_functions import FAILURES_IN_A_ROW
from flashgraph.run.flow import Flow
from flashgraph.run.goal import NO_GOAL, Goal, Goals, proposing
from flashgraph.run.items import Item
from flashgraph.run.jobs import Call, Cancel, Command, Done, Failed, Job, Outcome, Start
from flashgraph.run.plan import Capacity, Plan
from flashgraph.run.pools import PoolState
from flashgraph.run.results import Results
from flashgraph.run.slots import Slots
from flashgraph.run.sources import Sources, SourceState
from flashgraph.run.stages import Stages, StageState
from flashgraph.run.withheld import Withheld
from flashgraph.tasks.task import Task

__all__ = ["Machine", "SchedulerStalled"]

HEARING = 0.05
"""Seconds for which a round that could be opened waits at most until there is nothing more to be heard first."""


class SchedulerStalled(FlashgraphError):
    """Work is open, nothing runs and nothing can: a defect of flashgraph (invariant I9), never of a graph."""


class Machine:
    """The state of one run; see the module's docstring for its use."""

    def __init__(
        self,
        plan: Plan,
        ledger: Ledger,
        emit: Callable[[ev.Event], None],
        seed: int = 0,
        task: Task[Any, Any] | None = None,
    ) -> None:
        self.plan = plan
        self.ledger = ledger
        self.seed = seed
        self.task = task
        """The task that the pools are made for (``for_task``)."""
        self.changed = False
        """Whether anything has happened since the driver last took note of it."""

        self._affordable = Affordable(plan, ledger)
        evidence = (self._affordable.leads[s.name] for s in plan.graph.sources if s.evidence)
        self._for_evidence: frozenset[str] = frozenset().union(*evidence)
        """The limits that sources of evidence spend of; the schedule's reserve of others would go unused."""
        overlaps = not plan.schedule.serial

        def note(event: ev.Event) -> None:
            self.changed = True
            if overlaps:
                self._affordable.on_event(event)
            emit(event)

        self._commands: list[Command] = []
        self.flow = Flow(plan, note, seed)
        self.admission = Admission(plan, self.flow, note, task)
        self.sources = Sources(plan, self.flow, self.admission.pools, seed)
        if overlaps:
            self.sources.pays = self._affordable.pays
        self.calls = Calls(plan, self.flow, ledger, seed, note, lambda command: self._commands.append(command))
        self._results = Results(plan, self.flow, self.admission, self.sources, note)
        self._stages = Stages(plan, self.flow, self.admission)
        self._withheld = Withheld(ledger, self.calls, self._stages)
        self.goals = Goals(proposing(plan.graph))
        self._others = frozenset(s.name for s in plan.graph.sources if not s.evidence)
        """The sources whose rounds are no evidence for artifacts of the pool."""
        self.flow.on_running_ended = self._item_gone
        self.flow.on_late = self._item_late
        self.jobs: dict[int, Job] = {}
        self._working: dict[int, Job] = {}
        """By item, the job that works on it."""
        self._delivering: dict[int, Job] = {}
        """Jobs that are done and hold their worker until their results are delivered."""
        self.status: End | None = None
        """How the run ended, once it is over."""
        self._emit = note
        self._stopping: End | None = None
        self._draining: End | None = None
        """How the run ends when what runs has ended; nothing new starts."""
        self._phase: str | None = None
        """In a serial run the stage whose turn it is."""
        self._commit: list[tuple[Job, Outcome]] = []
        self._next_job = 0
        self._quiet = True
        self._unopened: float | None = None
        """Since when a round could be opened that waits to hear what else has happened."""
        self._adjust_at = plan.schedule.control.interval

    # ---- what the driver calls ---------------------------------------------------------------------------

    @property
    def now(self) -> float:
        """Seconds on the run's clock at which everything happens that the machine is told; set it first."""
        return self.flow.now

    @now.setter
    def now(self, seconds: float) -> None:
        self.flow.now = seconds

    @property
    def stages(self) -> Mapping[str, StageState]:
        return self._stages.states

    @property
    def slots(self) -> Slots:
        return self.calls.slots

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

    @property
    def champion(self) -> tuple[PoolState, Artifact] | None:
        """The artifact that the run would hand out now, with its pool (`GraphSpec.results`)."""
        pools = (self.pools[name] for name in self.plan.graph.results)
        return next(((pool, pool.best) for pool in pools if pool.best is not None), None)

    def step(self, *, quiet: bool) -> list[Command]:
        """Everything that can be started now; sets `status` when the run is over.

        ``quiet`` says that nothing has happened since the last step.  Rounds are opened then: what is due at this
        moment is heard first, so that a round sees the newest pool, and where requests take no time none is opened
        before the one before it is over.
        """
        self._quiet = quiet
        if self._stopping is None and self.status is None:
            self._adjust()
            while self.flow.functions.broken is None and (self._advance() | self.flow.sweep_void()):
                pass
            if self.flow.functions.broken is not None:
                self.stop(End("failed", Cause.FUNCTION, self.flow.functions.broken))
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

    def completed(self, job: Job, outcome: Outcome) -> None:
        """A job has ended.  A serial schedule commits results in the order their jobs were started, and hands each on
        before it takes the next: groups are released in the order in which a synchronous loop would."""
        # At once: the jobs that its result waits for may be waiting for this very slot.
        self.calls.let_go(job)
        if not self.plan.schedule.serial:
            self._committed(job, outcome)
            return
        self._commit.append((job, outcome))
        self._commit.sort(key=lambda entry: entry[0].id)
        # Jobs stand in the order of their numbers.
        while self._commit and self._commit[0][0] is next(j for j in self.jobs.values() if not j.done):
            self._committed(*self._commit.pop(0))
            self._deliver()

    def stop(self, end: End) -> None:
        """End the run: nothing starts any more, what runs is cancelled, what is open stays open."""
        if self._stopping is None:
            self._stopping = end
            for job in self.jobs.values():
                self._cancel(job)

    def drain(self, end: End) -> None:
        """Start nothing new; the run ends when what runs has ended, and its other open work stays open."""
        self._draining = self._draining or end

    def reopen(self, limits: Mapping[str, float]) -> None:
        """Go on with a run that ended or was killed, under new limits."""
        self.status = self._stopping = self._draining = self.flow.functions.broken = None
        for job in self.running:
            job.refused = False
            if self.reopens(job):
                job.cancelled = False
        self.calls.lose()
        self.calls.refused.clear()
        self.ledger.limits, self.ledger.refused = dict(limits), None
        self._emit(ev.Reopened(self.now, len(self.jobs) - len(self._delivering)))

    def aim(self, goal: Goal) -> None:
        """Go on with another goal."""
        self.goals.aim(goal)
        self.sources.closed = ()
        self.changed = True

    def resize(self, capacity: Capacity) -> None:
        """Go on with other workers and endpoints, while no call is open."""
        self.plan = capacity.put_in(self.plan)
        self._stages.resize(self.plan)
        self.calls.resize(self.plan)
        for job in self.jobs.values():
            # Its request will wait for a slot like any other: the one that it had may be of an endpoint that is gone.
            job.slot = None

    def reopens(self, job: Job) -> bool:
        """Whether an interrupted job is run again: its item is still open."""
        return not job.done and (job.item is None or self.flow.is_open(job.item))

    def counts(self) -> tuple[int, int, int]:
        """How many jobs, calls and items there have been."""
        return self._next_job, self.calls.made, self.flow.made

    # ---- decisions ---------------------------------------------------------------------------------------

    def _advance(self) -> bool:
        """One round of everything that can be done at this moment; False when another one would find nothing to do."""
        self._stages.stirred = False
        moved = self._deliver() | self.flow.release_due() | self._admit()
        self._look_at_goal()
        ended = self.flow.ended
        if self._draining is None:
            moved |= self._start() | self._emit_rounds()
        else:
            moved |= self.calls.grant_waiting()
        # What was started has made room, for which only results and groups wait; and what ended on the way there may
        # have let others go on.
        waits = self._delivering or self.flow.pending or self.flow.ended != ended
        return self._stages.stirred or (moved and bool(waits))

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
                while (item := self._stages.next_item(edge, queue)) is not None:
                    self.flow.take(item)
                    self.admission.admit(name, item)
                    admitted = True
        return admitted

    def _set_aside(self) -> bool:
        """Whether what is left of the budget is set aside for evidence."""
        schedule, seconds = self.plan.schedule, self.goals.goal.seconds
        if not schedule.reserve or len(self._others) == len(self.plan.sources):
            return False
        limits = {name: limit for name, limit in self.ledger.limits.items() if name in self._for_evidence}
        shares = [(self.ledger.settled[n] + self.ledger.reserved[n]) / limit for n, limit in limits.items()]
        return max([*shares, self.now / seconds if seconds else 0.0]) >= 1 - schedule.reserve

    def _look_at_goal(self) -> None:
        self.sources.closed = self._others if self._set_aside() else ()
        if self.goals.goal == NO_GOAL:
            return
        proposals = self.ledger.settled["proposals"]
        pool, champion = self.champion or (None, None)
        if end := self.goals.look(pool.value if pool is not None else None, champion, proposals):
            self.drain(end)
        self.sources.closed = {*self.sources.closed, *self.goals.closed(proposals)}

    def _start(self) -> bool:
        started = False
        for state in self._startable():
            if state.plan.endpoint is None:
                while self._may_start(state) and (head := self._stages.head(state)) is not None:
                    self._take_up(state, *head)
                    started = True
        return self._fill_slots() or started

    def _startable(self) -> list[StageState]:
        """Stages that may start work now: all of them, or in a serial run the first one that has any."""
        if not self.plan.schedule.serial:
            return self._stages.by_drain
        if len(self.jobs) == len(self._delivering):
            able = (s for s in self._stages.by_rank if s.busy < s.most and self._stages.has_work(s))
            self._phase = next((s.plan.spec.name for s in able), None)
        return [self.stages[self._phase]] if self._phase is not None else []

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
                    self._take_up(*head)
                    filled = True
                elif call is not None and self.calls.grant(call):
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

    def _first_head(self, service: str) -> tuple[Any, tuple[StageState, Item, str | None]] | None:
        """Of the stages that call this service and have a worker free, what would go next, with its rank."""
        best: tuple[Any, tuple[StageState, Item, str | None]] | None = None
        for state in self._startable():
            if (
                state.plan.endpoint == service
                and self._may_start(state)
                and (head := self._stages.head(state)) is not None
            ):
                rank = self.calls.rank(state.plan.spec.name, head[0])
                if best is None or rank < best[0]:
                    best = (rank, (state, *head))
        return best

    def _may_start(self, state: StageState) -> bool:
        """Whether a stage has a worker free, and the budget has room for another execution."""
        return state.busy < state.most and self._withheld.limit_of(state) is None

    def _take_up(self, state: StageState, item: Item, repairing: str | None) -> None:
        """Start a stage on what `_head` found, or open a whole that waits on a scattering edge."""
        if repairing is None and self.plan.edges[item.edge].scatter is not None and not self.flow.is_member(item):
            self.flow.open(item)
        else:
            self._start_job(state, item, repairing)

    def _start_job(self, state: StageState, item: Item, repairing: str | None) -> None:
        """Start a stage on ``item``; the budget has room for what the stage spends."""
        spec, edge = state.plan.spec, self.plan.edges[item.edge]
        refreshed = edge.judges and not repairing and self._stages.refreshes(edge, item)
        if not self.flow.is_open(item):
            return  # its rule raised
        lag = self.admission.lag(item)
        job = self._new_job(spec.name, "repair" if repairing else "stage", item)
        job.lag = lag
        if spec.spends:
            job.reservation = self.ledger.reserve(dict.fromkeys(spec.spends, 1.0))
        stale = None
        if repairing:
            state.repairs.pop(0)
            pool = self.admission.most_stale(item)
            stale = Stale(item.value, lag, self.pools[pool].changes(item.stamps[pool]))
            job.stamps = {**item.stamps, pool: self.pools[pool].version}
        else:
            (self.flow.take_member if self.flow.is_member(item) else self.flow.take)(item)
            job.stamps = item.stamps
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
            champion = self.pools[spec.reads].best if spec.reads is not None else None
            self._commands.append(Start(job, None, views, beside=beside, turn=self.sources.turn, champion=champion))
            emitted = True
        return emitted

    def _next_source(self) -> SourceState | None:
        one_at_a_time = self.plan.schedule.serial and (self.flow.items or self.jobs)
        found = None if one_at_a_time or self.ledger.exhausted() is not None else self.sources.next()
        if found is None or self._quiet or not self.plan.endpoints:
            self._unopened = None
            return found
        if self._unopened is None:
            self._unopened = self.now
        return found if self.now >= self._unopened + HEARING else None

    # ---- results -----------------------------------------------------------------------------------------

    def _committed(self, job: Job, outcome: Outcome) -> None:
        job.done = True
        self._delivering[job.id] = job
        if job.item is not None:
            del self._working[job.item.id]
        if job.reservation is not None:
            # A parked job that the end of the run cancels is the same execution when it runs again.
            spends = () if job.refused and self._stopping is not None else self.plan.stages[job.node].spec.spends
            self.ledger.settle(job.reservation, dict.fromkeys(spends, 1.0))
        gone = job.item is not None and not self.flow.is_open(job.item)
        # Before it ends, with its group; asked only where rates are compared, for it looks at all groups around it.
        share = self.flow.share(job.item) if job.item is not None and self._adjust_at is not None else 0.0
        if isinstance(outcome, Done) and not gone:
            try:
                self._results.take(job, outcome)
                # A stage that found nothing to ask its model has not shown that the model's replies can be used.
                if job.item is not None and (job.asked or self.stages[job.node].plan.endpoint is None):
                    self.stages[job.node].failures = 0
            except Exception as error:  # what is wrong with the result itself
                outcome = Failed(cause_of(error), without_secrets(described(error)))
        if isinstance(outcome, Failed) and not gone:
            self._job_failed(job, outcome)
        self._emit(ev.JobEnded(self.now, job.id, job.node, *_told(outcome, gone, self.now - job.started_at)))
        if job.item is not None:
            self.stages[job.node].finished += share

    def _job_failed(self, job: Job, outcome: Failed) -> None:
        if job.kind == "source":
            self.stop(End("failed", Cause.SOURCE, f"source {job.node!r} failed: {outcome.reason}"))
            return
        assert job.item is not None
        if self._stopping is not None and outcome.how == "cancelled":
            return  # the item stays open: the run was stopped, not its work
        self.flow.end(job.item, outcome.how, outcome.cause, outcome.reason)
        state = self.stages[job.node]
        if outcome.how == "failed":
            state.failures += 1
            if state.failures >= FAILURES_IN_A_ROW:
                said = (
                    f"stage {job.node!r} failed {state.failures} times in a row, the last time with: {outcome.reason}"
                )
                self.stop(End("failed", Cause.STREAK, said))

    # ---- cancellation and ends ---------------------------------------------------------------------------

    def _item_gone(self, item: Item) -> None:
        """An item that was running or out for repair has ended: so does the job that works on it."""
        if (job := self._working.get(item.id)) is not None:
            self._cancel(job)
            return
        self._stages.forget(item)

    def _cancel(self, job: Job) -> None:
        if not job.done and not job.cancelled:
            job.cancelled = True
            self._commands.append(Cancel(job))

    def _item_late(self, item: Item) -> None:
        if (job := self._working.get(item.id)) is not None:
            self.calls.rank_anew(job)

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
        if self.status is not None or self._commands:
            return
        running = len(self.jobs) > len(self._delivering)
        if running and (self._stopping is not None or not self._all_parked()):
            return
        end = self._end()
        if end is None:
            return
        if running:
            # In a turn of its own: what this one was told is kept, and what a stop is told is not.
            if self._quiet:
                self.stop(end)
            return
        self.status = end
        self._emit(ev.RunEnded(self.now, end.status, end.cause, end.reason, len(self.flow.items)))

    def _all_parked(self) -> bool:
        """Whether all jobs that have not ended wait for a larger budget."""
        if self.ledger.refused is None:
            return False
        ended = {job.id for job, _ in self._commit}
        return all(job.done or job.id in ended or (job.refused and not job.calls) for job in self.jobs.values())

    def _end(self) -> End | None:
        """How the run ends now that nothing runs but parked jobs; None: it goes on."""
        if self._stopping is not None:
            return self._stopping
        if self._draining is not None:
            return self._draining
        if self._unopened is not None:
            return None  # it opens a round when it is quiet
        if not self.flow.items and not self.jobs:
            limit = self.ledger.exhausted()
            if limit is not None:
                return End.spent(limit)
            if self._set_aside():
                said = "the rest of the budget was set aside for evidence, and no contender lacks any"
                return End("budget", Cause.RESERVE, said)
            given_up = self.goals.given_up(self.ledger.settled["proposals"])
            return given_up or End("completed", Cause.DONE, self.sources.silence)
        if (limit := self._withheld.limit(self._startable())) is not None:
            # Also while a group has a deadline: with a larger budget its members would have come before that.
            return End.spent(limit)
        if self.flow.next_timer() is None and self.slots.next_opening(self.now) is None:
            raise SchedulerStalled(
                f"{len(self.flow.items)} items are open and nothing can run; this is a defect of flashgraph"
            )
        return None


def _told(
    outcome: Outcome, gone: bool, seconds: float
) -> tuple[Literal["done", "failed", "cancelled"], float, Cause, str]:
    """How a job ended, after how many seconds, and why; its item may be ``gone``."""
    if isinstance(outcome, Done):
        return ("cancelled", seconds, Cause.CANCELLED, "") if gone else ("done", seconds, Cause.DONE, "")
    cause = Cause.CANCELLED if gone and outcome.how != "cancelled" else outcome.cause
    return "cancelled" if gone else outcome.how, seconds, cause, outcome.reason
