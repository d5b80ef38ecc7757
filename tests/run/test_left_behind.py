"""A task that a stage has left behind gets no reply from its model, and nothing else is affected (I15)."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

import anyio
import pytest
from anyio.abc import TaskGroup

import flashgraph as fg
from flashgraph.run import events as ev
from flashgraph.testing import check_invariants, settle
from flashgraph.testing.runs import TASK, LatencyModel
from tests.run.kit import Virtually, of
from tests.run.test_sources import Log

ROUNDS = 4
BAD = 1

Ask = Callable[[], Coroutine[Any, Any, None]]


async def asks_at_once(ask: Ask) -> None:
    """While its stage returns."""
    await ask()


async def asks_twice_at_once(ask: Ask) -> None:
    """While its stage returns."""
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(ask)
        tasks.start_soon(ask)


async def asks_later(ask: Ask) -> None:
    """Long after its stage has returned."""
    await anyio.sleep(5)
    await ask()


async def asks_until_the_end(ask: Ask) -> None:
    """Long after all stages have returned."""
    await anyio.sleep(500)
    await ask()


LEFT = {
    "at once": asks_at_once,
    "two at once": asks_twice_at_once,
    "later": asks_later,
    "at the end": asks_until_the_end,
}


def graph_of(outside: TaskGroup, told: list[str], leave: Callable[[Ask], Awaitable[None]], pause: float) -> fg.Graph:
    """Return a graph whose stage starts ``leave`` outside of itself in round `BAD`, and returns after ``pause``
    seconds.
    """
    graph = fg.Graph("leaves")
    pool = graph.pool("pool", Log)

    @graph.source(rounds=ROUNDS)
    def draw(ctx: fg.Draw[None]) -> int:
        return ctx.emission

    @graph.stage(model="task", workers=ROUNDS)
    async def work(number: int, ctx: fg.Context) -> str:
        async def left_behind() -> None:
            async def ask() -> None:
                try:
                    await ctx.llm("left behind")
                except fg.FlashgraphError as error:
                    told.append(str(error))

            await leave(ask)

        if number == BAD:
            outside.start_soon(left_behind)
            await anyio.sleep(pause)
        else:
            await ctx.llm(f"{number}")
        return f"round {number}"

    graph.edge(draw, work)
    graph.edge(work, pool)
    return graph


@pytest.mark.parametrize(
    ("left", "pause", "limit", "ended"),
    [
        # When the stage returns, its request is not granted yet; is in flight; or a second one waits for a slot.
        ("at once", 0.0, 9, []),
        ("at once", 0.5, 9, [0.5]),
        ("two at once", 0.5, 1, [0.5]),
        ("later", 0.0, 9, []),
        ("at the end", 0.0, 9, []),
    ],
)
def test_a_request_ends_with_its_stage(
    left: str, pause: float, limit: int, ended: list[float], virtually: Virtually
) -> None:
    """A request of a left task is cancelled in flight, withdrawn if it waits, and refused if it is later, with
    a reason. The run completes as without it.
    """
    told: list[str] = []
    model = LatencyModel(limit, lambda request: 10.0)

    async def go() -> fg.Result:
        async with anyio.create_task_group() as outside:
            graph = graph_of(outside, told, LEFT[left], pause)
            async with fg.open_run(graph, TASK, models={"task": model}, settle=settle) as run:
                result = await run.wait()
                check_invariants(result.events, run.machine.plan)
                assert not run.machine.calls.open
        return result

    result: fg.Result = virtually(go)
    assert (result.status, len(result.artifacts)) == ("completed", ROUNDS)
    assert len(told) == (2 if left == "two at once" else 1)
    assert all(said.startswith("stage 'work' has ended") for said in told)
    cut = [event.seconds for event in of(result, ev.CallEnded) if event.how == "cancelled"]
    assert cut == ended
    assert model.in_flight == 0
