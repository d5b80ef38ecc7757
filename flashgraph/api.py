"""Run a graph from Python: `run`, `arun` and the steppable `open_run`."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypedDict, Unpack

from flashgraph.errors import DataError
from flashgraph.extras import require
from flashgraph.graph.dsl import Graph
from flashgraph.launch.handle import Run
from flashgraph.llm.protocol import Model, Reply
from flashgraph.policies.schedule import Schedule
from flashgraph.run.budget import Budget
from flashgraph.tasks.task import Task

if TYPE_CHECKING:
    from flashgraph.llm.responses import ResponseCache
    from flashgraph.run.driver import Memory
    from flashgraph.run.events import Event
    from flashgraph.run.result import Result

__all__ = ["ModelSpec", "Run", "RunOptions", "arun", "open_run", "run"]

OneModel = str | Model | Callable[..., str | Reply | Awaitable[str | Reply]]

ModelSpec = OneModel | Sequence[OneModel | tuple[OneModel, float]]
"""A model string (``openai:URL#MODEL``, ``local``, ...), an object of the model protocol, or a plain function.

A sequence of these shares the role's work; an entry may be a pair with a weight other than 1.
"""


class RunOptions(TypedDict, total=False):
    """The options of `run`, `arun` and `open_run`; `open_run` explains each."""

    models: Mapping[str, ModelSpec] | ModelSpec | None
    schedule: str | Schedule
    budget: Budget | None
    seed: int
    seed_from: str | Path | Mapping[str, str] | None
    params: Mapping[str, Any] | None
    settings: Mapping[str, Any] | None
    resources: Mapping[str, Any] | None
    on_event: Callable[[Event], None] | None
    settle: Callable[[], Awaitable[None]] | None
    cache: str | Path | ResponseCache | None
    any_temperature: bool
    folder: str | Path | None
    memory: Callable[[Sequence[Event]], Memory] | None
    resume: bool
    accept_changes: bool
    order: Mapping[str, Any] | None
    target_score: float | None
    patience: int | None


@asynccontextmanager
async def open_run(
    graph: Graph | str | Path, task: Task | str | Path, **options: Unpack[RunOptions]
) -> AsyncIterator[Run]:
    """Start a run and step through it: ``async with fg.open_run(...) as run: async for event in run: ...``.

    ``graph`` is a `Graph`, a file or the name of a shipped algorithm. ``models`` maps the roles named by the graph's
    stages to models, or is one model for all roles. ``params`` sets the graph's parameters, and ``settings`` overrides
    its policies (``{"window": 16, "validate->frontier.stale": fg.discard(4)}``). ``resources`` replace those that the
    graph would make. ``settle`` is for virtual clocks (`flashgraph.sim.clock`). With it, the events do not depend on
    the order in which the event loop runs tasks that are due at the same time.

    ``on_event`` is called with every event, on the event loop, between two turns. It is dropped if it raises, or
    if it takes more than 5 seconds in total and more than 5 % of the run's time. The run then continues. A slow viewer
    should iterate over the run instead: it receives every event, however late, and the run never waits for it.

    ``seed_from`` starts from the best artifact of an earlier run: its folder or name, a ``best.json``, a JSON file of
    texts by component, or the texts themselves. They replace the task's seed; a resumed run needs them again.

    ``cache`` is a file of replies that runs share. A request at temperature 0 (at any temperature, with
    ``any_temperature``) that was answered before costs nothing.

    The run ends with status ``"stopped"`` and a reason once its best score reaches ``target_score``, or once
    ``patience`` proposals in a row did not improve the best. If rounds overlap and no ``target_score`` is given, the
    run ends when its best artifact has the task's greatest score on every validation sample. ``target_score=math.inf``
    turns that off. It is also off under ``lockstep``, as in the published loops.

    ``folder`` is where the run keeps its journal. ``resume`` continues the run in that folder under ``budget``; with
    ``accept_changes``, functions and policies may have changed. ``order`` is stored in the journal for the code that
    resumes it. ``memory`` keeps the turns of a run without a folder, in tests: it is called with the run's events and
    returns a `flashgraph.run.driver.Memory`, which is then `Run.memory` (`flashgraph.testing.recording.Recording`).

    Raises `GraphError` if the graph does not pass its checks, `DataError` for wrong and unknown options, and
    `flashgraph.run.journal.JournalError` if the journal cannot be made, read or locked.
    """
    from flashgraph.launch.opening import (  # the scheduler and the models: `import flashgraph` needs neither
        Options,
        opening,
    )

    async with opening(graph, task, Options.of(options)) as opened:
        yield opened


async def arun(
    graph: Graph | str | Path,
    task: Task | str | Path,
    **options: Unpack[RunOptions],
) -> Result:
    """Run a graph to its end, inside an event loop; the options are those of `open_run`.

    If stage failures kept the run from accepting anything, the result has status ``"failed"`` (`Result.judged`).
    """
    async with open_run(graph, task, **options) as run:
        return (await run.wait()).judged()


def run(
    graph: Graph | str | Path, task: Task | str | Path, *, backend: str = "asyncio", **options: Unpack[RunOptions]
) -> Result:
    """Run a graph to its end; the options are those of `open_run`. ``backend`` is ``"asyncio"`` or ``"trio"``.

    Raises `DataError` for another backend, and for ``"trio"`` if trio is not installed.
    """
    if backend not in ("asyncio", "trio"):
        raise DataError(f"backend={backend!r}; expected 'asyncio' or 'trio'.\nFix: backend='asyncio', the default.")
    if backend == "trio":
        require("trio", "backend='trio'")
    from flashgraph.run.loop import run_alone

    return run_alone(partial(_alone, graph, task, **options), backend)


async def _alone(graph: Graph | str | Path, task: Task | str | Path, **options: Unpack[RunOptions]) -> Result:
    """Run a graph in an event loop of its own."""
    from flashgraph.run.contained import GRACE, swept
    from flashgraph.run.threads import use_loose_threads

    use_loose_threads()
    try:
        return await arun(graph, task, **options)
    finally:
        await swept(GRACE)
