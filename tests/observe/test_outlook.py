"""The outlook says before a run what a budget buys, and runs confirm it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

import flashgraph as fg
from flashgraph.graph.loading import load_graph
from flashgraph.observe.outlook import Outlook, budget_lines, outlook
from flashgraph.run.events import JobEnded, JobStarted, RoundEnded
from flashgraph.sim.clock import run_virtually, settle
from flashgraph.sim.model import SimModel
from flashgraph.sim.profiles import PROFILES
from flashgraph.sim.world import World
from tests.algorithms import ace_world, islands_world

SMALL = World(seed=1, rules=8, train=20, val=12, test=1, pass_knowing=1.0, learn=0.9)
GEPA = load_graph("gepa").spec


@pytest.mark.parametrize(
    ("budget", "said"),
    [
        ({"evaluations": 40}, "40 evaluations buy 12 for the seed's validation, then 1 to 4 rounds"),
        ({"evaluations": 1000}, "1,000 evaluations buy 12 for the seed's validation, then 54 to 164 rounds"),
        ({"calls": 40}, "40 calls buy 12 for the seed's validation, then 1 to 4 rounds"),
        ({"proposals": 10}, "10 proposals take about 72 to 192 evaluations"),
        ({"proposals": 10, "evaluations": 40}, "40 evaluations buy"),
        ({"proposals": 1, "evaluations": 4000}, "1 proposal take about 18 to 30 evaluations"),
        ({"evaluations": 40, "tokens": 10}, "40 evaluations buy"),
    ],
)
def test_what_a_budget_buys(budget: Mapping[str, int], said: str) -> None:
    """The tightest limit is described in one line."""
    found = outlook(GEPA, SMALL.task(), fg.Budget(**budget))
    assert found is not None
    assert str(found).startswith(said)
    assert "\n" not in str(found)
    assert not found.warning


@pytest.mark.parametrize(
    ("evaluations", "lacks"),
    [
        (11, "the seed's validation takes 12 evaluations"),
        (12, "the seed's validation takes 12 evaluations, and a round takes at least 6"),
        (17, "the seed's validation takes 12 evaluations, and a round takes at least 6"),
    ],
)
def test_a_budget_that_judges_nothing(evaluations: int, lacks: str) -> None:
    found = outlook(GEPA, SMALL.task(), fg.Budget(evaluations=evaluations))
    assert found is not None
    assert found.warning == (
        f"--evaluations {evaluations} is not enough to judge a single proposal: {lacks}. "
        "Fix: --evaluations 192, for ten rounds."
    )


def test_parameters_count() -> None:
    found = outlook(GEPA, SMALL.task(), fg.Budget(evaluations=100), {"minibatch": "5", "parents": 2})
    assert found is not None
    assert (found.start, found.least, found.most) == (12, 20, 44)


@pytest.mark.parametrize("budget", [fg.Budget(seconds=60), fg.Budget(tokens=1000), fg.Budget(usd=1.0)])
def test_what_nobody_can_forecast(budget: fg.Budget) -> None:
    """Time and money per evaluation are unknown in advance; without a budget only the costs are given."""
    assert outlook(GEPA, SMALL.task(), budget) is None
    assert "are known only after a run has measured them" in "\n".join(budget_lines(GEPA, SMALL.task(), budget))
    assert str(outlook(GEPA, SMALL.task(), fg.Budget())) == (
        "the seed's validation takes 12 evaluations, a round takes 6 to 18 evaluations"
    )


def test_a_part_of_the_validation_where_rounds_overlap() -> None:
    """A child is validated on a sample of a large split, and a share of the budget is reserved for evidence."""
    large = World(val=100).task()
    found = outlook(GEPA, large, fg.Budget(evaluations=400), schedule="pipelined")
    whole = outlook(GEPA, large, fg.Budget(evaluations=400))
    assert found is not None
    assert whole is not None
    assert (whole.start, whole.most) == (100, 106)
    assert found.start < whole.start
    assert found.most == found.start + 6
    assert "reserved for evidence" in found.buys


def test_a_graph_that_does_not_say() -> None:
    plain = attrs.evolve(GEPA, costs=None)
    assert outlook(plain, SMALL.task(), fg.Budget(evaluations=3)) is None
    assert "@graph.costs" in "\n".join(budget_lines(plain, SMALL.task(), fg.Budget()))


@given(st.integers(0, 500), st.integers(0, 50), st.integers(0, 300), st.sampled_from(["evaluations", "calls"]),
       st.integers(1, 5000))  # fmt: skip
def test_the_bounds_are_in_order(start: int, least: int, more: int, name: str, limit: int) -> None:
    """Costlier rounds are fewer, and a warning appears exactly if the budget buys none."""
    found = Outlook(start, least, least + more, name, limit)
    assert found.rounds is not None
    fewest, most = found.rounds
    assert 0 <= fewest <= most
    assert bool(found.warning) == (most == 0)
    assert start + fewest * (least + more) <= max(limit, start)


def spent(result: fg.Result, graph: fg.Graph) -> tuple[int, list[int]]:
    """Return the evaluations of a lockstep run: before the first round with a proposal, and of each such round."""
    counting = {s.name: s.counts for s in graph.spec.stages}
    start, rounds, now, proposed = 0, list[int](), 0, False
    for event in result.events:
        if isinstance(event, JobStarted):
            now += "evaluations" in counting.get(event.stage, ())
        if isinstance(event, JobEnded):
            proposed |= "proposals" in counting.get(event.stage, ())
        if isinstance(event, RoundEnded):
            if proposed:
                rounds.append(now)
            elif not rounds:
                start += now
            now, proposed = 0, False
    return start, rounds


def gepa(**params: Any) -> tuple[fg.Result, fg.Graph, fg.Task]:
    async def go() -> fg.Result:
        model = SimModel(PROFILES["vllm"], SMALL.answer)
        return await fg.arun(
            "gepa", SMALL.task(), models={"task": model, "reflection": model}, schedule="lockstep",
            budget=fg.Budget(proposals=12), params=params, settle=settle,
        )  # fmt: skip

    return run_virtually(go), load_graph("gepa"), SMALL.task()


def ace(**params: Any) -> tuple[fg.Result, fg.Graph, fg.Task]:
    world = ace_world.World(2)

    def model(role: str) -> Any:
        return lambda messages: world.reply(role, messages[-1]["content"])

    models = {role: model(role) for role in ("generator", "reflector", "curator")}
    budget = fg.Budget(proposals=6)
    result = fg.run("ace", world.task(), models=models, schedule="lockstep", budget=budget, params=params)
    return result, load_graph("ace"), world.task()


def islands() -> tuple[fg.Result, fg.Graph, fg.Task]:
    world = islands_world.World.make(25)

    def propose(messages: Any) -> str:
        return world.reply(islands_world.shown(messages[-1]["content"]))

    result = fg.run(
        "islands", world.task(), models={"proposer": propose}, schedule="lockstep", budget=fg.Budget(proposals=12),
        params={**world.params, "rewrite": world.rewrite}, resources={"sandbox": islands_world.StandIn(world)},
    )  # fmt: skip
    return result, load_graph("islands"), world.task()


@pytest.mark.parametrize(
    ("run", "params"),
    [(gepa, {}), (gepa, {"parents": 2}), (ace, {"eval_steps": 100}), (ace, {"batch": 2}), (islands, {})],
)
def test_costs_are_those_of_runs(run: Any, params: Mapping[str, Any]) -> None:
    """Lockstep runs of the shipped graphs cost at the start, and per round at least, what the graphs declare."""
    result, graph, task = run(**params)
    start, rounds = spent(result, graph)
    found = outlook(graph.spec, task, fg.Budget(), params)
    assert found is not None
    assert start == found.start
    assert len(rounds) > 2
    assert max(rounds) <= found.most
    assert sum(rounds) >= found.least * len(rounds) * 0.5  # a round without a proposal costs less
