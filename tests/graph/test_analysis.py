"""The shape of a graph: order, distances, components, cycles and scopes."""

from __future__ import annotations

from typing import Any

import networkx as nx
from hypothesis import given
from hypothesis import strategies as st

import flashgraph as fg
from flashgraph.graph.analysis import components, distances, flow, gathers_of, open_cycles, scopes, topological
from flashgraph.graph.loading import load_graph

from .kit import Scores, Seed, Value


def again(seed: Seed) -> Seed:
    return seed


def built(count: int, pairs: list[tuple[int, int]], loops: frozenset[tuple[int, int]] = frozenset()) -> fg.Graph:
    """Return a graph of stages ``s0`` to ``s{count-1}`` with these edges, a source before the first and a pool after
    the last."""
    graph = fg.Graph("g")
    pool = graph.pool("pool", Scores)

    @graph.source(reads=pool)
    def draw(ctx: fg.Draw[Scores]) -> Seed:
        return Seed()

    stages: list[Any] = [graph.stage(again, name=f"s{i}") for i in range(count)]
    graph.edge(draw, stages[0])
    for pair in dict.fromkeys(pairs):
        graph.edge(stages[pair[0]], stages[pair[1]], loop=2 if pair in loops else None)
    graph.edge(stages[-1], pool)
    return graph


PAIRS = st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)), max_size=14)


@given(PAIRS)
def test_topological_puts_producers_first(pairs: list[tuple[int, int]]) -> None:
    """Ranks number the nodes; outside cycles an edge leads from a lower rank to a higher one."""
    spec = built(6, pairs).spec
    rank = topological(spec)
    assert sorted(rank.values()) == list(range(len(spec.nodes)))
    inside = components(spec)
    for edge in spec.edges:
        if not any({edge.src, edge.dst} <= c for c in inside):
            assert rank[edge.src] < rank[edge.dst]


@given(PAIRS)
def test_open_cycles_are_cycles_and_leave_none(pairs: list[tuple[int, int]]) -> None:
    """Each result is a closed path, and without the last edge of each no cycle is left."""
    spec = built(6, pairs).spec
    net = nx.DiGraph(flow(spec).edges)
    found = open_cycles(spec)
    assert bool(found) == (not nx.is_directed_acyclic_graph(net))
    for cycle in found:
        assert all(a.dst == b.src for a, b in zip(cycle, cycle[1:] + cycle[:1], strict=True))
        if net.has_edge(cycle[-1].src, cycle[-1].dst):
            net.remove_edge(cycle[-1].src, cycle[-1].dst)
    assert nx.is_directed_acyclic_graph(net)


@given(PAIRS, st.randoms())
def test_a_loop_edge_opens_its_cycles(pairs: list[tuple[int, int]], rng: Any) -> None:
    """With ``loop`` on every edge inside a cycle, no open cycle is found."""
    inner = [p for p in pairs if any({f"s{p[0]}", f"s{p[1]}"} <= c for c in components(built(6, pairs).spec))]
    assert open_cycles(built(6, pairs, frozenset(inner)).spec) == []


def test_distances_count_edges_to_the_nearest_pool() -> None:
    """A node that reaches no pool has the number of nodes as its distance."""
    spec = built(3, [(0, 1), (1, 2)]).spec
    assert distances(spec) == {"pool": 0, "draw": 4, "s0": 3, "s1": 2, "s2": 1}
    graph = built(2, [(0, 1)])
    lost = graph.stage(again, name="lost")
    assert lost.name == "lost"
    assert distances(graph.spec)["lost"] == len(graph.spec.nodes)


def test_scopes_of_gepa() -> None:
    """Stages between scatter and gather are one level deep; a stage behind two scatters names both."""
    spec = load_graph("gepa").spec
    found, clashes = scopes(spec)
    assert clashes == []
    assert found["rollout"] == (frozenset({"select->rollout", "spread->rollout"}),)
    assert found["propose"] == ()
    assert found["trial"] == (frozenset({"propose->trial", "merge->trial", "prune->trial"}),)


def test_gathers_of_gepa() -> None:
    """Each scatter is gathered by the next gathering edge."""
    checked = load_graph("gepa").checked()
    assert gathers_of(checked.spec, checked.scopes) == {
        "select->rollout": ("rollout->propose",),
        "spread->rollout": ("rollout->propose",),
        "propose->trial": ("trial->gate",),
        "merge->trial": ("trial->gate",),
        "prune->trial": ("trial->gate",),
        "seed->baseline": ("baseline->frontier",),
        "gate->validate": ("validate->frontier",),
        "confirm->measure": ("measure->frontier",),
    }


def test_a_scatter_inside_a_cycle_that_is_not_gathered_there_clashes() -> None:
    """Its items would come back one level deeper than they were."""
    graph = fg.Graph("g")
    pool = graph.pool("pool", Scores)

    @graph.source(reads=pool)
    def draw(ctx: fg.Draw[Scores]) -> Seed:
        return Seed()

    def halves(seed: Seed) -> list[Seed]:
        return [seed, seed]

    @graph.stage
    def value(seed: Seed) -> Value:
        return Value()

    one, two = graph.stage(again, name="one"), graph.stage(again, name="two")
    graph.edge(draw, one)
    graph.edge(one, two, scatter=halves, fanout=2)
    graph.edge(two, one, loop=2, when=Seed.big)
    graph.edge(two, value, otherwise=True)
    graph.edge(value, pool)
    assert [edge.name for edge, _, _ in scopes(graph.spec)[1]] == ["two->one"]
    assert [p.code for p in graph.check()] == ["mixed-depth"]
