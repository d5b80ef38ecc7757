"""Work that a budget has no room for waits for a larger one: a resumed run equals one that had it at once.

On generated graphs that is the property "resumed with a larger budget" of `tests.proof.properties`.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import anyio
import attrs
import pytest

import flashgraph as fg
from flashgraph.run import events as ev
from flashgraph.sim.clock import run_virtually
from flashgraph.sim.world import World
from flashgraph.testing import settle
from flashgraph.testing.invariants import check_invariants
from flashgraph.testing.runs import LatencyModel
from tests.proof.oracles.small import Kept
from tests.run.kit import Virtually, of, watched

WORLD = World(seed=1, train=9, val=5)


class Model(LatencyModel):
    """The world's model with its own latencies; ``asked`` counts how often it was sent each request."""

    def __init__(self) -> None:
        super().__init__(4, lambda request: 0.25 + len(request) % 7 / 4)
        self.asked: dict[str, int] = {}

    async def complete(self, messages: Any, params: Mapping[str, Any]) -> fg.Reply:
        key = repr(messages)
        self.asked[key] = self.asked.get(key, 0) + 1
        await super().complete(messages, params)
        text = WORLD.answer(messages)
        return fg.Reply(text, fg.Usage(20, 10), 0.001)


def gepa(folder: Path | None, model: Model, schedule: str, *budgets: fg.Budget) -> fg.Result:
    """Return the result of the last session of GEPA on the world, under one budget after the other."""

    async def sessions() -> fg.Result:
        for number, budget in enumerate(budgets):
            async with fg.open_run(
                "gepa", WORLD.task(), models=dict.fromkeys(("task", "reflection"), model), schedule=schedule,
                budget=budget, folder=folder, resume=number > 0, settle=settle,
            ) as run:  # fmt: skip
                result = await run.wait()
                check_invariants(result.events, run.machine.plan, budget)
        return result

    return run_virtually(sessions)


@cache
def straight(limit: str, amount: float) -> fg.Result:
    return gepa(None, Model(), "lockstep", fg.Budget(**{limit: amount}))  # type: ignore[arg-type]  # as below


def admitted(result: fg.Result) -> list[Any]:
    return [(a.pool, a.id, a.version, a.value, a.parents, a.score, dict(a.scores)) for a in result.artifacts]


@pytest.mark.parametrize(
    ("limit", "amounts"),
    [
        ("calls", [130, 300]),
        # Within the seed's baseline, which has five samples, and just after it.
        ("calls", [1, 120]),
        ("calls", [3, 120]),
        ("calls", [5, 120]),
        ("calls", [2, 3, 60, 120]),
        ("evaluations", [1, 90]),
        ("evaluations", [77, 90]),
        ("proposals", [1, 6]),
        ("tokens", [5_000, 9_000]),
        ("usd", [0.011, 0.1]),
    ],
)
def test_lockstep_with_a_larger_budget(limit: str, amounts: list[float], tmp_path: Path) -> None:
    """A resumed lockstep run has the same candidates, scores, parents and costs as with the larger budget at once."""
    model = Model()
    result = gepa(tmp_path / "run", model, "lockstep", *(fg.Budget(**{limit: amount}) for amount in amounts))  # type: ignore[arg-type]  # usd alone is no whole number
    expected = straight(limit, amounts[-1])
    assert (result.status, result.reason) == (expected.status, expected.reason) == ("budget", f"no {limit} left")
    assert admitted(result) == admitted(expected)
    assert len(result.artifacts) > 1
    assert sum(model.asked.values()) == result.spent.calls
    if limit not in ("tokens", "usd"):  # a rest of these depends on the order of the requests
        assert attrs.evolve(result.spent, seconds=0) == attrs.evolve(expected.spent, seconds=0)


@pytest.mark.parametrize("limit", ["calls", "evaluations"])
def test_pipelined_with_a_larger_budget(limit: str, tmp_path: Path) -> None:
    """No work in flight is lost, and the pipelined run continues."""
    model = Model()
    result = gepa(tmp_path / "run", model, "pipelined", *(fg.Budget(**{limit: n}) for n in (3, 40, 90)))
    assert (result.status, result.reason) == ("budget", f"no {limit} left")
    assert sum(model.asked.values()) == result.spent.calls
    assert not [e for e in of(result, ev.Ended) if "budget" in e.reason]
    assert getattr(result.spent, limit) == 90
    assert len(result.artifacts) > 1


def members(size: int) -> list[int]:
    return list(range(size))


def fans(caught: bool = False) -> fg.Graph:
    """Return a graph of one round: five members with two requests each. With ``caught`` a refused one scores 0."""
    graph = fg.Graph("fans")
    pool = graph.pool("pool", Kept)

    @graph.source(rounds=1)
    def draw(ctx: fg.Draw[None]) -> int:
        return 5

    @graph.stage(model="model", counts="evaluations")
    async def judge(member: int, ctx: fg.Context) -> int:
        try:
            for part in range(2):
                await ctx.llm(f"{member} {part}")
        except Exception:
            if not caught:
                raise
            return 0
        return member + 1

    @graph.stage
    def total(group: fg.Group[int, int]) -> int:
        return sum(group.values)

    graph.edge(draw, judge, scatter=members)
    graph.edge(judge, total, gather=True, release=fg.fraction(0.2), late="drop")
    graph.edge(total, pool)
    return graph


@pytest.mark.parametrize("caught", [False, True], ids=["raised", "caught"])
def test_what_a_refused_stage_says_is_not_used(caught: bool, virtually: Virtually, tmp_path: Path) -> None:
    """The result of a refused stage is not used: its 0 would be false evidence forever."""
    options: dict[str, Any] = {"models": {"model": LatencyModel(2, lambda request: 1.0)}, "schedule": "lockstep"}
    folder = tmp_path / "run"
    first = watched(fans(caught), virtually, budget=fg.Budget(calls=5), folder=folder, **options)
    assert (first.status, first.reason, first.spent.calls) == ("budget", "no calls left", 5)
    assert (first.artifacts, [e.how for e in of(first, ev.JobEnded) if e.how == "failed"]) == ((), [])
    then = watched(fans(caught), virtually, budget=fg.Budget(calls=50), folder=folder, resume=True, **options)
    assert (then.status, then.spent.calls, then.spent.evaluations) == ("completed", 10, 5)
    assert [a.value for a in then.artifacts] == [15]


def test_a_deadline_does_not_release_what_the_budget_has_parked(virtually: Virtually, tmp_path: Path) -> None:
    """A deadline does not release parked members, which the larger budget would have paid in time; the run ends at
    once.
    """
    graph = fg.Graph("deadline")
    pool = graph.pool("pool", Kept)

    @graph.source(rounds=1)
    def draw(ctx: fg.Draw[None]) -> int:
        return 4

    @graph.stage(model="model", workers=1)
    async def judge(member: int, ctx: fg.Context) -> int:
        await ctx.llm(f"{member}")
        return member + 1

    @graph.stage
    def total(group: fg.Group[int, int]) -> int:
        return sum(group.values)

    graph.edge(draw, judge, scatter=members)
    graph.edge(judge, total, gather=True, release=fg.deadline(1000))
    graph.edge(total, pool)
    options: dict[str, Any] = {"models": {"model": LatencyModel(2, lambda request: 1.0)}, "folder": tmp_path / "run"}
    first = watched(graph, virtually, budget=fg.Budget(calls=2), **options)
    assert (first.status, first.spent.seconds, first.artifacts) == ("budget", 2.0, ())
    then = watched(graph, virtually, budget=fg.Budget(calls=9), resume=True, **options)
    assert (then.status, [a.value for a in then.artifacts]) == ("completed", [10])


def test_a_lock_of_the_tasks_own_is_freed(virtually: Virtually) -> None:
    """A refused stage has to free a lock that stages share, or the run would never end."""
    graph = fg.Graph("locked")
    pool = graph.pool("pool", Kept)
    lock: list[anyio.Lock] = []

    @graph.source(rounds=4)
    def draw(ctx: fg.Draw[None]) -> int:
        return ctx.emission

    @graph.stage(model="model")
    async def ask(number: int, ctx: fg.Context) -> int:
        if not lock:
            lock.append(anyio.Lock())
        async with lock[0]:
            await ctx.llm("a question")
        return number

    graph.edge(draw, ask)
    graph.edge(ask, pool)
    result = watched(
        graph, virtually, models={"model": LatencyModel(4, lambda request: 1.0)}, budget=fg.Budget(calls=2),
        schedule=fg.pipelined(4, focus=0),
    )  # fmt: skip
    assert (result.status, result.reason, len(result.artifacts)) == ("budget", "no calls left", 2)


def test_a_stage_that_goes_on_after_it_was_refused_is_cancelled(virtually: Virtually) -> None:
    """A refused stage that makes requests again and again sends nothing, and the run ends."""
    graph = fg.Graph("stubborn")
    pool = graph.pool("pool", Kept)
    refused: list[float] = []

    @graph.source(rounds=1)
    def draw(ctx: fg.Draw[None]) -> int:
        return ctx.emission

    @graph.stage(model="model")
    async def ask(number: int, ctx: fg.Context) -> int:
        await ctx.llm("one")
        while True:
            try:
                await ctx.llm("another")
            except fg.BudgetExhausted:
                refused.append(anyio.current_time())
                await anyio.sleep(1)

    graph.edge(draw, ask)
    graph.edge(ask, pool)
    model = LatencyModel(4, lambda request: 1.0)
    result = watched(graph, virtually, models={"model": model}, budget=fg.Budget(calls=1))
    assert (result.status, model.sent, result.spent.seconds) == ("budget", 1, 1.0)
    assert refused
    assert [e.how for e in of(result, ev.JobEnded)] == ["done", "cancelled"]


def test_a_drained_run_parks_what_it_cannot_pay(virtually: Virtually, tmp_path: Path) -> None:
    """A drained run parks work that it cannot pay, and ends as drained."""

    async def drain(run: fg.api.Run) -> None:
        await anyio.sleep(0.5)
        run.drain("enough")

    options: dict[str, Any] = {"models": {"model": LatencyModel(2, lambda request: 1.0)}, "schedule": "lockstep"}
    folder = tmp_path / "run"
    first = watched(fans(), virtually, act=drain, budget=fg.Budget(calls=3), folder=folder, **options)
    assert (first.status, first.reason, first.spent.calls) == ("stopped", "enough", 3)
    then = watched(fans(), virtually, budget=fg.Budget(calls=50), resume=True, folder=folder, **options)
    assert (then.status, then.spent.calls) == ("completed", 10)
