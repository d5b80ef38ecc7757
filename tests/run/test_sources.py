"""When sources are called, and with which views, in virtual time."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import partial
from typing import Any

import anyio
import attrs
import pytest
from hypothesis import given, settings

import flashgraph as fg
from flashgraph.run import events as ev
from flashgraph.run.budget import Ledger
from flashgraph.run.jobs import Command, Done, Start
from flashgraph.run.machine import Machine
from flashgraph.run.openings import SETTLING
from flashgraph.run.turns import Asked, Completed, Turn, apply
from flashgraph.sim import clock
from flashgraph.testing import schedules, shapes
from flashgraph.testing.hand import plan_by_hand
from flashgraph.testing.runs import TASK, run_shape
from flashgraph.testing.shape import Ending, Shape, Step
from tests.run.kit import Virtually, of, watched


@attrs.frozen
class Log:
    """A pool of all admissions, in order."""

    artifacts: Mapping[int, fg.Artifact] = attrs.field(factory=dict)

    @property
    def values(self) -> list[str]:
        return [a.value for a in self.artifacts.values()]

    def apply(self, event: fg.PoolEvent[str]) -> Log:
        if event.value == "nothing":
            return self
        return Log({**self.artifacts, event.artifact: fg.Artifact(event.artifact, event.value)})

    def best(self) -> fg.Artifact | None:
        return None

    def best_line(self) -> Log:
        return self


class Shelf:
    """A resource that counts its holders."""

    def __init__(self) -> None:
        self.held = 0
        self.taken: list[str] = []

    def open(self) -> AbstractAsyncContextManager[None]:
        return self._open()

    @asynccontextmanager
    async def _open(self) -> AsyncIterator[None]:
        self.held += 1
        yield
        self.held -= 1


@pytest.mark.parametrize("last", ["done", "nothing"])
@pytest.mark.parametrize("schedule", ["lockstep", "pipelined"])
def test_a_source_can_wait_for_its_own_rounds(schedule: str, last: str, virtually: Virtually) -> None:
    """A source that returned None because rounds were open is called again when they are over, also if the last one
    left the pool unchanged.
    """
    graph = fg.Graph("waits")
    log = graph.pool("log", Log)

    @graph.source(reads=log, state=0)
    def draw(ctx: fg.Draw[Log, None, int]) -> fg.Emit[str, int] | None:
        if ctx.state < 3:
            return fg.Emit(f"work {ctx.state + 1}", ctx.state + 1)
        if ctx.state == 3 and ctx.open:
            return None
        return fg.Emit("end" if ctx.state == 3 else None, ctx.state + 1)

    @graph.stage
    async def work(item: str) -> str:
        await anyio.sleep(float(item[-1]) if item != "end" else 1)
        return item if item != "work 3" else last

    graph.edge(draw, work)
    graph.edge(work, log)

    async def run() -> list[str]:
        async with fg.open_run(
            graph, TASK, models={}, schedule=schedule, budget=fg.Budget(seconds=100), settle=clock.settle
        ) as opened:
            await opened.wait()
            assert opened.result.status == "completed"
            return [str(a.value) for a in opened.result.artifacts]

    assert virtually(run) == ["work 1", "work 2", *([last] if last == "done" else []), "end"]


@pytest.mark.parametrize("changes", [1, 3])
def test_what_no_edge_takes(changes: int, virtually: Virtually) -> None:
    """A source whose emissions no edge takes is not called forever: after a hundred in a row it waits for its pool to
    change.
    """
    graph = fg.Graph("nowhere")
    log = graph.pool("log", Log)

    @graph.source(reads=log)
    def draw(ctx: fg.Draw[Log]) -> str:
        return "text"

    @graph.source(rounds=changes)
    def change(ctx: fg.Draw[None]) -> int:
        return ctx.emission

    @graph.stage(workers=1)
    async def slow(number: int) -> str:
        await anyio.sleep(10)
        return f"change {number}"

    def never(text: str) -> bool:
        return False

    graph.edge(draw, log, when=never)
    graph.edge(change, slow)
    graph.edge(slow, log)
    result = watched(graph, virtually, budget=fg.Budget(seconds=1000))
    assert (result.status, result.reason) == (
        "completed",
        "the sources have nothing to emit: no edge took the last 100 emissions of 'draw'",
    )
    times = Counter(e.at for e in of(result, ev.Emitted) if e.source == "draw")
    assert times == {10.0 * n: 100 for n in range(changes + 1)}
    assert len(of(result, ev.RoundEnded)) == len(of(result, ev.Emitted))


@pytest.mark.parametrize("schedule", ["lockstep", "pipelined"])
@pytest.mark.parametrize("reads", [True, False])
def test_rounds_are_emitted_however_few_an_edge_takes(reads: bool, schedule: str, virtually: Virtually) -> None:
    """A source with a number of rounds cannot spin. It is called for all of them, also for the 250th, the only one that
    an edge takes.
    """
    graph = fg.Graph("rare")
    log = graph.pool("log", Log)

    read: dict[str, Any] = {"reads": log} if reads else {}

    @graph.source(rounds=300, **read)
    def draw(ctx: fg.Draw) -> int:
        return ctx.emission

    @graph.stage
    def work(number: int) -> str:
        return f"number {number}"

    def rare(number: int) -> bool:
        return number == 249

    graph.edge(draw, work, when=rare)
    graph.edge(work, log)
    result = watched(graph, virtually, schedule=schedule)
    assert len(of(result, ev.Emitted)) == 300
    assert [a.value for a in result.artifacts] == ["number 249"]
    assert (result.status, result.reason) == ("completed", "the sources have nothing to emit")


@pytest.mark.parametrize("then", ["a value", "None"])
def test_the_reason_of_the_end_is_the_last_one(then: str, virtually: Virtually) -> None:
    """A source that no edge took from, and that then emits a taken item or nothing, has had nothing to emit."""
    graph = fg.Graph("heard")
    log = graph.pool("log", Log)

    @graph.source(reads=log)
    def draw(ctx: fg.Draw[Log]) -> str | None:
        if not ctx.view.values:
            return "unheard"
        return "heard" if then == "a value" and len(ctx.view.values) == 1 else None

    @graph.source(rounds=1)
    def change(ctx: fg.Draw[None]) -> int:
        return ctx.emission

    @graph.stage
    async def slow(number: int) -> str:
        await anyio.sleep(10)
        return f"change {number}"

    def heard(text: str) -> bool:
        return text == "heard"

    graph.edge(draw, log, when=heard)
    graph.edge(change, slow)
    graph.edge(slow, log)
    result = watched(graph, virtually, budget=fg.Budget(seconds=1000))
    assert len(result.artifacts) == (2 if then == "a value" else 1)
    assert (result.status, result.reason) == ("completed", "the sources have nothing to emit")


def opened_when_all_else_is_heard(shape: Shape, schedule: fg.Schedule) -> None:
    """No work from before ends at the very moment at which a round is opened, but is processed after it.

    A graph that calls no model opens its rounds at once.
    """
    done = clock.run_virtually(partial(run_shape, shape, schedule))
    if not done.plan.endpoints:
        return
    events = done.events
    sources = {e.job for e in events if isinstance(e, ev.JobStarted) and e.item is None}
    began = {e.job: e.at for e in events if isinstance(e, ev.JobStarted)}
    opened: float | None = None
    for event in events:
        if isinstance(event, ev.JobStarted) and event.job in sources:
            opened = event.at
        elif isinstance(event, ev.JobEnded) and event.job not in sources:
            assert event.at != opened or began[event.job] == opened


def test_a_round_is_opened_after_the_late_work_of_a_deadline_is_cancelled() -> None:
    """A deadline releases a group with no other event at its moment; the round waits for the cancelled members."""
    ending = Ending(width=2, member=Step(calls=1), release=0.2, rule="deadline", late="cancel")
    shape = Shape((Step(),), ending=ending, rounds=3, second_pool=True, latency="long-tail")
    opened_when_all_else_is_heard(shape, fg.pipelined(window=1, focus=0.0))


@pytest.mark.parametrize("examples", [25, pytest.param(200, marks=pytest.mark.slow)])
def test_a_round_is_opened_when_all_else_is_heard(examples: int) -> None:
    """On generated graphs and schedules, a round is opened after all other events of its moment."""
    settings(max_examples=examples)(given(shapes(), schedules())(opened_when_all_else_is_heard))()


def asking(rounds: int) -> fg.Graph:
    """Return a graph with a source and a stage that calls a model."""
    graph = fg.Graph("asking")
    log = graph.pool("log", Log)

    @graph.source(rounds=rounds)
    def draw(ctx: fg.Draw) -> int:
        return ctx.emission

    @graph.stage(model="task")
    async def work(item: int, ctx: fg.Context) -> str:
        return (await ctx.llm(str(item))).text

    graph.edge(draw, work)
    graph.edge(work, log)
    return graph


@pytest.mark.parametrize("seconds", [0.0, 1.0])
def test_rounds_overlap_where_requests_take_time(seconds: float, virtually: Virtually) -> None:
    """As many rounds are open as the window holds; with requests that take no time, each is over before the next."""
    most = flying = 0

    async def model(messages: Any) -> str:
        nonlocal most, flying
        flying += 1
        most = max(most, flying)
        await (anyio.sleep(seconds) if seconds else anyio.lowlevel.checkpoint())
        flying -= 1
        return "done"

    async def run() -> fg.Result:
        schedule = fg.pipelined(4)
        return await fg.arun(asking(20), TASK, models={"task": model}, schedule=schedule, settle=clock.settle)

    assert virtually(run).status == "completed"
    assert most == (4 if seconds else 1)


def test_a_round_is_opened_after_a_while_of_noise() -> None:
    """A server that never stops answering delays a round by a moment at most."""
    machine = Machine(plan_by_hand(asking(2), fg.pipelined(2), limit=1), Ledger(fg.Budget()), lambda event: None)

    def begun(commands: list[Command], kind: str) -> list[int]:
        return [c.job.id for c in commands if isinstance(c, Start) and c.job.kind == kind]

    (first,) = begun(apply(Turn(0.0), machine), "source")
    commands = apply(Turn(0.0, completed=(Completed(first, Done(0), source="draw"),)), machine)
    (job,) = begun(commands, "stage")
    assert begun(commands, "source") == []
    assert begun(apply(Turn(SETTLING / 2, asked=(Asked(job, "task", {}),)), machine), "source") == []
    assert begun(apply(Turn(SETTLING, asked=(Asked(job, "task", {}),)), machine), "source") != []


def test_a_resource_is_open_for_as_long_as_the_run(virtually: Virtually) -> None:
    """Stages share the resource of the graph's factory, or its replacement; it is closed at the end."""
    graph = fg.Graph("resources")
    log = graph.pool("log", Log)
    shelf = graph.resource("shelf", Shelf)

    @graph.source(rounds=2)
    def draw(ctx: fg.Draw) -> int:
        return ctx.emission

    @graph.stage
    async def work(item: int, ctx: fg.Context) -> str:
        assert ctx[shelf].held == 1
        ctx[shelf].taken.append(str(item))
        return f"item {item}"

    graph.edge(draw, work)
    graph.edge(work, log)
    own = Shelf()

    async def run() -> None:
        await fg.arun(graph, TASK, models={}, settle=clock.settle)
        await fg.arun(graph, TASK, models={}, resources={"shelf": own}, settle=clock.settle)

    virtually(run)
    assert (own.held, own.taken) == (0, ["0", "1"])


@pytest.mark.parametrize(
    ("resources", "message"),
    [
        ({"shelves": Shelf()}, "graph 'resources' has no such resource; it has shelf"),
        ({"shelf": 3}, "a int has no open(); expected an object whose open() is an async context manager"),
    ],
)
def test_wrong_resources_are_refused_before_the_run(resources: Mapping[str, object], message: str) -> None:
    graph = fg.Graph("resources")
    log = graph.pool("log", Log)
    graph.resource("shelf", Shelf)

    @graph.source(rounds=1)
    def draw(ctx: fg.Draw) -> str:
        return "x"

    graph.edge(draw, log)
    with pytest.raises(fg.DataError) as caught:
        fg.run(graph, TASK, models={}, resources=resources)
    assert message in str(caught.value)


@attrs.frozen
class Lines:
    """A pool that says whether it shows only its best line."""

    narrow: bool = False
    artifacts: Mapping[int, fg.Artifact] = attrs.field(factory=dict)

    def apply(self, event: fg.PoolEvent[str]) -> Lines:
        return Lines(False, {**self.artifacts, event.artifact: fg.Artifact(event.artifact, event.value)})

    def best(self) -> fg.Artifact | None:
        return None

    def best_line(self) -> Lines:
        return Lines(True, self.artifacts)


@pytest.mark.parametrize("focus", [0.0, 1.0])
@pytest.mark.parametrize("refuses", [False, True])
def test_which_view_a_source_draws_from(focus: float, refuses: bool) -> None:
    """A source sees the best line alone beside other rounds. It sees everything if no other round is open, or if the
    best line gave it nothing to draw.
    """
    graph = fg.Graph("focused")
    pool = graph.pool("pool", Lines)
    seen: list[tuple[int, bool]] = []

    @graph.source(reads=pool, rounds=6)
    def emit(ctx: fg.Draw[Lines]) -> str | None:
        seen.append((len(ctx.open), ctx.view.narrow))
        return None if refuses and ctx.view.narrow else "x"

    @graph.stage
    async def work(value: str) -> str:
        await anyio.sleep(1)
        return value

    graph.edge(emit, work)
    graph.edge(work, pool)

    async def run() -> fg.Result:
        async with fg.open_run(
            graph, TASK, models={}, schedule=fg.pipelined(2, focus=focus), settle=clock.settle
        ) as run:
            return await run.wait()

    result = clock.run_virtually(run, backend="trio")
    assert result.status == "completed"
    assert len(result.artifacts) == 6
    whole = [opened for opened, narrow in seen if not narrow]
    narrowed = [opened for opened, narrow in seen if narrow]
    assert set(narrowed) == ({1} if focus else set())
    assert set(whole) == ({0} if focus and not refuses else {0, 1})
    if refuses and focus:
        # A source that found nothing is called again at once.
        assert all(seen[place + 1] == (1, False) for place, (_, narrow) in enumerate(seen) if narrow)


@attrs.frozen
class Wide(Log):
    line: bool = False

    def apply(self, event: fg.PoolEvent[str]) -> Wide:
        return attrs.evolve(self, artifacts=Log.apply(self, event).artifacts)

    def best(self) -> fg.Artifact | None:
        return next(iter(self.artifacts.values()), None)

    def best_line(self) -> Wide:
        return attrs.evolve(self, line=True)


@pytest.mark.parametrize(("window", "most"), [(None, 4), (1, 1), (2, 2), (9, 4)])
def test_a_source_bounds_its_open_rounds_and_its_focus(window: int | None, most: int, virtually: Virtually) -> None:
    """The smaller of the graph's and the schedule's window holds; without focus it always sees the whole pool."""
    graph = fg.Graph("bounded")
    narrowed: list[bool] = []

    pool = graph.pool("pool", Wide)

    @graph.source(rounds=1)
    def first(ctx: fg.Draw) -> str:
        return "first"

    @graph.source(reads=pool, rounds=12, window=window, focus=window is None)
    def draw(ctx: fg.Draw[Wide]) -> str | None:
        if not ctx.view.artifacts:
            return None
        narrowed.append(ctx.view.line)
        return f"round {ctx.emission}"

    @graph.stage
    async def slow(text: str) -> str:
        await anyio.sleep(1)
        return text

    graph.edge(first, pool)
    graph.edge(draw, slow)
    graph.edge(slow, pool)
    result = watched(graph, virtually, schedule=fg.pipelined(4, focus=1.0), settings={"slow.workers": 8})
    open_ = highest = 0
    for event in result.events:
        if isinstance(event, ev.Emitted) and event.source == "draw":
            open_ += 1
        elif isinstance(event, ev.Admitted) and open_:
            open_ -= event.artifact != 0
        highest = max(highest, open_)
    assert highest == most
    assert len(narrowed) == 12
    assert any(narrowed) is (window is None)


@pytest.mark.parametrize("window", [0, -1, "2"])
def test_a_window_is_a_whole_number(window: Any) -> None:
    graph = fg.Graph("bounded")
    pool = graph.pool("pool", Log)
    graph.edge(graph.source(lambda ctx: "x", name="draw", rounds=1, window=window), pool)
    assert "not-positive" in {problem.code for problem in graph.check()}


@pytest.mark.parametrize("schedule", ["lockstep", "pipelined"])
def test_a_call_without_an_emit_leaves_the_state(schedule: str) -> None:
    """An `Emit` without an item replaces the state and opens no round; None leaves the state as it was."""
    graph, seen = fg.Graph("states"), list[int]()
    log = graph.pool("log", Log)

    @graph.source(reads=log, state=0)
    def draw(ctx: fg.Draw[Log, None, int]) -> fg.Emit[str, int] | None:
        seen.append(ctx.state)
        if len(ctx.view.artifacts) == 2:
            return None if ctx.state == 7 else fg.Emit(None, 7)  # asked again when one of its rounds has ended
        return fg.Emit(f"item {ctx.state}", ctx.state + 1)

    graph.edge(draw, log)
    result = fg.run(graph, TASK, models={}, schedule=schedule, budget=fg.Budget(seconds=60))
    assert (result.status, [a.value for a in result.artifacts]) == ("completed", ["item 0", "item 1"])
    assert [state for state in seen if state < 7] == [0, 1, 2]


@attrs.frozen
class Plain:
    """A pool without a best line."""

    artifacts: Mapping[int, fg.Artifact] = attrs.field(factory=dict)

    def apply(self, event: fg.PoolEvent[str]) -> Plain:
        return Plain({**self.artifacts, event.artifact: fg.Artifact(event.artifact, event.value)})

    def best(self) -> fg.Artifact | None:
        return None


def test_a_pool_without_a_best_line_is_shown_whole(virtually: Virtually) -> None:
    """Also where the schedule would narrow each view."""
    graph = fg.Graph("plain")
    pool = graph.pool("pool", Plain)
    seen: list[int] = []

    @graph.source(reads=pool, rounds=6)
    def emit(ctx: fg.Draw[Plain]) -> str:
        seen.append(len(ctx.view.artifacts))
        return "x"

    @graph.stage
    async def work(value: str) -> str:
        await anyio.sleep(1)
        return value

    graph.edge(emit, work)
    graph.edge(work, pool)
    watched(graph, virtually, schedule=fg.pipelined(window=2, focus=1.0))
    assert seen == [0, 0, 2, 2, 4, 4]
