"""Options and pools that are functions of the graph's parameters."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

import flashgraph as fg
from flashgraph.run import events as ev
from tests.run.kit import Virtually, of, watched


@attrs.frozen
class Beam:
    """A pool of the last ``width`` admissions."""

    width: int
    artifacts: Mapping[int, fg.Artifact] = attrs.field(factory=dict)

    def apply(self, event: fg.PoolEvent[str]) -> Beam:
        known = {**self.artifacts, event.artifact: fg.Artifact(event.artifact, event.value)}
        return attrs.evolve(self, artifacts=dict(list(known.items())[-self.width :]))

    def best(self) -> fg.Artifact | None:
        return None

    def best_line(self) -> Beam:
        return self


@attrs.frozen
class Params:
    """The numbers of `generations`."""

    generations: int = attrs.field(default=3, validator=attrs.validators.ge(0))
    children: int = 2
    width: int = 2
    passes: int = 1


def split(number: int) -> list[int]:
    return [number, number]


def generations() -> fg.Graph:
    """Return a graph each of whose numbers is a parameter."""
    graph = fg.Graph("generations", params=Params)
    beam = graph.pool("beam", lambda params: Beam(params.width))

    @graph.source(rounds=lambda params: params.generations, window=lambda params: params.width)
    def draw(ctx: fg.Draw[None, Params]) -> int:
        return ctx.emission

    @graph.stage(workers=lambda params: params.children)
    def work(number: int) -> int:
        return number

    @graph.stage
    def again(number: int) -> int:
        return number

    @graph.stage
    def name(number: int) -> str:
        return f"number {number}"

    graph.edge(draw, work, scatter=split, fanout=lambda params: params.children)
    graph.edge(work, again, when=lambda n: n >= 0, loop=lambda params: params.passes)
    graph.edge(again, work, capacity=lambda params: 64 * params.children)
    graph.edge(work, name, otherwise=True)
    graph.edge(name, beam)
    return graph


@given(st.integers(1, 4), st.integers(1, 3), st.integers(1, 3))
def test_a_run_uses_its_own_values(rounds: int, width: int, passes: int) -> None:
    """The plan has the numbers of the parameters, for the graph alone and inside another."""
    from flashgraph.policies.schedule import pipelined
    from flashgraph.run.plan import compile_plan

    values = {"generations": rounds, "width": width, "passes": passes}
    outer = fg.Graph("outer")
    outer.include(generations(), "part")
    for graph, prefix in ((generations(), ""), (outer, "part.")):
        given_ = {prefix + n: v for n, v in values.items()}
        plan = compile_plan(graph.checked(), pipelined(), given_, {}, {})
        source = plan.sources[f"{prefix}draw"]
        assert (source.rounds, source.window) == (rounds, width)
        assert plan.stages[f"{prefix}work"].workers == 2
        assert plan.edges[f"{prefix}work->{prefix}again"].loop == passes
        assert plan.edges[f"{prefix}again->{prefix}work"].capacity == 128
        assert plan.pools[f"{prefix}beam"].factory().width == width


@pytest.mark.parametrize("schedule", ["lockstep", "pipelined"])
def test_a_run_with_other_values(schedule: str, virtually: Virtually) -> None:
    """Five generations with two children each; the pool keeps one."""
    result = watched(generations(), virtually, schedule=schedule, params={"generations": 5, "width": 1})
    assert len(of(result, ev.Admitted)) == 10
    assert len(result.pools["beam"].artifacts) == 1


def test_the_defaults_are_checked() -> None:
    """A default that gives no sound option is a problem of the graph."""
    graph = generations()
    assert graph.check() == ()
    assert [s.rounds for s in graph.checked().spec.sources] == [3]


def test_the_values_of_a_run_are_checked(virtually: Virtually) -> None:
    """The message is that of a wrong number in the file, before anything opens."""
    with pytest.raises(fg.GraphError, match=r"source 'draw' \[not-positive\]\n +found: +rounds=0"):
        watched(generations(), virtually, params={"generations": 0})


def test_a_function_that_raises_is_a_problem() -> None:
    """Here it asks for a parameter that the class does not have."""
    graph = fg.Graph("g", params=Params)
    beam = graph.pool("beam", lambda params: Beam(params.breadth))

    def rounds(params: Any) -> int:
        return int(params.rounds)

    @graph.source(rounds=rounds)
    def draw(ctx: fg.Draw[None, Params]) -> str:
        return "x"

    graph.edge(draw, beam)
    found = {problem.code: problem.found for problem in graph.check()}
    assert found["option-raises"] == (
        "rounds=rounds, which raised AttributeError: 'Params' object has no attribute 'rounds'"
    )
    assert "'Params' object has no attribute 'breadth'" in found["pool-factory-raises"]


@pytest.mark.parametrize("factory", [max, dict.fromkeys, print])
def test_a_built_in_as_a_pool_is_a_problem(factory: Any) -> None:
    """Some built-ins have no signature that could say whether they take parameters."""
    graph = fg.Graph("g")
    graph.pool("pool", factory)
    assert "pool 'pool'" in {problem.what for problem in graph.check()}
