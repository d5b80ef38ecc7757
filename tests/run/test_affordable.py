"""A small budget is not spent on rounds that cannot be finished; a large one opens its window at once."""

from __future__ import annotations

from typing import Any

import attrs
import pytest

import flashgraph as fg
from flashgraph.run.events import Emitted, JobEnded, RoundEnded
from flashgraph.sim.clock import run_virtually, settle
from flashgraph.sim.model import SimModel
from flashgraph.sim.profiles import PROFILES
from flashgraph.sim.world import World
from tests.algorithms import ace_world


def world(val: int, seed: int = 0) -> World:
    """Return a quick world of eight rules, with ``val`` validation samples."""
    return World(seed=seed, rules=8, train=20, val=val, test=1, pass_knowing=1.0, pass_guessing=0.1, learn=0.9)


def evolve(small: World, schedule: Any, graph: str = "gepa", **options: Any) -> fg.Result:
    async def go() -> fg.Result:
        model = SimModel(PROFILES["vllm"], small.answer)
        models = {"task": model, "reflection": model}
        return await fg.arun(graph, small.task(), models=models, schedule=schedule, settle=settle, **options)

    return run_virtually(go)


@pytest.mark.parametrize(
    ("schedule", "val", "evaluations"),
    [("pipelined", 6, 40), ("throughput", 12, 40), ("pipelined", 6, 80), ("throughput", 12, 80), ("pipelined", 20, 80)],
)
def test_a_small_budget_buys_about_what_it_buys_in_lockstep(schedule: str, val: int, evaluations: int) -> None:
    """A small budget gives the seed and at least one child.

    Without a bound on overlap, almost all of these budgets give the seed alone, or children of the seed alone.
    """
    found, truth = {"lockstep": 0, schedule: 0}, {"lockstep": 0.0, schedule: 0.0}
    for seed in range(3):
        for name in found:
            result = evolve(world(val, seed), name, budget=fg.Budget(evaluations=evaluations))
            found[name] += len(result.artifacts) - 1
            truth[name] += max(world(val, seed).true_score(a.value["instruction"]) for a in result.artifacts)
    assert found["lockstep"] >= 3
    assert found[schedule] >= found["lockstep"]
    assert truth[schedule] >= truth["lockstep"] - 0.1


@pytest.mark.parametrize(("proposals", "most"), [(6, 1), (16, 3), (32, 7)])
def test_a_quarter_of_what_is_left_is_open_at_once(proposals: int, most: int) -> None:
    """At most a quarter of the rest is open at once: open rounds have the same parents, and later ones should build on
    them.
    """
    budget = fg.Budget(proposals=proposals)
    result = evolve(world(12), "pipelined", budget=budget, target_score=float("inf"))
    open_, found = set[int](), 0
    for event in result.events:
        if isinstance(event, Emitted) and event.source == "select":
            open_.add(event.round)
        elif isinstance(event, RoundEnded):
            open_.discard(event.round)
        found = max(found, len(open_))
    assert found == most
    assert result.spent.proposals == proposals  # evidence needs none of them, so none are reserved for it


@pytest.mark.parametrize("schedule", ["pipelined", "throughput"])
def test_no_round_is_opened_for_a_proposal_that_is_not_left(schedule: str) -> None:
    """No round is opened for a proposal that cannot be paid: its minibatch would be evaluated for nothing."""
    result = evolve(world(12), schedule, budget=fg.Budget(proposals=3))
    assert result.spent.proposals == 3
    assert sum(isinstance(e, Emitted) and e.source == "select" for e in result.events) == 3


@pytest.mark.parametrize("limit", ["evaluations", "calls", "tokens"])
def test_other_limits_alike(limit: str) -> None:
    """A budget of calls or tokens that pays for the seed and about two rounds also buys a child."""
    whole = evolve(world(12), "lockstep", budget=fg.Budget(proposals=4))
    limits = {limit: getattr(whole.spent, limit)}
    if limit == "tokens":  # the last requests reserve their most, so that a part stays unused
        limits = {limit: whole.spent.tokens + 20_000}
    assert len(whole.artifacts) > 2
    assert len(evolve(world(12), "pipelined", budget=fg.Budget(**limits)).artifacts) > 1


@pytest.mark.parametrize("window", [8, 40])
def test_a_large_budget_opens_the_window_at_once(window: int) -> None:
    """A large budget opens as many rounds as no limit, before any has ended."""
    chosen = fg.pipelined(window)

    def opened(budget: fg.Budget) -> int:
        result = evolve(world(12), chosen, budget=attrs.evolve(budget, seconds=60))
        events = [e for e in result.events if isinstance(e, Emitted | JobEnded)]
        first = next(i for i, e in enumerate(events) if isinstance(e, JobEnded) and e.stage == "propose")
        return sum(isinstance(e, Emitted) and e.source == "select" for e in events[:first])

    assert opened(fg.Budget(evaluations=100_000, calls=100_000)) == opened(fg.Budget()) == window


def test_a_large_minibatch() -> None:
    """The cost of the first minibatch is known once it is scattered: 32 evaluations a round, and a validation."""
    result = evolve(world(6), "pipelined", "combee", budget=fg.Budget(evaluations=100))
    assert len(result.artifacts) > 1


def test_batches_that_are_answered_again_and_again() -> None:
    """ACE has no seed to learn costs from, and small budgets still lead to deltas."""
    number = ace_world.World(2)

    def model(role: str) -> Any:
        return lambda messages: number.reply(role, messages[-1]["content"])

    models = {role: model(role) for role in ("generator", "reflector", "curator")}
    budget = fg.Budget(evaluations=15)
    result = fg.run("ace", number.task(), models=models, schedule="pipelined", budget=budget)
    assert result.spent.proposals >= 2
