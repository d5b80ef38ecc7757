"""Runs the functions of sources and stages, each in a task of its own where it is async, and cancels them."""

from __future__ import annotations

import inspect
import logging
import math
from collections.abc import Callable, Mapping
from functools import cache, partial
from typing import Any

import anyio
from anyio.abc import TaskGroup

from flashgraph.errors import DataError, ModelError, did_you_mean
from flashgraph.graph.contexts import Context, Draw, emitted
from flashgraph.graph.spec import StageSpec
from flashgraph.llm.parsing import asked
from flashgraph.llm.protocol import Reply
from flashgraph.llm.secrets import without_secrets
from flashgraph.run.cause import Cause, End, cause_of
from flashgraph.run.contained import GRACE, Guarded, Inside, contained, escaped, reason, within
from flashgraph.run.floor import Floor
from flashgraph.run.jobs import Done, Job, JobFailure, Outcome, Start
from flashgraph.run.machine import Machine
from flashgraph.run.requests import Requests
from flashgraph.run.return_types import ReturnType
from flashgraph.run.session_start import SessionStart
from flashgraph.run.tried import tried
from flashgraph.run.turns import Completed, taken
from flashgraph.tasks.task import Task
from flashgraph.tasks.workers import from_any_thread, run_in

__all__ = ["CUT_OFF", "Execution"]

_log = logging.getLogger("flashgraph")

LET = (
    "\nFix: let cancellations through: `except Exception` does, a bare `except:` does not; a thread is left with "
    "anyio.to_thread.run_sync(..., abandon_on_cancel=True)."
)

WORKERS = 32
"""Executions of a stage at once in threads or processes, if it does not say how many."""

CUT_OFF = JobFailure(Cause.CANCELLED, "cancelled", "cancelled")
"""The outcome of a cancelled job."""


class Execution:
    """The running jobs of a run.

    ``elapsed`` is the run's clock; ``wake`` tells the driver that a job has ended, ``stop`` ends the run.
    """

    def __init__(
        self,
        machine: Machine,
        task: Task[Any, Any],
        resources: Mapping[str, Any],
        requests: Requests,
        floor: Floor,
        session: SessionStart,
        *,
        elapsed: Callable[[], float],
        wake: Callable[[], None],
        stop: Callable[[End], None],
    ) -> None:
        plan = self._plan = machine.plan
        self._machine = machine
        self._task = task
        self._resources = resources
        self._requests = requests
        self._floor = floor
        self._elapsed = elapsed
        self._wake = wake
        self._stop = stop
        self._sequential = session.stream
        self._cursors = dict(session.cursors)
        nodes = {n: s.spec for n, s in plan.stages.items()} | dict(plan.sources)
        self._given = {name: plan.given(spec) for name, spec in nodes.items()}
        self._returns = {name: ReturnType.of(spec, plan.checked.ports) for name, spec in nodes.items()}
        bodies = {name: stage.spec.body for name, stage in plan.stages.items()}
        elsewhere = {name: stage.spec for name, stage in plan.stages.items() if stage.spec.runs != "loop"}
        self._plain = {n for n, b in bodies.items() if not (_takes_context(b) or _is_async(b) or n in elsewhere)}
        """The stages whose function takes the item alone, on the event loop."""
        self._elsewhere = frozenset(elsewhere)
        """The stages that run in threads and processes."""
        self._bodies = {
            name: tried(stage.spec, _runner(stage.spec) if name in elsewhere else stage.spec.body)
            for name, stage in plan.stages.items()
        }
        """By stage, its function with its tries.  Those that run elsewhere are coroutine functions."""
        self._names = {name: f"stage {name!r}" for name in plan.stages}
        self._completed: list[Completed] = []
        self._inside: dict[int, Inside] = {}
        """By job, its running function."""
        self.guarded = False
        """Whether the event loop guards the tasks of jobs."""
        self._cancelled: dict[int, tuple[float, Job]] = {}
        """When running jobs were cancelled, the earliest first."""
        self.abandoned: list[str] = []
        """The jobs that did not end when they were cancelled, with the line of each."""
        self._running: dict[int, anyio.TaskHandle[None] | None] = {}
        """By running job, its task; None while it is being started."""
        self._parked: set[int] = set()
        """The jobs that the budget has parked, whose tasks have ended."""

    @property
    def busy(self) -> bool:
        """Whether any task of a job runs."""
        return bool(self._running)

    @property
    def ended(self) -> bool:
        """Whether jobs have ended since the last turn."""
        return bool(self._completed)

    @property
    def patience(self) -> float | None:
        """When the job that was cancelled first is abandoned; None if none is being cancelled."""
        return next(iter(self._cancelled.values()))[0] + GRACE if self._cancelled else None

    def completed(self) -> tuple[Completed, ...]:
        """Take the jobs that have ended since the last turn, in the order of their numbers."""
        return taken(self._completed, lambda done: done.job)

    def finish(self, job: Job, outcome: Outcome, **state: Any) -> None:
        """End a job with its outcome."""
        self._completed.append(Completed(job.id, outcome, **state))
        self._wake()

    def abandon_all(self) -> None:
        """Abandon all jobs that run."""
        for number in list(self._running):
            self._abandon(self._machine.jobs[number])

    def cancel(self, job: Job) -> None:
        """Cancel a job's task, if it runs; end a parked job."""
        if (task := self._running.get(job.id)) is not None:
            self._cancelled[job.id] = (self._elapsed(), job)
            self._inside[job.id].cancelled = True
            task.cancel()
        elif job.id in self._parked:
            self._parked.remove(job.id)
            self.finish(job, CUT_OFF)

    def give_up(self) -> None:
        """Abandon jobs that still run `GRACE` seconds after their cancellation."""
        while self._cancelled:
            at, job = next(iter(self._cancelled.values()))
            if self._elapsed() < at + GRACE:
                return
            self._abandon(job)

    def _abandon(self, job: Job) -> None:
        """End a job whose task does not end: its function catches the cancellation, or waits where none arrives.

        The run continues, and ends, without it.
        """
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
        self._requests.abandon(job)
        said = f"it did not end within {GRACE:g} s of its cancellation, and was abandoned"
        self.finish(job, JobFailure(Cause.ABANDONED, said, "cancelled"))

    def start(self, start: Start, tasks: TaskGroup) -> None:
        """Start a job: run its function, in a task of its own if it is async."""
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
                    outcome: Outcome = Done(self._returns[job.node].checked(self._bodies[job.node](value)))
            except Exception as error:
                outcome = JobFailure(cause_of(error), reason(error))
            self._completed.append(Completed(job.id, outcome))
            return
        ctx: Context[Any, Any] | None = None
        if _takes_context(spec.body):
            ctx = Context(
                self._task,
                start.view(spec.reads),
                # Not by the number of the job or item, which depends on the order in which others ended.
                f"{self._machine.seed}/{job.node}/{job.item.path}/{job.item.repairs}" if job.item else "",
                **self._given[job.node],
                lag=job.lag,
                refreshed=start.refreshed,
                resources=self._resources,
            )
            if spec.model is not None:
                llm = partial(self._call, job, spec.model)
                ctx.llm = from_any_thread(llm) if job.node in self._elsewhere else llm
        arguments = (value,) if ctx is None else (value, ctx)
        body = self._bodies[job.node]
        if job.node in self._elsewhere or _is_async(spec.body):
            self._running[job.id], self._inside[job.id] = None, inside
            if spec.model is not None:
                self._requests.admit(job)
            with within(inside):
                task = tasks.create_task(self._work(job, body, arguments, ctx), name=f"{job.node} #{job.id}")
            # An eager event loop, as in Python 3.12 and later, may have ended it already.
            if job.id in self._running:  # pragma: no branch
                self._running[job.id] = task
            return
        try:
            with contained(inside):
                value = self._returns[job.node].checked(body(*arguments))
            outcome = Done(value, ctx.used if ctx is not None else None)
        except Exception as error:
            outcome = JobFailure(cause_of(error), reason(error))
        self.finish(job, outcome)

    def _draw(self, start: Start) -> None:
        """Run a source, which is synchronous: its draw and its state advance together, in order of emission."""
        job, spec = start.job, self._plan.sources[start.job.node]
        keyed = f"{self._machine.seed}/{job.node}/{job.emission}"
        ctx: Draw[Any, Any, Any] = Draw(
            self._task,
            start.view(spec.reads),
            self._sequential if spec.stream == "sequential" else keyed,
            **self._given[job.node],
            emission=job.emission,
            turn=start.turn,
            open=start.beside,
            champion=start.champion,
            state=self._cursors[job.node],
        )
        try:
            with contained(Inside(f"source {job.node!r}", self._floor)):
                value, after = emitted(spec.body(ctx), ctx.state)
                value = self._returns[job.node].checked(value)
        except Exception as error:
            self.finish(job, JobFailure(cause_of(error), reason(error)))
            return
        self._cursors[job.node] = after
        state = self._sequential.getstate() if spec.stream == "sequential" else None
        self.finish(job, Done(value, ctx.used), source=job.node, cursor=after, stream=state)

    async def _call(self, job: Job, own: str, messages: Any, *, role: str | None = None, **params: Any) -> Reply:
        """Call the model of the stage's own role, or of a role of the task."""
        if role is not None and role != own and role not in self._task.roles:
            known = (own, *self._task.roles)
            raise DataError(
                f"stage {job.node!r} calls a model of the role {role!r}; it may call {', '.join(known)}.\n"
                f"Fix: {did_you_mean(role, known)}, or fg.Task(..., roles=({role!r},))."
            )
        return await asked(partial(self._requests.call, job, role or own), messages, **params)

    async def _work(
        self, job: Job, body: Callable[..., Any], arguments: tuple[Any, ...], ctx: Context[Any, Any] | None
    ) -> None:
        outcome: Outcome = CUT_OFF
        try:
            if job.cancelled:
                return  # before it began, while another function held the event loop
            made = body(*arguments)
            value = self._returns[job.node].checked(
                await (made if self.guarded else Guarded(made, self._inside[job.id]))
            )
            outcome = Done(value, ctx.used if ctx is not None else None)
        except anyio.get_cancelled_exc_class() as foreign:
            if anyio.current_effective_deadline() == -math.inf:
                raise
            # The job itself was not cancelled: it awaited something else that was.
            said = f"{type(foreign).__name__}: it awaited what somebody else has cancelled"
            outcome = JobFailure(Cause.RAISED, said)
        except BaseException as raised:
            cancelled = anyio.current_effective_deadline() == -math.inf
            if (failure := raised if isinstance(raised, Exception) else escaped(raised, cancelled=cancelled)) is None:
                raise
            error = _telling(failure)
            outcome = JobFailure(cause_of(error), reason(error))
            if isinstance(error, ModelError) and error.fatal:
                self._stop(End("failed", Cause.MODEL, without_secrets(str(error))))
                outcome = JobFailure(Cause.MODEL, reason(error), "cancelled")
        finally:
            del self._running[job.id], self._inside[job.id]
            self._cancelled.pop(job.id, None)
            self._requests.shut(job)
            if not job.refused:
                self.finish(job, outcome)
            elif job.cancelled:
                self.finish(job, CUT_OFF)
            else:
                self._parked.add(job.id)


def _runner(stage: StageSpec) -> Callable[..., Any]:
    """Return a coroutine function that runs a stage's function in a thread or a process."""
    return partial(run_in, stage.runs, stage.workers or WORKERS, stage.body)


_is_async = cache(inspect.iscoroutinefunction)


@cache
def _takes_context(body: Callable[..., Any]) -> bool:
    return len(inspect.signature(body).parameters) > 1


def _telling(error: Exception) -> Exception:
    """Return the exception of a group, as from a stage's task group, that matters most to the run."""
    leaves = [error]
    while any(isinstance(e, ExceptionGroup) for e in leaves):
        leaves = [x for e in leaves for x in (e.exceptions if isinstance(e, ExceptionGroup) else [e])]
    fatal = [e for e in leaves if isinstance(e, ModelError) and e.fatal]
    return (fatal or leaves)[0]
