"""The one task group that carries out the machine's decisions: it runs functions, calls models and keeps time.

The safety argument is short.  All state is the machine's, and only the pump in `Driver.run` touches the machine,
between its awaits.  A task never changes state itself: it puts its request, answer or outcome into a list of
`Requests`, `Execution` or `Loads`, and wakes the pump.  The pump passes them on in the order of their numbers, so the
event loop's order has no effect.
"""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable, Mapping
from contextlib import nullcontext
from typing import Any, Protocol

import anyio
import anyio.lowlevel
from anyio.abc import TaskGroup

from flashgraph.errors import FlashgraphError
from flashgraph.llm.protocol import Model
from flashgraph.llm.secrets import without_secrets
from flashgraph.run.cause import Cause, End
from flashgraph.run.contained import GRACE, Inside, contained, reason
from flashgraph.run.execution import CUT_OFF, Execution
from flashgraph.run.floor import Floor
from flashgraph.run.goal import NO_GOAL, Goal
from flashgraph.run.jobs import Cancel, Command, Start
from flashgraph.run.loads import Loads
from flashgraph.run.loop import guarded_loop, loop_clock
from flashgraph.run.machine import Machine
from flashgraph.run.requests import Requests
from flashgraph.run.session_start import SessionStart
from flashgraph.run.turns import Turn, apply
from flashgraph.tasks.task import Task

__all__ = ["Driver", "Memory"]

AT_ONCE = 50
"""Turns with only synchronous work before other tasks run: a graph without any model must not block them."""

IDLE_ROUNDS = 1000
"""Rounds in a row without any use of a limit after which a run that only its limits could end is drained."""

DECIDING = "the graph's functions on edges and its pools"


class Memory(Protocol):
    """Keeps a run's turns; see `flashgraph.run.journal`."""

    def keep(self, turn: Turn, machine: Machine) -> Callable[[], Awaitable[None]] | None:
        """Keep a turn that has been applied to ``machine``.

        Return a function that waits until the turn is durable; None if it already is.  Both raise `FlashgraphError` if
        the turn cannot be kept.
        """
        ...


class Driver:
    """Runs a machine to its end.

    ``models`` are by role; ``endpoints`` are the models at the endpoints of roles that have several.  ``settle`` is for
    virtual clocks: awaiting it lets everything due at one instant happen before the driver looks.  The log then does
    not depend on the order in which an event loop runs tasks.  ``memory`` keeps the turns, and ``start`` is the state
    that it led to.  ``reveal`` is called whenever all events are durable, and at the end.  ``goal`` is the run's goal
    in this session.
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
        start: SessionStart | None = None,
        reveal: Callable[[], None] = lambda: None,
        goal: Goal = NO_GOAL,
    ) -> None:
        self.machine = machine
        self.resources = resources or {}
        self._seconds = seconds
        self._settle = settle
        self._memory = memory
        self._reveal = reveal
        self._unkept: int | None = None
        """The first call that the memory does not have, once the run is being stopped."""
        self._start = start = start or SessionStart.first(machine)
        self._began = 0.0
        self._reached = start.at
        self._endless = [n for n, s in machine.plan.sources.items() if s.rounds is None and s.reads]
        """The sources that never stop by themselves."""
        self._used: tuple[dict[str, float], int] = ({}, 0)
        """The use of the limits, and the count of ended rounds of those sources when it last changed."""
        self._wake = anyio.Event()
        self._clock = loop_clock()
        """The event loop's clock, which on asyncio other threads can read too."""
        self._floor = Floor(self._clock, self._awake)
        self._deciding = Inside(DECIDING, self._floor)
        self._stop: End | None = None
        self._drain: End | None = None
        self._reopen = start.reopen
        self._goal: Goal | None = goal
        self._stopping = False
        tells: dict[str, Any] = {"elapsed": lambda: self.elapsed, "wake": self._awake}
        self._requests = Requests(machine, models, endpoints or {}, start.served, stop=self.stop, **tells)
        self._execution = Execution(
            machine, task, self.resources, self._requests, self._floor, start, stop=self.stop, **tells
        )
        self._loads = Loads(machine, models, endpoints or {}, **tells)

    def _awake(self) -> None:
        self._wake.set()

    @property
    def abandoned(self) -> list[str]:
        """The jobs that did not end when they were cancelled, with the line of each."""
        return self._execution.abandoned

    @property
    def elapsed(self) -> float:
        """Seconds on the run's clock since `run` began, over all of its sessions.

        Never less than a timer that has expired: a rounding error could leave the timer in the future forever.
        """
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
        """Run until the machine has a status.  A cancellation cancels everything that runs.

        Raises the machine's errors, such as one of a pool; the run has then failed.
        """
        self._began = anyio.current_time() - self._start.at
        try:
            with guarded_loop() as self._execution.guarded, nullcontext() if self._settle else self._floor.watched():
                await self._pump()
        except Exception as raised:
            error = _alone(raised)
            said = without_secrets(str(error)) if isinstance(error, FlashgraphError) else reason(error)
            self.machine.fail(End("failed", Cause.ERROR, said))
            raise error from error.__cause__
        finally:
            # Cancelled requests are settled, so that the account is true.  The memory does not keep that: their work
            # stays open, and a resumed run does it again.  Nothing is decided: a machine that raised is inconsistent.
            apply(Turn(self.elapsed, self._requests.answers(), halted=True), self.machine)
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
            while self._execution.busy:
                await self._wake.wait()
                self._wake = anyio.Event()
        self._execution.abandon_all()

    async def _turns(self, tasks: TaskGroup) -> None:
        await self._carry_out(list(self._start.commands), tasks)
        tasks.start_soon(self._loads.watch)
        at_once = 0
        while True:
            self._floor.release()
            self._execution.give_up()
            if self._seconds is not None and not self._stopping and self.elapsed >= self._seconds:
                self.stop(End("budget", Cause.SECONDS, f"{self._seconds:g} seconds are over"))
            self._drain_if_idle()
            told, commands, durable = self._take_turn()
            if durable is not None:
                try:
                    await durable()
                except FlashgraphError as error:
                    self._memory_failed(error)
            if self._stop is not None or self.machine.stopping:
                # The memory may not keep these decisions, so no request is sent for them.
                commands = [c for c in commands if isinstance(c, Start | Cancel)]
            self._reveal()
            await self._carry_out(commands, tasks)
            if self.machine.status is not None:
                self._loads.end()
                return
            # A command may change nothing, as a cancellation that comes too late, and then no event follows.  So the
            # driver waits only after a turn without commands.
            if self._execution.ended and self._settle is None and at_once < AT_ONCE and not self._floor.held:
                at_once += 1  # results of synchronous functions need no other task
            elif told or commands:
                at_once = 0
                await (self._settle or anyio.lowlevel.checkpoint)()
            else:
                await self._wait()

    def _drain_if_idle(self) -> None:
        """Drain a run that would never end: its sources continue, and its rounds use nothing of its limits.

        One example is a budget of calls for attempts that call no model.
        """
        ledger = self.machine.ledger
        if not self._endless or self._seconds is not None or not ledger.limits:
            return
        used = {name: ledger.settled[name] + ledger.reserved[name] for name in ledger.limits}
        ended = sum(self.machine.flow.rounds.ended[name] for name in self._endless)
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
        timers = (self.machine.next_timer(), None if self._stopping else self._seconds, self._execution.patience)
        timer = min((t for t in timers if t is not None), default=math.inf)
        with anyio.CancelScope(deadline=self._began + timer) as scope:
            await self._wake.wait()
        if scope.cancelled_caught:
            self._reached = timer
        if self._settle is not None:
            await self._settle()
        self._wake = anyio.Event()

    def _take_turn(self) -> tuple[bool, list[Command], Callable[[], Awaitable[None]] | None]:
        """Apply a turn to the machine; return whether anything happened, the commands, and a wait before them."""
        machine, now = self.machine, self.elapsed
        stop, self._stop = self._stop, None
        drain, self._drain = self._drain, None
        reopen, self._reopen = self._reopen, None
        capacity = self._start.capacity if reopen is not None else None
        tested = self._start.tested if reopen is not None else {}
        goal, self._goal = self._goal, None
        answered, completed = self._requests.answers(), self._execution.completed()
        asked, measured = self._requests.asked(), self._loads.measured()
        if stop is not None:
            # First, so that work which is cancelled now stays open.  The memory keeps only the answers of this turn,
            # and a resumed run does the rest again.
            if reopen is not None:
                apply(Turn(now, reopen=reopen, halted=True, capacity=capacity, tested=tested), machine)
                reopen, capacity, tested = None, None, {}
            machine.now = now
            machine.stop(stop)
        turn = Turn(now, answered, completed, asked, drain, reopen, False, capacity, tested, measured, goal)
        first = machine.calls.made
        with contained(self._deciding):
            commands = apply(turn, machine)
        self._requests.decided(first)
        told = bool(answered or completed or asked or drain is not None or stop or measured)
        if machine.stopping:
            self._unkept = first if self._unkept is None else self._unkept
            # Cancelled requests are made again, as after a kill.  But one that was granted and never sent has cost
            # nothing, which only this session knows.
            kept = tuple(a for a in turn.answered if a.call < self._unkept and (a.how != "cancelled" or not a.spent))
            durable = self._keep(Turn(now, kept, halted=True)) if kept else None
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
            self._memory_failed(error)
            return None

    def _memory_failed(self, error: FlashgraphError) -> None:
        """Stop the run, because the memory takes no more; it can be resumed from the turns before."""
        self._memory = None
        if self.machine.status is not None:
            self.machine.fail(End("failed", Cause.JOURNAL, str(error)))
        self.stop(End("failed", Cause.JOURNAL, str(error)))

    # ---- commands ----------------------------------------------------------------------------------------

    async def _carry_out(self, commands: list[Command], tasks: TaskGroup) -> None:
        for command in commands:
            if self._floor.held:
                # A function has just taken long: signals and answers are processed before the next one begins.
                await (self._settle or anyio.lowlevel.checkpoint)()
                self._floor.release()
            match command:
                case Start(job) if self._stop is not None:
                    self._execution.finish(job, CUT_OFF)
                case Start():
                    self._execution.start(command, tasks)
                case Cancel(job):
                    self._execution.cancel(job)
                case _:
                    self._requests.grant(command)


def _alone(error: Exception) -> Exception:
    """Return an error without the groups that task groups wrap around a single exception."""
    while isinstance(error, ExceptionGroup) and len(error.exceptions) == 1:
        error = error.exceptions[0]
    return error
