"""`VllmModel` against a server with vLLM's metrics."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

import flashgraph as fg
from flashgraph.llm.cache import CachedModel
from flashgraph.llm.protocol import Load, Message
from flashgraph.llm.responses import ResponseCache
from flashgraph.llm.scripted import ScriptedModel
from flashgraph.llm.vllm import VllmModel

from .server import running

pytestmark = pytest.mark.anyio

METRICS = """\
# HELP vllm:num_requests_running Number of requests in model execution batches.
# TYPE vllm:num_requests_running gauge
vllm:num_requests_running{engine="0",model_name="tiny"} 12.0
vllm:num_requests_running{engine="1",model_name="tiny"} 30.0
vllm:num_requests_waiting{engine="0",model_name="tiny"} 0.0
vllm:num_requests_waiting{engine="1",model_name="tiny"} 3.0
vllm:num_requests_waiting_by_reason{engine="1",model_name="tiny",reason="capacity"} 3.0
vllm:kv_cache_usage_perc{engine="0",model_name="tiny"} 0.25
vllm:kv_cache_usage_perc{engine="1",model_name="tiny"} 0.5
"""


@pytest.mark.parametrize(
    ("metrics", "load"),
    [
        (METRICS, Load(42, 3, 0.5)),
        (METRICS.replace("kv_cache_usage_perc", "gpu_cache_usage_perc"), Load(42, 3, 0.5)),
        ("vllm:num_requests_running 1\nvllm:num_requests_waiting 2\n", Load(1, 2, 0.0)),
        ("process_open_fds 20.0\n", None),
        (None, None),
    ],
)
async def test_what_the_metrics_say(metrics: str | None, load: Load | None) -> None:
    """They cover all engines of a server, under old and new names; None without metrics."""
    with running() as server:
        server.metrics = metrics
        model = VllmModel(server.url, "tiny", key="")
        async with model.open():
            assert await model.load() == load
    assert server.asked[-1].path == "/metrics"


@pytest.mark.parametrize("value", ["-1", "NaN", "+Inf", "many", "1e999", "0x10"])
async def test_numbers_that_cannot_be_true_say_nothing(value: str) -> None:
    """No limit uses them."""
    with running() as server:
        server.metrics = f"vllm:num_requests_running 2.0\nvllm:num_requests_waiting {value}\n"
        model = VllmModel(server.url, "tiny", key="", probe=False)
        async with model.open():
            assert await model.load() is None


async def test_a_server_that_is_gone_says_nothing() -> None:
    """The failed reading is ignored, because its requests will fail too."""
    with running() as server:
        model = VllmModel(server.url, "tiny", key="", timeout=1)
        opened = model.open()
        await opened.__aenter__()
    try:
        assert await model.load() is None
    finally:
        await opened.__aexit__(None, None, None)


@pytest.mark.parametrize("prioritises", [True, False])
async def test_the_schedulers_priority_is_sent(prioritises: bool) -> None:
    """A server that accepts it gets it: the stage nearest the pool has the smallest number.  Others get none."""

    async def attempt(candidate: object, sample: int, llm: fg.Llm) -> str:
        return (await llm(str(sample))).text

    task = fg.Task("t", range(3), range(3), attempt=attempt, score=lambda s, o: fg.Score(0.5))
    with running() as server:
        model = VllmModel(server.url, "tiny", key="", prioritises=prioritises)
        await fg.arun("gepa", task, models={"task": model, "reflection": model}, budget=fg.Budget(calls=12))
    sent = [asked.body.get("priority") for asked in server.chats]
    assert (None not in sent and len(set(sent)) > 1) if prioritises else set(sent) == {None}


async def test_behind_a_cache(tmp_path: Path) -> None:
    """Limits, load and priorities are the model's; a priority is not part of the key."""

    class Prioritised(ScriptedModel):
        prioritises = True

        async def load(self) -> Load:
            return Load(1, 2)

    model = CachedModel(Prioritised(["only"]), ResponseCache(tmp_path / "cache.db"))
    asked: Sequence[Message] = [{"role": "user", "content": "x"}]
    params: list[Mapping[str, Any]] = [{"temperature": 0, "priority": 3}, {"temperature": 0, "priority": 0}]
    async with model.open():
        assert [(await model.complete(asked, each)).text for each in params] == ["only", "only"]
        assert await model.load() == Load(1, 2)
    assert model.prioritises
    assert model.limits is None
