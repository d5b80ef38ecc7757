"""The one task group that carries out the machine's decisions: it runs functions, calls models and keeps time.

The safety argument is short.  All state is the machine's, and only the pump in `Driver.run` touches the machine,
between its awaits.  A task never changes state itself: it puts its request, answer or outcome into a list and wakes
the pump, which reports them in the order of their numbers, so that the event loop's order is never seen.
"""

from __future__ import annotations

import inspect
import math
import random
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import cache, partial
from typing import Any

import anyio
import anyio.lowlevel
import attrs
from anyio.abc import TaskGroup

from flashgraph.errors import BudgetExhausted, ModelError
from flashgraph.graph.ports import Context, Draw
from flashgraph.llm.protocol import Message, Model, Reply
from flashgraph.run.budget import reservation
from flashgraph.run.jobs import Call, Cancel, Command, Done, Failed, Grant, Job, Outcome, Refuse, Start
from flashgraph.run.machine import Machine
from flashgraph.run.plan import Plan
from flashgraph.task import Task

__all__ = ["Driver"]


@attrs.define(eq=False)
class _Request:
    """A model call that a task wants, from the moment it asks to the moment it may send."""

    job: Job
    role: str
    amounts: dict[str, float]
    order: str
    """The request's text: of several by one job, which comes first must not depend on the event loop."""
    granted: anyio.Event = attrs.field(factory=anyio.Event)
    call: Call | None = None
    refused: str | None = None
    given_up: bool = False


@attrs.define(eq=False)
class _Answer:
    """How a call ended.  What it spent is what it reserved, until a reply says better: a request that was cut off
    has cost something that nobody can tell."""

    call: Call
    spent: Mapping[str, float]
    how: str = "cancelled"
    usage: tuple[int, int] = (0, 0)
    usd: float | None = None
    finish: str = ""


class Driver:
    """Runs a machine to its end.

    ``settle`` is for virtual clocks: awaiting it lets everything due at one instant happen before the driver looks,
    so that the log does not depend on the order in which an event loop runs tasks.  A real clock needs none.
    """

    def __init__(
        self,
        machine: Machine,
        task: Task[Any, Any],
        models: Mapping[str, Model],
        *,
        seconds: float | None = None,
        settle: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        self.machine = machine
        self.task = task
        self.models = models
        self._plan: Plan = machine.plan
        self._seconds = seconds
        self._settle = settle
        self._began = 0.0
        self._reached = 0.0
        self._outcomes: list[tuple[Job, Outcome]] = []
        self._wake = anyio.Event()
        self._scopes: dict[int, anyio.CancelScope] = {}
        self._requests: list[_Request] = []
        self._answers: list[_Answer] = []
        self._granting: dict[int, _Request] = {}
        self._sequential = random.Random(machine.seed)
        self._cursors = {n: s.cursor for n, s in self._plan.sources.items()}
        self._stop: tuple[str, str] | None = None
        self._stopping = False

    @property
    def elapsed(self) -> float:
        """Seconds on the run's clock since `run` began; never less than a timer that has gone off, which rounding
        could otherwise leave forever a hair in the future."""
        return max(anyio.current_time() - self._began, self._reached)

    def stop(self, status: str, reason: str) -> None:
        """End the run at the next opportunity."""
        self._stop = self._stop or (status, reason)
        self._stopping = True
        self._wake.set()

    async def run(self) -> None:
        """Returns when the machine has a status.  Cancelling it cancels everything that runs."""
        self._began = anyio.current_time()
        try:
            await self._pump()
        finally:
            # Requests that were cut off by the cancellation are settled too: the account stays true.
            self._report()

    async def _pump(self) -> None:
        async with anyio.create_task_group() as tasks:
            while True:
                if self._seconds is not None and not self._stopping and self.elapsed >= self._seconds:
                    self.stop("budget", f"{self._seconds:g} seconds are over")
                commands = self.machine.step(self.elapsed)
                self._carry_out(commands, tasks)
                reported = self._report()
                if self.machine.status is not None:
                    return
                # A command may turn out to change nothing (a cancel that comes too late): only a step without any
                # commands has said all there is to say.
                if reported or commands:
                    # Work that is synchronous throughout must leave the event loop to others too.
                    await (self._settle or anyio.lowlevel.checkpoint)()
                else:
                    await self._wait()

    async def _wait(self) -> None:
        timers = (self.machine.next_timer(), None if self._stopping else self._seconds)
        timer = min((t for t in timers if t is not None), default=math.inf)
        with anyio.CancelScope(deadline=self._began + timer) as scope:
            await self._wake.wait()
        if scope.cancelled_caught:
            self._reached = timer
        if self._settle is not None:
            await self._settle()
        self._wake = anyio.Event()

    def _report(self) -> bool:
        """Tell the machine what has happened; False when nothing had."""
        now = self.elapsed
        answers, self._answers = sorted(self._answers, key=lambda a: a.call.id), []
        outcomes, self._outcomes = sorted(self._outcomes, key=lambda o: o[0].id), []
        requests, self._requests = sorted(self._requests, key=lambda r: (r.job.id, r.order)), []
        for answer in answers:
            self.machine.answered(answer.call, answer.spent, answer.usage, answer.usd, answer.how, now, answer.finish)
        for job, outcome in outcomes:
            self.machine.completed(job, outcome, now)
        for request in requests:
            if not request.given_up:
                request.call = self.machine.request(request.job, request.role, request.amounts, now)
                self._granting[request.call.id] = request
        stop, self._stop = self._stop, None
        if stop is not None:
            self.machine.stop(*stop, now)
        return bool(answers or outcomes or requests or stop)

    def _finish(self, job: Job, outcome: Outcome) -> None:
        self._outcomes.append((job, outcome))
        self._wake.set()

    # ---- commands ----------------------------------------------------------------------------------------

    def _carry_out(self, commands: list[Command], tasks: TaskGroup) -> None:
        for command in commands:
            match command:
                case Start():
                    self._start(command, tasks)
                case Cancel(job):
                    if job.id in self._scopes:
                        self._scopes[job.id].cancel()
                case Grant(call) | Refuse(call):
                    request = self._granting.pop(call.id, None)
                    if request is not None:  # else its task was cancelled, and has said so, since it was decided
                        request.refused = command.limit if isinstance(command, Refuse) else None
                        request.granted.set()

    def _start(self, start: Start, tasks: TaskGroup) -> None:
        job = start.job
        if job.kind == "source":
            self._draw(start)
            return
        spec = self._plan.stages[job.node].spec
        at: Context[Any] = Context(
            self.task,
            start.views.get(spec.reads or ""),
            random.Random(f"{self.machine.seed}/{job.node}/{job.item.id if job.item else 0}"),
            self._params(spec.prefix),
            lag=job.lag,
            refreshed=start.refreshed,
        )
        if spec.llm is not None:
            at.llm = partial(self._call, job, spec.llm)
        value = start.stale if start.stale is not None else start.value
        arguments = (value, at) if _takes_context(spec.body) else (value,)
        if inspect.iscoroutinefunction(spec.body):
            scope = self._scopes[job.id] = anyio.CancelScope()
            tasks.start_soon(self._work, job, scope, partial(spec.body, *arguments), at, name=f"{job.node} #{job.id}")
            return
        try:
            outcome: Outcome = Done(spec.body(*arguments), at.used)
        except Exception as error:
            outcome = Failed(_reason(error))
        self._finish(job, outcome)

    def _draw(self, start: Start) -> None:
        """Run a source, which is synchronous: its draw and its cursor advance together, in order of emission."""
        job, spec = start.job, self._plan.sources[start.job.node]
        keyed = random.Random(f"{self.machine.seed}/{job.node}/{job.emission}")
        at: Draw[Any, Any] = Draw(
            self.task,
            start.views.get(spec.reads or ""),
            self._sequential if spec.stream == "sequential" else keyed,
            self._params(spec.prefix),
            emission=job.emission,
            cursor=self._cursors[job.node],
        )
        try:
            value = spec.body(at)
        except Exception as error:
            self._finish(job, Failed(_reason(error)))
            return
        self._cursors[job.node] = at.cursor
        self._finish(job, Done(value, at.used))

    def _params(self, prefix: str) -> Mapping[str, Any]:
        if not prefix:
            return self._plan.params
        return {n.removeprefix(prefix): v for n, v in self._plan.params.items() if n.startswith(prefix)}

    async def _work(self, job: Job, scope: anyio.CancelScope, body: Callable[[], Any], at: Context[Any]) -> None:
        outcome: Outcome = Failed("cancelled", "cancelled")
        with scope:
            try:
                outcome = Done(await body(), at.used)
            except Exception as raised:
                error = _telling(raised)
                outcome = Failed(_reason(error))
                if isinstance(error, BudgetExhausted):
                    outcome = Failed(f"budget: {error}", "cancelled")
                elif isinstance(error, ModelError) and error.fatal:
                    self.stop("failed", str(error))
        del self._scopes[job.id]
        self._finish(job, outcome)

    # ---- model calls -------------------------------------------------------------------------------------

    async def _call(self, job: Job, role: str, messages: str | Sequence[Message], **params: Any) -> Reply:
        """Wait for a slot, send the request, settle what it cost.  Whatever ends this frees the slot."""
        if isinstance(messages, str):
            messages = [{"role": "user", "content": messages}]
        model = self.models[role]
        amounts = reservation(model, messages, params, self.machine.ledger.limits)
        request = _Request(job, role, amounts, str(messages))
        self._requests.append(request)
        self._wake.set()
        try:
            await request.granted.wait()
        except BaseException:
            request.given_up = True
            if request.call is not None:
                self._granting.pop(request.call.id, None)
                self._answer(_Answer(request.call, {}))
            raise
        assert request.call is not None
        answer = _Answer(request.call, amounts)
        try:
            if request.refused is not None:
                raise BudgetExhausted(f"no {request.refused} left for another request")
            reply = await model.complete(messages, params)
            answer.how, answer.finish = "done", reply.finish
            answer.usage, answer.usd = (reply.usage.prompt, reply.usage.completion), reply.cost
            answer.spent = {"calls": 1.0, "tokens": float(reply.usage.total), "usd": reply.cost or 0.0}
            return reply
        except Exception:
            answer.how = "failed"
            raise
        finally:
            self._answer(answer)

    def _answer(self, answer: _Answer) -> None:
        self._answers.append(answer)
        self._wake.set()


@cache
def _takes_context(body: Callable[..., Any]) -> bool:
    return len(inspect.signature(body).parameters) > 1


def _telling(error: Exception) -> Exception:
    """Of an exception group, as a stage's own task group raises, the exception that says most about the run."""
    leaves = [error]
    while any(isinstance(e, ExceptionGroup) for e in leaves):
        leaves = [x for e in leaves for x in (e.exceptions if isinstance(e, ExceptionGroup) else [e])]
    fatal = [e for e in leaves if isinstance(e, BudgetExhausted) or (isinstance(e, ModelError) and e.fatal)]
    return (fatal or leaves)[0]


def _reason(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"
