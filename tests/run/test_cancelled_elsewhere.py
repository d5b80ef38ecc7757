"""A stage fails if it awaits something that another task cancels; the run does not."""

from __future__ import annotations

import asyncio

import anyio
import pytest

import flashgraph as fg
from flashgraph.run import events as ev
from flashgraph.testing.runs import TASK
from tests.run.test_sources import Log


def graph_with(bad: int) -> fg.Graph:
    graph = fg.Graph("futures")
    pool = graph.pool("pool", Log)

    @graph.source(reads=pool, rounds=4)
    def pick(ctx: fg.Draw[Log]) -> int:
        return ctx.emission

    @graph.stage
    async def work(number: int) -> str:
        future: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        if number == bad:
            future.cancel()
        else:
            future.set_result(f"{number}")
        return await future

    graph.edge(pick, work)
    graph.edge(work, pool)
    return graph


@pytest.mark.parametrize("schedule", ["lockstep", "pipelined"])
def test_a_cancelled_future_fails_its_stage_alone(schedule: str) -> None:
    """I15: a cancelled future fails its stage with a reason, and the other rounds continue."""
    result = fg.run(graph_with(1), TASK, models={}, schedule=schedule)
    assert result.status == "completed"
    assert sorted(a.value for a in result.artifacts) == ["0", "2", "3"]
    (failed,) = [e for e in result.events if isinstance(e, ev.JobEnded) and e.how == "failed"]
    assert failed.reason == "CancelledError: it awaited what somebody else has cancelled"


def test_a_callers_cancellation_is_no_failure(virtual_backend: str) -> None:
    """I12: a cancellation from outside ends the run as cancelled, also inside of a stage."""
    graph = fg.Graph("waits")
    pool = graph.pool("pool", Log)

    @graph.source(reads=pool, rounds=1)
    def pick(ctx: fg.Draw[Log]) -> int:
        return 0

    @graph.stage
    async def work(number: int) -> str:
        scopes[0].cancel()
        await anyio.sleep_forever()
        return ""

    graph.edge(pick, work)
    graph.edge(work, pool)
    seen: list[ev.Event] = []
    scopes: list[anyio.CancelScope] = []

    async def go() -> None:
        with anyio.CancelScope() as scope:
            scopes.append(scope)
            await fg.arun(graph, TASK, models={}, on_event=seen.append)

    anyio.run(go, backend=virtual_backend)
    assert scopes[0].cancelled_caught
    assert not [e for e in seen if isinstance(e, ev.JobEnded) and e.how == "failed"]
