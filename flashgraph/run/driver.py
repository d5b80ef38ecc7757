"""The one task group that carries out the machine's decisions: it runs functions, calls models and keeps time.

The safety argument is short.  All state is the machine's, and only the pump in `Driver.run` touches the machine,
between its awaits.  A task never changes state itself: it puts its request, answer or outcome into a list and wakes
the pump, which reports them in the order of their numbers, so that the event loop's order is never seen.
"""

from __future__ import annotations

import inspect
import logging
import math
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import nullcontext
from functools import cache, partial
from typing import Any, Protocol, TypeVar

import anyio
import anyio.lowlevel
import attrs
from anyio.abc import TaskGroup

from flashgraph.errors import (
    BudgetExhausted,
    FlashgraphError,
    ModelError,
    ModelRefused,
    ModelUnavailable,
    PassingFault,
    RequestFailed,
    Throttled,
)
from flashgraph.graph.ports import Context, Draw
from flashgraph.llm.protocol import Message, Model, Reply
from flashgraph.run.budget import (
    DEFAULT_REPLY_TOKENS,
    Cost,
    bounded,
    excess,
    prompt_estimate,
    reply_bound,
    reservation,
)
from flashgraph.run.cause import Cause, End, cause_of
from flashgraph.run.contained import (
    GRACE,
    Guarded,
    Inside,
    contained,
    escaped,
    guarded_loop,
    loop_clock,
    reason,
    within,
)
from flashgraph.run.floor import Floor
from flashgraph.run.goal import NO_GOAL, Goal
from flashgraph.run.jobs import Call, Cancel, Command, Done, Failed, Job, Outcome, Refuse, Start
from flashgraph.run.machine import Machine
from flashgraph.run.messages import as_texts, checked, checked_reply
from flashgraph.run.patience import Patience, Standing, ending, passing, patiently, suspect
from flashgraph.run.plan import Plan
from flashgraph.run.resumed import Resumed, request_key
from flashgraph.run.returns import Returns
from flashgraph.run.turns import Answered, Asked, Completed, Measured, Turn, apply
from flashgraph.run.watch import Pace, reading
from flashgraph.task import Task

__all__ = ["Driver", "Memory"]

T = TypeVar("T")

_log = logging.getLogger("flashgraph")

AT_ONCE = 50
"""Turns of synchronous work alone before other tasks are let on: a graph without any model must not block them."""

IDLE_ROUNDS = 1000
"""After so many rounds in a row that use nothing of any limit, a run that only its limits could end is drained."""

LET = (
    "\nFix: let cancellations through: `except Exception` does, a bare `except:` does not; a thread is left with "
    "anyio.to_thread.run_sync(..., abandon_on_cancel=True)."
)

DECIDING = "the graph's functions on edges and its pools"

CUT_OFF = Failed(Cause.CANCELLED, "cancelled", "cancelled")
"""How a job ends that says nothing more."""

READING_SECONDS = 1.0
"""How often a server is asked how full it is."""


@attrs.define(eq=False)
class _Request:
    """A model call that a task wants, from the moment it asks to the moment it may send."""

    job: Job
    role: str
    amounts: dict[str, float]
    size: float
    order: str
    """The request's text, and its key where texts are equal: of several by one job, which comes first must not depend
    on the event loop."""
    granted: anyio.Event = attrs.field(factory=anyio.Event)
    call: Call | None = None
    refused: str | None = None
    given_up: bool = False


class Memory(Protocol):
    """Where a run's turns are kept; see `flashgraph.run.journal`."""

    def keep(self, turn: Turn, machine: Machine) -> Callable[[], Awaitable[None]] | None:
        """Take a turn that has been applied to ``machine``.  What it returns waits until the turn is durable; None when
        it is already.  Both raise `FlashgraphError` when the turn cannot be kept."""
        ...


class Driver:
    """Runs a machine to its end.

    ``models`` are by role; ``endpoints`` are the models at the endpoints of roles that have several.
    ``settle`` is for virtual clocks: awaiting it lets everything due at one instant happen before the driver looks,
    so that the log does not depend on the order in which an event loop runs tasks.  A real clock needs none.
    ``memory`` keeps the turns; ``resumed`` is what was told from it again before.  ``reveal`` is called whenever all
    that has happened is durable, and at the end.  ``goal`` is what the run is for in this session.
    """

    def __init__(
        self,
        machine: Machine,
        task: Task[Any, Any],
        models: Mapping[str, Model],
        *,
        endpoints: Mapping[str, Model] | None = None,
        resources: Mapping[str, Any] | None = None,
        seconds: float | None = None,
        settle: Callable[[], Awaitable[None]] | None = None,
        memory: Memory | None = None,
        resumed: Resumed | None = None,
        reveal: Callable[[], None] = lambda: None,
        goal: Goal = NO_GOAL,
    ) -> None:
        self.machine = machine
        self.task = task
        self.models = models
        self.endpoints = endpoints or {}
        self.resources = resources or {}
        self._plan: Plan = machine.plan
        self._params = {n: machine.plan.params_of(s.spec) for n, s in machine.plan.stages.items()}
        self._params |= {n: machine.plan.params_of(s) for n, s in machine.plan.sources.items()}
        self._returns = {name: Returns.of(stage.spec) for name, stage in machine.plan.stages.items()}
        self._returns |= {name: Returns.of(source) for name, source in machine.plan.sources.items()}
        bodies = {name: stage.spec.body for name, stage in machine.plan.stages.items()}
        self._plain = {name for name, body in bodies.items() if not (_takes_context(body) or _is_async(body))}
        """Stages that are a function of their item alone."""
        self._seconds = seconds
        self._settle = settle
        self._memory = memory
        self._reveal = reveal
        self._unheard: int | None = None
        """The first call that is not in the memory, once the run is being stopped."""
        resumed = resumed or Resumed.fresh(machine)
        self._resumed = resumed
        self._served = resumed.served
        self._sequential = resumed.stream
        self._cursors = dict(resumed.cursors)
        self._began = 0.0
        self._reached = resumed.at
        self._answered: list[Answered] = []
        self._completed: list[Completed] = []
        self._measured: dict[str, Measured] = {}
        self._pace = Pace()
        self._paced: list[tuple[str, int, float, float]] = []
        self._standing = Standing()
        self._met: list[tuple[str, str, float]] = []
        """Endpoints, requests that have met faults of theirs since the last turn, and when."""
        self._endless = [n for n, s in machine.plan.sources.items() if s.rounds is None and s.reads is not None]
        """Sources that never stop by themselves."""
        self._used: tuple[dict[str, float], int] = ({}, 0)
        """What was used of the limits, and how many rounds of these had ended when that last changed."""
        self._watching = anyio.CancelScope()
        self._wake = anyio.Event()
        self._clock = loop_clock()
        """Of the event loop: on asyncio it can be read from another thread too."""
        self._floor = Floor(self._clock, lambda: self._wake.set())
        self._names = {name: f"stage {name!r}" for name in machine.plan.stages}
        self._deciding = Inside(DECIDING, self._floor)
        self._inside: dict[int, Inside] = {}
        """The functions of the jobs that run."""
        self._guarded = False
        """Whether the event loop guards the tasks of jobs."""
        self._cancelled: dict[int, tuple[float, Job]] = {}
        """When running jobs were cancelled, the first first."""
        self.abandoned: list[str] = []
        """Jobs that did not end when they were cancelled, and where each stands."""
        self._running: dict[int, anyio.TaskHandle[None] | None] = {}
        """The tasks of the jobs that run; None while one is being started."""
        self._parked: set[int] = set()
        """Jobs that the budget has parked, and whose tasks have ended since."""
        self._asking: dict[int, set[anyio.CancelScope]] = {}
        """Of their model calls, which may be in tasks that are none of theirs."""
        self._requests: list[_Request] = []
        self._granting: dict[int, _Request] = {}
        self._stop: End | None = None
        self._drain: End | None = None
        self._reopen = resumed.reopen
        self._goal: Goal | None = goal
        self._stopping = False

    @property
    def elapsed(self) -> float:
        """Seconds on the run's clock since `run` began, over all of its sessions; never less than a timer that has
        gone off, which rounding could otherwise leave forever a hair in the future."""
        return max(self._clock() - self._began, self._reached)

    def stop(self, end: End) -> None:
        """End the run at the next opportunity: what runs is cancelled."""
        self._stop = self._stop or end
        self._stopping = True
        self._wake.set()

    def drain(self, end: End) -> None:
        """Start nothing new, and end the run when what runs has ended."""
        self._drain = self._drain or end
        self._wake.set()

    async def run(self) -> None:
        """Returns when the machine has a status.  Cancelling it cancels everything that runs.

        Raises what the machine does, as when a pool cannot be told an event; the run has failed of it then.
        """
        self._began = anyio.current_time() - self._resumed.at
        try:
            with guarded_loop() as self._guarded, nullcontext() if self._settle else self._floor.watched():
                await self._pump()
        except Exception as raised:
            error = _alone(raised)
            said = str(error) if isinstance(error, FlashgraphError) else reason(error)
            self.machine.status = End("failed", Cause.ERROR, said)
            raise error from error.__cause__
        finally:
            # What was cut off is settled, so that the account is true; but it is not kept: it stays open, and a run
            # that is resumed does it again.  Nothing is decided: a machine that has raised is changed by half.
            answered = tuple(sorted(self._answered, key=lambda a: a.call))
            apply(Turn(self.elapsed, answered, halted=True), self.machine)
            self._reveal()

    async def _pump(self) -> None:
        async with anyio.create_task_group() as tasks:
            try:
                await self._turns(tasks)
            except anyio.get_cancelled_exc_class():
                tasks.cancel_scope.cancel()
                with anyio.CancelScope(shield=True):
                    await self._outlived()
                raise

    async def _outlived(self) -> None:
        """Wait for the jobs of a run that is cancelled from outside, and abandon those that do not end."""
        with anyio.move_on_after(GRACE):
            while self._running:
                await self._wake.wait()
                self._wake = anyio.Event()
        for number in list(self._running):
            self._abandon(self.machine.jobs[number])

    async def _turns(self, tasks: TaskGroup) -> None:
        await self._carry_out(list(self._resumed.commands), tasks)
        tasks.start_soon(self._watch)
        at_once = 0
        while True:
            self._floor.release()
            self._give_up()
            if self._seconds is not None and not self._stopping and self.elapsed >= self._seconds:
                self.stop(End("budget", Cause.SECONDS, f"{self._seconds:g} seconds are over"))
            self._drain_if_idle()
            told, commands, durable = self._take_turn()
            if durable is not None:
                try:
                    await durable()
                except FlashgraphError as error:
                    self._forgotten(error)
            if self._stop is not None or self.machine.stopping:
                # What was decided may not be kept: no request goes out for it.
                commands = [c for c in commands if isinstance(c, Start | Cancel)]
            self._reveal()
            await self._carry_out(commands, tasks)
            if self.machine.status is not None:
                self._watching.cancel()
                return
            # A command may turn out to change nothing (a cancel that comes too late): only a turn without any
            # commands has said all there is to say.
            if self._completed and self._settle is None and at_once < AT_ONCE and not self._floor.held:
                at_once += 1  # what synchronous functions have returned needs nobody else
            elif told or commands:
                at_once = 0
                await (self._settle or anyio.lowlevel.checkpoint)()
            else:
                await self._wait()

    def _drain_if_idle(self) -> None:
        """Drain a run that nothing would ever end: its sources go on, and its rounds use nothing of its limits, as
        where no attempt calls the model that the budget counts calls of."""
        ledger = self.machine.ledger
        if not self._endless or self._seconds is not None or not ledger.limits:
            return
        used = {name: ledger.settled[name] + ledger.reserved[name] for name in ledger.limits}
        ended = sum(self.machine.flow.ended_rounds[name] for name in self._endless)
        if used != self._used[0]:
            self._used = (used, ended)
        elif ended - self._used[1] >= IDLE_ROUNDS:
            self._endless = []
            given = ", ".join(f"{name}={limit:g}" for name, limit in ledger.limits.items())
            said = (
                f"the last {IDLE_ROUNDS} rounds used nothing of the budget ({given}), which would never end the run; "
                "give it seconds, proposals or evaluations"
            )
            self.drain(End("stopped", Cause.IDLE, said))

    async def _wait(self) -> None:
        patience = next(iter(self._cancelled.values()))[0] + GRACE if self._cancelled else None
        timers = (self.machine.next_timer(), None if self._stopping else self._seconds, patience)
        timer = min((t for t in timers if t is not None), default=math.inf)
        with anyio.CancelScope(deadline=self._began + timer) as scope:
            await self._wake.wait()
        if scope.cancelled_caught:
            self._reached = timer
        if self._settle is not None:
            await self._settle()
        self._wake = anyio.Event()

    def _take_turn(self) -> tuple[bool, list[Command], Callable[[], Awaitable[None]] | None]:
        """Tell the machine what has happened: whether anything had, what it wants done, and what to wait for first."""
        machine, now = self.machine, self.elapsed
        stop, self._stop = self._stop, None
        drain, self._drain = self._drain, None
        reopen, self._reopen = self._reopen, None
        capacity = self._resumed.capacity if reopen is not None else None
        tested = self._resumed.tested if reopen is not None else {}
        goal, self._goal = self._goal, None
        # With the turn, not at once: a request that is cut off at the moment when another is answered costs the same
        # whichever the event loop lets go on first.
        for met in _taken(self._met, lambda met: met):
            self._standing.failed(*met)
        for endpoint, tokens, seconds, sent in _taken(self._paced, lambda seen: seen):
            self._pace.answered(endpoint, tokens, seconds)
            self._standing.answered(endpoint, sent)
        answered = _taken(self._answered, lambda answer: answer.call)
        completed = _taken(self._completed, lambda done: done.job)
        asking = _taken(self._requests, lambda request: (request.job.id, request.order))
        # A job may have ended since, and left the task behind that asked.
        requests = [r for r in asking if not r.given_up and r.job.id in self._running]
        asked = tuple([Asked(r.job.id, r.role, r.amounts, r.size) for r in requests])
        measured = tuple([self._measured.pop(name) for name in sorted(self._measured)])
        if stop is not None:
            # First, so that what is cut off now stays open: of this turn only the answers are kept, and a run that is
            # resumed does the rest again.
            if reopen is not None:
                apply(Turn(now, reopen=reopen, halted=True, capacity=capacity, tested=tested), machine)
                reopen, capacity, tested = None, None, {}
            machine.now = now
            machine.stop(stop)
        turn = Turn(now, answered, completed, asked, drain, reopen, False, capacity, tested, measured, goal)
        first = machine.calls.made
        with contained(self._deciding):
            commands = apply(turn, machine)
        for number, request in enumerate(requests, first):
            request.call = machine.calls.open.get(number)
            self._granting[number] = request
        told = bool(answered or completed or asked or drain is not None or stop or measured)
        if machine.stopping:
            self._unheard = first if self._unheard is None else self._unheard
            # What was cut off is asked again, as after a kill.  But a request that was granted and never sent has cost
            # nothing, which only this session knows.
            heard = tuple(a for a in turn.answered if a.call < self._unheard and (a.how != "cancelled" or not a.spent))
            durable = self._keep(Turn(now, heard, halted=True)) if heard else None
        else:
            durable = self._keep(turn) if told or commands or machine.changed else None
        machine.changed = False
        return told, commands, durable

    def _keep(self, turn: Turn) -> Callable[[], Awaitable[None]] | None:
        if self._memory is None:
            return None
        try:
            return self._memory.keep(turn, self.machine)
        except FlashgraphError as error:
            self._forgotten(error)
            return None

    def _forgotten(self, error: FlashgraphError) -> None:
        """The memory takes no more: the run stops, and can be resumed from what was kept."""
        self._memory = None
        if self.machine.status is not None:
            self.machine.status = End("failed", Cause.JOURNAL, str(error))
        self.stop(End("failed", Cause.JOURNAL, str(error)))

    def _finish(self, job: Job, outcome: Outcome, **state: Any) -> None:
        self._completed.append(Completed(job.id, outcome, **state))
        self._wake.set()

    # ---- commands ----------------------------------------------------------------------------------------

    async def _carry_out(self, commands: list[Command], tasks: TaskGroup) -> None:
        for command in commands:
            if self._floor.held:
                # A function has just taken long: signals and answers are heard before the next one begins.
                await (self._settle or anyio.lowlevel.checkpoint)()
                self._floor.release()
            match command:
                case Start(job) if self._stop is not None:
                    self._finish(job, CUT_OFF)
                case Start():
                    self._start(command, tasks)
                case Cancel(job):
                    self._cancel(job)
                case _:
                    request = self._granting.pop(command.call.id, None)
                    if request is not None:  # else its task was cancelled, and has said so, since it was decided
                        request.refused = command.limit if isinstance(command, Refuse) else None
                        request.granted.set()

    def _cancel(self, job: Job) -> None:
        if (task := self._running.get(job.id)) is not None:
            self._cancelled[job.id] = (self.elapsed, job)
            self._inside[job.id].cancelled = True
            task.cancel()
        elif job.id in self._parked:
            self._parked.remove(job.id)
            self._finish(job, CUT_OFF)

    def _give_up(self) -> None:
        """Abandon jobs that have outlived their cancellation by the grace."""
        while self._cancelled:
            at, job = next(iter(self._cancelled.values()))
            if self.elapsed < at + GRACE:
                return
            self._abandon(job)

    def _abandon(self, job: Job) -> None:
        """Take a job as ended that does not end: its function catches its cancellation, or waits where that does not
        reach it.  The run goes on, and ends, without it."""
        self._cancelled.pop(job.id, None)
        inside = self._inside[job.id]
        what = f"stage {job.node!r} (job {job.id}) did not end within {GRACE:g} s of its cancellation"
        where = f"it stands at {inside.place()}"
        if not inside.abandon():
            _log.warning(
                "%s, and this event loop lets nobody abandon it; the run waits for it; %s.%s", what, where, LET
            )
            return
        _log.warning("%s, and is abandoned; %s.%s", what, where, LET)
        self.abandoned.append(f"{what}; {where}")
        del self._running[job.id], self._inside[job.id]
        self._asking.pop(job.id, None)
        answered = {answer.call for answer in self._answered}
        for call in [call for call in job.calls.values() if call.id not in answered]:
            self._granting.pop(call.id, None)
            self._answer(Answered(call.id, job.id, "cancelled", call.amounts if call.reservation is not None else {}))
        said = f"it did not end within {GRACE:g} s of its cancellation, and was abandoned"
        self._finish(job, Failed(Cause.ABANDONED, said, "cancelled"))

    def _start(self, start: Start, tasks: TaskGroup) -> None:
        job = start.job
        if job.kind == "source":
            self._draw(start)
            return
        spec = self._plan.stages[job.node].spec
        value = start.stale if start.stale is not None else start.value
        inside = Inside(self._names[job.node], self._floor)
        if job.node in self._plain:
            try:
                with contained(inside):
                    outcome: Outcome = Done(self._returns[job.node].checked(spec.body(value)))
            except Exception as error:
                outcome = Failed(cause_of(error), reason(error))
            self._completed.append(Completed(job.id, outcome))
            return
        at: Context[Any] | None = None
        if _takes_context(spec.body):
            at = Context(
                self.task,
                start.views.get(spec.reads or ""),
                # Not by a number: those are given in the order in which things happen to end.
                f"{self.machine.seed}/{job.node}/{job.item.path}/{job.item.repairs}" if job.item else "",
                self._params[job.node],
                lag=job.lag,
                refreshed=start.refreshed,
                resources=self.resources,
            )
            if spec.llm is not None:
                at.llm = partial(self._call, job, spec.llm)
        arguments = (value,) if at is None else (value, at)
        if _is_async(spec.body):
            self._running[job.id], self._inside[job.id] = None, inside
            if spec.llm is not None:
                self._asking[job.id] = set()
            with within(inside):
                task = tasks.create_task(self._work(job, spec.body, arguments, at), name=f"{job.node} #{job.id}")
            # Else an eager event loop, which Python has from 3.12 on, has been through with it.
            if job.id in self._running:  # pragma: no branch
                self._running[job.id] = task
            return
        try:
            with contained(inside):
                value = self._returns[job.node].checked(spec.body(*arguments))
            outcome = Done(value, at.used if at is not None else None)
        except Exception as error:
            outcome = Failed(cause_of(error), reason(error))
        self._finish(job, outcome)

    def _draw(self, start: Start) -> None:
        """Run a source, which is synchronous: its draw and its cursor advance together, in order of emission."""
        job, spec = start.job, self._plan.sources[start.job.node]
        keyed = f"{self.machine.seed}/{job.node}/{job.emission}"
        at: Draw[Any, Any] = Draw(
            self.task,
            start.views.get(spec.reads or ""),
            self._sequential if spec.stream == "sequential" else keyed,
            self._params[job.node],
            emission=job.emission,
            turn=start.turn,
            open=start.beside,
            champion=start.champion,
            cursor=self._cursors[job.node],
        )
        try:
            with contained(Inside(f"source {job.node!r}", self._floor)):
                value = self._returns[job.node].checked(spec.body(at))
        except Exception as error:
            self._finish(job, Failed(cause_of(error), reason(error)))
            return
        self._cursors[job.node] = at.cursor
        state = self._sequential.getstate() if spec.stream == "sequential" else None
        self._finish(job, Done(value, at.used), source=job.node, cursor=at.cursor, stream=state)

    async def _work(
        self, job: Job, body: Callable[..., Any], arguments: tuple[Any, ...], at: Context[Any] | None
    ) -> None:
        outcome: Outcome = CUT_OFF
        try:
            if job.cancelled:
                return  # before it began: while others held the event loop
            made = body(*arguments)
            value = self._returns[job.node].checked(
                await (made if self._guarded else Guarded(made, self._inside[job.id]))
            )
            outcome = Done(value, at.used if at is not None else None)
        except anyio.get_cancelled_exc_class() as foreign:
            if anyio.current_effective_deadline() == -math.inf:
                raise
            # Nobody has cancelled this job: it awaited something that was cancelled, and has failed of it.
            said = f"{type(foreign).__name__}: it awaited what somebody else has cancelled"
            outcome = Failed(Cause.RAISED, said)
        except BaseException as raised:
            if (failure := raised if isinstance(raised, Exception) else escaped(raised)) is None:
                raise
            error = _telling(failure)
            outcome = Failed(cause_of(error), reason(error))
            if isinstance(error, ModelError) and error.fatal:
                self.stop(End("failed", Cause.MODEL, str(error)))
                outcome = Failed(Cause.MODEL, reason(error), "cancelled")
        finally:
            del self._running[job.id], self._inside[job.id]
            self._cancelled.pop(job.id, None)
            for left_behind in self._asking.pop(job.id, ()):
                left_behind.cancel()
            if not job.refused:
                self._finish(job, outcome)
            elif job.cancelled:
                self._finish(job, CUT_OFF)
            else:
                self._parked.add(job.id)

    # ---- model calls -------------------------------------------------------------------------------------

    async def _call(self, job: Job, role: str, messages: str | Sequence[Message], **params: Any) -> Reply:
        """Wait for a slot, send the request, settle what it cost.  Whatever ends this frees the slot.

        Raises `FlashgraphError` in a task that the job has left behind: its calls end with it, or they would hold slots
        and spend a budget for what nobody waits for.
        """
        if job.id not in self._running:
            raise _left_behind(job)
        if job.refused:
            raise BudgetExhausted("no budget is left for another request")
        messages = checked(messages)
        key = request_key(role, messages, params)
        amounts = reservation(self._behind(role), as_texts(messages), params, self.machine.ledger.limits)
        if (known := self._served.take(job.id, key)) is not None:
            await anyio.lowlevel.checkpoint()
            return known.without_thoughts()
        with anyio.CancelScope() as scope:
            self._asking[job.id].add(scope)
            try:
                ask = partial(self._ask, job, role, messages, params, key, amounts, Patience())
                return (await patiently(ask, key)).without_thoughts()
            finally:
                if job.id in self._running:
                    self._asking[job.id].remove(scope)
        raise _left_behind(job)

    def _behind(self, role: str) -> list[Model]:
        """The models that a role's request may be sent to, by the plan of now: a run that is resumed may have others
        than it was started with."""
        plan = self.machine.plan
        return [self.endpoints.get(name) or self.models[role] for name in plan.services[plan.endpoints[role]]]

    async def _ask(
        self,
        job: Job,
        role: str,
        messages: Sequence[Message],
        params: Mapping[str, Any],
        key: str,
        amounts: dict[str, float],
        patience: Patience,
    ) -> Reply:
        """One try: at another endpoint of the role's, as long as there is one, if the first is down."""
        reply: Reply | None = None
        while reply is None:
            reply = await self._send(job, role, messages, params, key, amounts, patience)
        return reply

    async def _send(
        self,
        job: Job,
        role: str,
        messages: Sequence[Message],
        params: Mapping[str, Any],
        key: str,
        amounts: dict[str, float],
        patience: Patience,
    ) -> Reply | None:
        """None: the endpoint is down, and the role has others."""
        size = prompt_estimate(messages)
        request = _Request(job, role, amounts, size, f"{messages} {key}")
        self._requests.append(request)
        self._wake.set()
        try:
            await request.granted.wait()
        except BaseException:
            request.given_up = True
            if request.call is not None:
                self._granting.pop(request.call.id, None)
                self._answer(Answered(request.call.id, job.id, "cancelled", {}, request=key, messages=messages))
            raise
        call = request.call
        assert call is not None
        # What it spent is what it reserved, until a reply says better: a request that was cut off has cost something
        # that nobody can tell.
        answer = Answered(call.id, job.id, "cancelled", amounts, request=key, messages=messages)
        model = self.endpoints.get(call.endpoint) or self.models[role]
        sent = bounded(model, params, self.machine.ledger.limits)
        began = anyio.current_time()
        try:
            if request.refused is not None:
                raise BudgetExhausted(f"no {request.refused} left for another request")
            sent = {**sent, "priority": call.priority} if getattr(model, "prioritises", False) else sent
            reply = checked_reply(await model.complete(messages, sent), model.name)
            took = anyio.current_time() - began
            self._paced.append((call.endpoint, reply.usage.completion, took, call.started_at))
            cost = Cost.counted(reply.usage, reply.cost, amounts)
            answer = _costing(answer, cost, how="done", finish=reply.finish, reply=reply, quotas=reply.quotas)
            if broken := excess(model, reply.cost, amounts, self.machine.ledger.limits):
                self.stop(End("failed", Cause.MODEL, broken))
            return reply
        except (PassingFault, ModelRefused) as error:
            fate = self._faulted(call, passing(error), model, sent, began, key, patience)
            answer = _costing(answer, fate.cost, **fate.answered)
            if fate.error is None:
                return None
            raise fate.error from None
        except ModelUnavailable as error:
            answer = attrs.evolve(answer, how="failed")
            if not self.machine.slots.others_up(call.service, call.endpoint):
                raise
            answer = attrs.evolve(answer, outage=str(error))
            return None
        except RequestFailed as error:
            answer = _costing(answer, Cost.answered(error.usage, model, amounts), how="failed")
            raise
        except Exception:
            answer = attrs.evolve(answer, how="failed")
            raise
        except BaseException:
            answer = _costing(answer, Cost.cut_off(amounts, self._cut_off(call, model, sent, began)))
            raise
        finally:
            self._answer(answer)

    def _faulted(
        self,
        call: Call,
        fault: PassingFault,
        model: Model,
        sent: Mapping[str, Any],
        began: float,
        key: str,
        patience: Patience,
    ) -> _Fate:
        """How a try ends that has met a fault: by what other requests have met at its endpoint."""
        slots, endpoint = self.machine.slots, self.machine.slots.endpoints[call.endpoint]
        beside, others = endpoint.in_flight - 1, slots.others_up(call.service, call.endpoint)
        ruling = self._standing.rule(patience, fault, call.endpoint, key, self.elapsed, beside=beside, others=others)
        if suspect(fault):
            self._met.append((call.endpoint, key, self.elapsed))
        cost = Cost.of_fault(fault, model, call.amounts, self._cut_off(call, model, sent, began))
        how = "throttled" if isinstance(fault, Throttled) else "failed"
        told: dict[str, Any] = {"how": how, "pause": fault.pause, "quotas": fault.quotas}
        # One that is down is tried with one request at a time: what that meets is enough to know that it still is.
        down = ruling == "endpoint" or not endpoint.up
        if down and others and suspect(fault) and not isinstance(fault.final, ModelRefused):
            return _Fate(None, cost, {**told, "outage": str(fault)})
        return _Fate(fault if ruling == "again" else ending(fault, ruling), cost, told)

    def _cut_off(self, call: Call, model: Model, sent: Mapping[str, Any], began: float) -> tuple[int, int]:
        """About how many tokens a request has cost that is given up now."""
        took = anyio.current_time() - began
        most = reply_bound(model, sent) or DEFAULT_REPLY_TOKENS
        return self._pace.cut_off(call.endpoint, call.size, took, most)

    async def _watch(self) -> None:
        """Ask the servers how full they are, those whose limits follow it, for as long as the run lasts."""
        with self._watching:
            async with anyio.create_task_group() as tasks:
                for name, endpoint in self.machine.slots.endpoints.items():
                    if endpoint.limits.reads:
                        tasks.start_soon(self._read, name)

    async def _read(self, name: str) -> None:
        plan = self.machine.plan
        roles = (role for role, service in plan.endpoints.items() if name in plan.services[service])
        model = self.endpoints.get(name) or self.models[next(roles)]
        while True:
            await anyio.sleep(READING_SECONDS)
            load = await reading(model)
            endpoint = self.machine.slots.endpoints[name]
            if endpoint.limits.read(endpoint.level, endpoint.used, load, self.elapsed) != endpoint.level:
                self._measured[name] = Measured(name, load)
                self._wake.set()

    def _answer(self, answer: Answered) -> None:
        self._answered.append(answer)
        self._wake.set()


@attrs.frozen
class _Fate:
    """How a try of a request ends that has met a fault: with an ``error``, or at another endpoint; what it has cost,
    and what is said of it with its answer."""

    error: Exception | None
    cost: Cost
    answered: Mapping[str, Any]


def _costing(answer: Answered, cost: Cost, **more: Any) -> Answered:
    return attrs.evolve(answer, **attrs.asdict(cost, recurse=False), **more)


def _taken(told: list[T], place: Callable[[T], Any]) -> tuple[T, ...]:
    """All that a list holds, in the order of its places; the list is empty then."""
    if not told:
        return ()
    taken = tuple(sorted(told, key=place))
    told.clear()
    return taken


_is_async = cache(inspect.iscoroutinefunction)


@cache
def _takes_context(body: Callable[..., Any]) -> bool:
    return len(inspect.signature(body).parameters) > 1


def _telling(error: Exception) -> Exception:
    """Of an exception group, as a stage's own task group raises, the exception that says most about the run."""
    leaves = [error]
    while any(isinstance(e, ExceptionGroup) for e in leaves):
        leaves = [x for e in leaves for x in (e.exceptions if isinstance(e, ExceptionGroup) else [e])]
    fatal = [e for e in leaves if isinstance(e, ModelError) and e.fatal]
    return (fatal or leaves)[0]


def _left_behind(job: Job) -> FlashgraphError:
    return FlashgraphError(
        f"stage {job.node!r} has ended, and a task that it left behind calls its model; a call must end before its "
        "stage does.\nFix: await each at.llm(...) in the stage, several of them in a task group of its own."
    )


def _alone(error: Exception) -> Exception:
    """Without the groups that task groups wrap around a single exception: they say nothing to who started one run."""
    while isinstance(error, ExceptionGroup) and len(error.exceptions) == 1:
        error = error.exceptions[0]
    return error
