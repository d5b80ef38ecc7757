"""What a stage takes up next, where it has several edges to take it from."""

from __future__ import annotations

import pytest

import flashgraph as fg
from flashgraph.run import events as ev
from flashgraph.testing import Fan, Hand, Move, Shape, Split, Step, build, no_pause
from flashgraph.testing.hand import plan_by_hand

ONE = Step()


def taken_up(hand: Hand, stage: str) -> list[int]:
    """The items that a stage has started on, in order."""
    return [e.item for e in hand.events if isinstance(e, ev.JobStarted) and e.stage == stage and e.item is not None]


def played(shape: Shape, window: int) -> Hand:
    hand = Hand(plan_by_hand(build(shape, no_pause), fg.pipelined(window, focus=0.0)))
    hand.finish()
    return hand


@pytest.mark.parametrize("workers", [1, 2])
def test_the_oldest_goes_first_whatever_edge_it_waits_on(workers: int) -> None:
    """Both ways of a fork meet in a stage that is slower than they are."""
    hand = played(Shape((Split(ONE, ONE, Step(workers=workers)),), rounds=4), window=4)
    joined = taken_up(hand, "stage4")
    assert len(joined) == 8
    assert joined == sorted(joined)
    edges = {e.edge for e in hand.events if isinstance(e, ev.Created) and e.item in joined}
    assert len(edges) == 2


def test_what_is_late_goes_last() -> None:
    """Members of a group that has gone on wait for those of the next one."""
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
