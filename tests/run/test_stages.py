"""The next item of a stage with several edges."""

from __future__ import annotations

import math
import random

import pytest

import flashgraph as fg
from flashgraph.run import events as ev
from flashgraph.run.cause import Cause, End
from flashgraph.testing import Fan, Hand, Move, Shape, Split, Step, build, no_pause
from flashgraph.testing.hand import plan_by_hand
from flashgraph.testing.runs import LatencyModel
from tests.proof.recount import Recount
from tests.run.kit import Virtually, of, watched
from tests.run.test_sources import Log

ONE = Step()


def taken_up(hand: Hand, stage: str) -> list[int]:
    """Return the items that a stage has started on, in order."""
    return [e.item for e in hand.events if isinstance(e, ev.JobStarted) and e.stage == stage and e.item is not None]


def played(shape: Shape, window: int) -> Hand:
    hand = Hand(plan_by_hand(build(shape, no_pause), fg.pipelined(window, focus=0.0)), oracle=Recount)
    hand.finish()
    return hand


@pytest.mark.parametrize("workers", [1, 2])
def test_the_oldest_goes_first_whatever_edge_it_waits_on(workers: int) -> None:
    """The oldest item goes first, whatever its edge: both ways of a fork meet in a slower stage."""
    hand = played(Shape((Split(ONE, ONE, Step(workers=workers)),), rounds=4), window=4)
    joined = taken_up(hand, "stage4")
    assert len(joined) == 8
    assert joined == sorted(joined)
    edges = {e.edge for e in hand.events if isinstance(e, ev.Created) and e.item in joined}
    assert len(edges) == 2


def test_what_is_late_goes_last() -> None:
    """Late items go last: members of a released group wait for those of the next one."""
    shape = Shape((Fan(2, Step(workers=1), (), ONE, 0.5, "amend"),), rounds=2)
    hand = Hand(plan_by_hand(build(shape, no_pause), fg.pipelined(2, focus=0.0)))
    while moves := [move for move in hand.moves() if move.kind == "go"]:
        hand.play(Move("go", moves[0].number))
    round_of = {e.item: (e.round, e.index) for e in hand.events if isinstance(e, ev.Created)}
    order = [round_of[item] for item in taken_up(hand, "stage2")]
    assert sorted(order) == [(0, 0), (0, 1), (1, 0), (1, 1)]
    late = {e.item for e in hand.events if isinstance(e, ev.Late)}
    assert {round_of[item] for item in late if round_of[item][1] is not None} == {(0, 1), (1, 1)}
    assert order[:2] == [(0, 0), (1, 0)]


def test_how_many_members_a_group_lacks() -> None:
    """The number of members that a group lacks until its release; `shortest_first` ranks by it.

    It is that of the innermost group, whichever member asks. It is one outside of groups, and infinity for a whole that
    is not opened.
    """
    shape = Shape((Fan(4, Step(workers=2), (), ONE, 0.7, "drop"),), rounds=3)
    hand = Hand(plan_by_hand(build(shape, no_pause), fg.pipelined(3, focus=0.0)))
    flow = hand.machine.flow
    seen = set()
    while not hand.over:
        places = hand.machine.snapshot().places
        for item in flow.places.items.values():
            if hand.plan.edges[item.edge].scatter is not None and not item.scope:
                expected = math.inf if places[item.id] == "queued" else 1.0
            elif item.scope:
                (state,) = flow.groups.open[item.scope[0][0]].gathers.values()
                expected = 1 if state.released else max(1, 3 - state.arrived)
            else:
                expected = 1
            assert flow.groups.lacks(item) == expected
            seen.add((len(item.scope), expected))
        hand.play(hand.moves()[0])
    assert seen == {(0, 1), (0, math.inf), (1, 1), (1, 2), (1, 3)}


def test_a_free_slot_goes_to_the_stage_nearest_the_pool() -> None:
    """A free slot goes to the stage nearest the pool, for its queue or for a waiting call, in runs of many orders."""
    shape, both = Shape((Step(calls=2, workers=3), Step(calls=2, workers=3)), rounds=4), set()
    for seed in range(12):
        order = random.Random(seed)
        hand = Hand(plan_by_hand(build(shape, no_pause), fg.pipelined(4, focus=0.0), 1))
        while not hand.over:
            call, item = hand.machine.slots.first("by hand"), hand.machine.flow.places.queues["stage2->stage3"].head()
            before, free = len(hand.events), hand.machine.stages["stage3"].busy < 3
            move = order.choice(hand.moves())
            hand.play(move)
            given = [e for e in hand.events[before:] if isinstance(e, ev.CallStarted | ev.JobStarted)]
            if move.kind != "answer":
                continue  # a job that holds a slot for its first request needs none
            if call is not None and call[1].job.node == "stage2" and item is not None and free and given:
                first = given[0]
                assert isinstance(first, ev.JobStarted)
                assert (first.stage, first.item) == ("stage3", item.id)
                both.add("item")
            elif call is not None and call[1].job.node == "stage3" and given and isinstance(given[0], ev.CallStarted):
                both.add("call")
    assert both == {"item", "call"}


def test_twenty_failures_in_a_row_stop_the_run() -> None:
    """Twenty failures in a row stop the run; nineteen do not, nor do twenty with a success between them."""
    hand = Hand(plan_by_hand(build(Shape((Step(fail=1.0),), rounds=30), no_pause), fg.pipelined(1, focus=0.0)))
    hand.finish()
    failed = [e for e in hand.events if isinstance(e, ev.JobEnded) and e.how == "failed"]
    assert len(failed) == 20
    assert hand.machine.status is not None
    assert (hand.machine.status.status, hand.machine.status.cause) == ("failed", Cause.STREAK)
    few = Hand(plan_by_hand(build(Shape((Step(fail=1.0),), rounds=19), no_pause), fg.pipelined(1, focus=0.0)))
    few.finish()
    assert few.machine.status == End("completed", Cause.DONE, "the sources have nothing to emit")
    some = Hand(plan_by_hand(build(Shape((Step(fail=0.7),), rounds=60), no_pause), fg.pipelined(1, focus=0.0)))
    some.finish()
    assert some.machine.status == End("completed", Cause.DONE, "the sources have nothing to emit")
    assert sum(isinstance(e, ev.JobEnded) and e.how == "failed" for e in some.events) > 20


def test_a_scatter_of_nothing_is_gathered_at_once() -> None:
    """A scatter of nothing is gathered as an empty group, with which the round continues."""
    hand = played(Shape((Fan(0, ONE, (), ONE),), rounds=3), window=2)
    released = [(e.arrived, e.size) for e in hand.events if isinstance(e, ev.Released)]
    assert released == [(0, 0)] * 3
    assert len(hand.machine.pools["pool"].value.artifacts) == 3


def test_how_long_a_job_took(virtually: Virtually) -> None:
    """A job's duration is counted from its start."""
    graph = fg.Graph("long")
    log = graph.pool("log", Log)

    @graph.source(rounds=3)
    def draw(ctx: fg.Draw) -> str:
        return f"{ctx.emission}"

    @graph.stage(model="model", workers=1)
    async def ask(text: str, ctx: fg.Context) -> str:
        return (await ctx.llm(text)).text

    graph.edge(draw, ask)
    graph.edge(ask, log)
    result = watched(graph, virtually, models={"model": LatencyModel(1, lambda request: 2.0)})
    assert [(e.at, e.seconds) for e in of(result, ev.JobEnded) if e.stage == "ask"] == [(2, 2), (4, 2), (6, 2)]


def test_each_gather_of_a_scatter_has_its_own_members() -> None:
    """Each gather of a scatter has its own members. The one that is complete first is released, and the other keeps its
    own on their way.
    """
    shape = Shape((Fan(3, ONE, (), ONE, other=(Step(workers=1), ONE)),), rounds=1)
    hand = played(shape, window=1)
    released = [(e.arrived, e.size) for e in hand.events if isinstance(e, ev.Released)]
    assert released == [(3, 3), (3, 3)]
    apart = played(Shape((Fan(4, ONE, (), ONE, other=(ONE, ONE), apart=True),), rounds=1, salt=3), window=1)
    arrived = [e.arrived for e in apart.events if isinstance(e, ev.Released)]
    assert (len(arrived), sum(arrived)) == (2, 4)
