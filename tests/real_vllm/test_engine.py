"""GEPA on a real vLLM engine in this process, the limit that it steers, and what cancelling frees in it."""

from __future__ import annotations

from contextlib import nullcontext

import anyio
import pytest

import flashgraph as fg
from flashgraph.errors import ContextTooLong
from flashgraph.llm.engine import EngineModel
from flashgraph.llm.protocol import Load
from flashgraph.run import events as ev

from .kit import HELLO, SIDE_BY_SIDE, evolved, opened, until

pytestmark = pytest.mark.anyio


@pytest.fixture
def held(engine: EngineModel, monkeypatch: pytest.MonkeyPatch) -> EngineModel:
    """The engine for a run: it is open already, and stays so when the run has ended."""
    monkeypatch.setattr(EngineModel, "open", lambda self: nullcontext())
    return engine


async def test_a_reply(engine: EngineModel) -> None:
    """Text of as many tokens as were asked for, cut off and said to be."""
    reply = await engine.complete(HELLO, {"max_tokens": 5, "temperature": 0})
    assert reply.text
    assert (reply.usage.completion, reply.truncated, reply.cost) == (5, True, 0.0)
    assert reply.usage.prompt > 3
    assert await engine.complete(HELLO, {"max_tokens": 5, "temperature": 0}) == reply
    assert await engine.load() == Load(0, 0), "nothing is out: what its last step said holds no more"


async def test_cancelled_requests_leave_the_engine(engine: EngineModel) -> None:
    """Eight long requests run; once they are cancelled, a further one has the engine for itself."""
    long = {"max_tokens": 1000, "ignore_eos": True}

    async def running() -> float:
        return (await engine.load()).running

    async with anyio.create_task_group() as tasks:
        for _ in range(8):
            tasks.start_soon(engine.complete, HELLO, long)
        await until(running, lambda now: now == 8)
        tasks.cancel_scope.cancel()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(engine.complete, HELLO, long)
        await until(running, lambda now: now == 1)
        tasks.cancel_scope.cancel()


async def test_a_prompt_beyond_the_context_fails_alone(engine: EngineModel) -> None:
    """Before the engine is asked."""
    with pytest.raises(ContextTooLong, match="context is 1024"):
        await engine.complete([{"role": "user", "content": "too long " * 2000}], {})


async def test_gepa_evolves_on_it(held: EngineModel) -> None:
    """Calls and tokens are counted, as many proposals are made as were asked for, and it ran many requests at once."""

    async def running() -> float:
        return (await held.load()).running

    result, most = await evolved(held, running)
    assert result.spent.tokens > result.spent.calls
    assert 2 <= most <= SIDE_BY_SIDE


async def test_what_waits_in_it_steers_the_limit(held: EngineModel) -> None:
    """The engine runs eight at once, which nobody has said: from four the limit rises until some wait, and is cut."""
    said: list[str] = []
    async with opened(held, schedule="throughput", budget=fg.Budget(proposals=2000)) as run:
        async for event in run:
            if isinstance(event, ev.LimitChanged):
                said.append(event.reason)
                if "wait in the server" in event.reason:
                    run.stop()
        result = run.result
    assert result.status == "cancelled"
    assert said[0].startswith("none waits in the server")
    assert "wait in the server" in said[-1]
    most = max(event.in_flight for event in result.events if isinstance(event, ev.CallStarted))
    assert SIDE_BY_SIDE < most <= 64
