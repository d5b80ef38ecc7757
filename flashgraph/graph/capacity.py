"""Boundedness: how many items a cycle can hold, and whether its edges have room for them.

Outside a cycle no capacity can cause a deadlock: the last stage with work can always hand its result on, for a
pool takes every item.  In a cycle every queue could be full at once, each stage waiting for the next.  That cannot
happen when the cycle's loop edge has room for everything that can be inside: at most ``window`` rounds of each
source that reaches it, times the fan-out of every scatter, `Several` and fork on the way, for those in a cycle
once for each time that an item comes by.  docs/explanation/deadlock.md has the proof.
"""

from __future__ import annotations

from collections.abc import Mapping

from flashgraph.graph.analysis import components, upstream
from flashgraph.graph.spec import EdgeSpec, GraphSpec, StageSpec

__all__ = ["loop_capacity", "unbounded_fanout"]


def _before(graph: GraphSpec, component: frozenset[str]) -> frozenset[str]:
    """Return a cycle's nodes and all that lead to it."""
    return component | upstream(graph, next(iter(component)))


def unbounded_fanout(graph: GraphSpec, several: frozenset[str]) -> list[tuple[EdgeSpec, list[str]]]:
    """Scatters (and edges out of stages in ``several``) without a stated bound that feed a cycle, with its nodes."""
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
    """The capacity that each loop edge needs when each source has ``windows[source]`` rounds open.

    Fan-outs without a bound count as 1 here; `check` refuses them first.
    """
    needs: dict[str, int] = {}
    cycles = {component: _loops(graph, component) for component in components(graph)}
    # An item comes by a stage of a cycle once, and once more for each pass; each time it may be copied.
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
    """How many items one item can become at a node: what a `Several` may hold, times the ways out.

    Conditions may all hold at once; only ``otherwise`` excludes the others.
    """
    node = graph.nodes[name]
    ways = sum(e.dst in inside and not e.otherwise for e in graph.out_of(name))
    return ((node.fanout or 1) if isinstance(node, StageSpec) else 1) * max(1, ways)
