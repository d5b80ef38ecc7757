"""An early release frees the server: a whole run against the simulated server over real sockets."""

from __future__ import annotations

import anyio
import attrs
import pytest

import flashgraph as fg
from flashgraph.llm.vllm import VllmModel
from flashgraph.run import events as ev
from flashgraph.sim.model import SimModel
from flashgraph.sim.profiles import PROFILES
from flashgraph.sim.server import SimServer
from flashgraph.testing.runs import TASK
from flashgraph.testing.tokens import Ledgered, Token

from .serving import metrics, running

MEMBERS, QUICK, SLOTS = 8, 4, 8
ENDLESS = attrs.evolve(PROFILES["vllm"], slots=SLOTS, step=0.02, mean=1e6, sigma=0.01, longest=10**9)
"""A reply takes hours, unless its request asks for a short one."""


@attrs.frozen
class Batch:
    """The origin of a group: some members answer at once, the others never."""

    def members(self) -> list[int]:
        return list(range(MEMBERS))


def batches() -> fg.Graph:
    """Return a graph with one batch, released at half, whose judge also never ends."""
    graph = fg.Graph("batches")
    pool = graph.pool("pool", Ledgered)

    @graph.source(reads=pool, rounds=1)
    def emit(ctx: fg.Draw[Ledgered]) -> Batch:
        return Batch()

    @graph.stage(model="model", workers=MEMBERS)
    async def work(member: int, ctx: fg.Context) -> int:
        await ctx.llm(f"member {member}", **({"max_tokens": 1} if member < QUICK else {}))
        return member

    @graph.stage(model="model")
    async def judge(half: fg.Group[Batch, int], ctx: fg.Context) -> Token:
        await ctx.llm(f"what of these {len(half.members)}?")
        return Token(0, 0)

    graph.edge(emit, work, scatter=Batch.members)
    graph.edge(work, judge, gather=True, release=fg.fraction(QUICK / MEMBERS), late="cancel")
    graph.edge(judge, pool)
    return graph


@pytest.mark.anyio
async def test_an_early_release_frees_slots_on_the_server() -> None:
    """The server's metrics show that an early release frees its slots.

    Of nine requests only the judge's still runs, and none after the run was stopped. The budget holds the cost of the
    cancelled ones.
    """
    async with running(SimServer(SimModel(ENDLESS))) as url:
        models = {"model": VllmModel(url, "sim", key="", limit=SLOTS)}
        async with fg.open_run(batches(), TASK, models=models) as run:
            async for event in run:
                if isinstance(event, ev.CallStarted) and event.call == MEMBERS:
                    break
            with anyio.fail_after(60):
                while (seen := await metrics(url))["vllm:num_requests_running"] != 1:
                    await anyio.lowlevel.checkpoint()
            run.stop()
            result = await run.wait()
        with anyio.fail_after(60):
            while (ended := await metrics(url))["vllm:num_requests_running"] != 0:
                await anyio.lowlevel.checkpoint()
    assert seen["vllm:num_requests_waiting"] == 0
    assert seen["vllm:request_success_total:abort"] == MEMBERS - QUICK
    assert ended["vllm:request_success_total:abort"] == MEMBERS - QUICK + 1
    calls = [event for event in result.events if isinstance(event, ev.CallEnded)]
    cut = [event for event in calls if event.how == "cancelled"]
    assert len(cut) == MEMBERS - QUICK + 1
    assert all(event.estimated and event.prompt_tokens > 0 for event in cut)
    assert result.spent.tokens == sum(event.prompt_tokens + event.completion_tokens for event in calls)
