"""GEPA on a real vLLM engine in this process, the limit that it steers, and what cancelling frees in it."""

from __future__ import annotations

from contextlib import nullcontext
from typing import Any

import anyio
import pytest

import flashgraph as fg
from flashgraph.errors import ContextTooLong, PassingFault, RequestFailed
from flashgraph.llm.engine import EngineModel
from flashgraph.llm.protocol import Load
from flashgraph.run import events as ev

from .kit import HELLO, LEAST, SIDE_BY_SIDE, TO_THE_END, evolved, opened, until

pytestmark = pytest.mark.anyio


@pytest.fixture
def held(engine: EngineModel, monkeypatch: pytest.MonkeyPatch) -> EngineModel:
    """The engine for a run: it is open already, and stays so when the run has ended.  Its replies end."""
    monkeypatch.setattr(engine, "params", {**engine.params, "min_tokens": LEAST, "logit_bias": TO_THE_END})
    monkeypatch.setattr(EngineModel, "open", lambda self: nullcontext())
    return engine


async def test_a_reply(engine: EngineModel) -> None:
    """A reply has the requested number of tokens, and is marked as truncated."""
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


async def test_a_reply_that_is_ended(engine: EngineModel) -> None:
    """The tokens of `logit_bias` are text, as JSON and a model string have them."""
    reply = await engine.complete(HELLO, {"max_tokens": 9, "min_tokens": 4, "logit_bias": TO_THE_END})
    assert (reply.usage.completion, reply.finish) == (5, "stop")


@pytest.mark.parametrize(
    "params",
    [
        {"logit_bias": {"x": 1}},
        {"logit_bias": {"0": "x"}},
        {"logit_bias": {"5000": 1}},
        {"logit_bias": [0]},
        {"stop": 7},
        {"seed": "x"},
        {"seed": 2**70},
        {"ignore_eos": "maybe"},
        {"temperature": -1},
        {"max_tokens": "many"},
        {"max_tokens": 5, "min_tokens": 9},
    ],
    ids=str,
)
async def test_a_parameter_that_it_refuses(params: dict[str, Any], engine: EngineModel) -> None:
    """That request alone fails, at once and without another try; the engine answers the next."""
    with pytest.raises(RequestFailed, match="rejects the request") as caught:
        await engine.complete(HELLO, params)
    assert not isinstance(caught.value, PassingFault)
    assert (await engine.complete(HELLO, {"max_tokens": 1})).usage.completion == 1


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
                if "queued in the server" in event.reason:
                    run.stop()
        result = run.result
    assert result.status == "cancelled"
    assert said[0].startswith("server queue empty")
    assert "queued in the server" in said[-1]
    most = max(event.in_flight for event in result.events if isinstance(event, ev.CallStarted))
    assert SIDE_BY_SIDE < most <= 64
