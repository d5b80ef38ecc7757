"""I15 for observers: hooks that raise or block, and viewers that are slow or leave."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager

import anyio

import flashgraph as fg
from flashgraph.api import Run
from flashgraph.run import events as ev
from flashgraph.sim.clock import block
from flashgraph.testing.invariants import check_invariants
from flashgraph.testing.runs import Finished
from flashgraph.testing.shape import Shape
from flashgraph.testing.tokens import draw
from tests.proof.tried import expect, ran

__all__ = ["minds_no_hook", "waits_for_no_hook", "waits_for_no_viewer"]


def minds_no_hook(shape: Shape, schedule: fg.Schedule, backend: str, well: int) -> list[Finished]:
    """A hook that raises after ``well`` events is not called again, and the run is the same."""
    calls: list[ev.Event] = []

    def hook(event: ev.Event) -> None:
        calls.append(event)
        if len(calls) > well:
            raise RuntimeError("a broken hook")

    with _unlogged():
        done = [ran(backend, shape, schedule, on_event=hook), ran(backend, shape, schedule)]
    expect(done[0].events == done[1].events, "I15: a hook that raises changed the run")
    # The hook does not get the beginning of the run.
    told = min(well + 1, len(done[0].events) - 1)
    expect(calls == list(done[0].events[1 : 1 + told]), f"I15: a hook that raised was called {len(calls)} times")
    return done


def waits_for_no_hook(shape: Shape, schedule: fg.Schedule, backend: str, seconds: float) -> list[Finished]:
    """A hook that blocks is dropped when it has used up its share of the run's time; the run is sound."""
    calls = 0

    def hook(event: ev.Event) -> None:
        nonlocal calls
        calls += 1
        block(seconds)

    with _unlogged():
        done = ran(backend, shape, schedule, on_event=hook, paced=False)
    expect(done.result.status == "completed", f"I15: the run ended as {done.result.status}: {done.result.reason}")
    check_invariants(done.events, done.plan)
    expect(done.model.in_flight == 0, "I12: requests are left behind")
    told = done.events[1:]  # the hook does not get the beginning of the run
    expected = next((n for n, e in enumerate(told, 1) if n * seconds > 5 + e.at / 20), len(told))
    expect(abs(calls - expected) <= 1, f"I15: a hook that takes {seconds} s was called {calls} times, not {expected}")
    return [done]


def waits_for_no_viewer(shape: Shape, schedule: fg.Schedule, backend: str, seconds: float, most: int) -> list[Finished]:
    """A viewer that is slow at each event, and leaves after ``most``, sees the same run as without it."""
    seen: list[ev.Event] = []

    async def viewer(run: Run) -> None:
        async for event in run:
            await anyio.sleep(seconds * draw(shape.salt, len(seen)))
            seen.append(event)
            if len(seen) == most:
                return

    done = [ran(backend, shape, schedule, viewer=viewer), ran(backend, shape, schedule)]
    expect(done[0].events == done[1].events, "I15: a viewer changed the run")
    expect(seen == list(done[0].events[:most]), "I15: a viewer has seen other events than those of the run")
    return done


@contextmanager
def _unlogged() -> Iterator[None]:
    """Drop the log, which has each broken hook once with its traceback."""
    logger = logging.getLogger("flashgraph")
    logger.disabled = True
    try:
        yield
    finally:
        logger.disabled = False
