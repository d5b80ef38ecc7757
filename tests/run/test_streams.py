"""The draws of a stage depend on the lineage of its item, and not on time."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

import flashgraph as fg
from flashgraph.sim.clock import run_virtually, settle
from flashgraph.testing.runs import TASK, LatencyModel
from tests.run.test_sources import Log


def drawn(seconds: list[int], window: int) -> dict[tuple[str, str], list[float]]:
    """Return the draws of each stage for each text: forked, scattered, gathered and looped, with these latencies."""
    found: dict[tuple[str, str], list[float]] = {}
    graph = fg.Graph("streams")
    pool = graph.pool("pool", Log)

    async def take(name: str, text: str, ctx: fg.Context) -> None:
        await ctx.llm(f"{name} {text}")
        found.setdefault((name, text), []).append(ctx.random.random())

    @graph.source(rounds=3)
    def emit(ctx: fg.Draw) -> str:
        return f"{ctx.emission}"

    @graph.stage(model="model", fanout=2)
    async def fork(text: str, ctx: fg.Context) -> fg.Several[str]:
        await take("fork", text, ctx)
        return fg.Several([f"{text}a", f"{text}b"])

    @graph.stage(model="model")
    async def again(text: str, ctx: fg.Context) -> str:
        await take("again", text, ctx)
        return text

    @graph.stage(model="model")
    async def member(text: str, ctx: fg.Context) -> str:
        await take("member", text, ctx)
        return text

    @graph.stage(model="model")
    async def together(texts: fg.Group[str, str], ctx: fg.Context) -> str:
        await take("together", texts.origin, ctx)
        return texts.origin

    def halves(text: str) -> list[str]:
        return [f"{text}0", f"{text}1"]

    graph.edge(emit, fork)
    graph.edge(fork, again)
    graph.edge(again, again, when=lambda text: True, loop=2)
    graph.edge(again, member, scatter=halves, fanout=2, otherwise=True)
    graph.edge(member, together, gather=True)
    graph.edge(together, pool)

    def latency(request: str) -> float:
        return seconds[sum(map(ord, request)) % len(seconds)]

    model = LatencyModel(64, latency)
    result = run_virtually(
        lambda: fg.arun(graph, TASK, models={"model": model}, schedule=fg.pipelined(window), seed=7, settle=settle)
    )
    assert (result.status, len(result.artifacts)) == ("completed", 6)
    return found


@settings(max_examples=20)
@given(st.lists(st.integers(1, 9), min_size=1, max_size=7), st.integers(1, 3))
def test_what_is_drawn_does_not_depend_on_when(seconds: list[int], window: int) -> None:
    """Draws do not depend on latencies and windows; and no two draws are equal."""
    found = drawn(seconds, window)
    assert found == drawn([1], 1)
    draws = [number for numbers in found.values() for number in numbers]
    assert len(draws) == len(set(draws)) == 3 + 3 * 2 * 3 + 3 * 2 * 2 + 3 * 2
