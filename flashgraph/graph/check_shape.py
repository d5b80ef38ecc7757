"""Checks of the whole: what is reached, what leads nowhere, groups, cycles and their capacity."""

from __future__ import annotations

import networkx as nx

from flashgraph.graph.analysis import Scope, cycles, flow, scopes
from flashgraph.graph.capacity import loop_capacity, unbounded_fanout
from flashgraph.graph.check_nodes import Notebook, Ports
from flashgraph.graph.spec import EdgeSpec, GraphSpec, StageSpec

__all__ = ["check_shape"]

ASSUMED_WINDOW = 8
"""The window of the default schedule; a run checks again with its own."""


def check_shape(graph: GraphSpec, ports: Ports, notes: Notebook, *, broken: bool) -> None:
    """Note what is wrong with the graph as a whole.

    ``broken`` says that single nodes or edges have problems already: a node that an edge was left out for is not
    reported as unreachable on top.
    """
    if not graph.sources:
        notes.add(
            "no-source", graph.place, f"graph {graph.name!r}", "no source", "a source, which starts rounds",
            "@graph.source(reads=POOL) on the function that makes a round's first item",
        )  # fmt: skip
    if not graph.pools:
        notes.add(
            "no-pool", graph.place, f"graph {graph.name!r}", "no pool", "a pool, which holds what evolves",
            "graph.pool('frontier', ParetoFrontier)",
        )  # fmt: skip
    if not broken:
        _reach(graph, notes)
    _groups(graph, ports, notes)
    _cycles(graph, ports, notes)
    _repairers(graph, notes)
    _stamps(graph, notes)


def _reach(graph: GraphSpec, notes: Notebook) -> None:
    net = flow(graph)
    reached = set().union(*(nx.descendants(net, s.name) | {s.name} for s in graph.sources)) if graph.sources else None
    for stage in graph.stages:
        if stage.name in graph.repairers:
            continue
        if reached is not None and stage.name not in reached:
            into = graph.into(stage.name)
            notes.add(
                "unreachable",
                stage.place,
                f"stage {stage.name!r}",
                "no edge ends at it" if not into else "no source leads to it",
                "a way to it from a source",
                f"graph.edge(SOURCE, {stage.name})" if not into else f"an edge from a source to {into[0].src!r}",
            )
    for node in (*graph.sources, *graph.stages):
        if not graph.out_of(node.name) and node.name not in graph.repairers:
            notes.add(
                "dead-end",
                node.place,
                f"{node.kind} {node.name!r}",
                "no edge starts at it: what it gives is lost",
                "an edge to a stage or a pool",
                f"graph.edge({node.name}, ...)",
            )
    for pool in graph.pools:
        if not graph.into(pool.name):
            notes.add(
                "pool-without-edge",
                pool.place,
                f"pool {pool.name!r}",
                "no edge ends at it: it never changes",
                "an edge that admits to it",
                f"graph.edge(STAGE, {pool.name})",
            )


def _levels(scope: Scope) -> str:
    return "no group" if not scope else f"{len(scope)} group level{'s' if len(scope) > 1 else ''}"


def _groups(graph: GraphSpec, ports: Ports, notes: Notebook) -> None:
    found, clashes = scopes(graph)
    for edge, brought, known in clashes:
        notes.add(
            "mixed-depth",
            edge.place,
            f"edge {edge.name}",
            f"it brings items inside {_levels(brought)}; other edges bring {edge.dst!r} items inside {_levels(known)}",
            "edges into one stage that agree on scatter and gather",
            "gather before the stage, or use a second stage with the same function",
        )
    for edge in graph.edges:
        scope = found.get(edge.src, ())
        if edge.src in ports.several and scope and any(e.gather for e in graph.edges):
            notes.add(
                "several-in-group",
                edge.place,
                f"edge {edge.name}",
                f"{edge.src!r} returns Several inside a group: a member would arrive more than once",
                "one result a member",
                "scatter= on this edge, and gather the inner group first",
            )


def _cycles(graph: GraphSpec, ports: Ports, notes: Notebook) -> None:
    found = cycles(graph)
    for cycle in found:
        if not any(e.loop is not None for e in cycle):
            path = " -> ".join([*(e.src for e in cycle), cycle[0].src])
            last = cycle[-1]
            notes.add(
                "cycle-without-loop",
                last.place,
                f"edge {last.name}",
                f"it closes the cycle {path}, which passes no pool",
                "loop=N on one edge of a cycle: at most N passes an item",
                "loop=3 here, or end the cycle at a pool",
            )
    inside = {e.name for cycle in found for e in cycle}
    for edge in graph.edges:
        if edge.loop is not None and edge.name not in inside:
            notes.add(
                "loop-without-cycle",
                edge.place,
                f"edge {edge.name}",
                f"loop={edge.loop} on an edge that closes no cycle",
                "loop on an edge that leads back",
                "drop loop",
            )
    _capacity(graph, ports, notes)


def _capacity(graph: GraphSpec, ports: Ports, notes: Notebook) -> None:
    unbounded: list[tuple[EdgeSpec, list[str]]] = unbounded_fanout(graph, frozenset(ports.several))
    for edge, component in unbounded:
        how = "scatters" if edge.scatter is not None else "comes from a stage that returns Several"
        notes.add(
            "unbounded-fanout",
            edge.place,
            f"edge {edge.name}",
            f"it {how} without a bound, before or in the cycle of {', '.join(component)}",
            "a bound: what a cycle can hold must be known for it to be free of deadlock",
            "fanout=N on the edge" if edge.scatter is not None else f"fanout=N on stage {edge.src!r}",
        )
    if unbounded:
        return
    for name, needed in loop_capacity(graph, {s.name: ASSUMED_WINDOW for s in graph.sources}).items():
        looping = graph.edge(name)
        if looping is not None and isinstance(looping.capacity, int) and looping.capacity < needed:
            notes.add(
                "cycle-capacity",
                looping.place,
                f"edge {name}",
                f"capacity={looping.capacity}",
                f"at least {needed}: what a window of {ASSUMED_WINDOW} rounds can put into its cycle",
                f"capacity={needed}, or leave it out and it is sized by the schedule",
            )


def _repairers(graph: GraphSpec, notes: Notebook) -> None:
    for edge in graph.edges:
        for end in (edge.src, edge.dst):
            if end in graph.repairers and isinstance(graph.nodes[end], StageSpec):
                notes.add(
                    "edge-at-repair",
                    edge.place,
                    f"edge {edge.name}",
                    f"{end!r} is a repair stage",
                    "no edges at a repair stage: items go through it and back to the edge they wait on",
                    "drop the edge, or use a second stage with the same function",
                )


def _stamps(graph: GraphSpec, notes: Notebook) -> None:
    """Staleness rules need items that carry a version."""
    stamped = {n.name for n in (*graph.sources, *graph.stages) if n.reads is not None}
    net = flow(graph)
    stamped |= set().union(*(nx.descendants(net, n) for n in stamped)) if stamped else set()
    for edge in graph.edges:
        if edge.stale is not None and edge.src not in stamped:
            notes.add(
                "stale-without-version",
                edge.place,
                f"edge {edge.name}",
                f"stale={edge.stale} on items that carry no version: nothing before it reads a pool",
                "a source or stage with reads=POOL upstream",
                "reads=POOL, or drop stale",
            )
