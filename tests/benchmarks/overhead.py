"""The cost of the scheduler itself: a graph of stages without work, compared with bare anyio memory streams.

    python -m tests.benchmarks.overhead [--items 10000]

Both move the same numbers through four stages in one process, one after the other, several times; the result is their
ratio. Seconds are processor time, so that other work on the machine does not count. Two more tables give the cost of an
item as the window grows, and the memory of an open item beyond its payload.
"""

from __future__ import annotations

import gc
import time
import tracemalloc
from collections.abc import Mapping, Sequence
from itertools import pairwise
from statistics import median

import anyio
import anyio.lowlevel
import attrs
import click
from anyio.streams.memory import MemoryObjectReceiveStream, MemoryObjectSendStream

import flashgraph as fg
from flashgraph.sim.clock import run_virtually
from flashgraph.sim.world import World

STAGES, WORKERS, BUFFER = 4, 64, 64
WINDOWS = (1, 10, 100, 1000, 10_000)
HELD = 30_000
"""The items of a run whose window is always full.

All windows have the same number, because the log then costs Python's garbage collector the same.
"""


@attrs.frozen
class Nothing:
    """A pool that keeps nothing, so that only moving items has a cost."""

    artifacts: Mapping[int, fg.Artifact] = attrs.field(factory=dict)

    def apply(self, event: fg.PoolEvent[int]) -> Nothing:
        return self

    def best(self) -> fg.Artifact | None:
        return None

    def best_line(self) -> Nothing:
        return self


def line(items: int) -> fg.Graph:
    """Return a source of ``items`` numbers and four stages that pass them on to a pool."""
    graph = fg.Graph("line")
    pool = graph.pool("pool", Nothing)

    @graph.source(reads=pool, rounds=items)
    def count(ctx: fg.Draw[Nothing]) -> int:
        return ctx.emission

    def passed(number: int) -> int:
        return number

    stages = [graph.stage(passed, name=f"stage{i}", workers=WORKERS) for i in range(STAGES)]
    graph.edge(count, stages[0])
    for one, other in pairwise(stages):
        graph.edge(one, other)
    graph.edge(stages[-1], pool)
    return graph


async def _attempt(candidate: Mapping[str, str], sample: int, llm: object) -> int:
    return sample


def _score(sample: int, output: int) -> fg.Score:
    return fg.Score(0.0)


TASK: fg.Task[int, int] = fg.Task("nothing", train=[0], val=[0], attempt=_attempt, score=_score)


async def through_the_graph(items: int, window: int) -> float:
    """Return the processor seconds of a run of the graph."""
    graph = line(items)
    graph.checked()
    gc.collect()
    before = time.process_time()
    async with fg.open_run(graph, TASK, models={}, schedule=fg.pipelined(window, focus=0.0)) as run:
        result = await run.wait()
    spent = time.process_time() - before
    assert result.status == "completed"
    return spent


def held(window: int, items: int = HELD) -> float:
    """Return the processor seconds of an item while a whole window is open: each stage takes a virtual second."""
    graph = fg.Graph("held")
    pool = graph.pool("pool", Nothing)

    @graph.source(reads=pool, rounds=items)
    def count(ctx: fg.Draw[Nothing]) -> int:
        return ctx.emission

    async def waited(number: int) -> int:
        await anyio.sleep(1.0)
        return number

    stages = [graph.stage(waited, name=f"stage{i}", workers=window) for i in range(STAGES)]
    graph.edge(count, stages[0], capacity=window)
    for one, other in pairwise(stages):
        graph.edge(one, other, capacity=window)
    graph.edge(stages[-1], pool)
    most = 0

    async def measured() -> float:
        nonlocal most
        before = time.process_time()
        async with fg.open_run(
            graph, TASK, models={}, schedule=fg.pipelined(window, focus=0.0), settle=anyio.wait_all_tasks_blocked
        ) as run:
            await anyio.sleep(1.5)
            most = len(run.machine.flow.rounds.open)
            await run.wait()
        return time.process_time() - before

    gc.collect()
    spent = run_virtually(measured)
    assert most == window
    return spent / items


def held_by_streams(window: int, items: int = HELD) -> float:
    """Return the processor seconds of an item through bare streams, with a whole window open as in `held`."""
    return run_virtually(lambda: through_streams(items, window, window, window, 1.0)) / items


async def through_streams(
    items: int, workers: int, buffer: int, window: int | None = None, seconds: float | None = None
) -> float:
    """Return the processor seconds of the same through bare streams, with ``workers`` tasks a stage.

    At most ``window`` numbers are between the first and the last stage; None: as many as fit. Each task sleeps for
    ``seconds`` with each number; None: it does not sleep.
    """
    gc.collect()
    before = time.process_time()
    places = None if window is None else anyio.Semaphore(window)
    async with anyio.create_task_group() as tasks:
        send, receive = anyio.create_memory_object_stream[int](buffer)
        tasks.start_soon(_count, send, items, places)
        for _ in range(STAGES):
            send, following = anyio.create_memory_object_stream[int](buffer)
            for _ in range(workers):
                tasks.start_soon(_pass, receive.clone(), send.clone(), seconds)
            receive.close()
            send.close()
            receive = following
        got = 0
        async with receive:
            async for _ in receive:
                got += 1
                if places is not None:
                    places.release()
    assert got == items
    return time.process_time() - before


async def _count(send: MemoryObjectSendStream[int], items: int, places: anyio.Semaphore | None) -> None:
    async with send:
        for number in range(items):
            if places is not None:
                await places.acquire()
            await send.send(number)


async def _pass(
    receive: MemoryObjectReceiveStream[int], send: MemoryObjectSendStream[int], seconds: float | None
) -> None:
    async with receive, send:
        async for number in receive:
            if seconds is not None:
                await anyio.sleep(seconds)
            await send.send(number)


def tiny(schedule: str, delay: float) -> tuple[float, float]:
    """Return the clock and processor seconds of 60 GEPA proposals where nothing takes time worth overlapping.

    There are five validation samples, and the model answers after ``delay`` seconds.
    """
    world = World(seed=1, train=10, val=5, test=5)

    async def model(messages: Sequence[fg.Message]) -> str:
        await anyio.sleep(delay)
        return world.answer(messages)

    before = time.perf_counter(), time.process_time()
    models = {"task": model, "reflection": model}
    fg.run("gepa", world.task(), models=models, schedule=schedule, budget=fg.Budget(proposals=60))
    return time.perf_counter() - before[0], time.process_time() - before[1]


def rate(seconds: list[float], items: int) -> float:
    """Return stage executions a second: the median of several runs."""
    return STAGES * items / median(seconds)


def memory(open_items: int) -> float:
    """Return the bytes of an open item beyond its payload, from items that wait before a stage that never takes
    them."""
    graph = fg.Graph("full")
    pool = graph.pool("pool", Nothing)

    @graph.source(reads=pool, rounds=1)
    def emit(ctx: fg.Draw[Nothing]) -> int:
        return 0

    @graph.stage(fanout=open_items)
    def many(number: int) -> fg.Several[int]:
        return fg.Several([number] * open_items)

    @graph.stage(workers=1)
    async def never(number: int) -> int:
        await anyio.sleep_forever()
        return number

    graph.edge(emit, many)
    graph.edge(many, never, capacity=open_items)
    graph.edge(never, pool)
    grown = 0.0

    async def measured() -> None:
        nonlocal grown
        tracemalloc.start()
        async with fg.open_run(graph, TASK, models={}, schedule=fg.pipelined(1)) as run:
            before = tracemalloc.get_traced_memory()[0]
            while len(run.machine.flow.places.items) < open_items:
                await anyio.lowlevel.checkpoint()
            await anyio.sleep(0.01)
            # The event log belongs to the run, and is as long when the items have ended.
            run._events._chunks.clear()
            run._events._tail.clear()
            gc.collect()
            grown = tracemalloc.get_traced_memory()[0] - before
            run.stop()
            await run.wait()
        tracemalloc.stop()

    anyio.run(measured)
    return grown / open_items


@click.command()
@click.option("--items", default=5_000, show_default=True, help="Items of a run.")
@click.option("--times", default=3, show_default=True, help="Runs of each; the median counts.")
def main(items: int, times: int) -> None:
    """Measure and print the tables."""
    anyio.run(through_the_graph, 1000, 10)
    ours: dict[int, list[float]] = {window: [] for window in WINDOWS}
    bare: dict[tuple[int, int], list[float]] = {(WORKERS, BUFFER): [], (1, 0): [], (1, BUFFER): []}
    bound: dict[int, list[float]] = {window: [] for window in WINDOWS}
    for _ in range(times):
        for window, found in ours.items():
            found.append(anyio.run(through_the_graph, items, window))
            bound[window].append(anyio.run(through_streams, items, WORKERS, BUFFER, window))
        for (workers, buffer), found in bare.items():
            found.append(anyio.run(through_streams, items, workers, buffer))
    click.echo(f"{items:,} items through {STAGES} stages, asyncio, median of {times} runs, processor time\n")
    click.echo(
        "| window | stage executions/s | of bare streams with that window | of bare streams without one | "
        "cost of an item | cost with the whole window open | the same of bare streams |\n" + "| --- " * 7 + "|"
    )
    full = {window: median(held(window) for _ in range(3)) for window in WINDOWS}
    by_streams = {window: median(held_by_streams(window) for _ in range(3)) for window in WINDOWS}
    same = rate(bare[WORKERS, BUFFER], items)
    for window, found in ours.items():
        mine = rate(found, items)
        cost = median(found) / median(ours[WINDOWS[0]])
        open_ = full[window] / full[WINDOWS[0]]
        alike = mine / rate(bound[window], items)
        plain = by_streams[window] / by_streams[WINDOWS[0]]
        click.echo(
            f"| {window:,} | {mine:,.0f} | {alike:.2f} | {mine / same:.2f} | {cost:.2f} | {open_:.2f} | {plain:.2f} |"
        )
    click.echo("\n| bare streams | stage executions/s |\n| --- | --- |")
    for (workers, buffer), found in bare.items():
        click.echo(f"| {workers} tasks a stage, a buffer of {buffer} | {rate(found, items):,.0f} |")
    click.echo(f"\nmemory of an open item: {memory(10_000):,.0f} bytes\n")
    click.echo("| 60 proposals of GEPA, five samples, a model of | lockstep | pipelined | ratio of processor time |")
    click.echo("| --- " * 4 + "|")
    for delay in (0.0, 0.002):
        one, other = ([tiny(name, delay) for _ in range(times)] for name in ("lockstep", "pipelined"))
        (base, base_work), (mine, work) = (map(median, zip(*found, strict=True)) for found in (one, other))
        click.echo(f"| {delay * 1000:g} ms | {base:.2f} s | {mine:.2f} s | {work / base_work:.2f} |")


if __name__ == "__main__":
    main()
