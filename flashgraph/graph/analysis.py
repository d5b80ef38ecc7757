"""Shapes of a graph: order, distances to a pool, cycles, and the scatters open at each node."""

from __future__ import annotations

from flashgraph.graph.net import Net
from flashgraph.graph.spec import EdgeSpec, GraphSpec

__all__ = ["components", "distances", "flow", "gathers_of", "open_cycles", "reaches", "scopes", "topological"]

Scope = tuple[frozenset[str], ...]
"""The stack of scatters an item is inside of; each level names the edges that may have opened it."""


def flow(graph: GraphSpec) -> Net:
    """Sources, stages and pools with the edges between them.  Loops through a pool do not appear: a source reads
    its pool, it does not take items from it."""
    return Net(graph.nodes, ((e.src, e.dst) for e in graph.edges))


def topological(graph: GraphSpec) -> dict[str, int]:
    """Rank of each node: producers before consumers, members of a cycle in the order of their declaration."""
    net, declared = flow(graph), list(graph.nodes)
    component = net.components()
    waits = {name: {src for src, dst in net.edges if dst in component[name]} - component[name] for name in declared}
    ranks: dict[str, int] = {}
    while len(ranks) < len(declared):
        first = next(name for name in declared if name not in ranks and waits[name] <= ranks.keys())
        for name in sorted(component[first], key=declared.index):
            ranks[name] = len(ranks)
    return ranks


def distances(graph: GraphSpec) -> dict[str, int]:
    """Edges from each node to the nearest pool; nodes that reach none count as far as the graph is long."""
    found = flow(graph).reversed().distances(*(p.name for p in graph.pools))
    return {name: found.get(name, len(graph.nodes)) for name in graph.nodes}


def components(graph: GraphSpec) -> list[frozenset[str]]:
    """The sets of nodes that lie on common cycles, in the order of their first node's declaration."""
    net = flow(graph)
    loops = {src for src, dst in net.edges if src == dst}
    return list(dict.fromkeys(c for name, c in net.components().items() if len(c) > 1 or name in loops))


def open_cycles(graph: GraphSpec) -> list[list[EdgeSpec]]:
    """Cycles without a ``loop`` edge, each as its edges in order from the earliest declared node.

    Not every such cycle (there may be exponentially many): enough that none is left when the last edge of each is
    taken away.
    """
    rank = topological(graph)
    net = Net(graph.nodes, ((e.src, e.dst) for e in graph.edges if e.loop is None))
    found: list[list[EdgeSpec]] = []
    while (nodes := net.cycle()) is not None:
        start = min(range(len(nodes)), key=[rank[name] for name in nodes].__getitem__)
        nodes = nodes[start:] + nodes[:start]
        pairs = list(zip(nodes, nodes[1:] + nodes[:1], strict=True))
        found.append([e for src, dst in pairs for e in [graph.edge(f"{src}->{dst}")] if e is not None])
        net = net.without(*pairs[-1])
    return sorted(found, key=lambda edges: [rank[e.src] for e in edges])


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


def reaches(graph: GraphSpec) -> dict[str, dict[str, tuple[str, ...]]]:
    """By scattering edge, and by edge: the gathers of its groups that a member may still come to from there.

    Who has come to one of them comes to no other: a gather ends the way of what it takes in.
    """
    found: dict[str, dict[str, tuple[str, ...]]] = {}
    for scatter, gathers in gathers_of(graph).items():
        found[scatter] = {e.name: tuple(g for g in gathers if g in _ahead(graph, e, gathers)) for e in graph.edges}
    return found


def _ahead(graph: GraphSpec, edge: EdgeSpec, ends: tuple[str, ...]) -> set[str]:
    """The edge and all that lead on from it, as far as to ``ends``."""
    seen, todo = {edge.name}, [edge]
    while todo:
        here = todo.pop()
        onward = [] if here.name in ends else [e for e in graph.out_of(here.dst) if e.name not in seen]
        seen.update(e.name for e in onward)
        todo += onward
    return seen
