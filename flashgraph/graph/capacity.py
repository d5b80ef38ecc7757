"""Boundedness: how many items a cycle can hold, and whether its edges have room for them.

Outside a cycle no capacity can cause a deadlock: the last stage with work can always deliver its result, because a
pool takes every item.  In a cycle all queues could be full, with each stage waiting for the next.  That cannot happen
if the cycle's loop edge has room for every item that can be inside.

A cycle holds at most ``window`` rounds of each source that reaches it, times the fan-out of every scatter, `Several`
and fork before or in it.  A fan-out in a cycle counts once for each visit of an item. docs/explanation/deadlock.md has
the proof.
"""

from __future__ import annotations

from collections.abc import Mapping

from flashgraph.graph.analysis import components, upstream
from flashgraph.graph.spec import EdgeSpec, GraphSpec, StageSpec

__all__ = ["loop_capacity", "unbounded_fanout"]


def _before(graph: GraphSpec, component: frozenset[str]) -> frozenset[str]:
    """Return the nodes of a cycle and all nodes that lead to it."""
    return component | upstream(graph, next(iter(component)))


def unbounded_fanout(graph: GraphSpec, several: frozenset[str]) -> list[tuple[EdgeSpec, list[str]]]:
    """Return the edges before or in a cycle whose fan-out has no stated bound, each with the cycle's nodes.

    These are scatters, and edges out of the stages in ``several``.
    """
    found = []
    for component in components(graph):
        upstream = _before(graph, component)
        for edge in graph.edges:
            if edge.src not in upstream or edge.dst not in upstream:
                continue
            node = graph.nodes[edge.src]
            many = edge.src in several and isinstance(node, StageSpec) and node.fanout is None
            if (edge.scatter is not None and edge.fanout is None) or many:
                found.append((edge, sorted(component)))
    return found


def loop_capacity(graph: GraphSpec, windows: Mapping[str, int]) -> dict[str, int]:
    """Return the capacity that each loop edge needs if each source has ``windows[source]`` open rounds.

    A fan-out without a bound counts as 1: `check` refuses it.
    """
    needs: dict[str, int] = {}
    cycles = {component: _loops(graph, component) for component in components(graph)}
    # An item visits a stage of a cycle once, and again for each pass of a loop edge.  Each visit may copy it.
    visits = {name: 1 + sum(e.loop or 0 for e in loops) for component, loops in cycles.items() for name in component}
    for component, loops in cycles.items():
        upstream = _before(graph, component)
        rounds = sum(w for source, w in windows.items() if source in upstream)
        width = 1
        for edge in graph.edges:
            if edge.src in upstream and edge.dst in upstream and edge.scatter is not None:
                width *= edge.fanout or 1
        for name in upstream:
            width *= _copies(graph, name, upstream) ** visits.get(name, 1)
        needs |= {edge.name: rounds * width for edge in loops}
    return needs


def _loops(graph: GraphSpec, component: frozenset[str]) -> list[EdgeSpec]:
    return [e for e in graph.edges if e.loop is not None and e.src in component and e.dst in component]


def _copies(graph: GraphSpec, name: str, inside: frozenset[str]) -> int:
    """Return how many items one item can become at a node: its most items in a `Several`, times its outgoing edges.

    The conditions of all edges may hold at once; only an ``otherwise`` edge excludes the others.
    """
    node = graph.nodes[name]
    ways = sum(e.dst in inside and not e.otherwise for e in graph.out_of(name))
    return ((node.fanout or 1) if isinstance(node, StageSpec) else 1) * max(1, ways)
