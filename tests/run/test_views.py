"""Only the values of a pool that something may still read are kept."""

from __future__ import annotations

import anyio
import pytest

import flashgraph as fg
from flashgraph.run import events as ev
from flashgraph.sim.clock import run_virtually, settle
from flashgraph.testing.runs import TASK
from tests.run.test_sources import Log

ROUNDS = 60


def two_pools() -> fg.Graph:
    """Return a graph with a source that reads one pool, stages that read another twice in a round, and a third unread
    pool.
    """
    graph = fg.Graph("two-pools")
    main = graph.pool("main", Log)
    notes = graph.pool("notes", Log)
    unread = graph.pool("unread", Log)

    @graph.source(reads=main, rounds=ROUNDS)
    def pick(ctx: fg.Draw[Log]) -> int:
        return ctx.emission

    @graph.stage(reads=notes, workers=4)
    async def first(number: int, ctx: fg.Context[Log]) -> tuple[int, int]:
        await anyio.sleep(ctx.random.uniform(1, 9))
        return number, len(ctx.view.artifacts)

    @graph.stage(reads=notes, workers=4)
    async def second(seen: tuple[int, int], ctx: fg.Context[Log]) -> str:
        await anyio.sleep(ctx.random.uniform(1, 9))
        # A round reads the same version again, though others have written since.
        assert len(ctx.view.artifacts) == seen[1]
        return f"{seen[0]}"

    graph.edge(pick, first)
    graph.edge(first, second)
    graph.edge(second, main)
    graph.edge(second, notes)
    graph.edge(second, unread)
    return graph


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_values_that_nothing_reads_are_dropped(backend: str) -> None:
    """A long run holds as many values of each pool as its window has rounds, also of a pool that no source reads."""
    most: dict[str, int] = {}

    async def go() -> fg.Result:
        async with fg.open_run(two_pools(), TASK, models={}, settle=settle, settings={"window": 4}) as run:
            async for _ in run:
                for name, pool in run.machine.pools.items():
                    most[name] = max(most.get(name, 0), len(pool.kept))
            return run.result

    result = run_virtually(go, backend=backend)
    assert result.status == "completed"
    assert not [e for e in result.events if isinstance(e, ev.JobEnded) and e.how == "failed"]
    assert sum(a.pool == "unread" for a in result.artifacts) == ROUNDS
    assert all(held <= 12 for held in most.values()), most
