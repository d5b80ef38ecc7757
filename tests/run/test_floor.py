"""Functions that hold the event loop: other tasks run between them, and the log names them."""

from __future__ import annotations

import re
from typing import Any

import anyio
import pytest

import flashgraph as fg
from flashgraph.api import Run
from flashgraph.run import floor
from flashgraph.run.floor import Floor
from flashgraph.sim.clock import block
from flashgraph.testing.runs import LatencyModel
from tests.proof.oracles.small import Kept
from tests.run.kit import Virtually, watched


def blocking(kind: str, seconds: float = 1.0, rounds: int = 30) -> fg.Graph:
    """Return a graph of rounds of one item, on which a stage blocks."""
    graph = fg.Graph("blocking")
    pool = graph.pool("pool", Kept)

    @graph.source(rounds=rounds)
    def emit(ctx: fg.Draw[None]) -> int:
        return ctx.emission

    def plain(number: int) -> int:
        block(seconds)
        return number

    def contextual(number: int, ctx: fg.Context) -> int:
        block(seconds)
        return number

    async def at_once(number: int) -> int:
        block(seconds)
        return number

    async def after_a_request(number: int, ctx: fg.Context) -> int:
        await ctx.llm(f"{number}")
        block(seconds)
        return number

    body: Any = {"plain": plain, "contextual": contextual, "at once": at_once, "after a request": after_a_request}[kind]
    stage = graph.stage(body, name="slow", workers=rounds, model="model" if kind == "after a request" else None)
    graph.edge(emit, stage)
    graph.edge(stage, pool)
    return graph


KINDS = ["plain", "contextual", "at once", "after a request"]


def models(kind: str) -> dict[str, Any]:
    return {"model": LatencyModel(30, lambda request: 0.5)} if kind == "after a request" else {}


@pytest.mark.parametrize("kind", KINDS)
def test_a_stop_is_heard_between_two_functions(kind: str, virtually: Virtually) -> None:
    """A stop is processed between two of thirty functions that block for a second each."""

    async def stop(run: Run) -> None:
        await anyio.sleep(2.5)
        run.stop("enough")

    result = watched(blocking(kind), virtually, act=stop, models=models(kind), schedule=fg.pipelined(30, focus=0))
    assert (result.status, result.reason) == ("cancelled", "enough")
    assert result.spent.seconds <= 6
    assert len(result.artifacts) <= 5


@pytest.mark.parametrize("kind", KINDS)
def test_a_run_ends_on_time(kind: str, virtually: Virtually) -> None:
    """A run ends within one or two functions of its time limit."""
    result = watched(
        blocking(kind), virtually, models=models(kind), schedule=fg.pipelined(30, focus=0),
        budget=fg.Budget(seconds=4.5),
    )  # fmt: skip
    assert (result.status, result.reason) == ("budget", "4.5 seconds are over")
    assert result.spent.seconds <= 7


@pytest.mark.parametrize("kind", KINDS)
def test_others_go_on_between_two_functions(kind: str, virtually: Virtually) -> None:
    """A task that waits for a moment is late by one function, not by all."""
    late: list[float] = []

    async def others(run: Run) -> None:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(ticks)
            await run.wait()
            tasks.cancel_scope.cancel()

    async def ticks() -> None:
        while True:
            due = anyio.current_time() + 0.25
            await anyio.sleep_until(due)
            late.append(anyio.current_time() - due)

    result = watched(
        blocking(kind, rounds=10), virtually, act=others, models=models(kind), schedule=fg.pipelined(10, focus=0)
    )
    assert (result.status, len(result.artifacts)) == ("completed", 10)
    assert max(late) <= 2
    assert sum(by >= 0.75 for by in late) >= 4


def test_short_functions_are_not_held_up(virtually: Virtually) -> None:
    """Functions that take less than 50 ms each all run at one moment."""
    result = watched(blocking("at once", 0.01, 20), virtually, schedule=fg.pipelined(20, focus=0))
    assert result.status == "completed"
    assert result.spent.seconds == pytest.approx(0.2)


def test_a_function_is_named(virtually: Virtually, caplog: pytest.LogCaptureFixture) -> None:
    """A function that nobody saw running is named by its stage, and not each time."""
    result = watched(blocking("at once", rounds=9), virtually, schedule=fg.pipelined(9, focus=0))
    assert result.status == "completed"
    said = [r.getMessage() for r in caplog.records if "held the event loop" in r.getMessage()]
    assert said[0].startswith("stage 'slow' held the event loop for 1.0 s: no request, Ctrl-C or deadline was served")
    assert [re.search(r"\((\d+) times, ([\d.]+) s in all\)", line) is not None for line in said] == [False, True]
    assert "Fix: " in said[0]


def test_short_ones_are_not(virtually: Virtually, caplog: pytest.LogCaptureFixture) -> None:
    """Functions below 0.5 s are not named."""
    watched(blocking("at once", 0.4, 5), virtually)
    assert "held the event loop" not in caplog.text
    watched(blocking("at once", 0.5, 5), virtually)
    assert "held the event loop" in caplog.text


def test_a_function_that_is_seen_is_named_itself(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A function that was seen running is named itself, with its place, as the user's innermost one. One that does not
    return is named while it runs.
    """
    monkeypatch.setattr(floor, "TICK", 0.0)
    monkeypatch.setattr(floor, "STILL", 0.0)
    now = [0.0]
    watch = Floor(lambda: now[0])

    def score() -> None:
        watch.look()
        now[0] += 3

    began = watch.enter("stage 'validate'")
    score()
    watch.leave(began)
    line = score.__code__.co_firstlineno
    named = rf"score \({re.escape(__file__)}, line {line}\)"
    said = [record.getMessage() for record in caplog.records]
    assert re.search(named + " has held the event loop for 0 s, and still does", said[0])
    assert re.search(named + " held the event loop for 3.0 s", said[-1])
    assert len(said) == 2


def test_nobody_is_named_when_nothing_runs(caplog: pytest.LogCaptureFixture) -> None:
    """A look at an idle event loop finds nothing."""
    watch = Floor(lambda: 0.0)
    watch.look()
    began = watch.enter("stage 'validate'")
    watch.leave(began)
    watch.look()
    assert not caplog.records
    assert not watch.held


def test_the_thread_that_looks_ends_with_the_run() -> None:
    """The looking thread runs as long as the run."""
    import threading

    def looking() -> list[str]:
        return [thread.name for thread in threading.enumerate() if "event loop" in thread.name]

    before = looking()
    seen: list[list[str]] = []

    graph = fg.Graph("looks")
    pool = graph.pool("pool", Kept)

    @graph.source(rounds=1)
    def emit(ctx: fg.Draw[None]) -> int:
        seen.append(looking())
        return 1

    graph.edge(emit, pool)
    from flashgraph.testing.runs import TASK

    assert fg.run(graph, TASK, models={}).status == "completed"
    assert len(seen[0]) == len(before) + 1
