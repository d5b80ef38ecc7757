"""Deadlock freedom in both directions: what `check` passes never stalls, what it refuses for capacity can stall."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import flashgraph as fg
from flashgraph.graph.capacity import loop_capacity
from flashgraph.graph.check.shape import ASSUMED_WINDOW
from flashgraph.testing.explorer import explore
from flashgraph.testing.hand import plan_by_hand
from flashgraph.testing.tokens import Ledgered, Token
from tests.proof.deadlock import Ring, rings
from tests.proof.proof import Share

PAGE = (Path(__file__).parents[2] / "docs" / "explanation" / "deadlock.md").read_text()


@pytest.mark.parametrize("ring", list(rings(2)), ids=str)
def test_a_ring_stalls_where_it_can_be_full(ring: Ring) -> None:
    """A ring stalls in some order exactly if its items can fill it; a ring that is not refused never stalls."""
    found = ring.explore()
    assert found.whole or found.stall
    assert (found.stall is not None) == (ring.window * ring.width >= ring.holds)
    assert ring.refused or found.stall is None


@pytest.mark.parametrize("width", [1, 2])
def test_check_refuses_what_the_rings_call_refused(width: int) -> None:
    """The rule of the rings is the rule of `check`, for the window that it assumes."""
    ring = Ring(ASSUMED_WINDOW, width, 2, 2, 1, ASSUMED_WINDOW * width)
    assert not ring.refused
    assert ring.graph(ring.needed).check() == ()
    assert [problem.code for problem in ring.graph(ring.needed - 1).check()] == ["cycle-capacity"]


def _always(token: Token) -> bool:
    return True


def cycle_behind_a_cycle() -> fg.Graph:
    """Return a graph in which items double at each visit to a first cycle, and then pass a second one."""
    graph = fg.Graph("two cycles")
    pool = graph.pool("pool", Ledgered)

    @graph.source(reads=pool, rounds=1)
    def source(ctx: fg.Draw[Ledgered]) -> Token:
        return Token(ctx.emission, ctx.view.version)

    @graph.stage(fanout=2, workers=1)
    def first(token: Token) -> fg.Several[Token]:
        return fg.Several([token, token])

    @graph.stage(workers=1)
    def second(token: Token) -> Token:
        return token

    graph.edge(source, first)
    graph.edge(first, first, when=_always, loop=1)
    graph.edge(first, second, otherwise=True, capacity=1)
    graph.edge(second, second, when=_always, loop=1)
    graph.edge(second, pool, otherwise=True)
    return graph


def test_a_cycle_behind_a_cycle_has_room_for_what_the_first_one_makes() -> None:
    """With room for four at the second loop edge no order stalls; with an earlier rule's two one order does."""
    graph = cycle_behind_a_cycle()
    assert loop_capacity(graph.spec, {"source": 1})["second->second"] == 4
    assert stalls(graph, 2)
    assert not stalls(graph, 4)


def stalls(graph: fg.Graph, room: int) -> bool:
    plan = plan_by_hand(graph, fg.pipelined(1, focus=0.0), room={"second->second": room})
    found = explore(plan, until_stall=True)
    assert found.stall or found.whole
    return found.stall is not None


def test_the_page_reports_the_share() -> None:
    """docs/explanation/deadlock.md has the figures that are measured here; the proof measures larger rings."""
    small = Share.of(rings(2))
    assert f"| 2 | {small.rings} | {small.refused} | {small.stalled} | {small.alone} of {small.alone_refused} |" in PAGE
    assert re.search(r"\| 6 \| \d+ \| \d+ \| \d+ \| (\d+) of \1 \|", PAGE)
