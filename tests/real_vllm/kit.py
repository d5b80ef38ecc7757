"""What the tests against a real vLLM share: a task that needs no sense, and the server's own account of its load."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import anyio
import httpx

import flashgraph as fg

__all__ = ["HELLO", "REPLY", "TASK", "metric", "until"]

HELLO = [{"role": "user", "content": "hello?"}]
REPLY = 64
"""Tokens of a reply: enough to be seen running, few enough for a processor."""


def _score(sample: str, output: str) -> fg.Score:
    """The share of the sample's letter: random weights write at random, so that some children beat their parents."""
    return fg.Score(output.lower().count(sample) / max(1, len(output)), f"use the letter {sample} more often")


TASK = fg.Task("letters", list("etaoin"), list("shrd"), list("lu"), score=_score)


async def metric(url: str, name: str, **labels: str) -> float:
    """The sum of a metric's samples with these labels."""
    async with httpx.AsyncClient(trust_env=False, timeout=30) as client:
        lines = (await client.get(f"{url}/metrics")).text.splitlines()
    wanted = [f'{label}="{value}"' for label, value in labels.items()]
    found = [line for line in lines if line.startswith(f"{name}{{") and all(w in line for w in wanted)]
    assert found, f"no {name} with {labels}"
    return sum(float(line.rpartition(" ")[2]) for line in found)


async def until(condition: Callable[[], Awaitable[bool]]) -> None:
    """Ask another process until it says so; two minutes at most."""
    with anyio.fail_after(120):
        while not await condition():  # noqa: ASYNC110 - what is waited for happens in another process
            await anyio.sleep(0.05)
