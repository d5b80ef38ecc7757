"""One run of the command line, from opening its models to writing its files."""

from __future__ import annotations

import inspect
import traceback
from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any

import anyio
import attrs
import click

from flashgraph.api import Run, open_run
from flashgraph.cli.failures import DONE, FAILED, INTERRUPTED, cause, no_defect
from flashgraph.cli.stopping import Interrupts, end_at_once, rescuing, say_aside
from flashgraph.cli.viewing import viewed_beside
from flashgraph.cli.watching import Follower, HeldOutCount
from flashgraph.errors import FlashgraphError
from flashgraph.extras import require
from flashgraph.graph.dsl import Graph
from flashgraph.llm.cache import cached
from flashgraph.llm.protocol import Model
from flashgraph.llm.resolve import resolve_all
from flashgraph.llm.responses import ResponseCache
from flashgraph.observe.outlook import outlook
from flashgraph.observe.report import Report, claim_folder, file_name, new_folder
from flashgraph.run.budget import Budget
from flashgraph.run.cause import Cause
from flashgraph.run.contained import GRACE, swept
from flashgraph.run.heldout import beyond, held_out, unanswered
from flashgraph.run.journal.keeper import unusable
from flashgraph.run.loop import run_alone
from flashgraph.run.result import Result
from flashgraph.run.threads import use_loose_threads
from flashgraph.tasks.task import Task
from flashgraph.text import terminal
from flashgraph.text.terminal import say, say_diff, say_error

__all__ = ["Order", "carry_out"]

STOPPED = "interrupted"


@attrs.frozen
class Order:
    """The arguments of ``flashgraph run`` or ``flashgraph resume``."""

    graph: Graph
    task: Task[Any, Any]
    models: Mapping[str, str]
    schedule: str
    settings: Mapping[str, str]
    seed: int
    budget: Budget
    out: Path | None
    test: bool
    home: Path = attrs.field(factory=Path.cwd)
    """The working directory before the user's code ran, because it may change it."""
    unconfined: bool = False
    """Whether a graph's sandbox may run code without confinement."""
    resume: bool = False
    accept_changes: bool = False
    grace: float = 30.0
    """Seconds that running work may take to finish after the first Ctrl-C."""
    target: float | None = None
    """The champion's score at which the run stops."""
    patience: int | None = None
    """The number of proposals in a row without a better champion after which the run stops."""
    cache: str | None = None
    """A file of replies that runs share."""
    any_temperature: bool = False
    view: bool = False
    """Whether to serve a live page of the run."""
    words: Mapping[str, Any] = attrs.field(factory=dict)
    """The arguments as the command line gave them, stored in the journal for `flashgraph resume`."""


def carry_out(order: Order, backend: str) -> int:
    """Run the order, print its report and write its files; return the exit code.

    Raises `DataError` and `ModelError` if the run cannot start.
    """
    if backend == "trio":
        require("trio", "--backend trio")
    models = resolve_all(order.models)
    if order.cache is not None:
        models = cached(models, ResponseCache(order.cache), any_temperature=order.any_temperature)
    stamp = datetime.now().strftime("%Y%m%d-%H%M%S")
    if order.out is None:
        folder = new_folder(order.home / "runs" / f"{file_name(order.graph.name)}-{file_name(order.task.name)}-{stamp}")
    else:
        folder = order.home / order.out
        folder = folder if order.resume else claim_folder(folder)
    order = attrs.evolve(order, out=folder)
    try:
        return run_alone(partial(_guarded, order, models), backend)
    except BaseException:
        # An empty folder would look like a run; `rmdir` keeps one that holds a journal.
        with suppress(OSError):
            folder.rmdir()
        raise


async def _guarded(order: Order, models: Mapping[str, Model]) -> int:
    use_loose_threads()
    interrupts = Interrupts()
    report: Report | None = None
    abandoned: Sequence[str] = ()
    begun: list[Run] = []
    rescue = partial(_rescue, order, begun)
    async with anyio.create_task_group() as tasks:
        with anyio.CancelScope() as scope, rescuing(rescue):
            await tasks.start(interrupts.listen, scope)
            report, abandoned = await _run(order, models, interrupts, begun)
        if report is None and not begun:
            raise click.Abort
        # Inside the signal receiver, so that no signal prevents the files. Before the event loop closes, because
        # closing waits for every task and thread that jobs left behind.
        code = _conclude(order, report or _cut_short(order, begun[0]))
        tasks.cancel_scope.cancel()
    await swept(GRACE)
    if abandoned:
        end_at_once(code)
    return code


def _cut_short(order: Order, run: Run) -> Report:
    """Return the report of a run that ended before `_run` could report it."""
    result = run.result
    result = attrs.evolve(result, reason=STOPPED) if result.status == "cancelled" else result
    return Report(result, order.task.seed, untested=STOPPED, limits=order.budget.limits, interrupted=True)


def _rescue(order: Order, begun: Sequence[Run]) -> None:
    """Write the report of a run whose process is about to exit; ignore errors."""
    assert order.out is not None
    with suppress(Exception):
        for run in begun:
            _cut_short(order, run).write(order.out)


def _conclude(order: Order, report: Report) -> int:
    """Write the files and print the report; return the exit code."""
    folder = order.out
    assert folder is not None
    shown = folder.relative_to(order.home) if folder.is_relative_to(order.home) else folder
    unwritten = False
    try:
        written = f"written to {shown}: {', '.join(report.write(folder))}"
    except OSError as error:
        unwritten = True
        written = f"some files could not be written to {shown}: {error.strerror}; resuming the run writes them"
    _print(report, written)
    why = unusable(folder).replace(str(folder), str(shown)) if report.result.status == "failed" else ""
    if advice := f"the run cannot be resumed: {why}" if why else report.to_resume(shown):
        say(advice)
    if report.interrupted:
        return INTERRUPTED
    interrupted = report.result.cause is Cause.CALLER
    return FAILED if report.result.status == "failed" or unwritten else INTERRUPTED if interrupted else DONE


async def _run(
    order: Order, models: Mapping[str, Model], interrupts: Interrupts, begun: list[Run]
) -> tuple[Report, Sequence[str]]:
    """Return the report and the abandoned jobs; append the run to ``begun`` once it has started."""
    live = terminal.is_live()
    watch = Follower(order.graph.spec, order.budget, live)
    if live:
        interrupts.tell = watch.notify
    async with (
        open_run(
            order.graph,
            order.task,
            models=models,
            schedule=order.schedule,
            settings=order.settings,
            budget=order.budget,
            seed=order.seed,
            resources=_unconfined(order.graph) if order.unconfined else None,
            on_event=watch.on_event,
            folder=order.out,
            resume=order.resume,
            accept_changes=order.accept_changes,
            order=order.words,
            target_score=order.target,
            patience=order.patience,
        ) as run,
        viewed_beside(order.out, order.view),
    ):
        begun.append(run)
        watch.begin(run)
        stopping = anyio.Event()

        def leave() -> None:
            run.drain(STOPPED)
            stopping.set()

        interrupts.steps = [
            (f"stopping: running work has {order.grace:g} s to finish; Ctrl-C again to cancel it", leave),
            ("cancelling running work; Ctrl-C again to exit without a report", partial(run.stop, STOPPED)),
        ]
        if not live:
            say(f"{order.graph.name} on {order.task.name}: {order.schedule}, seed {order.seed}", err=True)
        if not order.resume and (
            found := outlook(order.graph.spec, order.task, order.budget, order.settings, order.schedule)
        ):
            say(found.warning or f"{found}", err=True)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(_grace, run, stopping, order.grace)
            async with watch.shown():
                result = await _ended(run)
            tasks.cancel_scope.cancel()
        interrupts.tell = say_aside
        if not live:
            say(f"ended: {result.status} ({result.reason})", err=True)
        report = Report(result, order.task.seed, limits=order.budget.limits)
        return await _tested(report, order, models, run, interrupts), run.abandoned


async def _grace(run: Run, stopping: anyio.Event, seconds: float) -> None:
    """Cancel running work ``seconds`` after the user has asked the run to stop."""
    await stopping.wait()
    await anyio.sleep(seconds)
    run.stop(STOPPED)


def _unconfined(graph: Graph) -> dict[str, Any]:
    """Return the graph's sandboxes, made without confinement."""
    return {
        name: resource.factory(unconfined=True)
        for name, resource in graph.spec.resources.items()
        if "unconfined" in inspect.signature(resource.factory).parameters
    }


async def _ended(run: Run) -> Result:
    """Return the result at the end.

    An error of the run becomes a failed result, so that the report shows what the run paid for.
    """
    try:
        return (await run.wait()).judged()
    except FlashgraphError as error:
        return attrs.evolve(run.result, status="failed", cause=Cause.ERROR, reason=str(error))
    except Exception as raised:
        fault = cause(raised)
        if message := no_defect(fault):
            return attrs.evolve(run.result, status="failed", cause=Cause.ERROR, reason=message)
        say("".join(traceback.format_exception(fault)), err=True, end="")
        reason = f"a defect of flashgraph: {type(fault).__name__}: {fault}; please report it with the lines above"
        return attrs.evolve(run.result, status="failed", cause=Cause.ERROR, reason=reason)


async def _tested(
    report: Report, order: Order, models: Mapping[str, Model], run: Run, interrupts: Interrupts
) -> Report:
    """Return the report with the held-out scores, or with the reason why there are none."""
    if untested := _why_untested(report, order, models):
        return attrs.evolve(report, untested=untested)
    spec = order.graph.spec
    stage = next((s for s in spec.stages if s.name == spec.tests), None)
    role = _tester(order, models)
    assert role is not None  # `_why_untested` has checked it
    model = models[role]
    ledger = run.machine.ledger
    before = dict(ledger.settled)
    candidates = [dict(order.task.seed), report.best or {}]
    same = candidates[0] == candidates[1]
    candidates = candidates[:1] if same else candidates
    if lacking := beyond(ledger, unanswered(order.task, candidates, stage, run.examined), role):
        return attrs.evolve(report, untested=lacking)
    say(f"testing {'the seed' if same else 'seed and best'} on {len(order.task.test)} samples", err=True)
    with anyio.CancelScope() as scope:
        interrupts.steps = [("stopping the test; Ctrl-C again to exit without a report", scope.cancel)]
        try:
            scores = await held_out(
                order.task,
                candidates,
                model,
                ledger,
                done=HeldOutCount(len(candidates) * len(order.task.test)),
                stage=stage,
                given=run.machine.plan.given(stage),
                resources=run.resources,
                examined=run.examined,
                limit=_reached(run, model, models),
                role=role,
                others={name: models[name] for name in order.task.roles},
            )
        except FlashgraphError as error:
            return attrs.evolve(report, untested=str(error))
        earlier = {} if run.examined is None else run.examined.before
        spent = {n: earlier.get(n, 0) + ledger.settled[n] - before[n] for n in ("calls", "tokens", "usd")}
        return attrs.evolve(report, test=(scores[0], scores[-1]), tested=spent)
    return attrs.evolve(report, untested=STOPPED, interrupted=True)


def _why_untested(report: Report, order: Order, models: Mapping[str, Model]) -> str:
    """Return why no held-out test can be run; empty if one can."""
    if not order.test:
        return "--no-test"
    if not order.task.test:
        return f"task {order.task.name!r} has no test samples; give it Task(..., test=[...])"
    if report.result.status == "failed":
        return "the run failed"
    if report.result.cause is Cause.CALLER:
        return "the run was interrupted"
    if report.best is None:
        return "the run has no best artifact, or its best artifact is not made of texts"
    if _tester(order, models) is None:
        return f"no model has the role 'task'; the roles are {', '.join(models)}"
    return ""


def _tester(order: Order, models: Mapping[str, Model]) -> str | None:
    """Return the role whose model runs the held-out test; None if no role fits.

    It is the role of the testing stage, or else ``task``, or any role if all share one model.
    """
    spec = order.graph.spec
    role = next((s.model for s in spec.stages if s.name == spec.tests), None) or "task"
    if role in models:
        return role
    return next(iter(models)) if len({id(m) for m in models.values()}) == 1 else None


def _reached(run: Run, model: Model, models: Mapping[str, Model]) -> int:
    """Return the number of concurrent requests that the run has learned that the endpoints of ``model`` allow."""
    role = next(role for role, known in models.items() if known is model)
    machine = run.machine
    return sum(machine.slots.limits[endpoint] for endpoint in machine.plan.services[machine.plan.endpoints[role]])


def _print(report: Report, written: str) -> None:
    for line in report.head():
        say(line)
    if report.best is not None:
        say()
        if diff := report.diff():
            say_diff(diff)
        else:
            for line in ("the best artifact is the seed", *filter(None, [report.fruitless()])):
                say(line)
    say()
    for line in (*report.scores(), *report.failures(), *report.discards(), "", written):
        say(line)
    if report.result.status == "failed":
        say_error(f"the run failed: {report.result.reason}")
