"""What the scheduler itself costs: a graph of stages that do nothing, beside bare anyio memory streams.

    python -m tests.benchmarks.overhead [--items 20000]

Both move the same items through four stages in one process, in turns, so that the machine's state is the same for
both; the ratio is what counts.  Then: seconds an item as the window grows from 1 to 10,000, and bytes an open item.
"""

from __future__ import annotations

import gc
import time
import tracemalloc
from collections.abc import Mapping
from statistics import median

import anyio
import attrs
import click

import flashgraph as fg
from flashgraph.task import Llm, Task

STAGES = 4


@attrs.frozen
class Nothing:
    """A pool that remembers nothing, so that only moving items costs anything."""

    artifacts: dict[int, fg.Artifact] = attrs.field(factory=dict)

    def apply(self, event: fg.PoolEvent[int]) -> Nothing:
        return self

    def best(self) -> fg.Artifact | None:
        return None

    def focus(self) -> Nothing:
        return self


def line(items: int) -> fg.Graph:
    """A source of ``items`` numbers and four stages that pass them on to a pool."""
    graph = fg.Graph("line")
    pool = graph.pool("pool", Nothing)

    @graph.source(reads=pool, rounds=items)
    def count(at: fg.Draw[Nothing]) -> int:
        return at.emission

    def passed(number: int) -> int:
        return number

    stages = [graph.stage(passed, name=f"stage{i}", workers=64) for i in range(STAGES)]
    for one, other in zip([count, *stages], [*stages, pool], strict=True):
        graph.edge(one, other)
    return graph


async def _attempt(candidate: Mapping[str, str], sample: int, llm: Llm) -> int:
    return sample


def _score(sample: int, output: int) -> float:
    return 0.0


TASK: Task[int, int] = Task("nothing", train=[0], val=[0], seed={"text": ""}, attempt=_attempt, score=_score)


async def _graph(items: int, window: int) -> float:
    graph = line(items)
    before = time.process_time()
    async with fg.open_run(graph, TASK, models={}, schedule=fg.pipelined(window, focus=0.0)) as run:
        result = await run.wait()
    assert len(result.events) > items
    return time.process_time() - before


async def _streams(items: int) -> float:
    """The same through bare streams: a task for each stage, a queue of 64 before it."""
    before = time.process_time()
    async with anyio.create_task_group() as tasks:
        send, receive = anyio.create_memory_object_stream[int](64)
        first = send
        for _ in range(STAGES):
            send, following = anyio.create_memory_object_stream[int](64)
            tasks.start_soon(_pass, receive, send)
            receive = following
        tasks.start_soon(_count, first, items)
        async with receive:
            async for _ in receive:
                pass
    return time.process_time() - before


async def _count(send: anyio.abc.ObjectSendStream[int], items: int) -> None:
    async with send:
        for number in range(items):
            await send.send(number)


async def _pass(receive: anyio.abc.ObjectReceiveStream[int], send: anyio.abc.ObjectSendStream[int]) -> None:
    async with receive, send:
        async for number in receive:
            await send.send(number)
