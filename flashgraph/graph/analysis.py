"""The shape of a graph: order, distances to a pool, cycles, and the scatters open at each node."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import chain
from typing import Any

import networkx as nx

from flashgraph.graph.spec import EdgeSpec, GraphSpec

__all__ = [
    "components", "distances", "downstream", "flow", "gathers_of", "open_cycles", "reaches", "scopes", "shortest_path",
    "topological", "upstream",
]  # fmt: skip

Scope = tuple[frozenset[str], ...]
"""The nested scatters that an item belongs to, outermost first; each level names the edges that may have opened it."""


def flow(graph: GraphSpec) -> Any:
    """Return the nodes and edges of a graph as a `networkx.DiGraph`.

    Loops through a pool do not appear, because a source reads its pool and no edge leads to a source.
    """
    return _directed(graph.nodes, graph.edges)


def _directed(nodes: Iterable[str], edges: Iterable[EdgeSpec]) -> Any:
    net: Any = nx.DiGraph()
    net.add_nodes_from(nodes)
    net.add_edges_from((e.src, e.dst) for e in edges)
    return net


def downstream(graph: GraphSpec, name: str) -> set[str]:
    """Return the nodes that items of a node can reach, without that node itself."""
    return set(nx.descendants(flow(graph), name))


def upstream(graph: GraphSpec, name: str) -> set[str]:
    """Return the nodes whose items can reach a node, without that node itself."""
    return set(nx.ancestors(flow(graph), name))


def shortest_path(graph: GraphSpec, start: str, end: str) -> list[str] | None:
    """Return a shortest path, its ends included; None where there is none."""
    try:
        return list(nx.shortest_path(flow(graph), start, end))
    except nx.NetworkXNoPath:
        return None


def topological(graph: GraphSpec) -> dict[str, int]:
    """Rank each node: producers before consumers, members of a cycle in the order of their declaration."""
    declared = {name: i for i, name in enumerate(graph.nodes)}
    acyclic = nx.condensation(flow(graph))
    members = {n: sorted(found, key=declared.__getitem__) for n, found in acyclic.nodes(data="members")}
    order = nx.lexicographical_topological_sort(acyclic, key=lambda n: declared[members[n][0]])
    return {name: rank for rank, name in enumerate(chain.from_iterable(members[n] for n in order))}


def distances(graph: GraphSpec) -> dict[str, int]:
    """Count the edges from each node to the nearest pool.  A node that reaches none gets the number of nodes."""
    back = flow(graph).reverse(copy=False)
    ways = [nx.single_source_shortest_path_length(back, pool.name) for pool in graph.pools]
    far = len(graph.nodes)
    return {name: min((way[name] for way in ways if name in way), default=far) for name in graph.nodes}


def components(graph: GraphSpec) -> list[frozenset[str]]:
    """Return the sets of nodes that lie on common cycles, in the order of their first node's declaration."""
    net = flow(graph)
    of = {name: frozenset(found) for found in nx.strongly_connected_components(net) for name in found}
    return list(dict.fromkeys(of[n] for n in graph.nodes if len(of[n]) > 1 or net.has_edge(n, n)))


def open_cycles(graph: GraphSpec) -> list[list[EdgeSpec]]:
    """Return cycles without a ``loop`` edge; each is its edges, in order from the earliest node.

    The number of such cycles may be exponential. This returns enough of them that removing the last edge of each leaves
    no cycle.
    """
    rank = topological(graph)
    edges = {(e.src, e.dst): e for e in graph.edges if e.loop is None}
    net = _directed(graph.nodes, edges.values())
    found: list[list[EdgeSpec]] = []
    while not nx.is_directed_acyclic_graph(net):
        cycle = [edges[pair] for pair in nx.find_cycle(net)]
        start = min(range(len(cycle)), key=lambda i: rank[cycle[i].src])
        found.append(cycle[start:] + cycle[:start])
        net.remove_edge(found[-1][-1].src, found[-1][-1].dst)
    return sorted(found, key=lambda edges: [rank[e.src] for e in edges])


def scopes(graph: GraphSpec) -> tuple[dict[str, Scope], list[tuple[EdgeSpec, Scope, Scope]]]:
    """Return the scope of the items at each node, and the edges that clash with that scope.

    A clash is (edge, scope of its items, scope of the items that other edges bring to the same node).
    """
    found: dict[str, Scope] = {s.name: () for s in graph.sources}
    clashes: list[tuple[EdgeSpec, Scope, Scope]] = []
    rank = topological(graph)
    # Items return from a cycle in the scope in which they entered it, so two sweeps reach every node.
    for sweep in range(2):
        for edge in sorted(graph.edges, key=lambda e: rank[e.src]):
            if edge.src not in found:
                continue
            brought = found[edge.src]
            if edge.gather:
                if not brought:
                    continue
                brought = brought[:-1]
            elif edge.scatter is not None:
                brought = (*brought, frozenset({edge.name}))
            known = found.get(edge.dst)
            if known is None:
                found[edge.dst] = brought
            elif len(known) != len(brought):
                if sweep and graph.nodes[edge.dst].kind != "pool":
                    clashes.append((edge, brought, known))
            else:
                found[edge.dst] = tuple(a | b for a, b in zip(known, brought, strict=True))
    return found, clashes


def gathers_of(graph: GraphSpec, scopes: Mapping[str, Scope]) -> dict[str, tuple[str, ...]]:
    """Return, for each scattering edge, the names of the edges that gather its groups."""
    inner = {name: scope[-1] for name, scope in scopes.items() if scope}
    return {
        scatter.name: tuple(e.name for e in graph.edges if e.gather and scatter.name in inner.get(e.src, ()))
        for scatter in graph.edges
        if scatter.scatter is not None
    }


def reaches(graph: GraphSpec, scopes: Mapping[str, Scope]) -> dict[str, dict[str, tuple[str, ...]]]:
    """Return, for each scattering edge and each edge, the gathers that a member on that edge can still reach.

    A gather ends a member's path: after one gather, the member reaches no other.
    """
    found: dict[str, dict[str, tuple[str, ...]]] = {}
    for scatter, gathers in gathers_of(graph, scopes).items():
        onward: Any = nx.DiGraph()
        onward.add_nodes_from(e.name for e in graph.edges)
        onward.add_edges_from(
            (e.name, n.name) for e in graph.edges if e.name not in gathers for n in graph.out_of(e.dst)
        )
        found[scatter] = {e: tuple(g for g in gathers if nx.has_path(onward, e, g)) for e in onward}
    return found
