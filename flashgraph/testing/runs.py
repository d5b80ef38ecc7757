"""Running generated graphs under a virtual clock."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

import anyio
import attrs

import flashgraph as fg
from flashgraph.llm.protocol import Message
from flashgraph.run.events import Event
from flashgraph.run.plan import Plan
from flashgraph.testing.clock import settle
from flashgraph.testing.graphs import Shape, build

__all__ = ["TASK", "Finished", "LatencyModel", "run_shape"]


async def _attempt(candidate: Mapping[str, str], sample: int, llm: fg.Llm) -> str:
    return (await llm(f"{candidate['text']} {sample}")).text


TASK = fg.Task("generated", train=[0], val=[0], seed={"text": "-"}, attempt=_attempt, score=lambda s, o: fg.Score(1.0))
"""A task for graphs that need none."""


class LatencyModel:
    """Answers after ``seconds(request)``; counts what is in flight, so that a leak shows."""

    def __init__(self, limit: int, seconds: Callable[[str], float]) -> None:
        self._limit = limit
        self._seconds = seconds
        self.in_flight = 0
        self.peak = 0

    @property
    def name(self) -> str:
        return "latency"

    @property
    def limit(self) -> int:
        return self._limit

    def open(self) -> AbstractAsyncContextManager[None]:
        return self._open()

    @asynccontextmanager
    async def _open(self) -> AsyncIterator[None]:
        yield

    async def complete(self, messages: Sequence[Message], params: Mapping[str, Any]) -> fg.Reply:
        self.in_flight += 1
        self.peak = max(self.peak, self.in_flight)
        try:
            await anyio.sleep(self._seconds(messages[-1]["content"]))
            return fg.Reply("ok", fg.Usage(10, 5), 0.001)
        finally:
            self.in_flight -= 1

    def worst_cost(self, prompt: int, completion: int) -> float | None:
        return 0.01


@attrs.frozen
class Finished:
    """A run of a generated graph: its result, the plan it was compiled to, and its model."""

    result: fg.Result
    plan: Plan
    model: LatencyModel

    @property
    def events(self) -> tuple[Event, ...]:
        return self.result.events


async def run_shape(
    shape: Shape,
    schedule: fg.Schedule,
    *,
    seed: int = 0,
    limit: int = 2,
    budget: fg.Budget | None = None,
    stop_after: float | None = None,
    cancel_after: float | None = None,
    on_event: Callable[[Event], None] | None = None,
) -> Finished:
    """Run a shape's graph on a `LatencyModel` to its end, stop it ``stop_after`` seconds, or cancel the whole block
    that it runs in ``cancel_after`` seconds."""
    graph = build(shape)
    model = LatencyModel(limit, lambda request: shape.seconds("model", request))
    roles = {s.llm for s in graph.spec.stages if s.llm}
    opened = fg.open_run(
        graph,
        TASK,
        models=dict.fromkeys(roles, model),
        schedule=schedule,
        seed=seed,
        budget=budget,
        settle=settle,
        on_event=on_event,
    )
    with anyio.move_on_after(cancel_after):
        async with opened as run:
            with anyio.move_on_after(stop_after):
                await run.wait()
            if stop_after is not None:
                run.stop()
                await run.wait()
    return Finished(run.result, run.machine.plan, model)
