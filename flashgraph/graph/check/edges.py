"""Checks of single edges: the types on them, and options that must go together."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

from flashgraph.errors import did_you_mean
from flashgraph.graph.analysis import Scope
from flashgraph.graph.check.checked import EdgeTypes, Ports
from flashgraph.graph.check.functions import check_scatter, check_when, local_names, scattered
from flashgraph.graph.check.nodes import stale_of, verdict_of
from flashgraph.graph.notes import Note, Notes
from flashgraph.graph.ports import Failed, Group
from flashgraph.graph.signatures import function_name
from flashgraph.graph.spec import EdgeSpec, GraphSpec, StageSpec
from flashgraph.graph.types import assignable, is_a, members_of, narrowed, show, show_apart

__all__ = ["check_edges"]


def check_edges(graph: GraphSpec, ports: Ports, scopes: Mapping[str, Scope], notes: Notes) -> dict[str, EdgeTypes]:
    """Note the problems of each edge; return the types on the edges that have no type problem, by name."""
    flows: dict[str, EdgeTypes] = {}
    for edge in graph.edges:
        note = notes.of(edge.place, f"edge {edge.name}")
        _combinations(edge, note)
        _routes(graph, edge, note)
        if not _narrows(graph, edge, ports, note):
            continue
        if not _at_repair(graph, edge, ports, note):
            arrives = _types(graph, edge, ports, scopes.get(edge.src), note)
            if arrives is not None:
                flows[edge.name] = EdgeTypes(_sent(edge, ports), arrives)
        if edge.stale is not None:
            _staleness(graph, edge, ports, scopes.get(edge.src, ()), note)
    for node in graph.nodes:
        _left_over(graph, node, ports, notes)
    return flows


# ---- options ---------------------------------------------------------------------------------------------


def _combinations(edge: EdgeSpec, note: Note) -> None:
    if edge.scatter is not None and edge.gather:
        note(
            "scatter-and-gather",
            "scatter= and gather=True on one edge",
            "one of them: a group is gathered after the stage that works on its members",
            "put a stage between the two",
        )
    if edge.fanout is not None and edge.scatter is None:
        note(
            "fanout-without-scatter",
            f"fanout={edge.fanout!r} on an edge that scatters nothing",
            "scatter= on the same edge: fanout bounds the members of a group",
            "drop fanout, or add scatter",
        )
    for option in ("release", "late", "on_failure"):
        if getattr(edge, option) is not None and not edge.gather:
            note(
                f"{option.replace('_', '-')}-without-gather",
                f"{option}={_worded(getattr(edge, option))} on an edge that gathers nothing",
                "gather=True on the same edge",
                f"gather=True, or drop {option}",
            )
    if edge.late is not None and edge.gather and edge.release is None:
        note(
            "late-without-release",
            f"late={edge.late!r} on a group that waits for every member",
            "a release rule on the same edge",
            "release=fg.fraction(0.5), or drop late",
        )
    if hasattr(edge.order, "arrange") and edge.scatter is None:
        note(
            "order-needs-scatter",
            f"order={edge.order} on an edge that scatters nothing",
            "scatter= on the same edge: the rule orders the members of a group",
            "put it on the scattering edge, or use fg.freshest()",
        )


def _worded(value: Any) -> str:
    return repr(value) if isinstance(value, str) else str(value)


def _routes(graph: GraphSpec, edge: EdgeSpec, note: Note) -> None:
    if not edge.otherwise:
        return
    siblings = [e for e in graph.out_of(edge.src) if e is not edge and not e.takes_failures]
    open_ = [e for e in siblings if (e.when, e.only, e.loop, e.otherwise) == (None, None, None, False)]
    first = next((e for e in graph.out_of(edge.src) if e.otherwise), edge)
    if edge.when is not None:
        note(
            "when-and-otherwise",
            "when= and otherwise=True on one edge",
            "one of them",
            "otherwise=True alone takes what no sibling edge takes",
        )
    elif first is not edge:
        note(
            "second-otherwise",
            f"edge {first.name} has otherwise=True already: it takes all that is left",
            "one edge with otherwise=True out of a stage",
            "when= on one of the two",
        )
    elif open_:
        note(
            "otherwise-never",
            f"edge {open_[0].name} has no condition: it takes everything, and nothing is left for this one",
            "siblings that all have when=, only= or loop=",
            f"when= on edge {open_[0].name}, or drop otherwise",
        )
    elif not siblings:
        note(
            "otherwise-alone",
            f"no other edge starts at {edge.src!r}",
            "a sibling edge with when=, only= or loop=",
            "drop otherwise",
        )


# ---- types -----------------------------------------------------------------------------------------------


def _sent(edge: EdgeSpec, ports: Ports) -> Any | None:
    """Return the type that ``edge`` takes from its start, narrowed by ``only``; None if it is unknown."""
    if edge.takes_failures:
        takes = ports.takes.get(edge.src)
        return None if takes is None else _failed(takes)
    gives = ports.gives.get(edge.src)
    return gives if gives is None or edge.only is None else narrowed(gives, edge.only)


def _failed(takes: Any) -> Any:
    failed: Any = Failed
    return failed[takes]


def _narrows(graph: GraphSpec, edge: EdgeSpec, ports: Ports, note: Note) -> bool:
    """Return whether ``only`` lets anything through; note a problem if it does not."""
    gives = ports.gives.get(edge.src)
    if edge.takes_failures and edge.src in {s.name for s in graph.sources}:
        note(
            "failures-of-a-source",
            f"only=fg.Failed on an edge out of source {edge.src!r}",
            "an edge out of a stage: a source that raises ends the run",
            "let the source return None, or move what may fail into a stage",
        )
        return False
    if edge.only is None or edge.takes_failures or gives is None or _sent(edge, ports) is not None:
        return True
    classes = [show(m) for m in members_of(gives)]
    note(
        "only-never",
        f"only={edge.only.__name__}; {edge.src!r} gives {show(gives)}, which is never a {edge.only.__name__}",
        f"one of {', '.join(classes)}" if len(classes) > 1 else f"{classes[0]}, or no only= at all",
        did_you_mean(edge.only.__name__, classes) if len(classes) > 1 else "drop only",
    )
    return False


def _left_over(graph: GraphSpec, name: str, ports: Ports, notes: Notes) -> None:
    """Note members of a union that no edge takes; the node should return None instead of them."""
    edges, gives = [e for e in graph.out_of(name) if not e.takes_failures], ports.gives.get(name)
    if gives is None or not edges or any(e.only is None for e in edges):
        return
    taken = [m for e in edges for m in members_of(_sent(e, ports) or ())]
    over = [m for m in members_of(gives) if not any(assignable(m, t) for t in taken if t != ())]
    if over and all(_sent(e, ports) is not None for e in edges):
        notes.add(
            "only-leaves-out", edges[-1].place, f"{graph.nodes[name].kind} {name!r}",
            f"no edge takes {' or '.join(map(show, over))}: each has only= for something else",
            "an edge for every result",
            f"graph.edge({name}, ..., only={show(over[0])}), or return None to end the item here",
        )  # fmt: skip


def _arrives(graph: GraphSpec, edge: EdgeSpec, ports: Ports, scope: Scope) -> Any | None:
    """Return the type that arrives at the end of ``edge``; None if it cannot be known."""
    gives = _sent(edge, ports)
    if gives is None:
        return None
    if edge.scatter is not None:
        return scattered(edge, gives, local_names(graph, edge))
    return _grouped(graph, gives, ports, scope) if edge.gather else gives


def _grouped(graph: GraphSpec, gives: Any, ports: Ports, scope: Scope) -> Any | None:
    """Return ``Group[ORIGIN, MEMBER]``: the origin is the type that the group's scatters take."""
    origins: list[Any] = []
    for name in sorted(scope[-1]) if scope else ():
        scatter = graph.edge(name)
        origin = _sent(scatter, ports) if scatter is not None else None
        if origin is not None and origin not in origins:
            origins.append(origin)
    if not origins:
        return None
    joined = origins[0]
    for other in origins[1:]:
        joined = joined | other
    group: Any = Group
    return group[joined, gives]


def _at_repair(graph: GraphSpec, edge: EdgeSpec, ports: Ports, note: Note) -> bool:
    """Return whether an end of the edge is a repair stage; note a problem, because repair stages have no edges.

    A repair stage with a wrong signature is reported at the rule that names it.
    """
    ends = [end for end in (edge.src, edge.dst) if end in graph.repairers]
    for end in ends:
        if stale_of(ports.takes.get(end)) is not None:
            note(
                "edge-at-repair",
                f"{end!r} is a repair stage",
                "no edges at a repair stage: items go through it and back to the edge they wait on",
                "drop the edge, or use a second stage with the same function",
            )
    return bool(ends)


def _types(graph: GraphSpec, edge: EdgeSpec, ports: Ports, scope: Scope | None, note: Note) -> Any | None:
    """Note types that do not fit; return the type that arrives at the end of the edge, None if it is unknown."""
    gives, takes = _sent(edge, ports), ports.takes.get(edge.dst)
    if edge.gather and scope == ():
        note(
            "gather-without-scatter",
            f"items of {edge.src!r} were never scattered",
            "an edge with scatter= somewhere before it",
            "scatter= upstream, or drop gather",
        )
        return None
    if gives is None or (edge.gather and edge.scatter is not None):
        return None
    localns = local_names(graph, edge)
    if edge.when is not None:
        check_when(edge, gives, localns, note)
    if edge.scatter is not None and not check_scatter(edge, gives, localns, note):
        return None
    arrives = _arrives(graph, edge, ports, scope or ())
    if takes is None or arrives is None or assignable(arrives, takes):
        return arrives
    _unfit(graph, edge, ports, arrives, takes, note, in_group=bool(scope))
    return None


def _unfit(
    graph: GraphSpec, edge: EdgeSpec, ports: Ports, arrives: Any, takes: Any, note: Note, *, in_group: bool
) -> None:
    kind = graph.nodes[edge.dst].kind
    consumer = f"{kind} {edge.dst!r} takes"
    shown, wanted = show_apart(arrives, takes)
    if edge.gather and not is_a(takes, Group):
        note(
            "gather-needs-group",
            f"gather=True delivers {shown}; {consumer} {wanted}",
            f"a consumer of {shown}",
            f"annotate its item as fg.{shown}, or drop gather",
        )
    elif is_a(takes, Group) and not edge.gather and not is_a(arrives, Group):
        note(
            "group-needs-gather",
            f"single items of {shown}; {consumer} {wanted}",
            wanted,
            "gather=True on this edge" if in_group else "scatter= upstream and gather=True here",
        )
    else:
        unfit = [m for m in members_of(arrives) if not assignable(m, takes)]
        partly = f"; {' and '.join(map(show, unfit))} does not fit" if unfit != [arrives] else ""
        source = f"{edge.src!r} delivers" if edge.scatter is None else f"scatter={function_name(edge.scatter)} makes"
        note(
            "type-mismatch",
            f"{source} {shown}{partly}",
            f"{wanted}, which {kind} {edge.dst!r} takes",
            _nearest(graph, edge, ports, arrives, shown, wanted),
        )


def _nearest(graph: GraphSpec, edge: EdgeSpec, ports: Ports, arrives: Any, shown: str, wanted: str) -> str:
    """Return the smallest change that makes the edge fit."""
    if edge.gather:
        return f"annotate the item of {edge.dst!r} as fg.{shown}, or gather what was scattered from it"
    if edge.scatter is not None:
        return f"a scatter function that makes {wanted}"
    others = [n for n in ports.takes if n not in (edge.dst, edge.src) and n not in graph.repairers]
    fitting = next((n for n in others if ports.takes[n] is not Any and assignable(arrives, ports.takes[n])), None)
    if fitting is not None:
        return f"end the edge at {fitting!r}, which takes it"
    return f"a stage between that turns {shown} into {wanted}"


# ---- staleness -------------------------------------------------------------------------------------------


def _staleness(graph: GraphSpec, edge: EdgeSpec, ports: Ports, scope: Scope, note: Note) -> None:
    assert edge.stale is not None
    dst = graph.nodes[edge.dst]
    if edge.stale.refreshes() and not getattr(dst, "reads", ()):
        note(
            "refresh-needs-reads",
            f"a refresh rule before {dst.kind} {edge.dst!r}"
            + (": a pool needs no view" if dst.kind == "pool" else ", which reads no pool"),
            "a stage with reads=POOL: refresh hands it the newest view",
            "fg.discard(above=4) or fg.repair(STAGE)" if dst.kind == "pool" else "reads=POOL on the stage",
        )
    if edge.gather and edge.release is not None and edge.late == "amend" and edge.stale.repairers():
        note(
            "repair-of-amended",
            "a repair rule on a group that is amended: the amendment would deliver the unrepaired members again",
            "repair before the group is scattered",
            f"move the repair rule to the edge that scatters it, or late='cancel' on {edge.name}",
        )
    # Rules act on queued items, and a scattering edge queues items before it scatters them.
    waits = _sent(edge, ports) if edge.scatter is not None else _arrives(graph, edge, ports, scope)
    for stage in edge.stale.repairers():
        name = function_name(stage) if inspect.isroutine(stage) else str(getattr(stage, "name", stage))
        owner = getattr(getattr(stage, "owner", None), "name", graph.name)
        node = graph.nodes.get(name) if owner == graph.name else None
        if not isinstance(node, StageSpec):
            found = f"repair({name})" + (f", which is a {node.kind}" if node is not None else "")
            close = did_you_mean(name, [s.name for s in graph.stages])
            note(
                "repair-not-a-stage",
                found + (f", a stage of graph {owner!r}" if owner != graph.name else ""),
                "a stage of this graph that takes fg.Stale[T] and returns fg.Verdict[T]",
                close if close.startswith("did") and node is None else "fg.repair(STAGE), or fg.discard(above=4)",
            )
        elif name in ports.takes and waits is not None:
            _repair(edge, node, ports, waits, note)


def _repair(edge: EdgeSpec, node: StageSpec, ports: Ports, waits: Any, note: Note) -> None:
    stale, verdict = stale_of(ports.takes[node.name]), verdict_of(ports.gives[node.name])
    wanted = f"Stale[{show(waits)}] -> Verdict[{show(waits)}]"
    if stale is None or verdict is None or node.name in ports.several:
        gives = show(ports.gives[node.name])
        gives = f"Several[{gives}]" if node.name in ports.several else gives
        note(
            "repair-signature",
            f"repair stage {node.name!r} is {show(ports.takes[node.name])} -> {gives}",
            wanted,
            f"a stage (stale: fg.Stale[{show(waits)}], ctx: fg.Context) -> fg.Verdict[{show(waits)}]",
        )
    elif not assignable(waits, stale) or not assignable(verdict, waits):
        note(
            "repair-type",
            f"repair stage {node.name!r} is Stale[{show(stale)}] -> Verdict[{show(verdict)}]",
            f"{wanted}, for the items that wait on this edge",
            f"a repair stage for {show(waits)}",
        )
