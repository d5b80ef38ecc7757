"""GEPA on a real vLLM engine in this process, and what cancelling frees in it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import attrs
import pytest

import flashgraph as fg
from flashgraph.errors import ContextTooLong
from flashgraph.llm.engine import EngineModel
from flashgraph.llm.protocol import Load, Message, Reply

from .kit import HELLO, REPLY, TASK, until

pytestmark = pytest.mark.anyio

LIMIT = 16


@pytest.fixture(scope="module")
async def engine(weights: Path, anyio_backend: str) -> AsyncIterator[EngineModel]:
    """Open for all tests here: a start takes a minute."""
    arguments = {"load_format": "dummy", "dtype": "float32", "enforce_eager": True}
    model = EngineModel(str(weights), limit=LIMIT, params={"max_tokens": REPLY}, engine=arguments)
    async with model.open():
        yield model


async def running(engine: EngineModel) -> int:
    load = await engine.load()
    return 0 if load is None else load.running


async def runs(engine: EngineModel, count: int) -> bool:
    return await running(engine) == count


async def test_a_reply(engine: EngineModel) -> None:
    """Text of as many tokens as were asked for, cut off and said to be."""
    reply = await engine.complete(HELLO, {"max_tokens": 5, "temperature": 0})
    assert reply.text
    assert (reply.usage.completion, reply.truncated, reply.cost) == (5, True, 0.0)
    assert reply.usage.prompt > 3
    assert await engine.complete(HELLO, {"max_tokens": 5, "temperature": 0}) == reply


async def test_cancelled_requests_leave_the_engine(engine: EngineModel) -> None:
    """Eight long requests run; once they are cancelled, a further one has the engine for itself."""
    async with anyio.create_task_group() as tasks:
        for _ in range(8):
            tasks.start_soon(engine.complete, HELLO, {"max_tokens": 1000})
        await until(lambda: runs(engine, 8))
        tasks.cancel_scope.cancel()
    async with anyio.create_task_group() as tasks:
        # The engine tells its load at each step, and steps only when there is work.
        tasks.start_soon(engine.complete, HELLO, {"max_tokens": 1000})
        await until(lambda: runs(engine, 1))
        tasks.cancel_scope.cancel()


async def test_a_prompt_beyond_the_context_fails_alone(engine: EngineModel) -> None:
    """Before the engine is asked."""
    with pytest.raises(ContextTooLong, match="context is 1024"):
        await engine.complete([{"role": "user", "content": "too long " * 2000}], {})


@attrs.frozen
class Held:
    """A model that is open already, and stays so when a run has ended."""

    model: EngineModel
    prioritises: bool = True

    @property
    def name(self) -> str:
        return self.model.name

    @property
    def limit(self) -> int:
        return self.model.limit

    @asynccontextmanager
    async def open(self) -> AsyncIterator[None]:
        yield

    async def complete(self, messages: Sequence[Message], params: Mapping[str, Any]) -> Reply:
        return await self.model.complete(messages, params)

    async def load(self) -> Load | None:
        return await self.model.load()

    def worst_cost(self, prompt: int, completion: int) -> float | None:
        return self.model.worst_cost(prompt, completion)


async def test_gepa_evolves_on_it(engine: EngineModel) -> None:
    """Calls and tokens are counted, as many proposals are made as were asked for, and it ran many requests at once."""
    most, model = 0, Held(engine)
    models, budget = {"task": model, "reflection": model}, fg.Budget(proposals=12)
    async with (
        fg.open_run("gepa", TASK, models=models, budget=budget, seed=1) as run,
        anyio.create_task_group() as tasks,
    ):

        async def watch() -> None:
            nonlocal most
            while True:
                most = max(most, await running(engine))
                await anyio.sleep(0.05)

        tasks.start_soon(watch)
        result = await run.wait()
        tasks.cancel_scope.cancel()
    assert (result.status, result.spent.proposals) == ("budget", 12)
    assert result.spent.calls > 12 * 6
    assert result.spent.tokens > result.spent.calls
    assert result.best is not None
    assert 2 <= most <= LIMIT
