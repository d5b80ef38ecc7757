"""Running a graph from Python: `run`, `arun` and the steppable `open_run`."""

from __future__ import annotations

import logging
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anyio
import attrs

from flashgraph.errors import DataError
from flashgraph.extras import require
from flashgraph.graph.dsl import Graph
from flashgraph.llm.protocol import Model
from flashgraph.loading import load_graph, load_task
from flashgraph.policies.schedule import Schedule
from flashgraph.policies.settings import apply_settings, schedule_of
from flashgraph.run.budget import Budget, Ledger
from flashgraph.run.cause import Cause, End
from flashgraph.task import Task

if TYPE_CHECKING:
    from flashgraph.llm.responses import ResponseCache
    from flashgraph.run.events import Event
    from flashgraph.run.journal.examined import Examined
    from flashgraph.run.journal.header import Header
    from flashgraph.run.journal.keeper import Kept
    from flashgraph.run.plan import Plan
    from flashgraph.run.result import Result
    from flashgraph.run.spool import EventLog

__all__ = ["ModelSpec", "Run", "arun", "open_run", "run"]

OneModel = str | Model | Callable[..., str | Awaitable[str]]

ModelSpec = OneModel | Sequence[OneModel | tuple[OneModel, float]]
"""A model string (``openai:URL#MODEL``, ``local``, ...), an object of the model protocol, a plain function; or several
of these, each with a weight if it is not 1, that share the role's work."""

_log = logging.getLogger("flashgraph")


class Run:
    """A run in progress: iterate over its events, or wait for `result`.

    Iterating shows every event from the first one on.  Leaving ``open_run``'s block before the run has ended cancels
    it; `result` then holds what was reached.  An error that ends the run, as one of a pool's own, is raised by `wait`
    and where the events end; or at the end of the block, if the caller did neither.
    """

    def __init__(
        self,
        driver: Any,
        events: EventLog,
        task: str,
        prices: Mapping[str, Mapping[str, Any]],
        examined: Examined | None = None,
    ) -> None:
        self._driver = driver
        self.examined = examined
        """Where the held-out test keeps its calls; None for a run without a folder."""
        self._events = events
        self._task = task
        self._prices = prices
        self._more: anyio.Event | None = None
        """There while somebody waits for the next event."""
        self._end = anyio.Event()
        self._over = False
        self._ended: float | None = 0.0
        self._error: Exception | None = None
        self._untold = True
        """Whether nobody has been told of the error yet."""

    @property
    def machine(self) -> Any:
        """The scheduler's state, for viewers; read it, never change it."""
        return self._driver.machine

    @property
    def resources(self) -> Mapping[str, Any]:
        """What the run holds open for its stages, by name."""
        found: Mapping[str, Any] = self._driver.resources
        return found

    @property
    def abandoned(self) -> tuple[str, ...]:
        """The jobs that did not end when they were cancelled, and where each stands."""
        return tuple(self._driver.abandoned)

    @property
    def elapsed(self) -> float:
        """Seconds since the run began, on its own clock; it stands still once the run has ended."""
        return float(self._driver.elapsed) if self._ended is None else self._ended

    @property
    def result(self) -> Result:
        """What has been reached so far; final once the run has ended."""
        from flashgraph.run.result import Result

        return Result.of(self._driver.machine, self._task, self.elapsed, self._events.view(), self._prices)

    def drain(self, reason: str = "stopped by the caller") -> None:
        """Start nothing new and end with status ``"stopped"`` when what runs has ended; the run can be resumed."""
        self._driver.drain(End("stopped", Cause.CALLER, reason))

    def stop(self, reason: str = "stopped by the caller") -> None:
        """Cancel what runs and end with status ``"cancelled"``; what was admitted stays."""
        self._driver.stop(End("cancelled", Cause.CALLER, reason))

    async def wait(self) -> Result:
        """Wait for the end of the run."""
        await self._end.wait()
        self._tell()
        return self.result

    async def __aiter__(self) -> AsyncIterator[Event]:
        seen = 0
        while True:
            while seen < len(self._events):
                yield self._events[seen]
                seen += 1
            if self._over:
                self._tell()
                return
            if self._more is None:
                self._more = anyio.Event()
            await self._more.wait()

    def _tell(self) -> None:
        """Raise the error that has ended the run, if one has."""
        if self._error is not None:
            self._untold = False
            raise self._error

    def _publish(self) -> None:
        more, self._more = self._more, None
        if more is not None:
            more.set()

    async def _drive(self) -> None:
        self._ended = None
        try:
            await self._driver.run()
        except Exception as error:
            self._error = error
        finally:
            self._over, self._ended = True, float(self._driver.elapsed)
            self._end.set()
            self._publish()


@asynccontextmanager
async def open_run(
    graph: Graph | str | Path,
    task: Task | str | Path,
    *,
    models: Mapping[str, ModelSpec],
    schedule: str | Schedule = "pipelined",
    budget: Budget | None = None,
    seed: int = 0,
    params: Mapping[str, Any] | None = None,
    settings: Mapping[str, Any] | None = None,
    resources: Mapping[str, Any] | None = None,
    on_event: Callable[[Event], None] | None = None,
    settle: Callable[[], Awaitable[None]] | None = None,
    cache: str | Path | ResponseCache | None = None,
    any_temperature: bool = False,
    folder: str | Path | None = None,
    resume: bool = False,
    accept_changes: bool = False,
    order: Mapping[str, Any] | None = None,
    target_score: float | None = None,
    patience: int | None = None,
) -> AsyncIterator[Run]:
    """Start a run and step through it: ``async with fg.open_run(...) as run: async for event in run: ...``.

    ``graph`` is a `Graph`, a file or a shipped algorithm's name; ``models`` maps the roles that the graph's stages
    name to models; ``params`` sets the graph's parameters and ``settings`` overrides its policies
    (``{"window": 16, "validate->frontier.stale": fg.discard(4)}``).  ``resources`` are used in the place of what the
    graph's own resources would make.  ``settle`` is for virtual clocks (`flashgraph.sim.clock`): with it, events do
    not depend on the order in which the event loop runs tasks that are due at the same instant.

    ``on_event`` is called with every event, on the event loop, between two turns.  If it raises, or takes in all more
    than 5 seconds and a twentieth of the run's time, it is not called again, and the run goes on.  A viewer that takes
    its time iterates over the run instead: it is told everything, however late, and the run never waits for it.

    ``cache`` is a file of replies that runs share: a request at temperature 0 (at any, with ``any_temperature``) that
    was answered before costs nothing.

    The run ends, with status ``"stopped"`` and a reason, when its best has a score of at least ``target_score``, or
    when so many proposals in a row (``patience``) have been judged without a better best.  Without a ``target_score`` a
    run that overlaps rounds ends when its best has the task's greatest score on all of the validation;
    ``target_score=math.inf`` lets it go on, and so does the schedule ``lockstep``, as the published loops do.

    With a ``folder`` the run is kept there in a journal; ``resume`` goes on with the run that is there, under
    ``budget``, also after a change of functions and policies with ``accept_changes``.  ``order`` is kept with the
    journal for whoever resumes it.

    Raises `GraphError` when the graph does not pass its checks, `DataError` for wrong arguments, and
    `flashgraph.run.journal.JournalError` when the journal cannot be made, read or held.
    """
    from flashgraph.arguments import check_end, check_prices, for_roles, goal_of, resources_of
    from flashgraph.llm.cache import cached
    from flashgraph.llm.endpoints import Endpoints
    from flashgraph.llm.prices import pin_all
    from flashgraph.llm.resolve import resolve_all
    from flashgraph.llm.responses import ResponseCache
    from flashgraph.run.driver import Driver
    from flashgraph.run.events import RunStarted
    from flashgraph.run.hook import Hook
    from flashgraph.run.journal.keeper import keep, read_header
    from flashgraph.run.machine import Machine
    from flashgraph.run.plan import compile_plan
    from flashgraph.run.spool import CHUNK, EventLog

    # Before any code of the user's runs, which may change the working directory.
    folder = None if folder is None else Path(os.getcwd(), folder)
    graph, task = load_graph(graph), load_task(task)
    graph.raise_if_wrong()
    spec = graph.spec
    chosen, values = apply_settings(spec, schedule_of(schedule), params or {}, settings or {})
    budget = budget or Budget()
    resolved = resolve_all(for_roles(graph, models))
    if cache is not None:
        resolved = cached(
            resolved,
            cache if isinstance(cache, ResponseCache) else ResponseCache(cache),
            any_temperature=any_temperature,
        )
    held = resources_of(spec, resources or {})
    check_end(graph, budget, resolved)
    goal = attrs.evolve(goal_of(spec, task, chosen, target_score, patience), seconds=budget.seconds)
    endpoints = Endpoints.of(resolved)
    before = read_header(Path(folder)).prices if folder is not None and resume else {}
    pinned, said = pin_all(endpoints.models, before)
    prices = {name: attrs.asdict(price) for name, price in pinned.items()}
    check_prices(resolved, budget)
    plan = compile_plan(spec, chosen, values, endpoints.roles, endpoints.limits, endpoints.services)
    events = EventLog(Path(folder) if folder is not None else None)
    unrevealed: list[Event] = []
    hook = Hook(on_event) if on_event is not None else None
    note: Callable[[Event], None] | None = None
    opened: Run | None = None

    def emit(event: Event) -> None:
        if note is not None:
            note(event)
        unrevealed.append(event)
        if opened is None and len(unrevealed) >= CHUNK:
            reveal()  # of earlier sessions, which is durable: it need not be in memory all at once

    def reveal() -> None:
        """Tell what is durable by now: nobody sees what a run that is killed may not remember."""
        if not unrevealed:
            return
        told, unrevealed[:] = unrevealed[:], []
        events.extend(told)
        if opened is None:
            return  # what happened in earlier sessions is not told again
        if hook is not None:
            for event in told:
                hook.tell(event)
        opened._publish()

    ledger = Ledger(budget)
    machine = Machine(plan, ledger, emit if folder is not None else unrevealed.append, seed, task)
    emit(RunStarted(0.0, spec.name, chosen.name, seed))
    failure: Exception | None = None
    async with AsyncExitStack() as stack:
        kept: Kept | None = None
        keeping = None
        if folder is not None:
            header = _header(plan, task, chosen, seed, budget, values, prices, order or {})
            keeping = keep(
                Path(folder), header, machine, budget.limits,
                resume=resume, accept_changes=accept_changes, patient=settle is not None,
            )  # fmt: skip
        if keeping is not None and resume:
            kept = stack.enter_context(keeping)  # before a model is started for a run that somebody else has
        for model in endpoints.models.values():
            await stack.enter_async_context(model.open())
        for resource in held.values():
            await stack.enter_async_context(resource.open())
        if keeping is not None and not resume:
            kept = stack.enter_context(keeping)  # after all that can keep the run from starting
        if kept is not None and kept.seed:
            # It has begun anew, from the artifact that was its best.
            task = attrs.evolve(task, seed={name: kept.seed.get(name, text) for name, text in task.seed.items()})
        driver = Driver(
            machine,
            task,
            resolved,
            endpoints=endpoints.models,
            resources=held,
            seconds=budget.seconds,
            settle=settle,
            memory=kept.writer if kept is not None else None,
            resumed=kept.resumed if kept is not None else None,
            reveal=reveal,
            goal=goal,
        )
        for sentence in said.values():
            _log.warning("%s", sentence)
        note = kept.writer.note if kept is not None else None
        reveal()
        opened = Run(driver, events, task.name, prices, kept.examined if kept is not None else None)
        try:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(opened._drive)
                try:
                    yield opened
                except Exception as error:
                    # Raised below, outside the task groups: the caller's own exception must reach it unwrapped.
                    failure = error
                tasks.cancel_scope.cancel()
            if failure is None and opened._untold:
                failure = opened._error
        finally:
            # Also of a block that is cancelled: its process is alive, and has not been killed.
            if kept is not None:
                kept.writer.close_session(opened.result.judged().end, opened.elapsed, machine.ledger.settled)
    if failure is not None:
        raise failure


async def arun(
    graph: Graph | str | Path,
    task: Task | str | Path,
    **options: Any,
) -> Result:
    """Run a graph to its end, inside an event loop; the options are `open_run`'s.

    A run that accepted nothing because its stages failed has failed, as `Result.judged` says.
    """
    async with open_run(graph, task, **options) as run:
        return (await run.wait()).judged()


def run(graph: Graph | str | Path, task: Task | str | Path, *, backend: str = "asyncio", **options: Any) -> Result:
    """Run a graph to its end; the options are `open_run`'s.  ``backend`` is ``"asyncio"`` or ``"trio"``.

    Raises `DataError` for another backend, and for ``"trio"`` where trio is not installed.
    """
    if backend not in ("asyncio", "trio"):
        raise DataError(f"backend={backend!r}; expected 'asyncio' or 'trio'.\nFix: backend='asyncio', the default.")
    if backend == "trio":
        require("trio", "backend='trio'")
    return anyio.run(partial(_alone, graph, task, **options), backend=backend)


async def _alone(graph: Graph | str | Path, task: Task | str | Path, **options: Any) -> Result:
    """Run a graph in an event loop that ends with it."""
    from flashgraph.run.contained import GRACE, swept

    try:
        return await arun(graph, task, **options)
    finally:
        await swept(GRACE)


def _header(
    plan: Plan,
    task: Task,
    schedule: Schedule,
    seed: int,
    budget: Budget,
    params: Mapping[str, Any],
    prices: Mapping[str, Mapping[str, Any]],
    order: Any,
) -> Header:
    import flashgraph
    from flashgraph.run.journal.header import Header, fingerprint
    from flashgraph.run.journal.tasks import task_fingerprint
    from flashgraph.run.plan import Capacity

    limits = {name: value for name, value in attrs.asdict(budget).items() if value is not None}
    topology, functions, policies = fingerprint(plan.graph, plan)
    return Header(
        plan.graph.name, task.name, schedule.name, seed, limits, dict(params), topology, functions, policies,
        attrs.asdict(Capacity.of(plan)), prices, flashgraph.__version__, order, task_fingerprint(task),
    )  # fmt: skip
