"""Runs of generated graphs under a virtual clock."""

from __future__ import annotations

import math
import random
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import partial
from typing import Any

import anyio
import attrs

import flashgraph as fg
from flashgraph.api import Run
from flashgraph.errors import MalformedReply, ModelUnavailable, PassingFault, RequestFailed, Throttled, TimedOut
from flashgraph.llm.limits import Limits, parse_limits
from flashgraph.llm.protocol import Load, Message, Quota
from flashgraph.run.events import Event
from flashgraph.run.plan import Plan
from flashgraph.sim.clock import settle
from flashgraph.testing.graphs import build
from flashgraph.testing.recording import Recording, SlowRecording
from flashgraph.testing.shape import Shape
from flashgraph.testing.tokens import draw

__all__ = ["TASK", "Finished", "LatencyModel", "run_shape"]


async def _attempt(candidate: Mapping[str, str], sample: int, llm: fg.Llm) -> str:
    return (await llm(f"{candidate['text']} {sample}")).text


TASK = fg.Task(
    "generated",
    train=[0],
    val=[0],
    seed={"text": "-"},
    attempt=_attempt,
    score=lambda s, o: fg.Score(1.0),
    bounds=(0.0, math.inf),
)
"""A task for graphs that need none; no score is perfect, so that none ends a run."""


BEFORE = 64.0
"""Seconds on the clock before a run begins; a power of two, so that exact sums stay exact."""


class LatencyModel:
    """Replies after ``seconds(request)``, or fails then as ``fate(request)`` says; a timeout is tried twice.

    Replies and timeouts therefore happen at the same moments.  ``in_flight`` counts open requests, so that a leak
    shows.  With ``limits`` that move, the model reports all requests above ``slots`` as queued, reports its rate
    limits, throttles some requests, and fails some with passing faults.  It is down for its first ``down`` seconds.
    """

    def __init__(
        self,
        limit: int,
        seconds: Callable[[str], float],
        *,
        name: str = "latency",
        limits: Limits | None = None,
        slots: int = 2,
        down: float = 0.0,
        fate: Callable[[str], str] = lambda request: "answered",
    ) -> None:
        self.name = name
        self.limits = limits
        self._limit = limit if limits is None else limits.most
        self._seconds = seconds
        self._slots = slots
        self._down = down
        self._fate = fate
        self._opened = 0.0
        self.sent = 0
        self.read = 0
        self.in_flight = 0
        self.peak = 0

    @property
    def limit(self) -> int:
        return self._limit

    async def load(self) -> Load | None:
        self.read += 1
        # Between two moments at which requests end, so that the event loop's order does not matter.
        await anyio.sleep(0.00137)
        waiting = max(0, self.in_flight - self._slots)
        return Load(self.in_flight - waiting, waiting)

    def open(self) -> AbstractAsyncContextManager[None]:
        return self._open()

    @asynccontextmanager
    async def _open(self) -> AsyncIterator[None]:
        self._opened = anyio.current_time()
        yield

    async def complete(self, messages: Sequence[Message], params: Mapping[str, Any]) -> fg.Reply:
        self.sent += 1
        self.in_flight += 1
        self.peak = max(self.peak, self.in_flight)
        request = messages[-1]["content"]
        quotas: tuple[Quota, ...] = ()
        try:
            if anyio.current_time() - self._opened < self._down:
                await anyio.sleep(0.1)
                raise ModelUnavailable(f"{self.name} is down")
            if self.limits is not None:
                # By the moment, not by a count: of two equal requests at once, either may come first.
                moment = round(anyio.current_time() - self._opened, 6)
                drawn = random.Random(f"{self.name}/{request}/{moment}").random()
                if drawn < 0.4:
                    # Not a round number, because event loops differ in which moments are equal.
                    await anyio.sleep(0.05 + drawn / 100)
                    raise self._passing(drawn)
                quotas = _quotas(drawn)
            fate = self._fate(request)
            await anyio.sleep(self._seconds(request))
            if fate == "timeout":
                raise PassingFault(TimedOut("generated: timeout"), tries=2, cut_off=True)
            if fate != "answered":
                raise RequestFailed(f"generated: {fate}")
            return fg.Reply("ok", fg.Usage(10, 1 + int(9 * draw(request))), 0.001, quotas=quotas)
        finally:
            self.in_flight -= 1

    def _passing(self, drawn: float) -> PassingFault:
        """Return a passing fault, chosen by a number from 0 to 0.4."""
        pause = 3.0 if 0.1 <= drawn < 0.3 else None
        if drawn < 0.25:
            return Throttled(f"{self.name} is full", pause=pause, tries=100, quotas=_quotas(drawn / 10 + 0.01))
        if drawn < 0.3:
            return PassingFault(ModelUnavailable(f"{self.name} fails"), pause=pause, tries=100)
        if drawn < 0.35:
            return PassingFault(TimedOut(f"{self.name} is late"), tries=100, cut_off=True)
        return PassingFault(MalformedReply(f"{self.name} stammers"), tries=100, usage=fg.Usage(10, 2, estimated=True))

    def worst_cost(self, prompt: int, completion: int) -> float | None:
        return 0.01


def _quotas(share: float) -> tuple[Quota, ...]:
    """Return quotas whose remaining ``share`` is given.

    The rates are so high that no request waits.  A wait would end at no round number, and event loops differ in the
    last digit of the time.
    """
    return Quota("requests", 6e5, 6e5 * share, 40.0), Quota("tokens", 1e9, 1e9 * share, 40.0)


@attrs.frozen
class Finished:
    """A finished run of a generated graph: its result, its plan and its model."""

    result: fg.Result
    plan: Plan
    model: LatencyModel
    others: tuple[LatencyModel, ...] = ()
    seconds: float | None = None
    """Seconds from begin to end on the event loop's clock; None for a run that was cancelled or resumed."""
    recording: Recording | None = None
    """The recording of its turns, if it had a disk."""

    @property
    def events(self) -> Sequence[Event]:
        return self.result.events


async def run_shape(
    shape: Shape,
    schedule: fg.Schedule,
    *,
    seed: int = 0,
    limit: int = 2,
    limits: Sequence[str] = (),
    budget: fg.Budget | None = None,
    stop_after: float | None = None,
    cancel_after: float | None = None,
    drain_after: float | None = None,
    on_event: Callable[[Event], None] | None = None,
    viewer: Callable[[Run], Coroutine[Any, Any, None]] | None = None,
    disk: Callable[[int], float] | None = None,
    full: int | None = None,
    folder: str | None = None,
    resume: bool = False,
) -> Finished:
    """Run a shape's graph on a `LatencyModel` to its end.

    The run is drained after ``drain_after`` seconds, stopped after ``stop_after``, or its whole block is cancelled
    after ``cancel_after``.  A ``folder`` keeps its journal; a run that is there is resumed.

    ``limits`` (texts of `flashgraph.llm.limits.parse_limits`) makes as many models, which share the work; the first of
    several is down at the beginning.  ``viewer`` is awaited beside the run, which may end first.  With ``disk`` turn n
    is durable after ``disk(n)`` seconds, and from turn number ``full`` on the disk is full.  The turns are replayed on
    a fresh machine at the end, unless the run is stopped.
    """
    graph = build(shape)

    def seconds(request: str) -> float:
        return shape.seconds("model", request)

    first_is_down = 2.0 if len(limits) > 1 else 0.0
    models = [
        LatencyModel(limit, seconds, name=f"latency {i}", limits=parse_limits(text), down=0.0 if i else first_is_down)
        for i, text in enumerate(limits)
    ] or [LatencyModel(limit, seconds, fate=shape.fate)]
    roles = {s.model for s in graph.spec.stages if s.model}
    opened = fg.open_run(
        graph,
        TASK,
        models=dict.fromkeys(roles, models),
        schedule=schedule,
        seed=seed,
        budget=budget,
        settle=settle,
        on_event=on_event,
        folder=folder,
        resume=resume,
        memory=None if disk is None else partial(SlowRecording, seconds=disk, full=full),
    )
    took: float | None = None
    # The run's clock begins with the run, not with the event loop.
    await anyio.sleep(BEFORE)
    with anyio.move_on_after(cancel_after):
        async with opened as run:
            began = anyio.current_time()
            async with anyio.create_task_group() as viewers:
                if viewer is not None:
                    viewers.start_soon(viewer, run)
                with anyio.move_on_after(stop_after if drain_after is None else drain_after):
                    await run.wait()
                if drain_after is not None:
                    run.drain("drained")
                    run.drain("again")
                    await run.wait()
                if stop_after is not None:
                    run.stop()
                    await run.wait()
                took = anyio.current_time() - began if not resume else None
    # Work while a run stops is not kept, but repeated after a resume.
    recording = run.memory if isinstance(run.memory, Recording) else None
    if recording is not None and stop_after is None and full is None:
        recording.replay(run.machine.plan, budget or fg.Budget(), seed)
    return Finished(run.result, run.machine.plan, models[0], tuple(models[1:]), took, recording)
