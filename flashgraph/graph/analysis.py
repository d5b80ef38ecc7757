"""Shapes of a graph, by networkx: order, distances to a pool, cycles, and the scatters open at each node."""

from __future__ import annotations

from collections.abc import Mapping

import networkx as nx

from flashgraph.graph.spec import EdgeSpec, GraphSpec

__all__ = ["components", "distances", "flow", "gathers_of", "open_cycles", "scopes", "topological"]

Scope = tuple[frozenset[str], ...]
"""The stack of scatters an item is inside of; each level names the edges that may have opened it."""


def flow(graph: GraphSpec) -> nx.DiGraph:
    """Sources, stages and pools with the edges between them.  Loops through a pool do not appear: a source reads
    its pool, it does not take items from it."""
    net = nx.DiGraph()
    net.add_nodes_from(graph.nodes)
    net.add_edges_from((e.src, e.dst) for e in graph.edges)
    return net


def topological(graph: GraphSpec) -> dict[str, int]:
    """Rank of each node: producers before consumers, members of a cycle in the order of their declaration."""
    declared = {name: place for place, name in enumerate(graph.nodes)}
    condensed = nx.condensation(flow(graph))
    first = {c: min(declared[n] for n in data["members"]) for c, data in condensed.nodes(data=True)}
    ordered = [
        name
        for component in nx.lexicographical_topological_sort(condensed, key=first.__getitem__)
        for name in sorted(condensed.nodes[component]["members"], key=declared.__getitem__)
    ]
    return {name: rank for rank, name in enumerate(ordered)}


def distances(graph: GraphSpec) -> dict[str, int]:
    """Edges from each node to the nearest pool; nodes that reach none count as far as the graph is long."""
    net = flow(graph).reverse()
    pools = {p.name for p in graph.pools}
    found: Mapping[str, int] = nx.multi_source_dijkstra_path_length(net, pools) if pools else {}
    return {name: int(found.get(name, len(graph.nodes))) for name in graph.nodes}


def components(graph: GraphSpec) -> list[frozenset[str]]:
    """The sets of nodes that lie on common cycles, in the order of their first node's declaration."""
    net = flow(graph)
    declared = {name: place for place, name in enumerate(graph.nodes)}
    found = [frozenset(c) for c in nx.strongly_connected_components(net) if len(c) > 1 or net.has_edge(*(list(c) * 2))]
    return sorted(found, key=lambda c: min(declared[n] for n in c))


def open_cycles(graph: GraphSpec) -> list[list[EdgeSpec]]:
    """Cycles without a ``loop`` edge, each as its edges in order from the earliest declared node.

    Not every such cycle (there may be exponentially many): enough that none is left when the last edge of each is
    taken away.
    """
    rank = topological(graph)
    net = nx.DiGraph()
    net.add_nodes_from(graph.nodes)
    net.add_edges_from((e.src, e.dst) for e in graph.edges if e.loop is None)
    found: list[list[EdgeSpec]] = []
    while True:
        try:
            nodes = [src for src, _ in nx.find_cycle(net)]
        except nx.NetworkXNoCycle:
            return sorted(found, key=lambda edges: [rank[e.src] for e in edges])
        start = min(range(len(nodes)), key=lambda i: rank[nodes[i]])
        nodes = nodes[start:] + nodes[:start]
        pairs = list(zip(nodes, nodes[1:] + nodes[:1], strict=True))
        found.append([e for src, dst in pairs for e in [graph.edge(f"{src}->{dst}")] if e is not None])
        net.remove_edge(*pairs[-1])


def scopes(graph: GraphSpec) -> tuple[dict[str, Scope], list[tuple[EdgeSpec, Scope, Scope]]]:
    """The scatters open where each node takes its items, and the edges that disagree about their number.

    A disagreement is (edge, what it brings, what its consumer has from other edges).
    """
    found: dict[str, Scope] = {s.name: () for s in graph.sources}
    clashes: list[tuple[EdgeSpec, Scope, Scope]] = []
    rank = topological(graph)
    # A cycle's items come back in the scope they left in, so two sweeps settle every node.
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


def gathers_of(graph: GraphSpec) -> dict[str, tuple[str, ...]]:
    """By scattering edge: the names of the edges that gather its groups again."""
    found, _ = scopes(graph)
    return {
        scatter.name: tuple(
            e.name for e in graph.edges if e.gather and found.get(e.src) and scatter.name in found[e.src][-1]
        )
        for scatter in graph.edges
        if scatter.scatter is not None
    }
