"""Shared by the tests against a real vLLM: a task that needs no sensible answers, whole runs on it, and metrics."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any

import anyio
import httpx

import flashgraph as fg
from flashgraph.api import Run

from .weights import END

__all__ = [
    "ENGINE", "HELLO", "LEAST", "REPLY", "SIDE_BY_SIDE", "TASK", "TO_THE_END", "Running", "evolved", "metric",
    "opened", "until",
]  # fmt: skip

HELLO = [{"role": "user", "content": "hello?"}]
REPLY = 64
"""Tokens of a reply: enough to be seen running, few enough for a processor."""

LEAST, TO_THE_END = REPLY - 1, {str(END): 100}
"""``min_tokens`` and ``logit_bias`` that end each reply with its last token.

Random weights hardly ever end a reply themselves, and a truncated reply makes no proposal.
"""

ENGINE: Mapping[str, Any] = {"load_format": "dummy", "dtype": "float32", "enforce_eager": True}
SIDE_BY_SIDE = 8
"""Requests that the engine runs at once: fewer than a run has for it."""

Running = Callable[[], Awaitable[float]]
"""How many requests run now, as the server or the engine says."""


def _score(sample: str, output: str) -> fg.Score:
    """The share of the sample's letter: random weights write at random, so that some children beat their parents."""
    return fg.Score(output.lower().count(sample) / max(1, len(output)), f"use the letter {sample} more often")


TASK = fg.Task("letters", list("etaoin"), list("shrd"), list("lu"), score=_score)


@asynccontextmanager
async def opened(model: Any, **options: Any) -> AsyncIterator[Run]:
    """A run of GEPA with one model for both roles."""
    async with fg.open_run("gepa", TASK, models={"task": model, "reflection": model}, seed=1, **options) as run:
        yield run


async def evolved(model: Any, running: Running) -> tuple[fg.Result, float]:
    """GEPA until it has made a dozen proposals, and the most requests that ever ran at once."""
    most = 0.0
    async with opened(model, budget=fg.Budget(proposals=12)) as run, anyio.create_task_group() as tasks:

        async def watch() -> None:
            nonlocal most
            while True:
                most = max(most, await running())
                await anyio.sleep(0.05)

        tasks.start_soon(watch)
        result = await run.wait()
        tasks.cancel_scope.cancel()
    assert (result.status, result.spent.proposals) == ("budget", 12)
    assert result.best is not None
    assert result.spent.calls > 12 * 6
    return result, most


async def metric(url: str, name: str, **labels: str) -> float:
    """The sum of a metric's samples with these labels."""
    async with httpx.AsyncClient(trust_env=False, timeout=30) as client:
        lines = (await client.get(f"{url}/metrics")).text.splitlines()
    wanted = [f'{label}="{value}"' for label, value in labels.items()]
    found = [line for line in lines if line.startswith(f"{name}{{") and all(w in line for w in wanted)]
    assert found, f"no {name} with {labels}"
    return sum(float(line.rpartition(" ")[2]) for line in found)


async def until(running: Running, holds: Callable[[float], bool]) -> None:
    """Ask another process until that many run; two minutes at most."""
    with anyio.fail_after(120):
        while not holds(await running()):  # noqa: ASYNC110 - what is waited for happens in another process
            await anyio.sleep(0.05)
