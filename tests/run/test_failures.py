"""Edges that take failures, and the causes of items that no edge takes."""

from __future__ import annotations

from typing import Any

import pytest

import flashgraph as fg
from flashgraph.run import events as ev
from flashgraph.run.cause import Cause
from tests.run.kit import Virtually, of, watched
from tests.run.test_several_pools import Log


def pair(number: int) -> list[int]:
    return [number, number + 4]


def repairing(*, loop: int | None = 3, when: Any = None, scatter: bool = False) -> fg.Graph:
    """Return a graph whose stage fails on even numbers; a second stage adds one to them and sends them back."""
    graph = fg.Graph("repairing")
    log = graph.pool("log", Log)

    @graph.source(rounds=2)
    def draw(ctx: fg.Draw[None]) -> int:
        return ctx.emission

    @graph.stage
    def check(number: int) -> str:
        if number % 2 == 0:
            raise ValueError(f"{number} is even")
        return f"number {number}"

    @graph.stage
    def correct(failed: fg.Failed[int]) -> int:
        assert failed.reason == f"ValueError: {failed.value} is even"
        return failed.value + (1 if loop == 3 else 2)

    if scatter:
        graph.edge(draw, check, scatter=pair, fanout=2)
    else:
        graph.edge(draw, check)
    graph.edge(check, correct, only=fg.Failed, when=when)
    graph.edge(correct, check, loop=loop)
    if scatter:

        @graph.stage
        def join(group: fg.Group[int, str]) -> str:
            return " and ".join(group.values)

        graph.edge(check, join, gather=True, on_failure=fg.fail_above(0.0))
        graph.edge(join, log)
    else:
        graph.edge(check, log)
    return graph


@pytest.mark.parametrize("schedule", ["lockstep", "pipelined"])
def test_an_edge_takes_the_failures_of_its_stage(schedule: str, virtually: Virtually) -> None:
    """The item continues with the reason, and its job has failed."""
    result = watched(repairing(), virtually, schedule=schedule)
    assert [a.value for a in result.artifacts] == ["number 1", "number 1"]
    assert [e.how for e in of(result, ev.JobEnded)].count("failed") == 1
    assert not [e for e in of(result, ev.Ended) if e.how == "failed"]
    assert not [e for e in of(result, ev.RoundEnded) if e.failed]


def test_a_member_that_is_caught_does_not_fail_its_group(virtually: Virtually) -> None:
    """It arrives later, and the group has all of its members."""
    result = watched(repairing(scatter=True), virtually, schedule="lockstep")
    assert [a.value for a in result.artifacts] == ["number 1 and number 5", "number 1 and number 5"]


def test_a_failure_that_no_edge_takes_stays_one(virtually: Virtually) -> None:
    """A condition on the edge may refuse it."""
    result = watched(repairing(when=lambda failed: failed.value > 0), virtually, schedule="lockstep")
    assert [(e.cause, e.reason) for e in of(result, ev.Ended) if e.how == "failed"] == [
        (Cause.RAISED, "ValueError: 0 is even")
    ]


def test_a_condition_that_raises_leaves_the_failure(virtually: Virtually) -> None:
    """The item ends with the first failure, and the edge's own is reported beside it."""
    result = watched(repairing(when=lambda failed: 1 // failed.value > 0), virtually, schedule="lockstep")
    assert [e.cause for e in of(result, ev.Ended) if e.how == "failed"] == [Cause.RAISED]
    assert len(of(result, ev.EdgeFailed)) == 1


def test_expected_failures_do_not_end_the_run(virtually: Virtually) -> None:
    """Thirty in a row, which would end a run whose graph has no way for them."""
    graph = fg.Graph("always")
    log = graph.pool("log", Log)

    @graph.source(rounds=30)
    def draw(ctx: fg.Draw[None]) -> int:
        return ctx.emission

    @graph.stage
    def check(number: int) -> str:
        raise ValueError("never")

    @graph.stage
    def record(failed: fg.Failed[int]) -> str:
        return f"{failed.value}: {failed.reason}"

    graph.edge(draw, check)
    graph.edge(check, log)
    graph.edge(check, record, only=fg.Failed)
    graph.edge(record, log)
    result = watched(graph, virtually, schedule="lockstep")
    assert (result.status, len(result.artifacts)) == ("completed", 30)


@pytest.mark.parametrize(
    ("graph", "cause", "reason"),
    [
        (lambda: looping(2), Cause.SPENT, "it has passed check->again 2 times (loop=2)"),
        (lambda: looping(None), Cause.UNROUTED, "no edge out of 'check' takes it"),
    ],
)
def test_why_no_edge_takes_an_item(graph: Any, cause: Cause, reason: str, virtually: Virtually) -> None:
    """A spent loop and conditions that refuse the item have different causes."""
    result = watched(graph(), virtually, schedule="lockstep")
    assert [(e.cause, e.reason) for e in of(result, ev.Ended) if e.how == "filtered"] == [(cause, reason)]


def looping(loop: int | None) -> fg.Graph:
    """Return a graph that sends its number back until it is 5, or whose only edge never takes it."""
    graph = fg.Graph("looping")
    log = graph.pool("log", Log)

    @graph.source(rounds=1)
    def draw(ctx: fg.Draw[None]) -> int:
        return 0

    @graph.stage
    def check(number: int) -> int:
        return number + 1

    @graph.stage
    def name(number: int) -> str:
        return f"number {number}"

    graph.edge(draw, check)
    graph.edge(check, name, when=lambda n: n > 4)
    if loop is not None:

        @graph.stage
        def again(number: int) -> int:
            return number

        graph.edge(check, again, when=lambda n: n < 5, loop=loop)
        graph.edge(again, check)
    graph.edge(name, log)
    return graph
