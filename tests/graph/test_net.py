"""`Net` does what networkx does, on any small graph."""

from __future__ import annotations

import networkx as nx
from hypothesis import given
from hypothesis import strategies as st

from flashgraph.graph.net import Net

NODES = "abcdef"
EDGES = st.lists(st.tuples(st.sampled_from(NODES), st.sampled_from(NODES)), max_size=14)


def library(net: Net) -> nx.DiGraph:
    graph = nx.DiGraph()
    graph.add_nodes_from(NODES)
    graph.add_edges_from(net.edges)
    return graph


@given(EDGES)
def test_reach_and_components(edges: list[tuple[str, str]]) -> None:
    """Forwards, backwards and both; edges count once."""
    net = Net(NODES, edges)
    graph = library(net)
    assert sorted(net.edges) == sorted(set(edges))
    for name in NODES:
        assert net.after(name) == nx.descendants(graph, name)
        assert net.before(name) == nx.ancestors(graph, name)
    assert {frozenset(c) for c in nx.strongly_connected_components(graph)} == set(net.components().values())
    assert all(name in component for name, component in net.components().items())


@given(EDGES, st.sets(st.sampled_from(NODES), min_size=1))
def test_distances_and_paths(edges: list[tuple[str, str]], starts: set[str]) -> None:
    """To the nearest of several starts, and one of the shortest ways."""
    net = Net(NODES, edges)
    graph = library(net)
    assert net.distances(*starts) == nx.multi_source_dijkstra_path_length(graph, starts)
    for start in starts:
        for end in NODES:
            way = net.path(start, end)
            assert (way is not None) == nx.has_path(graph, start, end)
            assert way is None or (way[0], way[-1]) == (start, end)
            assert way is None or len(way) == len(nx.shortest_path(graph, start, end))
            assert way is None or nx.is_path(graph, way)


@given(EDGES)
def test_a_cycle_is_found_where_there_is_one(edges: list[tuple[str, str]]) -> None:
    """Its nodes once each, the last with an edge to the first; one without an edge that leads nowhere back has none."""
    net = Net(NODES, edges)
    found = net.cycle()
    assert (found is None) == nx.is_directed_acyclic_graph(library(net))
    if found is not None:
        assert len(set(found)) == len(found)
        assert all(pair in edges for pair in zip(found, [*found[1:], found[0]], strict=True))
        assert (found[-1], found[0]) not in net.without(found[-1], found[0]).edges


def test_nodes_that_only_an_edge_names() -> None:
    """They are nodes too."""
    assert Net((), [("a", "b")]).distances("a") == {"a": 0, "b": 1}
