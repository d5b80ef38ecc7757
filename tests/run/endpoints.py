"""Endpoints of tests under virtual time, and runs of many equal requests against them."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

import anyio
import attrs

import flashgraph as fg
from flashgraph.errors import ModelUnavailable, Throttled
from flashgraph.llm.limits import Limits
from flashgraph.llm.protocol import Load, Message
from flashgraph.llm.quotas import quotas
from flashgraph.sim.faults import RateLimit
from flashgraph.testing import check_invariants, run_virtually, settle
from flashgraph.testing.runs import TASK
from flashgraph.testing.tokens import Ledgered, Token

__all__ = ["Server", "of", "ran", "requests"]


@attrs.define(eq=False)
class Server:
    """A server that works on ``slots`` requests at once, each for about ``seconds``.

    It throttles more with 429, or with ``queues`` lets them wait. It is down from second ``down[0]`` to ``down[1]``. It
    throttles the requests in ``refuses`` once, and answers those in ``faults`` with one fault after the other. ``rate``
    is its rate limit in requests a minute, which several servers may share; each answer states it.
    """

    slots: int
    limits: Limits
    seconds: float = 4.0
    name: str = "server"
    queues: bool = False
    down: tuple[float, float] = (0.0, 0.0)
    refuses: dict[str, float] = attrs.field(factory=dict)
    faults: dict[str, list[Any]] = attrs.field(factory=dict)
    rate: RateLimit | None = None
    in_flight: int = 0
    waits: list[int] = attrs.field(factory=list)
    answered: list[str] = attrs.field(factory=list)
    _places: anyio.CapacityLimiter | None = None

    @property
    def limit(self) -> int:
        return self.limits.most

    @asynccontextmanager
    async def open(self) -> AsyncIterator[None]:
        self._places = anyio.CapacityLimiter(self.slots)
        yield

    async def complete(self, messages: Sequence[Message], params: Mapping[str, Any]) -> fg.Reply:
        request = messages[-1]["content"]
        await anyio.sleep(0.05)
        if self.down[0] <= anyio.current_time() < self.down[1]:
            raise ModelUnavailable(f"no model server answers at {self.name}")
        if request in self.refuses:
            raise Throttled("too many requests", pause=self.refuses.pop(request))
        if self.faults.get(request):
            raise self.faults[request].pop(0)
        if not self.queues and self.in_flight >= self.slots:
            raise Throttled(f"{self.name}: too many requests", pause=1.0, tries=100)
        if self.rate is not None and (pause := self.rate.wanting(1.0)):
            raise Throttled(f"{self.name}: too many requests", pause=pause, tries=100, quotas=quotas(self._told()))
        if self.rate is not None:
            self.rate.take(1.0)
        told = quotas(self._told())
        self.in_flight += 1
        try:
            assert self._places is not None
            async with self._places:
                await anyio.sleep(self.seconds * (0.5 + random.Random(request).random()))
        finally:
            self.in_flight -= 1
        self.answered.append(request)
        return fg.Reply("ok", fg.Usage(1, 50), 0.0, model=self.name, quotas=told)

    def _told(self) -> dict[str, str]:
        return {} if self.rate is None else self.rate.headers("requests")

    async def load(self) -> Load:
        waiting = max(0, self.in_flight - self.slots)
        self.waits.append(waiting)
        return Load(self.in_flight - waiting, waiting)

    def worst_cost(self, prompt: int, completion: int) -> float | None:
        return 0.0


def requests(count: int, stages: Sequence[str] = ("task",)) -> fg.Graph:
    """Return a graph that makes ``count`` requests of each role, and does nothing else."""
    graph = fg.Graph("requests")
    pool = graph.pool("pool", Ledgered)

    @graph.source(rounds=count)
    def number(ctx: fg.Draw[None]) -> Token:
        return Token(ctx.emission, 0)

    last: Any = number
    for role in stages:

        async def ask(token: Token, ctx: fg.Context) -> Token:
            await ctx.llm(str(token.path))
            return token

        stage = graph.stage(ask, name=f"ask_{role}", model=role)
        graph.edge(last, stage)
        last = stage
    graph.edge(last, pool)
    return graph


def ran(
    graph: fg.Graph,
    models: Mapping[str, Any],
    *,
    window: int = 1000,
    look: Callable[[Any], None] = lambda machine: None,
    virtually: Callable[[Callable[[], Any]], Any] = run_virtually,
    **options: Any,
) -> fg.Result:
    """Return the result of a run under virtual time, checked against the invariants; ``look`` gets the machine at the
    end.
    """

    async def run() -> fg.Result:
        schedule = fg.pipelined(window, focus=0.0)
        async with fg.open_run(graph, TASK, models=models, schedule=schedule, settle=settle, **options) as opened:
            result = await opened.wait()
            look(opened.machine)
            check_invariants(result.events, opened.machine.plan, options.get("budget"))
            return result

    found: fg.Result = virtually(run)
    return found


def of(result: fg.Result, kind: type[Any]) -> list[Any]:
    """Return the events of one kind."""
    return [event for event in result.events if isinstance(event, kind)]
