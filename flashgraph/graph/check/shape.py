"""Checks of the whole graph: reach, dead ends, groups, cycles and their capacity."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import attrs

from flashgraph.errors import did_you_mean
from flashgraph.graph.analysis import Scope, components, downstream, gathers_of, open_cycles, upstream
from flashgraph.graph.capacity import loop_capacity, unbounded_fanout
from flashgraph.graph.check.checked import Ports
from flashgraph.graph.check.nodes import stale_of
from flashgraph.graph.notes import Notes
from flashgraph.graph.spec import DEFAULT_LATE, EdgeSpec, GraphSpec, SourceSpec, StageSpec
from flashgraph.graph.types import show

__all__ = ["ASSUMED_WINDOW", "check_clashes", "check_shape"]

ASSUMED_WINDOW = 8
"""The window, in rounds, that `check` assumes: that of the default schedule. A run checks again with its own."""


def check_shape(
    graph: GraphSpec, ports: Ports, scopes: Mapping[str, Scope], notes: Notes, left_out: frozenset[str]
) -> None:
    """Note the problems of the graph as a whole.

    ``left_out`` names nodes that lack an edge because of another problem. If there are any, unreachable nodes are not
    reported, because they may result from that problem.
    """
    _ends(graph, notes)
    if not left_out:
        _reach(graph, ports, notes)
    _dead_ends(graph, notes, left_out)
    gathers = gathers_of(graph, scopes)
    _several(graph, ports, scopes, gathers, notes)
    _forks(graph, scopes, notes)
    _late(graph, scopes, notes)
    _late_alike(graph, gathers, notes)
    _cycles(graph, notes)
    _capacity(graph, ports, notes)
    _stamps(graph, notes)
    _tests(graph, ports, notes)


def _tests(graph: GraphSpec, ports: Ports, notes: Notes) -> None:
    """Note a wrong `Graph.tests_with`: the held-out test gives its stage only an item, a model and the task."""
    stage = next((s for s in graph.stages if s.name == graph.tests), None)
    if graph.tests is None:
        return
    found = None
    if stage is None:
        found = f"{graph.tests!r}, a {graph.nodes[graph.tests].kind}"
    elif stage.reads:
        found = f"{graph.tests!r}, which reads pool {' and '.join(map(repr, stage.reads))}"
    elif stage.name in ports.takes and not _attempts(ports.takes[stage.name], ports.gives.get(stage.name)):
        found = f"{graph.tests!r}, which is {show(ports.takes[stage.name])} -> {show(ports.gives[stage.name])}"
    if found is not None:
        notes.add(
            "bad-tests-with", graph.nodes[graph.tests].place, f"graph {graph.name!r}",
            f"tests_with({found})",
            "a stage that reads no pool and takes a Work to an Attempt (flashgraph.parts.evaluation)",
            "name such a stage, or leave tests_with out: the task's own attempt is used then",
        )  # fmt: skip


def _attempts(takes: Any, gives: Any) -> bool:
    """Return whether a stage turns works into attempts, by the fields that the held-out test uses."""
    works = attrs.has(takes) and {"text", "split", "index"} <= {f.name for f in attrs.fields(takes)}
    return works and attrs.has(gives) and "score" in {f.name for f in attrs.fields(gives)}


def is_double(name: str) -> bool:
    """Return whether a node is the second of its name (`Declarations.add` adds a # to it), which is already
    reported.
    """
    return "#" in name


# ---- reach -----------------------------------------------------------------------------------------------


def _ends(graph: GraphSpec, notes: Notes) -> None:
    note = notes.of(graph.place, f"graph {graph.name!r}")
    if not graph.sources:
        note("no-source", "no source", "a source, which starts rounds", "@graph.source(reads=POOL) on a function")
    if not graph.pools:
        note("no-pool", "no pool", "a pool, which holds what evolves", "graph.pool('frontier', ParetoFrontier)")


def _reach(graph: GraphSpec, ports: Ports, notes: Notes) -> None:
    reached = {s.name for s in graph.sources}.union(*(downstream(graph, s.name) for s in graph.sources))
    for stage in graph.stages:
        beside = stage.name in graph.repairers or stage.name == graph.tests
        if is_double(stage.name) or beside or stage.name in reached or not graph.sources:
            continue
        into, repaired = graph.into(stage.name), stale_of(ports.takes.get(stage.name))
        if not into and repaired is not None:
            notes.add(
                "repair-unused", stage.place, f"stage {stage.name!r}",
                "it takes fg.Stale, and no edge repairs with it",
                "a staleness rule that names it",
                f"stale=fg.repair({stage.name}) on an edge, or drop the stage",
            )  # fmt: skip
        elif not into:  # the nodes behind it are not reached either: one report is enough
            notes.add(
                "unreachable", stage.place, f"stage {stage.name!r}",
                "no edge ends at it",
                "a path from a source to it",
                f"graph.edge(..., {stage.name})",
            )  # fmt: skip
    for component in components(graph):
        first = graph.nodes[next(n for n in graph.nodes if n in component)]
        if graph.sources and first.name not in reached and upstream(graph, first.name) <= component:
            notes.add(
                "unreachable", first.place, f"{first.kind} {first.name!r}",
                f"only its own cycle leads to it: {', '.join(n for n in graph.nodes if n in component)}",
                "a path from a source to it",
                f"graph.edge(SOURCE, {first.name})",
            )  # fmt: skip
    for pool in graph.pools:
        if not graph.into(pool.name) and not is_double(pool.name):
            notes.add(
                "pool-without-edge", pool.place, f"pool {pool.name!r}",
                "no edge ends at it: it never changes",
                "an edge that admits to it",
                f"graph.edge(..., {pool.name})",
            )  # fmt: skip


def _dead_ends(graph: GraphSpec, notes: Notes, left_out: frozenset[str]) -> None:
    nodes: tuple[SourceSpec | StageSpec, ...] = (*graph.sources, *graph.stages)
    for node in nodes:
        beside = node.name in graph.repairers or (node.name == graph.tests and not graph.into(node.name))
        if is_double(node.name) or graph.out_of(node.name) or beside or node.name in left_out:
            continue
        if node.kind == "stage" and not graph.into(node.name):
            continue  # reported as unreachable, and perhaps meant for repair
        notes.add(
            "dead-end", node.place, f"{node.kind} {node.name!r}",
            "no edge starts at it: its results are lost",
            "an edge to a stage or a pool",
            f"graph.edge({node.name}, ...)",
        )  # fmt: skip


# ---- groups ----------------------------------------------------------------------------------------------


def _levels(scope: Scope) -> str:
    return "no group" if not scope else f"{len(scope)} group level{'s' if len(scope) > 1 else ''}"


def check_clashes(clashes: Iterable[tuple[EdgeSpec, Scope, Scope]], notes: Notes) -> None:
    """Note edges that bring items of different group levels to one node."""
    for edge, brought, known in clashes:
        notes.add(
            "mixed-depth", edge.place, f"edge {edge.name}",
            f"its items are inside {_levels(brought)}; those of other edges to {edge.dst!r}, {_levels(known)}",
            "edges into one stage that agree on scatter and gather",
            "gather before the stage, or use a second stage with the same function",
        )  # fmt: skip


def _several(
    graph: GraphSpec, ports: Ports, scopes: Mapping[str, Scope], gathers: Mapping[str, tuple[str, ...]], notes: Notes
) -> None:
    gathered = {scatter for scatter, found in gathers.items() if found}
    for stage in graph.stages:
        scope = scopes.get(stage.name, ())
        if stage.name in ports.several and any(level & gathered for level in scope):
            notes.add(
                "several-in-group", stage.place, f"stage {stage.name!r}",
                "it returns Several inside a group: a member would arrive more than once",
                "one result per member",
                "return one value that holds them, scatter= it after the stage and gather that inner group first",
            )  # fmt: skip


def _forks(graph: GraphSpec, scopes: Mapping[str, Scope], notes: Notes) -> None:
    """Note members with two paths to their gathering edge: only the first copy would count."""
    reported: set[str] = set()
    for gather in graph.edges:
        scope = scopes.get(gather.src)
        if not gather.gather or not scope:
            continue
        inside = {n for n, s in scopes.items() if len(s) == len(scope) and s[-1] & scope[-1]}
        plain = [e for e in graph.edges if not e.gather and e.scatter is None and {e.src, e.dst} <= inside]
        inner = attrs.evolve(graph, edges=tuple(plain))
        toward = upstream(inner, gather.src) | {gather.src}
        for stage in graph.stages:
            always = [e for e in plain if e.src == stage.name and e.dst in toward and _always(e)]
            if len(always) > 1 and always[1].name not in reported:
                reported.add(always[1].name)
                notes.add(
                    "fork-in-group", always[1].place, f"edge {always[1].name}",
                    f"it and edge {always[0].name} both lead each member to edge {gather.name}, which gathers it once",
                    "one path for each member",
                    "when= on one and otherwise=True on the other, or one stage after the other",
                )  # fmt: skip


def _late(graph: GraphSpec, scopes: Mapping[str, Scope], notes: Notes) -> None:
    """Note late members in a cycle: they do not count in the window, so their number would have no bound."""
    cyclic = frozenset().union(*components(graph))
    for gather in graph.edges:
        scope = scopes.get(gather.src)
        if not gather.gather or not scope or gather.release is None or gather.late not in ("drop", "amend"):
            continue
        # An amendment is late too, and moves on after the gather.
        behind = downstream(graph, gather.dst) | {gather.dst} if gather.late == "amend" else set()
        inside = [n for n in graph.nodes if any(level & scope[-1] for level in scopes.get(n, ()))]
        looping = [n for n in graph.nodes if n in cyclic and (n in inside or n in behind)]
        if looping:
            notes.add(
                "late-in-cycle", gather.place, f"edge {gather.name}",
                f"late={gather.late!r} on a group whose members go through the cycle of {', '.join(looping)}"
                if set(looping) & set(inside)
                else f"late={gather.late!r} on a group whose amendment goes through the cycle of {', '.join(looping)}",
                "late='cancel': late members do not count in the window, so they could fill up the cycle",
                "late='cancel', or drop release",
            )  # fmt: skip


def _late_alike(graph: GraphSpec, by_scatter: Mapping[str, tuple[str, ...]], notes: Notes) -> None:
    """Note edges that gather the same groups but have different values of ``late``."""
    reported: set[str] = set()
    for gathers in by_scatter.values():
        early = [e for e in graph.edges if e.name in gathers and e.release is not None]
        for edge in early[1:]:
            first, late = early[0].late or DEFAULT_LATE, edge.late or DEFAULT_LATE
            if late != first and edge.name not in reported:
                reported.add(edge.name)
                default = "" if edge.late else ", the default"
                notes.add(
                    "late-differs", edge.place, f"edge {edge.name}",
                    f"late={late!r}{default}; edge {early[0].name}, which gathers the same groups, has late={first!r}",
                    "the same late= on all edges that gather a group: the last one released decides about its late "
                    "members",
                    f"late={first!r}, or late={late!r} on edge {early[0].name}",
                )  # fmt: skip


def _always(edge: EdgeSpec) -> bool:
    return edge.when is None and not edge.otherwise and edge.loop is None and not edge.takes_failures


# ---- cycles ----------------------------------------------------------------------------------------------


def _cycles(graph: GraphSpec, notes: Notes) -> None:
    for cycle in open_cycles(graph):
        path = " -> ".join([*(e.src for e in cycle), cycle[0].src])
        last = cycle[-1]
        notes.add(
            "cycle-without-loop", last.place, f"edge {last.name}",
            f"it closes the cycle {path}, which passes no pool",
            "loop=N on one edge of a cycle: each item passes it at most N times",
            "loop=3 here, or end the cycle at a pool",
        )  # fmt: skip
    found = components(graph)
    for edge in graph.edges:
        if edge.loop is not None and not any({edge.src, edge.dst} <= c for c in found):
            notes.add(
                "loop-without-cycle", edge.place, f"edge {edge.name}",
                f"loop={edge.loop} on an edge that closes no cycle",
                "loop on an edge that leads back",
                "drop loop",
            )  # fmt: skip
    for component in found:
        inner = [e for e in graph.edges if e.src in component and e.dst in component]
        looping = [e for e in inner if e.loop is not None]
        if looping and not any(e.src in component and e.dst not in component for e in graph.edges):
            notes.add(
                "loop-without-exit", looping[0].place, f"edge {looping[0].name}",
                f"no edge leaves its cycle of {', '.join(n for n in graph.nodes if n in component)}",
                "an edge out of the cycle, because an item would be lost after its last pass",
                f"graph.edge({looping[0].src}, ..., otherwise=True)",
            )  # fmt: skip


def _capacity(graph: GraphSpec, ports: Ports, notes: Notes) -> None:
    unbounded = unbounded_fanout(graph, frozenset(ports.several))
    for edge, component in unbounded:
        how = "scatters" if edge.scatter is not None else "comes from a stage that returns Several"
        notes.add(
            "unbounded-fanout", edge.place, f"edge {edge.name}",
            f"it {how} without a bound, before or in the cycle of {', '.join(component)}",
            "a bound, because only a cycle that holds a bounded number of items cannot deadlock",
            "fanout=N on the edge" if edge.scatter is not None else f"fanout=N on stage {edge.src!r}",
        )  # fmt: skip
    if unbounded:
        return
    for name, needed in loop_capacity(graph, {s.name: ASSUMED_WINDOW for s in graph.sources}).items():
        looping = graph.edge(name)
        if looping is not None and looping.capacity is not None and looping.capacity < needed:
            notes.add(
                "cycle-capacity", looping.place, f"edge {name}",
                f"capacity={looping.capacity}",
                f"at least {needed}, because {ASSUMED_WINDOW} open rounds can put that many items into its cycle",
                f"capacity={needed}, or leave it out, so that the schedule sets it",
            )  # fmt: skip


# ---- versions --------------------------------------------------------------------------------------------


def _stamps(graph: GraphSpec, notes: Notes) -> None:
    """Note staleness rules on items that carry no version."""
    nodes: tuple[SourceSpec | StageSpec, ...] = (*graph.sources, *graph.stages)
    stamped = {n.name for n in nodes if n.reads}
    stamped |= {name for start in stamped for name in downstream(graph, start)}
    for edge in graph.edges:
        for pool in _named_pools(edge):
            readers = {n.name for n in nodes if pool in n.reads}
            if edge.src not in readers | {name for start in readers for name in downstream(graph, start)}:
                read = sorted({p for n in nodes for p in n.reads})
                notes.add(
                    "stale-of-unread", edge.place, f"edge {edge.name}",
                    f"stale={edge.stale} counts the lag behind {pool!r}, which nothing before the edge reads",
                    "a pool of this graph that a source or stage upstream reads",
                    did_you_mean(pool, read),
                )  # fmt: skip
        if edge.stale is not None and edge.src not in stamped:
            notes.add(
                "stale-without-version", edge.place, f"edge {edge.name}",
                f"stale={edge.stale} on items that carry no version: nothing before it reads a pool",
                "a source or stage with reads=POOL upstream",
                "reads=POOL, or drop stale",
            )  # fmt: skip


def _named_pools(edge: EdgeSpec) -> list[str]:
    """Return the names of the pools whose lags an edge's staleness rule names."""
    return [str(getattr(pool, "name", pool)) for pool in (edge.stale.pools() if edge.stale is not None else ())]
