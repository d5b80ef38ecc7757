"""Reference model of steering: how a limit follows the load that a server reports, reading by reading."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from contextlib import AbstractAsyncContextManager, nullcontext
from typing import Any

import anyio
from hypothesis import strategies as st

import flashgraph as fg
from flashgraph.llm.limits import Limits, steered
from flashgraph.llm.protocol import Load
from flashgraph.run import events as ev
from flashgraph.sim.clock import run_virtually, settle
from flashgraph.testing.runs import TASK
from tests.proof.oracles.small import Kept
from tests.proof.tried import FOREVER, Property, expect

__all__ = ["SERVERS"]

SECONDS = 12
"""The length of a run in seconds, and so its number of readings; every request takes longer."""


class Server:
    """A server whose requests all outlast the run; those above ``slots`` are queued.

    It reports nothing at the times in ``silent``, and reports late at those in ``slow``.
    """

    def __init__(self, limits: Limits, slots: int, silent: Sequence[int], slow: Mapping[int, float]) -> None:
        self.name = "server"
        self.limits = limits
        self.limit = limits.most
        self.slots = slots
        self.silent = silent
        self.slow = slow
        self.in_flight = 0
        self.read = 0

    def open(self) -> AbstractAsyncContextManager[None]:
        return nullcontext()

    async def load(self) -> Load | None:
        self.read += 1
        number = self.read
        await anyio.sleep(self.slow.get(number, 0.0))
        waiting = max(0, self.in_flight - self.slots)
        return None if number in self.silent else Load(self.in_flight - waiting, waiting)

    async def complete(self, messages: Any, params: Any) -> fg.Reply:
        self.in_flight += 1
        try:
            await anyio.sleep(SECONDS + 0.5)
        finally:
            self.in_flight -= 1
        return fg.Reply("ok")

    def worst_cost(self, prompt: int, completion: int) -> float | None:
        return 0.01


def follows(
    start: int, most: int, slots: int, requests: int, silent: Sequence[int], slow: Mapping[int, float], mute: bool
) -> None:
    """I4: a limit follows the server's queue once a second.

    It doubles while the queue is empty and every slot is taken, and rises by four once a queue has been seen.  With
    more than four requests in the queue, all but two of them are too many.  A server that has never reported gets up to
    128 requests.  A report that takes over five seconds is none, and a ``mute`` server gives none.
    """
    server: Any = Server(steered(most, start=start), slots, silent, slow)
    if mute:
        server.load = None
        silent, slow = range(1, SECONDS + 1), {}
    graph = fg.Graph("followed")
    pool = graph.pool("pool", Kept)

    @graph.source(reads=pool, rounds=requests)
    def emit(ctx: fg.Draw[Kept]) -> int:
        return ctx.emission

    @graph.stage(name="ask", model="model", workers=requests)
    async def ask(number: int, ctx: fg.Context[None]) -> int:
        await ctx.llm(f"number {number}")
        return number

    graph.edge(emit, ask)
    graph.edge(ask, pool)

    async def run() -> fg.Result:
        schedule = fg.pipelined(requests, focus=0.0)
        budget = fg.Budget(seconds=FOREVER)
        async with fg.open_run(
            graph, TASK, models={"model": server}, schedule=schedule, budget=budget, settle=settle
        ) as opened:
            with anyio.move_on_after(SECONDS + 0.25):
                await opened.wait()
            opened.stop()
            return await opened.wait()

    result = run_virtually(run)
    told = [(round(e.at, 6), e.limit) for e in result.events if isinstance(e, ev.LimitChanged)]
    sent = [e.at for e in result.events if isinstance(e, ev.CallStarted)]
    expected, changes = _expected(start, most, slots, requests, silent, slow)
    expect(told == changes, f"I4: the limit became {told}, expected {changes}")
    for moment, number in expected:
        found = sum(at < moment + 0.1 for at in sent)
        expect(found == number, f"I4: after {moment} s {found} requests were sent, expected {number}")


def _expected(
    start: int, most: int, slots: int, requests: int, silent: Sequence[int], slow: Mapping[int, float]
) -> tuple[list[tuple[float, int]], list[tuple[float, int]]]:
    """Return the requests in flight after each reading, and the limits at the times when they change."""
    limit, ceiling, heard = min(start, most), math.inf, False
    out = min(requests, limit)
    full = out == limit
    outs, changes = [(0.0, out)], list[tuple[float, int]]()
    now, number = 0.0, 0
    while True:
        number += 1
        takes = slow.get(number, 0.0)
        now += 1.0 + min(takes, 5.0)
        if now > SECONDS:
            return outs, changes
        before, waiting = limit, max(0, out - slots)
        if number in silent or takes > 5.0:
            limit = limit if heard else min(128, most)
            full = full and heard
        else:
            heard = True
            if waiting > 4:
                limit = max(1, min(limit, out - (waiting - 2)))
                ceiling = limit
            elif waiting:
                ceiling = min(ceiling, limit)
            elif full:
                limit = min(most, 2 * limit if limit < ceiling else limit + 4)
            full = False
        more = max(0, min(requests, limit) - out)
        out += more
        full = full or (more > 0 and out >= limit)
        outs.append((now, out))
        changes += [(now, limit)] if limit != before else []


SERVERS: Mapping[str, Property] = {
    "steered limits": Property(
        ("I4",),
        follows,
        {
            "start": st.integers(1, 6),
            "most": st.sampled_from([1, 4, 9, 40, 200]),
            "slots": st.sampled_from([1, 3, 8, 30, 500]),
            "requests": st.sampled_from([1, 5, 20, 60]),
            "silent": st.lists(st.integers(1, SECONDS), max_size=4),
            "mute": st.sampled_from([False, False, False, True]),
            "slow": st.dictionaries(st.integers(1, SECONDS), st.sampled_from([0.25, 3.0, 9.0]), max_size=2),
        },
        0.4,
        known=[
            {"start": 2, "most": 40, "slots": 8, "requests": 60, "silent": [], "slow": {}, "mute": False},
            {"start": 2, "most": 200, "slots": 8, "requests": 60, "silent": [1, 2], "slow": {3: 9.0}, "mute": False},
            {"start": 2, "most": 200, "slots": 500, "requests": 20, "silent": [1], "slow": {}, "mute": False},
        ],
    )
}
