"""One run of the command line, from the models' start to the files it leaves."""

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
from flashgraph.cli.stopping import Interrupts, end_at_once, rescuing
from flashgraph.errors import FlashgraphError
from flashgraph.extras import require
from flashgraph.graph.dsl import Graph
from flashgraph.llm.cache import cached
from flashgraph.llm.protocol import Model
from flashgraph.llm.resolve import resolve_all
from flashgraph.llm.responses import ResponseCache
from flashgraph.observe.outlook import outlook
from flashgraph.observe.progress import Progress, table
from flashgraph.observe.report import Report, claim_folder, file_name, new_folder
from flashgraph.run.budget import Budget
from flashgraph.run.cause import Cause
from flashgraph.run.contained import GRACE, swept
from flashgraph.run.events import Event
from flashgraph.run.heldout import beyond, held_out, unanswered
from flashgraph.run.journal.keeper import unusable
from flashgraph.run.result import Result
from flashgraph.tasks.task import Task
from flashgraph.text import terminal
from flashgraph.text.terminal import say, say_diff, say_error

__all__ = ["Order", "carry_out"]

FRAME_SECONDS = 0.25
STOPPED = "interrupted"


@attrs.frozen
class Order:
    """What ``flashgraph run`` was asked for."""

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
    """The working directory before any code of the user's was run, which may change it."""
    unconfined: bool = False
    """Whether a graph's sandbox may go without confinement."""
    resume: bool = False
    accept_changes: bool = False
    grace: float = 30.0
    """Seconds that what runs has to end in after a first Ctrl-C."""
    target: float | None = None
    """A score at which the run is stopped."""
    patience: int | None = None
    """After how many proposals in a row that have not improved on the best it is stopped."""
    cache: str | None = None
    """A file of replies that runs share."""
    any_temperature: bool = False
    words: Mapping[str, Any] = attrs.field(factory=dict)
    """How the command line said it, for who resumes the run."""


def carry_out(order: Order, backend: str) -> int:
    """Run the order, print its report, write its files; returns the exit code.

    Raises `DataError` and `ModelError` for what keeps the run from starting.
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
        return anyio.run(partial(_guarded, order, models), backend=backend)
    except BaseException:
        # Nothing was reached: an empty folder would say otherwise; one with a journal stays.
        with suppress(OSError):
            folder.rmdir()
        raise


async def _guarded(order: Order, models: Mapping[str, Model]) -> int:
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
        # Signals are still heard: none keeps the files from being written.  And in the event loop: to close that is to
        # wait for whatever jobs have left behind.
        code = _conclude(order, report or _cut_short(order, begun[0]))
        tasks.cancel_scope.cancel()
    await swept(GRACE)
    if abandoned:
        end_at_once(code)
    return code


def _cut_short(order: Order, run: Run) -> Report:
    """The report of a run that signals have cancelled at once: what was reached until then."""
    result = run.result
    result = attrs.evolve(result, reason=STOPPED) if result.status == "cancelled" else result
    return Report(result, order.task.seed, untested=STOPPED, interrupted=True)


def _rescue(order: Order, begun: Sequence[Run]) -> None:
    """Write the files of a run whose process is about to be ended, as far as they can be."""
    assert order.out is not None
    with suppress(Exception):
        for run in begun:
            _cut_short(order, run).write(order.out)


def _conclude(order: Order, report: Report) -> int:
    """Write the files and print the report; returns the exit code."""
    folder = order.out
    assert folder is not None
    shown = folder.relative_to(order.home) if folder.is_relative_to(order.home) else folder
    unwritten = False
    try:
        written = f"written to {shown}: {', '.join(report.write(folder))}"
    except OSError as error:
        unwritten = True
        written = f"not everything could be written to {shown}: {error.strerror}; resuming the run writes it"
    _print(report, written)
    why = unusable(folder).replace(str(folder), str(shown)) if report.result.status == "failed" else ""
    if said := f"the run cannot go on: {why}" if why else report.to_go_on(shown):
        say(said)
    if report.interrupted:
        return INTERRUPTED
    interrupted = report.result.cause is Cause.CALLER
    return FAILED if report.result.status == "failed" or unwritten else INTERRUPTED if interrupted else DONE


async def _run(
    order: Order, models: Mapping[str, Model], interrupts: Interrupts, begun: list[Run]
) -> tuple[Report, Sequence[str]]:
    """The report, and which jobs were abandoned; once it has begun, ``begun`` has the run."""
    progress = Progress(order.graph.spec, order.budget)
    live = terminal.is_live()

    def on_event(event: Event) -> None:
        if (news := progress.on_event(event)) and not live:
            say(news, err=True)

    async with open_run(
        order.graph,
        order.task,
        models=models,
        schedule=order.schedule,
        settings=order.settings,
        budget=order.budget,
        seed=order.seed,
        resources=_unconfined(order.graph) if order.unconfined else None,
        on_event=on_event,
        folder=order.out,
        resume=order.resume,
        accept_changes=order.accept_changes,
        order=order.words,
        target_score=order.target,
        patience=order.patience,
    ) as run:
        begun.append(run)
        for event in run.result.events:
            progress.on_event(event)  # of earlier sessions, which the hook is not told of
        asked = anyio.Event()

        def leave() -> None:
            run.drain(STOPPED)
            asked.set()

        interrupts.steps = [
            (f"stopping: nothing new starts, what runs has {order.grace:g} s to end; Ctrl-C again to cancel it", leave),
            ("cancelling what runs; once more to end without a report", partial(run.stop, STOPPED)),
        ]
        if not live:
            say(f"{order.graph.name} on {order.task.name}: {order.schedule}, seed {order.seed}", err=True)
        if not order.resume and (
            found := outlook(order.graph.spec, order.task, order.budget, order.settings, order.schedule)
        ):
            say(found.warning or f"{found}", err=True)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(_grace, run, asked, order.grace)
            result = await _watched(run, progress) if live else await _ended(run)
            tasks.cancel_scope.cancel()
        if not live:
            say(f"ended: {result.status} ({result.reason})", err=True)
        report = Report(result, order.task.seed)
        return await _tested(report, order, models, run, interrupts), run.abandoned


async def _grace(run: Run, asked: anyio.Event, seconds: float) -> None:
    """Cancel what runs when a run that the user has asked to stop takes longer than it may."""
    await asked.wait()
    await anyio.sleep(seconds)
    run.stop(STOPPED)


def _unconfined(graph: Graph) -> dict[str, Any]:
    """The graph's sandboxes, made to run what they are given without confinement."""
    return {
        name: resource.factory(unconfined=True)
        for name, resource in graph.spec.resources.items()
        if "unconfined" in inspect.signature(resource.factory).parameters
    }


async def _ended(run: Run) -> Result:
    """The result at the end.  An error of the run itself becomes a failed result: what was paid for is reported."""
    try:
        return (await run.wait()).judged()
    except FlashgraphError as error:
        return attrs.evolve(run.result, status="failed", cause=Cause.ERROR, reason=str(error))
    except Exception as raised:
        fault = cause(raised)
        if said := no_defect(fault):
            return attrs.evolve(run.result, status="failed", cause=Cause.ERROR, reason=said)
        say("".join(traceback.format_exception(fault)), err=True, end="")
        reason = f"a defect of flashgraph: {type(fault).__name__}: {fault}; please report it with the lines above"
        return attrs.evolve(run.result, status="failed", cause=Cause.ERROR, reason=reason)


async def _watched(run: Run, progress: Progress) -> Result:
    """Show the progress while the run goes on."""
    with terminal.live(table(progress)) as view:

        async def frames() -> None:
            while True:
                progress.now = run.elapsed
                view.update(table(progress), refresh=True)
                await anyio.sleep(FRAME_SECONDS)

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(frames)
            result = await _ended(run)
            tasks.cancel_scope.cancel()
        view.update(table(progress), refresh=True)
    return result


async def _tested(
    report: Report, order: Order, models: Mapping[str, Model], run: Run, interrupts: Interrupts
) -> Report:
    """The report with the held-out scores, or with the reason why there are none."""
    untested = _why_not(report, order, models)
    if untested:
        return attrs.evolve(report, untested=untested)
    spec = order.graph.spec
    stage = next((s for s in spec.stages if s.name == spec.tests), None)
    model = _tester(order, models)
    assert model is not None  # `_why_not` has seen to it
    ledger = run.machine.ledger
    before = dict(ledger.settled)
    candidates = [dict(order.task.seed), report.best or {}]
    same = candidates[0] == candidates[1]
    candidates = candidates[:1] if same else candidates
    if lacking := beyond(ledger, unanswered(order.task, candidates, stage, run.examined)):
        return attrs.evolve(report, untested=lacking)
    say(f"testing {'the seed' if same else 'seed and best'} on {len(order.task.test)} samples", err=True)
    with anyio.CancelScope() as scope:
        interrupts.steps = [("stopping the test; once more to end without a report", scope.cancel)]
        try:
            scores = await held_out(
                order.task,
                candidates,
                model,
                ledger,
                stage=stage,
                params=run.machine.plan.params_of(stage),
                resources=run.resources,
                examined=run.examined,
                limit=_reached(run, model, models),
            )
        except FlashgraphError as error:
            return attrs.evolve(report, untested=str(error))
        earlier = {} if run.examined is None else run.examined.before
        spent = {n: earlier.get(n, 0) + ledger.settled[n] - before[n] for n in ("calls", "tokens", "usd")}
        return attrs.evolve(report, test=(scores[0], scores[-1]), tested=spent)
    return attrs.evolve(report, untested=STOPPED, interrupted=True)


def _why_not(report: Report, order: Order, models: Mapping[str, Model]) -> str:
    if not order.test:
        return "--no-test"
    if not order.task.test:
        return f"task {order.task.name!r} has no test samples; give it Task(..., test=[...])"
    if report.result.status == "failed":
        return "the run failed"
    if report.result.cause is Cause.CALLER:
        return "the run was interrupted"
    if report.best is None:
        return "there is no best artifact, or it is not made of texts"
    if _tester(order, models) is None:
        return f"none of the models ({', '.join(models)}) has the role 'task'"
    return ""


def _tester(order: Order, models: Mapping[str, Model]) -> Model | None:
    """The model of the held-out test: that of the stage that tests, the one for the role ``task``, or the only one."""
    spec = order.graph.spec
    role = next((s.llm for s in spec.stages if s.name == spec.tests), None) or "task"
    return models.get(role) or (next(iter(models.values())) if len({id(m) for m in models.values()}) == 1 else None)


def _reached(run: Run, model: Model, models: Mapping[str, Model]) -> int:
    """How many requests the run has found its endpoints to take at once."""
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
