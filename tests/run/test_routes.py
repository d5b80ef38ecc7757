"""Results of a union are routed by ``only``, on small graphs in virtual time."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import attrs

import flashgraph as fg
from flashgraph.run import events as ev
from flashgraph.sim import clock
from flashgraph.testing.runs import TASK
from tests.run.kit import Virtually, of, watched


@attrs.frozen
class Small:
    n: int


@attrs.frozen
class Large:
    n: int


@attrs.frozen
class Larger(Large):
    pass


@attrs.frozen
class Seen:
    """A pool that keeps its items, with the edge of each."""

    artifacts: Mapping[int, fg.Artifact] = attrs.field(factory=dict)

    def apply(self, event: fg.PoolEvent[str]) -> Seen:
        return Seen({**self.artifacts, event.artifact: fg.Artifact(event.artifact, event.value)})

    def best(self) -> fg.Artifact | None:
        return None

    def best_line(self) -> Seen:
        return self


def test_each_result_takes_the_edge_of_its_class(virtually: Virtually) -> None:
    """A subclass goes where its class does, and results of no class go to ``otherwise``."""
    graph = fg.Graph("parting")
    seen = graph.pool("seen", Seen)

    @graph.source(rounds=6, state=0)
    def draw(ctx: fg.Draw[Any, None, int]) -> fg.Emit[Small | Large, int]:
        number = ctx.state + 1
        return fg.Emit((Small, Large, Larger)[number % 3](number), number)

    @graph.stage
    def large(item: Large) -> str:
        return f"large {type(item).__name__} {item.n}"

    @graph.stage
    def rest(item: Small | Large) -> str:
        return f"rest {type(item).__name__} {item.n}"

    graph.edge(draw, large, only=Large, when=lambda item: item.n < 5)
    graph.edge(draw, rest, otherwise=True)
    graph.edge(large, seen)
    graph.edge(rest, seen)
    assert graph.check() == ()
    for schedule in ("lockstep", "pipelined"):

        async def run(schedule: str = schedule) -> fg.Result:
            return await fg.arun(graph, TASK, models={}, schedule=schedule, settle=clock.settle)

        found = virtually(run)
        assert sorted(str(a.value) for a in found.artifacts) == [
            "large Large 1", "large Large 4", "large Larger 2", "rest Larger 5", "rest Small 3", "rest Small 6",
        ]  # fmt: skip


@attrs.frozen
class Numbers:
    n: tuple[int, ...] = (1, 2)

    def work(self) -> list[Small]:
        return [Small(i) for i in self.n]


def test_only_narrows_what_is_scattered(virtually: Virtually) -> None:
    """One member of a union is scattered, and the other one passes it."""
    graph = fg.Graph("parting")
    seen = graph.pool("seen", Seen)

    @graph.source(rounds=2)
    def draw(ctx: fg.Draw) -> Numbers | Large:
        return Numbers() if ctx.emission else Large(9)

    @graph.stage
    def member(item: Small) -> int:
        return item.n

    @graph.stage
    def total(group: fg.Group[Numbers, int]) -> str:
        return f"sum {sum(group.values)}"

    @graph.stage
    def past(item: Large) -> str:
        return f"past {item.n}"

    graph.edge(draw, member, only=Numbers, scatter=Numbers.work)
    graph.edge(draw, past, only=Large)
    graph.edge(member, total, gather=True)
    graph.edge(total, seen)
    graph.edge(past, seen)
    assert graph.check() == ()

    async def run() -> fg.Result:
        return await fg.arun(graph, TASK, models={}, settle=clock.settle)

    assert {a.value for a in virtually(run).artifacts} == {"sum 3", "past 9"}


def test_a_scatter_makes_no_more_than_it_declares(virtually: Virtually) -> None:
    """More members than ``fanout`` fail the item and name the bound."""
    graph = fg.Graph("bounded")
    seen = graph.pool("seen", Seen)

    @graph.source(rounds=2)
    def draw(ctx: fg.Draw) -> Numbers:
        return Numbers((1, 2, 3)[: 2 + ctx.emission])

    @graph.stage
    def member(item: Small) -> int:
        return item.n

    @graph.stage
    def total(group: fg.Group[Numbers, int]) -> str:
        return f"sum {sum(group.values)}"

    graph.edge(draw, member, scatter=Numbers.work, fanout=2)
    graph.edge(member, total, gather=True)
    graph.edge(total, seen)
    result = watched(graph, virtually)
    assert [a.value for a in result.artifacts] == ["sum 3"]
    (reason,) = (e.reason for e in of(result, ev.Ended) if e.how == "failed")
    assert "edge draw->member: its scatter made 3 members; it declares fanout=2." in reason
    assert "Fix: declare the true bound, or scatter fewer." in reason


def test_a_stage_returns_no_more_than_it_declares(virtually: Virtually) -> None:
    """Several with more than ``fanout`` values fails the item and names the bound that cycles have room for."""
    graph = fg.Graph("bounded")
    seen = graph.pool("seen", Seen)

    @graph.source(rounds=2)
    def draw(ctx: fg.Draw) -> Numbers:
        return Numbers((1, 2, 3)[: 2 + ctx.emission])

    @graph.stage(fanout=2)
    def split(numbers: Numbers) -> fg.Several[str]:
        return fg.Several([f"part {n}" for n in numbers.n])

    graph.edge(draw, split)
    graph.edge(split, seen)

    async def run() -> fg.Result:
        return await fg.arun(graph, TASK, models={}, settle=clock.settle)

    result = virtually(run)
    assert [a.value for a in result.artifacts] == ["part 1", "part 2"]
    (reason,) = (e.reason for e in result.events if isinstance(e, ev.Ended) and e.how == "failed")
    assert "stage split: it returned Several of 3; it declares fanout=2." in reason
    assert "Fix: declare the true bound" in reason
