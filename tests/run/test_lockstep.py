"""Lockstep where jobs wait for each other.

That it equals the reference interpreter (I11) is a property of `tests/proof/test_properties.py`.
"""

from __future__ import annotations

import pytest

import flashgraph as fg
from flashgraph.sim.clock import run_virtually, settle
from flashgraph.testing.graphs import build
from flashgraph.testing.interpreter import NotApplicable, interpret
from flashgraph.testing.runs import TASK, LatencyModel
from flashgraph.testing.shape import Shape, Step
from flashgraph.testing.tokens import Ledgered, Token


@pytest.mark.parametrize("backend", ["trio", "asyncio"])
def test_a_job_that_ends_without_its_request_frees_its_slot(backend: str) -> None:
    """I9: with one slot and two jobs of a stage, the first makes two requests and the second none. The second's result
    waits for the first; its slot must not, because the first needs it.
    """
    graph = fg.Graph("slots")
    pool = graph.pool("pool", Ledgered)

    @graph.source(reads=pool, rounds=1)
    def source(ctx: fg.Draw[Ledgered]) -> int:
        return 2

    @graph.stage(model="model")
    async def ask(number: int, ctx: fg.Context) -> int:
        for _ in range(number):
            await ctx.llm(f"{number}")
        return number

    @graph.stage
    def done(group: fg.Group[int, int]) -> Token:
        return Token(group.size, 0)

    graph.edge(source, ask, scatter=both)
    graph.edge(ask, done, gather=True)
    graph.edge(done, pool)
    model = LatencyModel(1, lambda request: 1.0)

    async def run() -> fg.Result:
        async with fg.open_run(
            graph, TASK, models={"model": model}, schedule="lockstep", budget=fg.Budget(seconds=60), settle=settle
        ) as opened:
            return await opened.wait()

    result = run_virtually(run, backend)
    assert (result.status, result.spent.calls) == ("completed", 2)


def both(number: int) -> list[int]:
    return [number, 0]


def test_the_interpreter_says_what_it_leaves_out() -> None:
    """The interpreter names what it leaves out: several results of a stage."""
    with pytest.raises(NotApplicable, match="Several"):
        run_virtually(lambda: interpret(build(Shape((Step(several=3),))), TASK))
