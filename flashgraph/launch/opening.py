"""Open a run: check its options, make its machine, then open its journal, models and resources."""

from __future__ import annotations

import logging
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import attrs

from flashgraph.errors import DataError, did_you_mean
from flashgraph.graph.dsl import Graph
from flashgraph.graph.loading import load_graph, load_task
from flashgraph.launch.arguments import check_end, check_prices, check_roles, for_roles, goal_of, resources_of
from flashgraph.launch.handle import Run
from flashgraph.launch.seeding import seeded
from flashgraph.llm.cache import cached
from flashgraph.llm.endpoints import Endpoints
from flashgraph.llm.prices import pin_all
from flashgraph.llm.protocol import Model
from flashgraph.llm.resolve import resolve_all
from flashgraph.llm.responses import ResponseCache
from flashgraph.policies.schedule import Schedule
from flashgraph.policies.settings import apply_settings, schedule_of
from flashgraph.run.budget import Budget, Ledger
from flashgraph.run.driver import Driver, Memory
from flashgraph.run.events import Event, RunStarted
from flashgraph.run.goal import Goal
from flashgraph.run.hook import Hook
from flashgraph.run.journal.header import Header, fingerprint
from flashgraph.run.journal.keeper import Kept, keep, read_header
from flashgraph.run.journal.tasks import task_fingerprint
from flashgraph.run.machine import Machine
from flashgraph.run.plan import Capacity, Plan, compile_plan
from flashgraph.run.spool import CHUNK, EventLog
from flashgraph.tasks.task import Task
from flashgraph.version import VERSION

__all__ = ["Options", "opening"]

_log = logging.getLogger("flashgraph")


def _budget(given: Budget | None) -> Budget:
    return given or Budget()


def _mapping(given: Mapping[str, Any] | None) -> Mapping[str, Any]:
    return given or {}


def _absolute(given: str | Path | None) -> Path | None:
    return None if given is None else Path(os.getcwd(), given)


COMMAND_LINE_NAMES = {
    "out": "folder=",
    "model": "models=",
    "cache_samples": "any_temperature=",
    "unsafe_no_sandbox": "resources={NAME: a sandbox that is made with unconfined=True}",
    "set": "params= (of the graph) or settings= (of the schedule)",
    "proposals": "budget=fg.Budget(proposals=...)",
    "evaluations": "budget=fg.Budget(evaluations=...)",
    "calls": "budget=fg.Budget(calls=...)",
    "tokens": "budget=fg.Budget(tokens=...)",
    "usd": "budget=fg.Budget(usd=...)",
    "minutes": "budget=fg.Budget(seconds=...)",
    "seconds": "budget=fg.Budget(seconds=...)",
}
"""Option names of the command line and of budgets, with the Python form of each."""


@attrs.frozen(kw_only=True)
class Options:
    """The options of a run with their defaults; `flashgraph.api.open_run` explains each."""

    models: Any = None
    schedule: str | Schedule = "pipelined"
    budget: Budget = attrs.field(default=None, converter=_budget)
    seed: int = 0
    seed_from: str | Path | Mapping[str, str] | None = None
    params: Mapping[str, Any] = attrs.field(default=None, converter=_mapping)
    settings: Mapping[str, Any] = attrs.field(default=None, converter=_mapping)
    resources: Mapping[str, Any] = attrs.field(default=None, converter=_mapping)
    on_event: Callable[[Event], None] | None = None
    settle: Callable[[], Awaitable[None]] | None = None
    cache: str | Path | ResponseCache | None = None
    any_temperature: bool = False
    folder: Path | None = attrs.field(default=None, converter=_absolute)
    """Made absolute at once, because the user's code may change the working directory."""
    memory: Callable[[Sequence[Event]], Memory] | None = None
    resume: bool = False
    accept_changes: bool = False
    order: Mapping[str, Any] = attrs.field(default=None, converter=_mapping)
    target_score: float | None = None
    patience: int | None = None

    @classmethod
    def of(cls, given: Mapping[str, Any]) -> Options:
        """Return the options ``given`` by name.

        Raises `DataError` for an unknown name, with the nearest known one.
        """
        known = [field.name for field in attrs.fields(cls)]
        for name in given:
            if name not in known:
                meant = COMMAND_LINE_NAMES.get(name)
                nearest = f"the name is {meant} in Python" if meant else did_you_mean(name, known)
                fix = f"write {meant}" if meant else f"choose from {', '.join(known)}"
                raise DataError(f"{name}={given[name]!r:.80}: a run has no such option; {nearest}\nFix: {fix}.")
        if given.get("memory") is not None and given.get("folder") is not None:
            raise DataError("memory= and folder=: a run keeps its turns in one place.\nFix: leave one of them out.")
        return cls(**given)


@attrs.frozen
class Setup:
    """The parts of a run, made from its options before anything is opened."""

    options: Options
    task: Task[Any, Any]
    schedule: Schedule
    values: Mapping[str, Any]
    """The graph's parameters."""
    models: Mapping[str, Model]
    """By role."""
    endpoints: Endpoints
    resources: Mapping[str, Any]
    goal: Goal
    prices: Mapping[str, Mapping[str, Any]]
    warnings: tuple[str, ...]
    plan: Plan

    @classmethod
    def of(cls, graph: Graph | str | Path, task: Task | str | Path, options: Options) -> Setup:
        """Return the setup; raises `GraphError` and `DataError` if it cannot run."""
        graph, task = load_graph(graph), seeded(load_task(task), options.seed_from)
        checked, budget = graph.checked(), options.budget
        spec = checked.spec
        schedule, values = apply_settings(spec, schedule_of(options.schedule), options.params, options.settings)
        models = resolve_all(for_roles(graph, task, options.models))
        if options.cache is not None:
            cache = options.cache if isinstance(options.cache, ResponseCache) else ResponseCache(options.cache)
            models = cached(models, cache, any_temperature=options.any_temperature)
        held = resources_of(spec, options.resources)
        check_roles(budget, models)
        check_end(graph, budget, models)
        goal = goal_of(spec, task, schedule, options.target_score, options.patience)
        endpoints = Endpoints.of(models)
        before = read_header(options.folder).prices if options.folder is not None and options.resume else {}
        pinned, warnings = pin_all(endpoints.models, before)
        check_prices(models, budget)
        plan = compile_plan(checked, schedule, values, endpoints.roles, endpoints.limits, endpoints.services)
        return cls(
            options, task, schedule, values, models, endpoints, held, attrs.evolve(goal, seconds=budget.seconds),
            {name: attrs.asdict(price) for name, price in pinned.items()}, tuple(warnings.values()), plan,
        )  # fmt: skip

    def header(self) -> Header:
        """Return the journal's header, which records how the run was started."""
        plan, limits = self.plan, self.options.budget.flat
        topology, functions, policies = fingerprint(plan)
        return Header(
            plan.graph.name, self.task.name, self.schedule.name, self.options.seed, limits, dict(self.values), topology,
            functions, policies, attrs.asdict(Capacity.of(plan)), self.prices, VERSION,
            self.options.order, task_fingerprint(self.task),
        )  # fmt: skip


class Revealing:
    """The events of a run, published once they are durable; the hook does not receive those of earlier sessions."""

    def __init__(self, options: Options) -> None:
        self.log = EventLog(options.folder)
        self.note: Callable[[Event], None] | None = None
        """Writes an event to the journal."""
        self.run: Run | None = None
        self._hook = Hook(options.on_event) if options.on_event is not None else None
        self._unrevealed: list[Event] = []

    def emit(self, event: Event) -> None:
        """Write an event to the journal, and hold it back until `reveal`."""
        if self.note is not None:
            self.note(event)
        self._unrevealed.append(event)
        if self.run is None and len(self._unrevealed) >= CHUNK:
            self.reveal()  # events of earlier sessions are durable; revealing them early saves memory

    def reveal(self) -> None:
        """Publish the durable events, so that nobody sees an event that a killed run would forget."""
        if not self._unrevealed:
            return
        durable, self._unrevealed[:] = self._unrevealed[:], []
        self.log.extend(durable)
        if self.run is None:
            return
        if self._hook is not None:
            for event in durable:
                self._hook.tell(event)
        self.run.publish()


@asynccontextmanager
async def opening(graph: Graph | str | Path, task: Task | str | Path, options: Options) -> AsyncIterator[Run]:
    """Open a run; see `flashgraph.api.open_run`."""
    setup = Setup.of(graph, task, options)
    events = Revealing(options)
    ledger = Ledger(options.budget)
    machine = Machine(setup.plan, ledger, events.emit, options.seed, setup.task)
    events.emit(RunStarted(0.0, setup.plan.graph.name, setup.schedule.name, options.seed))
    failure: Exception | None = None
    async with AsyncExitStack() as stack:
        kept = await _opened(setup, machine, stack)
        run = _begun(setup, machine, kept, events)
        try:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(run.drive)
                try:
                    yield run
                except Exception as error:
                    # Raise it below, outside the task groups, so that the caller gets its own exception, not a group.
                    failure = error
                tasks.cancel_scope.cancel()
            failure = failure or run.unraised
        finally:
            # Close the session even if the block is cancelled, because only a killed process leaves one open.
            if kept is not None:
                kept.writer.close_session(run.result.judged().end, run.elapsed, ledger.settled)
    if failure is not None:
        raise failure


async def _opened(setup: Setup, machine: Machine, stack: AsyncExitStack) -> Kept | None:
    """Open the journal, the models and the resources; return None if the run has no journal."""
    options = setup.options
    keeping = None
    if options.folder is not None:
        keeping = keep(
            options.folder, setup.header(), machine, options.budget.limits,
            resume=options.resume, accept_changes=options.accept_changes, patient=options.settle is not None,
        )  # fmt: skip
    kept: Kept | None = None
    if keeping is not None and options.resume:
        kept = stack.enter_context(keeping)  # first, so that no model starts if another process holds the run
    for model in setup.endpoints.models.values():
        await stack.enter_async_context(model.open())
    for resource in setup.resources.values():
        await stack.enter_async_context(resource.open())
    if keeping is not None and not options.resume:
        kept = stack.enter_context(keeping)  # last, so that a run that cannot start leaves no journal
    return kept


def _begun(setup: Setup, machine: Machine, kept: Kept | None, events: Revealing) -> Run:
    """Return the run, ready to be driven; events are published from now on."""
    task = setup.task
    if kept is not None and kept.seed:
        # The run has restarted from its best artifact.
        task = attrs.evolve(task, seed={name: kept.seed.get(name, text) for name, text in task.seed.items()})
    make = setup.options.memory
    memory = kept.writer if kept is not None else make(events.log) if make is not None else None
    driver = Driver(
        machine,
        task,
        setup.models,
        endpoints=setup.endpoints.models,
        resources=setup.resources,
        seconds=setup.options.budget.seconds,
        settle=setup.options.settle,
        memory=memory,
        start=kept.start if kept is not None else None,
        reveal=events.reveal,
        goal=setup.goal,
    )
    for sentence in setup.warnings:
        _log.warning("%s", sentence)
    events.note = kept.writer.note if kept is not None else None
    events.reveal()
    examined = kept.examined if kept is not None else None
    events.run = Run(driver, events.log, task.name, setup.prices, examined, memory)
    return events.run
