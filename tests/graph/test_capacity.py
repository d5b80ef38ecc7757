"""Boundedness: how many items a cycle can hold, and edges that leave it unknown."""

from __future__ import annotations

import random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import flashgraph as fg
from flashgraph.graph.capacity import loop_capacity, unbounded_fanout

from .kit import Scores, Seed


def again(seed: Seed) -> Seed:
    return seed


def many(seed: Seed) -> fg.Several[Seed]:
    return fg.Several([seed])


def halves(seed: Seed) -> list[Seed]:
    return [seed]


def start(sources: int = 1) -> tuple[fg.Graph, list[Any], Any]:
    """Return a graph with sources; the test adds the rest."""
    graph = fg.Graph("g")
    pool = graph.pool("pool", Scores)

    def draw(ctx: fg.Draw) -> Seed | None:
        return None

    return graph, [graph.source(draw, name=f"draw{i}") for i in range(sources)], pool


def test_no_cycle_needs_no_capacity() -> None:
    """Outside cycles any capacity is enough."""
    graph, (draw,), pool = start()
    stage = graph.stage(again)
    graph.edge(draw, stage, scatter=halves)
    graph.edge(stage, pool)
    assert loop_capacity(graph.spec, {"draw0": 8}) == {}
    assert unbounded_fanout(graph.spec, frozenset()) == []


def test_windows_of_all_sources_before_the_cycle_count() -> None:
    """The windows of sources that lead to the cycle add up; other sources do not count."""
    graph, draws, pool = start(3)
    stage, other = graph.stage(again), graph.stage(again, name="other")
    graph.edge(draws[0], stage)
    graph.edge(draws[1], stage)
    graph.edge(draws[2], other)
    graph.edge(stage, stage, when=Seed.big, loop=3)
    graph.edge(stage, pool, otherwise=True)
    graph.edge(other, pool)
    assert loop_capacity(graph.spec, {"draw0": 8, "draw1": 2, "draw2": 100}) == {"again->again": 10}


@given(st.integers(1, 5), st.integers(1, 5), st.integers(1, 9))
def test_bounds_before_the_cycle_multiply(members: int, several: int, window: int) -> None:
    """A scatter and a Several before the cycle count once each, however often an item loops."""
    graph, (draw,), pool = start()
    first = graph.stage(many, name="first", fanout=several)
    stage = graph.stage(again)
    graph.edge(draw, first, scatter=halves, fanout=members)
    graph.edge(first, stage)
    graph.edge(stage, stage, when=Seed.big, loop=4)
    graph.edge(stage, pool, otherwise=True)
    assert loop_capacity(graph.spec, {"draw0": window}) == {"again->again": window * members * several}


def test_fan_out_in_the_cycle_counts_for_each_visit() -> None:
    """Two from one at each of three visits are eight; a fork whose conditions may both hold doubles too."""
    graph, (draw,), pool = start()
    stage = graph.stage(many, fanout=2)
    graph.edge(draw, stage)
    graph.edge(stage, stage, when=Seed.big, loop=2)
    graph.edge(stage, pool, otherwise=True)
    assert loop_capacity(graph.spec, {"draw0": 1}) == {"many->many": 8}

    graph, (draw,), pool = start()
    one, two, three = (graph.stage(again, name=n) for n in ("one", "two", "three"))
    graph.edge(draw, one)
    graph.edge(one, two, when=Seed.big)
    graph.edge(one, three, when=Seed.big)
    graph.edge(two, one, loop=1, when=Seed.big)
    graph.edge(three, one, loop=1, when=Seed.big)
    graph.edge(two, pool, otherwise=True)
    assert loop_capacity(graph.spec, {"draw0": 1}) == {"two->one": 8, "three->one": 8}


def test_fan_out_in_one_cycle_counts_in_the_next() -> None:
    """Two from one at each of three visits to the first cycle: eight items reach the second."""
    graph, (draw,), pool = start()
    first, second = graph.stage(many, name="first", fanout=2), graph.stage(again, name="second")
    graph.edge(draw, first)
    graph.edge(first, first, when=Seed.big, loop=2)
    graph.edge(first, second, otherwise=True)
    graph.edge(second, second, when=Seed.big, loop=1)
    graph.edge(second, pool, otherwise=True)
    assert loop_capacity(graph.spec, {"draw0": 1}) == {"first->first": 8, "second->second": 8}


@given(st.integers(0, 10_000), st.integers(1, 3), st.integers(1, 3), st.integers(1, 3))
def test_a_cycle_never_holds_more_than_its_capacity(seed: int, fanout: int, loop: int, window: int) -> None:
    """Random walks through a cycle that multiplies items never exceed its capacity."""
    graph, (draw,), pool = start()
    stage = graph.stage(many, fanout=fanout)
    graph.edge(draw, stage)
    graph.edge(stage, stage, when=Seed.big, loop=loop)
    graph.edge(stage, pool, otherwise=True)
    bound = loop_capacity(graph.spec, {"draw0": window})["many->many"]
    rng = random.Random(seed)
    inside = [0] * window
    while inside:
        passes = inside.pop(rng.randrange(len(inside)))
        inside += [passes + 1 for _ in range(rng.randint(0, fanout)) if passes < loop]
        assert len(inside) <= bound


@pytest.mark.parametrize("bounded", [False, True])
def test_unbounded_fanout(bounded: bool) -> None:
    """A scatter or a Several before a cycle needs a bound; one after it does not."""
    graph, (draw,), pool = start()
    bound: Any = {"fanout": 3} if bounded else {}
    first = graph.stage(many, name="first", **bound)
    stage, last = graph.stage(again), graph.stage(many, name="last")
    graph.edge(draw, first, scatter=halves, **bound)
    graph.edge(first, stage)
    graph.edge(stage, stage, when=Seed.big, loop=3)
    graph.edge(stage, last, otherwise=True)
    graph.edge(last, pool)
    found = unbounded_fanout(graph.spec, frozenset({"first", "last"}))
    assert [(e.name, nodes) for e, nodes in found] == (
        [] if bounded else [("draw0->first", ["again"]), ("first->again", ["again"])]
    )
