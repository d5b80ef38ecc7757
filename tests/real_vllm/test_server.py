"""GEPA against a real vLLM server: its replies, its metrics, and its slots when nobody waits any more."""

from __future__ import annotations

import json
from functools import partial

import anyio
import pytest

import flashgraph as fg
from flashgraph.llm.http import HttpModel

from .kit import HELLO, LEAST, REPLY, TO_THE_END, Running, evolved, metric, opened, until

pytestmark = pytest.mark.anyio

LIMIT = 16


def running(url: str) -> Running:
    return partial(metric, url, "vllm:num_requests_running")


async def finished(url: str) -> float:
    return await metric(url, "vllm:request_success_total")


async def tokens(url: str) -> float:
    return await metric(url, "vllm:generation_tokens_total") + await metric(url, "vllm:prompt_tokens_total")


async def test_gepa_evolves_through_it(url: str) -> None:
    """Each call of the run is a request that the server finished, with as many tokens; and it ran many at once."""
    calls, used = await finished(url), await tokens(url)
    ending = f"max_tokens={REPLY}&logit_bias={json.dumps(TO_THE_END)}&extra_body={json.dumps({'min_tokens': LEAST})}"
    result, most = await evolved(f"vllm:{url}?limit={LIMIT}&{ending}", running(url))
    assert await finished(url) - calls == result.spent.calls
    assert await tokens(url) - used == result.spent.tokens
    assert 2 <= most <= LIMIT


async def test_cancelled_requests_leave_the_server(url: str) -> None:
    """Eight long requests run; when they are cancelled it soon runs none, and has finished none of them."""
    model, before = HttpModel(url, key=""), await finished(url)
    async with model.open(), anyio.create_task_group() as tasks:
        for _ in range(8):
            tasks.start_soon(model.complete, HELLO, {"max_tokens": 1000, "ignore_eos": True})
        await until(running(url), lambda now: now >= 8)
        tasks.cancel_scope.cancel()
    await until(running(url), lambda now: now == 0)
    assert await finished(url) == before


async def test_a_run_that_is_stopped_frees_its_slots(url: str) -> None:
    """`Run.stop` in the middle: the run ends as cancelled, and leaves nothing on the server."""
    async with (
        opened(f"vllm:{url}?limit={LIMIT}&max_tokens=900", budget=fg.Budget(proposals=100)) as run,
        anyio.create_task_group() as tasks,
    ):

        async def stop() -> None:
            await until(running(url), lambda now: now >= 4)
            run.stop()

        tasks.start_soon(stop)
        result = await run.wait()
    assert result.status == "cancelled"
    assert result.spent.calls > 0
    await until(running(url), lambda now: now == 0)
