"""Measure a trivial run, for docs/explanation/sandbox.md: ``python -m tests.sandbox.overhead [modules to preload]``."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence

import anyio

from flashgraph.sandbox import Sandbox

__all__ = ["main"]

CODE = "def main(n): return n"
RUNS = 320


async def measure(preload: Sequence[str], at_once: int, pause: float) -> list[float]:
    """Return the sorted milliseconds of all runs; ``at_once`` run concurrently, each with a pause in seconds."""
    took: list[float] = []

    async def caller(sandbox: Sandbox, number: int) -> None:
        await anyio.sleep(pause * number / at_once)
        for _ in range(RUNS // at_once):
            began = time.perf_counter()
            await sandbox.run(CODE, arguments={"n": 1})
            took.append((time.perf_counter() - began) * 1000)
            await anyio.sleep(pause)

    sandbox = Sandbox(preload=preload)
    async with sandbox.open(), anyio.create_task_group() as tasks:
        for number in range(at_once):
            tasks.start_soon(caller, sandbox, number)
    return sorted(took)


async def main() -> None:
    """Print a table."""
    preload = sys.argv[1:]
    print(f"preload: {', '.join(preload) or 'nothing'}")
    for name, at_once, pause in (
        ("one after the other", 1, 0.0),
        ("one after the other, 20 ms apart", 1, 0.02),
        ("32 callers, each asking once a second", 32, 1.0),
        ("32 callers without a pause", 32, 0.0),
    ):
        began = time.perf_counter()
        took = await measure(preload, at_once, pause)
        each = (time.perf_counter() - began) * 1000 / len(took)
        median, late = took[len(took) // 2], took[int(len(took) * 0.95)]
        print(f"{name:40} median {median:6.1f} ms, p95 {late:6.1f} ms, {each:5.1f} ms a run")


if __name__ == "__main__":
    anyio.run(main)
