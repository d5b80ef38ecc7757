"""A plan refuses graphs that `check` accepts without the schedule."""

from __future__ import annotations

from collections.abc import Sequence

import attrs
import pytest

import flashgraph as fg
from flashgraph.graph.capacity import loop_capacity
from flashgraph.graph.check import check
from flashgraph.run.plan import compile_plan
from flashgraph.testing.tokens import Ledgered, Token

WINDOWS = (1, 8, 64)


def circle(capacity: int | None) -> fg.Graph:
    """Return a graph with a loop whose edge holds ``capacity``."""
    graph = fg.Graph("circle")
    pool = graph.pool("pool", Ledgered)

    @graph.source(rounds=9)
    def draw(ctx: fg.Draw[None]) -> Token:
        return Token(ctx.emission, 0)

    @graph.stage(fanout=3)
    def body(token: Token) -> fg.Several[Token]:
        return fg.Several([token])

    @graph.stage
    def check(token: Token) -> Token:
        return token

    def again(token: Token) -> bool:
        return token.path % 2 == 0

    graph.edge(draw, body)
    graph.edge(body, check)
    graph.edge(check, body, when=again, loop=2, capacity=capacity)
    graph.edge(check, pool, otherwise=True)
    return graph


@pytest.mark.parametrize("window", WINDOWS)
def test_a_loop_edge_has_room_for_the_window(window: int) -> None:
    """A loop edge fits exactly what a window can put there. One place less is refused with the number, and without a
    capacity the plan takes as many as needed.
    """
    schedule = fg.pipelined(window)
    (edge, needed), *_ = loop_capacity(circle(None).spec, {"draw": window}).items()
    assert compile_plan(check(circle(needed)), schedule, {}, {}, {}).edges[edge].capacity == needed
    with pytest.raises(fg.DataError) as caught:
        compile_plan(check(circle(needed - 1)), schedule, {}, {}, {})
    said = f"edge {edge}: capacity={needed - 1}; a window of {window} rounds needs at least {needed}"
    assert said in str(caught.value)
    assert compile_plan(check(circle(None)), schedule, {}, {}, {}).edges[edge].capacity >= needed


@attrs.frozen
class Backwards:
    """A user's order: the youngest first."""

    def key(self, value: Token, version: int) -> int:
        return -value.path

    def flaw(self) -> None:
        return None


@attrs.frozen
class Reversed:
    """A user's order of members: the last first."""

    def arrange(self, members: Sequence[Token], streaks: object) -> list[int]:
        return list(reversed(range(len(members))))

    def identity(self, index: int, member: Token) -> int:
        return index

    def passed(self, value: Token) -> bool:
        return True

    def flaw(self) -> None:
        return None


def test_orders_of_ones_own_are_kept() -> None:
    """A user's order needs only the methods of an order."""
    graph = fg.Graph("own")
    pool = graph.pool("pool", Ledgered)

    @graph.source(rounds=9)
    def draw(ctx: fg.Draw[None]) -> Token:
        return Token(ctx.emission, 0)

    @graph.stage
    def look(token: Token) -> Token:
        return token

    @graph.stage
    def member(token: Token) -> Token:
        return token

    def parts(token: Token) -> list[Token]:
        return [token]

    graph.edge(draw, look, order=Backwards())
    graph.edge(look, member, scatter=parts, order=Reversed())
    graph.edge(member, pool, gather=True)
    edges = compile_plan(graph.checked(), fg.pipelined(2), {}, {}, {}).edges
    found = [(edge.order, edge.arrange) for edge in edges.values()]
    assert found == [(Backwards(), None), (fg.fifo(), Reversed()), (fg.fifo(), None)]


def test_a_model_that_takes_no_request_is_refused() -> None:
    """A model with a limit of 0 requests is refused by name: its stages would wait forever."""
    with pytest.raises(fg.DataError) as caught:
        compile_plan(check(circle(None)), fg.lockstep(), {}, {"task": "mine"}, {"mine": 0})
    assert str(caught.value) == (
        "model 'mine': found limit=0, expected a whole number from 1.\nFix: limit=8 allows 8 requests in flight."
    )
