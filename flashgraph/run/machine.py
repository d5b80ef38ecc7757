"""The scheduler's decisions: a synchronous state machine from events to commands.

It never waits, reads no clock and starts nothing.  The driver tells it what happened (`completed`, and the calls'
`request` and `answered`), `step` returns commands, and the driver carries them out.  Every state change happens between
two awaits of the driver, which makes runs reproducible under virtual time.

Each part of the state has one owner; `snapshot` shows it all.

- flow: items in queues, groups and rounds.
- admission: pools and the ancestry of artifacts.
- calls: requests, slots and limits.
- stages: the next item of each stage. starts: the stage that starts on it.
- sources: the next source to emit. openings: when it may.
- work: jobs and commands. commits: their outcomes. products: the items of their results.
- ending: how the run ends.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from flashgraph.graph.ports import Artifact
from flashgraph.run import events as ev
from flashgraph.run.admission import Admission
from flashgraph.run.affordable import Affordable
from flashgraph.run.budget import Ledger
from flashgraph.run.calls import Calls
from flashgraph.run.cause import Cause, End
from flashgraph.run.commits import Commits
from flashgraph.run.ending import RunEnding
from flashgraph.run.flow import Flow
from flashgraph.run.goal import Goal, Goals, proposing
from flashgraph.run.items import Item
from flashgraph.run.job_table import JobTable
from flashgraph.run.jobs import Command, Job, Outcome
from flashgraph.run.openings import Openings
from flashgraph.run.plan import Capacity, Plan
from flashgraph.run.pools import PoolState
from flashgraph.run.products import Products
from flashgraph.run.reserve import Reserve
from flashgraph.run.slots import Slots
from flashgraph.run.snapshot import MachineSnapshot
from flashgraph.run.sources import Sources
from flashgraph.run.stages import Stages, StageState
from flashgraph.run.starts import Starts
from flashgraph.run.withheld import Withheld
from flashgraph.tasks.task import Task

__all__ = ["Machine"]


class Machine:
    """The state of one run; the module's docstring says how to use it."""

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
        """Whether anything has happened since the driver last set this to False."""
        affordable = Affordable(plan, ledger)
        overlaps = not plan.schedule.serial

        def note(event: ev.Event) -> None:
            self.changed = True
            if overlaps:
                affordable.on_event(event)
            emit(event)

        self._emit = note
        self._adjust_at = plan.schedule.control.interval
        self._work = work = JobTable()
        self.flow = Flow(plan, note, seed)
        self.admission = Admission(plan, self.flow, note, task)
        self.sources = Sources(plan, self.flow, self.admission.pools, seed)
        if overlaps:
            self.sources.pays = affordable.pays
        self.calls = Calls(plan, self.flow, ledger, seed, note, work.commands.append)
        self.goals = Goals(proposing(plan.graph))
        self._stages = Stages(plan, self.flow, self.admission)
        withheld, reserve = Withheld(ledger, self.calls, self._stages), Reserve(plan, ledger, affordable.leads)
        self._starts = Starts(plan, ledger, self.flow, self.admission, self.calls, self._stages, withheld, work, note)
        self._openings = Openings(plan, ledger, self.flow, self.pools, self.sources, self.goals, reserve, work, note)
        self._ending = RunEnding(ledger, self.flow, self.calls, work, self._starts, self._openings, note)
        products = Products(plan, self.flow, self.admission, self.sources, note)
        self._commits = Commits(plan, ledger, self.flow, self._stages, self.sources, work, products, self._ending, note)
        self.flow.on_running_ended = self._item_gone
        self.flow.groups.on_late = self._item_late

    # ---- views -------------------------------------------------------------------------------------------

    @property
    def now(self) -> float:
        """Seconds on the run's clock; set it before each input."""
        return self.flow.now

    @now.setter
    def now(self, seconds: float) -> None:
        self.flow.now = seconds

    @property
    def jobs(self) -> dict[int, Job]:
        """By number, the jobs that have started and whose results are not delivered."""
        return self._work.jobs

    @property
    def running(self) -> list[Job]:
        """The jobs that have started and not ended."""
        return self._work.running

    @property
    def stages(self) -> Mapping[str, StageState]:
        return self._stages.states

    @property
    def slots(self) -> Slots:
        return self.calls.slots

    @property
    def pools(self) -> dict[str, PoolState]:
        return self.admission.pools

    @property
    def champion(self) -> tuple[PoolState, Artifact] | None:
        """The artifact that the run would hand out now, with its pool (`GraphSpec.results`)."""
        return self._openings.champion

    @property
    def status(self) -> End | None:
        """How the run ended; None before its end."""
        return self._ending.status

    @property
    def stopping(self) -> bool:
        """Whether everything is being cancelled."""
        return self._ending.stopping is not None

    def next_timer(self) -> float | None:
        """Return when `step` is due even if nothing happens before; a run that is stopping waits for nothing."""
        if self.stopping:
            return None
        due = (self.flow.groups.next_timer(), self._adjust_at, self.slots.next_opening(self.now))
        times = [t for t in due if t is not None]
        return min(times, default=None)

    def reopens(self, job: Job) -> bool:
        """Whether an interrupted job is run again: its item is still open."""
        return not job.done and (job.item is None or self.flow.is_open(job.item))

    def counts(self) -> tuple[int, int, int]:
        """Return how many jobs, calls and items there have been."""
        return self._work.begun, self.calls.made, self.flow.made

    def snapshot(self) -> MachineSnapshot:
        """Return a copy of the state that later turns do not change."""
        places, groups, ending = self.flow.places, self.flow.groups, self._ending
        return MachineSnapshot(
            at=self.now,
            counts=self.counts(),
            status=ending.status,
            stopping=ending.stopping,
            draining=ending.draining,
            places=dict(places.of),
            queued={name: tuple([i.id for i in queue.items()]) for name, queue in places.queues.items()},
            members={name: tuple([i.id for i in queue.items()]) for name, queue in places.members.items()},
            pending=tuple([item.id for item in groups.pending]),
            timers=dict(groups.timers),
            streaks={edge: dict(found) for edge, found in groups.scattering.streaks.items()},
            claims=self.flow.claims.state(),
            uncommitted=tuple([job.id for job, _ in self._work.uncommitted]),
            delivering=tuple(self._work.delivering),
            ranks=dict(self.slots.ranks),
            in_flight={c.id: c.endpoint for c in self.calls.open.values() if c.reservation is not None},
            settled=dict(self.ledger.settled),
            reserved=dict(self.ledger.reserved),
            versions={name: pool.version for name, pool in self.pools.items()},
            phase=self._starts.phase,
            adjust_at=self._adjust_at,
            opening_since=self._openings.waiting_since,
        )

    # ---- inputs --------------------------------------------------------------------------------------------

    def completed(self, job: Job, outcome: Outcome) -> None:
        """Take the outcome of a job that has ended."""
        # At once: the jobs that its result waits for may be waiting for this very slot.
        self.calls.free_slot(job)
        self._commits.take(job, outcome)

    def stop(self, end: End) -> None:
        """End the run: nothing starts any more, what runs is cancelled, what is open stays open."""
        self._ending.stop(end)

    def drain(self, end: End) -> None:
        """Start nothing new; the run ends when what runs has ended, and its other open work stays open."""
        self._ending.drain(end)

    def fail(self, end: End) -> None:
        """Take a run as ended from outside: by an exception, or by a journal that takes no more."""
        self._ending.status = end

    def reopen(self, limits: Mapping[str, float]) -> None:
        """Continue a run that ended or was killed, under new limits."""
        self._ending.reopen()
        self.flow.functions.broken = None
        for job in self.running:
            job.refused = False
            if self.reopens(job):
                job.cancelled = False
        self.calls.lose()
        self.calls.refused.clear()
        self.ledger.limits, self.ledger.refused = dict(limits), None
        self._emit(ev.Reopened(self.now, len(self._work.jobs) - len(self._work.delivering)))

    def aim(self, goal: Goal) -> None:
        """Give the run another goal."""
        self._openings.aim(goal)
        self.changed = True

    def resize(self, capacity: Capacity) -> None:
        """Change the workers and endpoints, while no call is open."""
        self.plan = capacity.put_in(self.plan)
        self._stages.resize(self.plan)
        self.calls.resize(self.plan)
        for job in self.jobs.values():
            # Its request waits for a slot like any other: the slot that it held may be of an endpoint that is gone.
            job.slot = None

    # ---- decisions ---------------------------------------------------------------------------------------

    def step(self, *, quiet: bool) -> list[Command]:
        """Return everything to do at this moment; sets `status` when the run is over.

        ``quiet`` says that nothing has happened since the last step.  Rounds are opened then, so that a round sees the
        newest pool.  Where requests take no time, no round is opened before the last one is over.
        """
        if not self.stopping and self.status is None:
            self._adjust()
            while self.flow.functions.broken is None and (self._advance(quiet) | self.flow.groups.sweep_void()):
                pass
            if self.flow.functions.broken is not None:
                self.stop(End("failed", Cause.FUNCTION, self.flow.functions.broken))
        self._ending.finish(quiet=quiet)
        return self._work.take_commands()

    def _advance(self, quiet: bool) -> bool:
        """Do once all that can be done now; False when another time would find nothing to do."""
        self._stages.stirred = False
        moved = self._commits.deliver() | self.flow.groups.release_due() | self._admit()
        if end := self._openings.look_at_goal():
            self.drain(end)
        ended = self.flow.ended
        if self._ending.draining is None:
            started = self._starts.start()
            # A command of this very step, such as to cancel work that is late, is about to change something.
            moved |= started | self._openings.open(quiet=quiet and not self._work.commands)
        else:
            moved |= self.calls.grant_waiting()
        # Started work has made room, and only results and groups wait for room.  Items that ended on the way may have
        # unblocked others.
        waits = self._work.delivering or self.flow.groups.pending or self.flow.ended != ended
        return self._stages.stirred or (moved and bool(waits))

    def _admit(self) -> bool:
        admitted = False
        for name in self.plan.pools:
            for edge in self.plan.incoming[name]:
                queue = self.flow.places.queues[edge.name]
                while (item := self._stages.next_item(edge, queue)) is not None:
                    self.flow.take(item)
                    self.admission.admit(name, item)
                    admitted = True
        return admitted

    def _adjust(self) -> None:
        """Let the control policy set the workers of stages that call a model, at its intervals."""
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

    def _item_gone(self, item: Item) -> None:
        """Cancel the job that works on an item that has ended; one that waits for a repair is not repaired."""
        if (job := self._work.on(item)) is not None:
            self._work.cancel(job)
        else:
            self._stages.forget(item)

    def _item_late(self, item: Item) -> None:
        if (job := self._work.on(item)) is not None:
            self.calls.rank_anew(job)
