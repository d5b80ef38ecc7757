"""Time limits and further tries of stages."""

from __future__ import annotations

from collections import Counter
from typing import Any

import anyio
import pytest

import flashgraph as fg
from flashgraph.run import events as ev
from tests.run.kit import Virtually, of, watched
from tests.run.test_several_pools import Log


def graph_of(body: Any, **options: Any) -> fg.Graph:
    """Return a graph with one stage."""
    graph = fg.Graph("tries")
    log = graph.pool("log", Log)

    @graph.source(rounds=3)
    def draw(ctx: fg.Draw[None]) -> int:
        return ctx.emission

    stage = graph.stage(body, name="work", **options)
    graph.edge(draw, stage)
    graph.edge(stage, log)
    return graph


@pytest.mark.parametrize("schedule", ["lockstep", "pipelined"])
@pytest.mark.parametrize("retries", [0, 1, 2])
@pytest.mark.parametrize("plain", [False, True])
def test_a_stage_is_tried_again(retries: int, plain: bool, schedule: str, virtually: Virtually) -> None:
    """Item n raises n times: what has enough tries arrives, and the rest fails with its last error."""
    tries: Counter[int] = Counter()

    def sync(number: int) -> str:
        tries[number] += 1
        if tries[number] <= number:
            raise ValueError(f"try {tries[number]}")
        return f"number {number}"

    async def waiting(number: int) -> str:
        await anyio.sleep(1)
        return sync(number)

    result = watched(graph_of(sync if plain else waiting, retries=retries), virtually, schedule=schedule)
    assert sorted(a.value for a in result.artifacts) == [f"number {n}" for n in range(retries + 1)]
    assert [e.reason for e in of(result, ev.JobEnded) if e.how == "failed"] == [
        f"ValueError: try {retries + 1}" for _ in range(retries + 1, 3)
    ]
    assert tries == {n: min(n, retries) + 1 for n in range(3)}


def test_each_try_has_the_time_limit(virtually: Virtually) -> None:
    """The first try of each item takes a minute, the second a second: both together take three."""
    tries: Counter[int] = Counter()

    async def slow(number: int) -> str:
        tries[number] += 1
        await anyio.sleep(60 if tries[number] == 1 else 1)
        return f"number {number}"

    result = watched(graph_of(slow, timeout=2.0, retries=1), virtually, schedule="lockstep")
    assert len(result.artifacts) == 3
    assert [e.seconds for e in of(result, ev.JobEnded) if e.stage == "work"] == [3.0, 3.0, 3.0]


def test_a_time_limit_is_the_reason_of_the_failure(virtually: Virtually) -> None:
    """It names the stage and the limit."""

    async def slow(number: int) -> str:
        await anyio.sleep(60)
        return "never"

    result = watched(graph_of(slow, timeout=2.0), virtually, schedule="lockstep")
    said = "StageTimedOut: stage 'work' took longer than 2 s (timeout=2)"
    assert [e.reason for e in of(result, ev.JobEnded) if e.how == "failed"] == [said] * 3


def test_parents_are_those_of_the_last_try(virtually: Virtually) -> None:
    """A try that raises leaves none behind."""
    graph = fg.Graph("parents")
    log = graph.pool("log", Log)
    tries: Counter[int] = Counter()

    @graph.source(reads=log, rounds=3, window=1)
    def draw(ctx: fg.Draw[Log]) -> int:
        ctx.no_parents()
        return ctx.emission

    @graph.stage(reads=log, retries=1)
    async def work(number: int, ctx: fg.Context[Log]) -> str:
        tries[number] += 1
        known = list(ctx.view.artifacts)
        ctx.parents(*(known if tries[number] == 1 else known[-1:]))
        if tries[number] == 1:
            raise ValueError("again")
        return "x"

    graph.edge(draw, work)
    graph.edge(work, log)
    result = watched(graph, virtually, schedule="lockstep")
    assert [a.parents for a in result.artifacts] == [(), (0,), (1,)]
