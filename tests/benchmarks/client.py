"""The cost of a request compared with a bare httpx loop: the same server, requests, and number in flight.

    python -m tests.benchmarks.client [--requests 3000] [--flight 1000] [--rounds 3]

Prints the tables of docs/benchmarks/index.md, section "Client". Each rate is given for the clock and for the client's
own processor time, because other work on the machine affects the clock.
"""

from __future__ import annotations

import json
import resource
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from functools import partial
from statistics import median
from typing import Any

import anyio
import attrs
import click
import httpx
from anyio.streams.buffered import BufferedByteReceiveStream

import flashgraph as fg
from flashgraph.llm.http import HttpModel
from flashgraph.sim.model import SimModel
from flashgraph.sim.profiles import PROFILES
from flashgraph.sim.server import SimServer
from tests.sim.serving import serving

MESSAGES = [
    {"role": "system", "content": "Answer as the rules say. " * 20},
    {"role": "user", "content": "case val-1"},
]
BODY = {"model": "sim", "messages": MESSAGES, "stream": False}
SLOTS = 4096


@attrs.frozen
class Rate:
    """Requests a second, by the clock and by the client's processor time."""

    clock: float
    processor: float


def served() -> SimServer:
    """Return a server that is as fast as possible: replies take almost no time, and a slot is always free."""
    return SimServer(SimModel(attrs.evolve(PROFILES["vllm"].faster(1e6), slots=SLOTS)))


async def bare(url: str, requests: int, flight: int) -> None:
    """Run a simple loop, which reads the text of the reply."""
    limits = httpx.Limits(max_connections=flight, max_keepalive_connections=flight)
    async with httpx.AsyncClient(limits=limits, timeout=None, trust_env=False) as client:

        async def one() -> None:
            response = await client.post(f"{url}/v1/chat/completions", json=BODY)
            response.raise_for_status()
            assert response.json()["choices"][0]["message"]["content"]

        await in_flight(one, requests, flight)


async def spread(url: str, requests: int, flight: int) -> None:
    """Run the same loop with a client for each request in flight, the fastest way with httpx."""
    tls, idle = httpx.create_ssl_context(), list[httpx.AsyncClient]()
    async with AsyncExitStack() as stack:

        async def one() -> None:
            if idle:
                client = idle.pop()
            else:
                client = await stack.enter_async_context(httpx.AsyncClient(verify=tls, timeout=None, trust_env=False))
            response = await client.post(f"{url}/v1/chat/completions", json=BODY)
            response.raise_for_status()
            assert response.json()["choices"][0]["message"]["content"]
            idle.append(client)

        await in_flight(one, requests, flight)


async def model(url: str, requests: int, flight: int) -> None:
    """Run flashgraph's backend alone."""
    given = HttpModel(url, "sim", limit=flight)

    async def one() -> None:
        assert (await given.complete(MESSAGES, {})).text

    async with given.open():
        await in_flight(one, requests, flight)


@attrs.frozen
class Number:
    number: int


@attrs.frozen
class Counted:
    """A pool that holds nothing, so that only the way to it is measured."""

    artifacts: Mapping[int, fg.Artifact] = attrs.field(factory=dict)

    def apply(self, event: fg.PoolEvent[Number]) -> Counted:
        return self

    def best(self) -> fg.Artifact | None:
        return None

    def best_line(self) -> Counted:
        return self


def graph_of(requests: int) -> fg.Graph:
    """Return a graph with one call a round, and rounds that do not wait for each other."""
    graph = fg.Graph("calls")
    counted = graph.pool("counted", Counted)

    @graph.source(rounds=requests)
    def number(ctx: fg.Draw[None]) -> Number:
        return Number(ctx.emission)

    @graph.stage(model="task")
    async def call(given: Number, ctx: fg.Context) -> Number:
        assert (await ctx.llm(MESSAGES)).text
        return given

    graph.edge(number, call)
    graph.edge(call, counted)
    return graph


async def scheduled(url: str, requests: int, flight: int) -> None:
    """Run everything: the scheduler, its budget and events, and the backend."""
    task = fg.Task("calls", [0], [0], score=lambda sample, output: fg.Score(0.0))
    given = HttpModel(url, "sim", limit=flight)
    options: dict[str, Any] = {"models": {"task": given}, "schedule": fg.pipelined(window=flight)}
    result = await fg.arun(graph_of(requests), task, budget=fg.Budget(calls=requests), **options)
    assert result.spent.calls == requests


async def in_flight(one: Callable[[], Awaitable[None]], requests: int, flight: int) -> None:
    left = iter(range(requests))

    async def worker() -> None:
        for _ in left:
            await one()

    async with anyio.create_task_group() as tasks:
        for _ in range(flight):
            tasks.start_soon(worker)


WAYS: Mapping[str, Callable[[str, int, int], Awaitable[None]]] = {
    "bare httpx loop": bare,
    "bare, a client for each request in flight": spread,
    "`HttpModel.complete`": model,
    "a run of a one-stage graph": scheduled,
}


def timed(way: Callable[[str, int, int], Awaitable[None]], url: str, requests: int, flight: int) -> Rate:
    clock, processor = time.perf_counter(), time.process_time()
    anyio.run(partial(way, url, requests, flight))
    return Rate(requests / (time.perf_counter() - clock), requests / (time.process_time() - processor))


def measured(url: str, requests: int, flight: int, rounds: int) -> dict[str, Rate]:
    """Return medians over the rounds. Each round measures every way, under the same load of the machine."""
    found: dict[str, list[Rate]] = {name: [] for name in WAYS}
    for _ in range(rounds):
        for name, way in WAYS.items():
            found[name].append(timed(way, url, requests, flight))
    return {
        name: Rate(median(r.clock for r in rates), median(r.processor for r in rates)) for name, rates in found.items()
    }


def table(found: Mapping[str, Rate]) -> str:
    base = found["bare httpx loop"]
    lines = ["| client | requests/s | bare loop = 1 | requests/s of processor time | bare loop = 1 |"]
    lines.append("| --- " * 5 + "|")
    for name, rate in found.items():
        lines.append(
            f"| {name} | {rate.clock:,.0f} | {rate.clock / base.clock:.1f} | {rate.processor:,.0f} | "
            f"{rate.processor / base.processor:.1f} |"
        )
    return "\n".join(lines)


async def sustained(url: str, requests: int, flight: int) -> float:
    """Return the answers a second to requests over bare sockets, one for each in flight: a client with almost no work.

    The first and the last quarter do not count: at first no long reply is done, and at the end only long ones are left.
    """
    port, numbers, ends = httpx.URL(url).port, iter(range(requests)), list[float]()
    assert port is not None

    async def worker() -> None:
        async with await anyio.connect_tcp("127.0.0.1", port) as stream:
            received = BufferedByteReceiveStream(stream)
            for number in numbers:
                body = json.dumps({"messages": [{"role": "user", "content": f"question {number}"}]}).encode()
                head = f"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-length: {len(body)}\r\n\r\n"
                await stream.send(head.encode() + body)
                answered = await received.receive_until(b"\r\n\r\n", 65536)
                assert answered.startswith(b"HTTP/1.1 200")
                await received.receive_exactly(int(answered.lower().split(b"content-length: ")[1].split(b"\r\n")[0]))
                ends.append(anyio.current_time())

    async with anyio.create_task_group() as tasks:
        for _ in range(flight):
            tasks.start_soon(worker)
    first, last = len(ends) // 4, len(ends) * 3 // 4
    return (last - first) / (ends[last] - ends[first])


@attrs.frozen
class Profiled:
    """The `vllm` profile, ``speed`` times as fast."""

    speed: float

    def __call__(self) -> SimServer:
        return SimServer(SimModel(PROFILES["vllm"].faster(self.speed)))

    @property
    def most(self) -> float:
        """Requests a second of the profile with every slot busy."""
        profile = PROFILES["vllm"]
        return profile.capacity * self.speed / profile.mean


def _children() -> float:
    """Return the processor seconds of the child processes that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def server_table(speeds: Sequence[float], seconds: float) -> str:
    """Return the simulated server's answers with 1.5 requests in flight for each of its slots."""
    head = "| speed | the profile can answer/s | answered/s | answered/s of the server's processor time |"
    lines = [head, "| --- " * 4 + "|"]
    for speed in speeds:
        profiled, before = Profiled(speed), _children()
        requests = round(profiled.most * seconds)
        with serving(profiled) as url:
            rate = anyio.run(partial(sustained, url, requests, round(PROFILES["vllm"].slots * 1.5)))
        # The figure includes the server's start, so it is a lower bound.
        processor = requests / (_children() - before)
        lines.append(f"| {speed:g} | {profiled.most:,.0f} | {rate:,.0f} | {processor:,.0f} |")
    return "\n".join(lines)


@click.command()
@click.option("--requests", default=3000, show_default=True)
@click.option("--flight", default=1000, show_default=True, help="Requests in flight at once.")
@click.option("--rounds", default=3, show_default=True)
def main(requests: int, flight: int, rounds: int) -> None:
    with serving(served) as url:
        click.echo(f"{requests} requests, {flight} in flight, medians of {rounds} rounds\n")
        click.echo(table(measured(url, requests, flight, rounds)))
    click.echo(f"\nthe simulated server, {PROFILES['vllm'].slots} slots\n\n{server_table((10, 30, 60), 20)}")


if __name__ == "__main__":
    main()
