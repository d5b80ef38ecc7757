"""Events while a turn is being written: its commands wait, and other events may be quicker."""

from __future__ import annotations

from functools import partial

import anyio

import flashgraph as fg
from flashgraph.run import events as ev
from flashgraph.testing.recording import SlowRecording
from flashgraph.testing.runs import LatencyModel
from flashgraph.testing.tokens import Ledgered, Token
from tests.run.kit import Virtually, of, watched

SLOW = partial(SlowRecording, seconds=lambda turn: 0.5)
"""A memory in which each turn is durable after half a second."""


def test_a_job_that_ends_before_its_cancellation_is_carried_out(virtually: Virtually) -> None:
    """I12: the group of a job is released, and its request is answered while that is written. There is nothing to
    cancel, and its worker and its slot are free.
    """
    graph = fg.Graph("late")
    pool = graph.pool("pool", Ledgered)

    @graph.source(rounds=2)
    def draw(ctx: fg.Draw[None]) -> int:
        return ctx.emission

    def members(number: int) -> list[float]:
        return [1.0, 1.25]

    @graph.stage(model="model", workers=2)
    async def ask(seconds: float, ctx: fg.Context) -> float:
        await ctx.llm(f"{seconds}")
        return seconds

    @graph.stage
    def total(group: fg.Group[int, float]) -> Token:
        return Token(len(group.values), 0)

    graph.edge(draw, ask, scatter=members)
    graph.edge(ask, total, gather=True, release=fg.count(1), late="cancel")
    graph.edge(total, pool)
    model = LatencyModel(2, float)
    result = watched(graph, virtually, memory=SLOW, models={"model": model}, schedule=fg.pipelined(window=1))
    assert (result.status, model.in_flight, len(result.artifacts)) == ("completed", 0, 2)
    late = [e for e in of(result, ev.Ended) if e.reason.startswith("late: ")]
    assert len(late) == 2
    # They were answered, and paid.
    assert [e.how for e in of(result, ev.CallEnded)] == ["done"] * 4
    assert [e.how for e in of(result, ev.JobEnded) if e.stage == "ask"].count("cancelled") == 2


def test_a_request_that_is_given_up_before_it_is_granted(virtually: Virtually) -> None:
    """I12: a stage waits at most 0.2 s for its reply. Its request is granted at once, and that is written for 0.5 s.
    Nothing is sent, and the slot goes to the next.
    """
    graph = fg.Graph("patience")
    pool = graph.pool("pool", Ledgered)

    @graph.source(rounds=3)
    def draw(ctx: fg.Draw[None]) -> int:
        return ctx.emission

    @graph.stage(model="model", workers=3)
    async def ask(number: int, ctx: fg.Context) -> Token:
        with anyio.move_on_after(0.2 if number == 1 else 99):
            return Token(len((await ctx.llm(f"{number}")).text), 0)
        return Token(0, 0)

    graph.edge(draw, ask)
    graph.edge(ask, pool)
    model = LatencyModel(1, lambda request: 1.0)
    result = watched(graph, virtually, memory=SLOW, models={"model": model}, schedule=fg.pipelined(window=3))
    assert (result.status, model.in_flight, model.sent) == ("completed", 0, 2)
    assert sorted(e.how for e in of(result, ev.CallEnded)) == ["cancelled", "done", "done"]
    assert result.spent.calls == 2
