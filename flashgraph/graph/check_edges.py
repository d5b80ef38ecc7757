"""Checks of single edges: what flows over them, and the policies that stand on them."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import Any, get_args, get_origin

from flashgraph.errors import did_you_mean
from flashgraph.graph.analysis import Scope, scopes
from flashgraph.graph.check_nodes import Notebook, Ports, function_name, stale_of, verdict_of
from flashgraph.graph.ports import Group
from flashgraph.graph.spec import EdgeSpec, GraphSpec, PoolSpec, SourceSpec, StageSpec
from flashgraph.graph.types import Unannotated, assignable, is_a, show, signature_of

__all__ = ["check_edges", "flows"]

LATE = ("cancel", "drop", "amend")


def check_edges(graph: GraphSpec, ports: Ports, notes: Notebook) -> None:
    """Note what is wrong with each edge."""
    found, _ = scopes(graph)
    for edge in graph.edges:
        if _ends(graph, edge, notes):
            _numbers(edge, notes)
            _policies(graph, edge, notes)
            _types(graph, edge, ports, found.get(edge.src, ()), notes)
            if edge.stale is not None and not isinstance(edge.stale, str) and hasattr(edge.stale, "repairers"):
                _staleness(graph, edge, ports, found.get(edge.src, ()), notes)


def _ends(graph: GraphSpec, edge: EdgeSpec, notes: Notebook) -> bool:
    src, dst = graph.nodes[edge.src], graph.nodes[edge.dst]
    if isinstance(src, PoolSpec):
        notes.add(
            "edge-from-pool",
            edge.place,
            f"edge {edge.name}",
            f"it starts at pool {edge.src!r}",
            "an edge that starts at a source or a stage: pools are read, they do not emit",
            f"@graph.source(reads={edge.src}) starts rounds from its view",
        )
        return False
    if isinstance(dst, SourceSpec):
        notes.add(
            "edge-into-source",
            edge.place,
            f"edge {edge.name}",
            f"it ends at source {edge.dst!r}",
            "an edge that ends at a stage or a pool: sources take no items",
            f"make {edge.dst!r} a stage, or end the edge at the pool it reads",
        )
        return False
    return True


def _numbers(edge: EdgeSpec, notes: Notebook) -> None:
    for option in ("capacity", "loop", "fanout"):
        value = getattr(edge, option)
        if value is not None and (not isinstance(value, int) or isinstance(value, bool) or value < 1):
            notes.add(
                "not-positive",
                edge.place,
                f"edge {edge.name}",
                f"{option}={value!r}",
                "a whole number from 1",
                f"{option}=1, or leave it out",
            )


def _policies(graph: GraphSpec, edge: EdgeSpec, notes: Notebook) -> None:
    what = f"edge {edge.name}"

    def note(code: str, found: str, expected: str, fix: str) -> None:
        notes.add(code, edge.place, what, found, expected, fix)

    if edge.scatter is not None and edge.gather:
        note(
            "scatter-and-gather",
            "scatter= and gather=True on one edge",
            "one of them: a group is gathered behind the stage that worked on its members",
            "put a stage between the two",
        )
    if edge.fanout is not None and edge.scatter is None:
        note("fanout-without-scatter", f"fanout={edge.fanout!r}", "scatter= beside it", "drop fanout, or add scatter")
    for option, value in (("scatter", edge.scatter), ("when", edge.when)):
        if value is not None and not callable(value):
            note("not-callable", f"{option}={value!r}", "a function of the item", f"{option}=TYPE.method")
    for option in ("release", "late", "on_failure"):
        if getattr(edge, option) is not None and not edge.gather:
            note(
                f"{option.replace('_', '-')}-without-gather",
                f"{option}={getattr(edge, option)} on an edge that gathers nothing",
                "gather=True beside it",
                f"gather=True, or drop {option}",
            )
    if edge.late is not None and edge.late not in LATE:
        note("bad-late", f"late={edge.late!r}", "one of " + ", ".join(LATE), did_you_mean(str(edge.late), LATE))
    if edge.late is not None and edge.gather and edge.release is None:
        note(
            "late-without-release",
            f"late={edge.late!r} on a group that waits for every member",
            "a release rule beside it",
            "release=fg.fraction(0.5), or drop late",
        )
    if edge.otherwise and edge.when is not None:
        note(
            "when-and-otherwise",
            "when= and otherwise=True on one edge",
            "one of them",
            "otherwise=True alone takes what no sibling edge takes",
        )
    if edge.otherwise and all(e.when is None and e.loop is None for e in graph.out_of(edge.src) if e is not edge):
        note(
            "otherwise-alone",
            f"no other edge out of {edge.src!r} has a condition",
            "a sibling edge with when= or loop=",
            "drop otherwise, or give the sibling its condition",
        )
    if edge.orphans not in ("discard", "keep"):
        note(
            "bad-orphans",
            f"orphans={edge.orphans!r}",
            "'discard' or 'keep'",
            did_you_mean(str(edge.orphans), ("discard", "keep")),
        )
    for option, methods, example in (
        ("release", ("ready", "deadline"), "fg.fraction(0.5)"),
        ("order", ("flaw",), "fg.freshest()"),
        ("stale", ("decide", "repairers"), "fg.discard(above=4)"),
        ("on_failure", ("fails",), "fg.fail_above(0.2)"),
    ):
        value = getattr(edge, option)
        if value is None:
            continue
        if inspect.isclass(value) or not all(hasattr(value, m) for m in methods):
            called = inspect.isroutine(value)
            note(
                f"bad-{option.replace('_', '-')}",
                f"{option}={getattr(value, '__name__', repr(value))}"
                + (", a function that was not called" if called else ""),
                f"a {option.replace('_', ' ')} rule",
                f"{option}={example}",
            )
        elif (flaw := value.flaw()) is not None:
            note(f"bad-{option.replace('_', '-')}", f"{option}: {flaw.found}", flaw.expected, flaw.fix)
    if hasattr(edge.order, "arrange") and edge.scatter is None:
        note(
            "order-needs-scatter",
            f"order={edge.order} on an edge that scatters nothing",
            "scatter= beside it: it orders the members of a group",
            "put it on the scattering edge, or use fg.freshest()",
        )


def flows(graph: GraphSpec, edge: EdgeSpec, ports: Ports, scope: Scope) -> Any | None:
    """The type of what arrives at the end of ``edge``; None where it cannot be known."""
    gives = ports.gives.get(edge.src)
    if gives is None:
        return None
    if edge.scatter is not None:
        return _members(edge, gives)
    if edge.gather:
        origins = [
            o for name in (sorted(scope[-1]) if scope else []) for o in [_origin(graph, name, ports)] if o is not None
        ]
        if not origins:
            return None
        origin = origins[0]
        for other in origins[1:]:
            origin = origin | other if other != origin else origin
        return Group[origin, gives]
    return gives


def _origin(graph: GraphSpec, scatter: str, ports: Ports) -> Any | None:
    edge = graph.edge(scatter)
    return ports.gives.get(edge.src) if edge is not None else None


def _members(edge: EdgeSpec, gives: Any) -> Any | None:
    """Member type of what a scatter function returns; None where it is not annotated."""
    try:
        returns = signature_of(edge.scatter).returns  # type: ignore[arg-type]
    except (Unannotated, NameError, TypeError, ValueError):
        return None
    origin, arguments = get_origin(returns), get_args(returns)
    if inspect.isclass(origin) and issubclass(origin, Sequence) and arguments:
        return arguments[0]
    return None


def _types(graph: GraphSpec, edge: EdgeSpec, ports: Ports, scope: Scope, notes: Notebook) -> None:
    what = f"edge {edge.name}"
    gives, takes = ports.gives.get(edge.src), ports.takes.get(edge.dst)
    if gives is None or takes is None or (edge.scatter is not None and not callable(edge.scatter)):
        return
    if edge.gather and not scope:
        notes.add(
            "gather-without-scatter",
            edge.place,
            what,
            f"what {edge.src!r} gives was never scattered",
            "an edge with scatter= somewhere before it",
            "add scatter= upstream, or drop gather",
        )
        return
    if edge.scatter is not None and not _scatter_fits(edge, gives, notes):
        return
    arrives = flows(graph, edge, ports, scope)
    if arrives is None or assignable(arrives, takes):
        return
    consumer = f"{graph.nodes[edge.dst].kind} {edge.dst!r} takes {show(takes)}"
    if edge.gather and not is_a(takes, Group):
        notes.add(
            "gather-needs-group",
            edge.place,
            what,
            f"gather=True delivers {show(arrives)}; {consumer}",
            f"a consumer of {show(arrives)}",
            f"annotate its item as fg.{show(arrives)}, or drop gather",
        )
    elif is_a(takes, Group) and not edge.gather:
        fix = "gather=True on this edge" if scope else "scatter= upstream and gather=True here"
        notes.add(
            "group-needs-gather", edge.place, what, f"single items of {show(arrives)}; {consumer}", show(takes), fix
        )
    else:
        fitting = [n for n, t in ports.takes.items() if n != edge.dst and assignable(arrives, t)]
        notes.add(
            "type-mismatch",
            edge.place,
            what,
            f"{edge.src!r} delivers {show(arrives)}",
            f"{show(takes)}, which {graph.nodes[edge.dst].kind} {edge.dst!r} takes",
            f"end the edge at {fitting[0]!r}, which takes it"
            if fitting
            else f"put a stage between that turns {show(arrives)} into {show(takes)}",
        )


def _scatter_fits(edge: EdgeSpec, gives: Any, notes: Notebook) -> bool:
    assert edge.scatter is not None
    what = f"edge {edge.name}"
    name = function_name(edge.scatter)
    try:
        found = signature_of(edge.scatter)
    except Unannotated as error:
        owner = getattr(edge.scatter, "__qualname__", "").rpartition(".")[0]
        if str(error) == "return" or not owner or str(error) != "self":
            notes.add(
                "scatter-unannotated",
                edge.place,
                what,
                f"scatter={name} has no annotation for {str(error)!r}",
                "a function (item) -> Sequence[MEMBER], annotated",
                "annotate it; a lambda cannot be",
            )
            return False
        return _method_fits(edge, owner, gives, notes)
    except (NameError, TypeError, ValueError) as error:
        notes.add(
            "scatter-unannotated", edge.place, what, f"scatter={name}: {error}", "an annotated function", "fix it"
        )
        return False
    if found.parameters and not assignable(gives, found.parameters[0]):
        _wrong_owner(edge, show(found.parameters[0]), gives, notes)
        return False
    return _is_sequence(edge, found.returns, notes)


def _method_fits(edge: EdgeSpec, owner: str, gives: Any, notes: Notebook) -> bool:
    """A method scatters values of its own class: its self needs no annotation."""
    import typing

    function: Any = edge.scatter
    members = get_args(gives) if get_origin(gives) is not None and not is_a(gives, Group) else (gives,)
    names = {base.__qualname__ for m in members for base in getattr(get_origin(m) or m, "__mro__", ())}
    if owner not in names:
        _wrong_owner(edge, owner.rpartition(".")[2], gives, notes)
        return False
    try:
        hints = typing.get_type_hints(function)
    except NameError:
        return True
    if "return" not in hints:
        notes.add(
            "scatter-unannotated",
            edge.place,
            f"edge {edge.name}",
            f"scatter={function_name(function)} has no annotation for 'return'",
            "a function (item) -> Sequence[MEMBER], annotated",
            "annotate it; a lambda cannot be",
        )
        return False
    return _is_sequence(edge, hints["return"], notes)


def _wrong_owner(edge: EdgeSpec, owner: str, gives: Any, notes: Notebook) -> None:
    notes.add(
        "scatter-of-another-type",
        edge.place,
        f"edge {edge.name}",
        f"scatter={function_name(edge.scatter)} takes {owner}; {edge.src!r} gives {show(gives)}",  # type: ignore[arg-type]
        f"a function of {show(gives)}",
        f"scatter={show(gives)}.METHOD",
    )


def _is_sequence(edge: EdgeSpec, returns: Any, notes: Notebook) -> bool:
    origin = get_origin(returns) or returns
    if inspect.isclass(origin) and issubclass(origin, Sequence) and origin not in (str, bytes):
        return True
    notes.add(
        "scatter-not-a-sequence",
        edge.place,
        f"edge {edge.name}",
        f"scatter={function_name(edge.scatter)} returns {show(returns)}",  # type: ignore[arg-type]
        "a list or tuple of members: their number and order must be known",
        "-> list[MEMBER]",
    )
    return False


def _staleness(graph: GraphSpec, edge: EdgeSpec, ports: Ports, scope: Scope, notes: Notebook) -> None:
    assert edge.stale is not None
    what = f"edge {edge.name}"
    dst = graph.nodes[edge.dst]
    if edge.stale.refreshes() and getattr(dst, "reads", None) is None:
        notes.add(
            "refresh-needs-reads",
            edge.place,
            what,
            f"a refresh rule before {dst.kind} {edge.dst!r}, which reads no pool",
            "a stage with reads=POOL: refresh hands it the newest view",
            "reads=POOL on the stage, or fg.accept() / fg.repair(...) here",
        )
    arrives = flows(graph, edge, ports, scope)
    for stage in edge.stale.repairers():
        name = str(getattr(stage, "name", stage))
        node = graph.nodes.get(name)
        if not isinstance(node, StageSpec):
            notes.add(
                "repair-not-a-stage",
                edge.place,
                what,
                f"repair({name})" if node is None else f"repair({name}), which is a {node.kind}",
                "a stage of this graph that takes fg.Stale[T] and returns fg.Verdict[T]",
                did_you_mean(name, [s.name for s in graph.stages]),
            )
            continue
        if name not in ports.takes or arrives is None:
            continue
        stale, verdict = stale_of(ports.takes[name]), verdict_of(ports.gives[name])
        if stale is None or verdict is None:
            notes.add(
                "repair-signature",
                edge.place,
                what,
                f"repair stage {name!r} is {show(ports.takes[name])} -> {show(ports.gives[name])}",
                f"Stale[{show(arrives)}] -> Verdict[{show(arrives)}]",
                f"async def {node.body.__name__}(stale: fg.Stale[{show(arrives)}], at: fg.Context) -> fg.Verdict[{show(arrives)}]",
            )
        elif not assignable(arrives, stale) or not assignable(verdict, arrives):
            notes.add(
                "repair-type",
                edge.place,
                what,
                f"repair stage {name!r} is Stale[{show(stale)}] -> Verdict[{show(verdict)}]",
                f"Stale[{show(arrives)}] -> Verdict[{show(arrives)}]: what this edge carries",
                f"a repair stage for {show(arrives)}",
            )
