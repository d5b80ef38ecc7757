"""GEPA against a real vLLM server: its replies, its metrics, and its slots when nobody waits any more."""

from __future__ import annotations

import socket
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Iterator
from pathlib import Path

import anyio
import pytest

import flashgraph as fg
from flashgraph.llm.http import HttpModel

from .kit import HELLO, REPLY, TASK, metric, until

pytestmark = pytest.mark.anyio

LIMIT = 16


@pytest.fixture(scope="module")
def url(weights: Path) -> Iterator[str]:
    """A server on a free port of loopback, ready."""
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
    options = {
        "model": weights, "served-model-name": "tiny", "load-format": "dummy", "dtype": "float32", "max-num-seqs": 32,
        "scheduling-policy": "priority", "host": "127.0.0.1", "port": port,
    }  # fmt: skip
    command = [sys.executable, "-m", "vllm.entrypoints.openai.api_server", "--enforce-eager"]
    command += [f"--{name}={value}" for name, value in options.items()]
    said, ready = deque[str](maxlen=30), threading.Event()
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:

        def listen() -> None:
            assert process.stdout is not None
            for line in process.stdout:
                said.append(line)
                if "Application startup complete" in line:
                    ready.set()
            ready.set()

        listening = threading.Thread(target=listen)
        listening.start()
        try:
            assert ready.wait(600)
            assert process.poll() is None, "the server ended:\n" + "".join(said)
            yield f"http://127.0.0.1:{port}"
        finally:
            process.terminate()
            listening.join()


async def running(url: str) -> float:
    return await metric(url, "vllm:num_requests_running")


async def finished(url: str) -> float:
    return await metric(url, "vllm:request_success_total")


async def runs_at_least(url: str, count: int) -> bool:
    return await running(url) >= count


async def runs_none(url: str) -> bool:
    return await running(url) == 0


async def test_gepa_evolves_through_it(url: str) -> None:
    """Each call of the run is a request that the server finished, with as many tokens; and it ran many at once."""
    most, before = 0.0, await finished(url)
    tokens = await metric(url, "vllm:generation_tokens_total") + await metric(url, "vllm:prompt_tokens_total")
    spec = f"vllm:{url}?limit={LIMIT}&max_tokens={REPLY}"
    models, budget = {"task": spec, "reflection": spec}, fg.Budget(proposals=12)
    async with (
        fg.open_run("gepa", TASK, models=models, budget=budget, seed=1) as run,
        anyio.create_task_group() as tasks,
    ):

        async def watch() -> None:
            nonlocal most
            while True:
                most = max(most, await running(url))
                await anyio.sleep(0.05)

        tasks.start_soon(watch)
        result = await run.wait()
        tasks.cancel_scope.cancel()
    assert result.status == "budget"
    assert len(result.artifacts) >= 1
    assert result.spent.proposals == 12
    assert await finished(url) - before == result.spent.calls
    after = await metric(url, "vllm:generation_tokens_total") + await metric(url, "vllm:prompt_tokens_total")
    assert after - tokens == result.spent.tokens
    assert 2 <= most <= LIMIT


async def test_cancelled_requests_leave_the_server(url: str) -> None:
    """Eight long requests run; when they are cancelled it soon runs none, and has finished none of them."""
    model, before = HttpModel(url, key=""), await finished(url)
    async with model.open(), anyio.create_task_group() as tasks:
        for _ in range(8):
            tasks.start_soon(model.complete, HELLO, {"max_tokens": 1000, "ignore_eos": True})
        await until(lambda: runs_at_least(url, 8))
        tasks.cancel_scope.cancel()
    await until(lambda: runs_none(url))
    assert await finished(url) == before


async def test_a_run_that_is_stopped_frees_its_slots(url: str) -> None:
    """`Run.stop` in the middle: the run ends as cancelled, and nothing of it is left on the server."""
    spec = f"vllm:{url}?limit={LIMIT}&max_tokens=900"
    async with fg.open_run(
        "gepa", TASK, models={"task": spec, "reflection": spec}, budget=fg.Budget(proposals=100)
    ) as run:

        async def stop() -> None:
            await until(lambda: runs_at_least(url, 4))
            run.stop()

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(stop)
            result = await run.wait()
    assert result.status == "cancelled"
    assert result.spent.calls > 0
    await until(lambda: runs_none(url))
