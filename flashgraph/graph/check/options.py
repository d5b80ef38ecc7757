"""The first phase of `check`: each option value by itself.

It notes wrong values and removes them from the graph. Later phases then see only values of the right kind, and report
no mistake twice.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from typing import Any

import attrs

from flashgraph.errors import did_you_mean
from flashgraph.graph.naming import shown
from flashgraph.graph.notes import Note, Notes
from flashgraph.graph.signatures import function_name
from flashgraph.graph.spec import EdgeSpec, GraphSpec, NodeSpec, PoolSpec, SourceSpec, StageSpec
from flashgraph.tasks.workers import PLACES

__all__ = ["LATE", "RESERVED", "SPENDABLE", "check_options"]

LATE = ("cancel", "drop", "amend")
ORPHANS = ("discard", "keep")
SPENDABLE = ("proposals", "evaluations")
STREAMS = ("keyed", "sequential")
RESERVED = ("champion", "control", "focus", "reserve", "window")
"""Settings of a schedule: on the command line, a parameter of that name would be ambiguous."""

Methods = tuple[tuple[str, ...], ...]

RULES: tuple[tuple[str, str, Methods, str], ...] = (
    ("release", "a release rule", (("ready", "needs", "deadline", "flaw"),), "fg.fraction(0.5)"),
    ("order", "an order", (("arrange", "identity", "passed", "flaw"), ("key", "flaw")), "fg.freshest()"),
    ("stale", "a staleness rule", (("judge", "pools", "repairers", "refreshes", "flaw"),), "fg.discard(above=4)"),
    ("on_failure", "a failure rule", (("fails", "flaw"),), "fg.fail_above(0.2)"),
)
"""Edge options that hold policies: the option, its kind in messages, the methods it must have, and an example."""


def check_options(graph: GraphSpec, notes: Notes) -> tuple[GraphSpec, frozenset[str]]:
    """Note wrong option values; return the graph without them, and the nodes that lack an edge because of one."""
    _params(graph, notes)
    nodes = {n.name: _node(n, notes) for n in graph.nodes.values()}
    kept: list[EdgeSpec] = []
    touched: set[str] = set()
    for edge in graph.edges:
        if _ends(graph, edge, notes):
            kept.append(_edge(edge, notes))
        else:
            touched |= {edge.src, edge.dst}
    return attrs.evolve(graph, nodes=nodes, edges=tuple(kept)), frozenset(touched)


# ---- parameters and nodes --------------------------------------------------------------------------------


def _plain(value: Any) -> bool:
    if isinstance(value, list | tuple | set | frozenset):
        return all(map(_plain, value))
    if isinstance(value, dict):
        return all(_plain(k) and _plain(v) for k, v in value.items())
    return value is None or isinstance(value, str | int | float | bytes)


def _params(graph: GraphSpec, notes: Notes) -> None:
    for param in graph.params.values():
        note = notes.of(graph.place if param.place is None else param.place, f"parameter {param.name!r}")
        if not _plain(param.default):
            note(
                "param-not-plain",
                f"its default is a {type(param.default).__name__}",
                "a number, string, bool, None, or a list, tuple or dict of them: it is stored with the run",
                "a plain default, from which the stage makes the object",
            )
        if param.name in RESERVED:
            note(
                "reserved-param",
                f"{param.name!r} is a setting of the schedule",
                "another name: --set could not tell the two apart",
                f"e.g. {param.name + '_size'!r}",
            )


def _whole(note: Note, option: str, value: Any) -> Any:
    if value is None or (isinstance(value, int) and not isinstance(value, bool) and value >= 1):
        return value
    number = int(value) if isinstance(value, str) and value.isdigit() and int(value) else 1
    note("not-positive", f"{option}={value!r}", "a whole number from 1", f"{option}={number}, or leave it out")
    return None


def _node(node: NodeSpec, notes: Notes) -> NodeSpec:
    note = notes.of(node.place, f"{node.kind} {node.name!r}")
    if isinstance(node, PoolSpec):
        return node
    if isinstance(node, SourceSpec):
        return attrs.evolve(
            node,
            rounds=_whole(note, "rounds", node.rounds),
            window=_whole(note, "window", node.window),
            stream=_one_of(note, "bad-stream", "stream", node.stream, STREAMS) or "keyed",
        )
    return _stage(node, note)


def _stage(stage: StageSpec, note: Note) -> StageSpec:
    model: Any = stage.model
    if model is not None and (not isinstance(model, str) or not model):
        note(
            "bad-model",
            f"model={function_name(model) if callable(model) else repr(model)}",
            "the name of a role, for which the run chooses a model",
            "model='task', and models={'task': ...} of the run",
        )
        model = None
    for budget in stage.counts:
        if budget not in SPENDABLE:
            note(
                "unknown-budget",
                f"counts={budget!r}",
                "one of " + ", ".join(SPENDABLE) + " (calls, tokens and money are counted by themselves)",
                did_you_mean(_word(budget), SPENDABLE),
            )
    return attrs.evolve(
        stage,
        model=model,
        counts=tuple(b for b in stage.counts if b in SPENDABLE),
        workers=_whole(note, "workers", stage.workers),
        fanout=_whole(note, "fanout", stage.fanout),
        runs=_one_of(note, "bad-runs", "runs", stage.runs, PLACES) or "loop",
        timeout=_timeout(stage, note),
        retries=_retries(stage, note),
    )


def _timeout(stage: StageSpec, note: Note) -> float | None:
    limit: Any = stage.timeout
    if limit is None:
        return None
    if isinstance(limit, bool) or not isinstance(limit, int | float) or not 0 < limit < float("inf"):
        note("bad-timeout", f"timeout={limit!r}", "seconds above 0", "timeout=60, or leave it out")
    elif stage.runs == "loop" and not inspect.iscoroutinefunction(stage.body):
        note(
            "timeout-of-plain",
            f"timeout={limit:g} on a plain function, which cannot be stopped on the event loop",
            "an async function, or runs='thread' or 'process'",
            f"runs='thread', or async def {stage.body.__name__}(...)",
        )
    else:
        return float(limit)
    return None


def _retries(stage: StageSpec, note: Note) -> int:
    times: Any = stage.retries
    if isinstance(times, int) and not isinstance(times, bool) and times >= 0:
        return times
    note("bad-retries", f"retries={times!r}", "a whole number from 0", "retries=2, or leave it out")
    return 0


def _word(value: Any) -> str:
    return value if isinstance(value, str) else repr(value)


def _one_of(note: Note, code: str, option: str, value: Any, known: Sequence[str]) -> Any:
    if value in known:
        return value
    note(code, f"{option}={value!r}", "one of " + ", ".join(known), did_you_mean(_word(value), known))
    return None


# ---- edges -----------------------------------------------------------------------------------------------


def _ends(graph: GraphSpec, edge: EdgeSpec, notes: Notes) -> bool:
    src, dst = graph.nodes[edge.src], graph.nodes[edge.dst]
    note = notes.of(edge.place, f"edge {edge.name}")
    if isinstance(src, PoolSpec):
        reads = not isinstance(dst, PoolSpec) and edge.src in dst.reads
        note(
            "edge-from-pool",
            f"it starts at pool {edge.src!r}",
            "an edge that starts at a source or a stage: pools are read, they do not emit",
            f"drop the edge: {edge.dst!r} reads the pool already"
            if reads
            else f"reads={edge.src} on {edge.dst!r}"
            if not isinstance(dst, PoolSpec)
            else f"a source with reads={edge.src}, and an edge from it to {edge.dst!r}",
        )
        return False
    if isinstance(dst, SourceSpec):
        note(
            "edge-into-source",
            f"it ends at source {edge.dst!r}",
            "an edge that ends at a stage or a pool: sources take no items",
            f"end the edge at {dst.reads[0]!r}, the pool that the source reads"
            if dst.reads
            else f"make {edge.dst!r} a stage",
        )
        return False
    return True


def _edge(edge: EdgeSpec, notes: Notes) -> EdgeSpec:
    note = notes.of(edge.place, f"edge {edge.name}")
    changes: dict[str, Any] = {o: _whole(note, o, getattr(edge, o)) for o in ("capacity", "loop", "fanout")}
    if edge.only is not None and not inspect.isclass(edge.only):
        found = shown(edge.only)
        note("bad-only", f"only={found}", "a class: the edge takes its instances", "only=TYPE, without arguments")
        changes["only"] = None
    for option in ("scatter", "when", "distinct"):
        changes[option] = _function(note, option, getattr(edge, option))
    for option in ("gather", "otherwise"):
        value = getattr(edge, option)
        if not isinstance(value, bool):
            note("not-a-bool", f"{option}={value!r}", "True or False", f"{option}={bool(value)}")
            changes[option] = bool(value)
    if edge.late is not None:
        changes["late"] = _one_of(note, "bad-late", "late", edge.late, LATE)
        if changes["late"] is None:
            changes["release"] = (
                None  # without late=, the release rule would apply with a default that the user did not mean
            )
    changes["orphans"] = _one_of(note, "bad-orphans", "orphans", edge.orphans, ORPHANS) or "discard"
    for option, rule, methods, example in RULES:
        if not _rule(note, option, getattr(edge, option), rule, methods, example):
            changes[option] = None
    return attrs.evolve(edge, **changes)


def _function(note: Note, option: str, value: Any) -> Any:
    if value is None:
        return None
    if not callable(value):
        found = function_name(value) if isinstance(value, property) else repr(value)
        example = "TYPE.work" if option == "scatter" else "lambda item: item.ready"
        note("not-callable", f"{option}={found}", "a function of the item", f"{option}={example}")
        return None
    name = function_name(value)
    if inspect.iscoroutinefunction(value):
        note(
            "async-function",
            f"{option}={name}, an async function",
            "a plain function, because it is called while items are routed",
            f"do the waiting in a stage before the edge, and use {option}= on its result",
        )
        return None
    try:
        inspect.signature(value).bind(None)
    except TypeError:
        note(
            "function-arity",
            f"{option}={name}, which cannot be called with one argument",
            "a function of the item",
            f"def {value.__name__}(item): ..." if inspect.isfunction(value) else "a function of one argument",
        )
        return None
    except ValueError:  # some built-ins have no signature
        return value
    return value


def _rule(note: Note, option: str, value: Any, rule: str, methods: Methods, example: str) -> bool:
    if value is None:
        return True
    code = f"bad-{option.replace('_', '-')}"
    if inspect.isclass(value) or not any(all(callable(getattr(value, m, None)) for m in ms) for ms in methods):
        uncalled = inspect.isroutine(value) or inspect.isclass(value)
        found = f"{option}={_shown(value)}" + (", which was not called" if uncalled else "")
        own = uncalled and _makes_rule(value, methods)
        note(code, found, rule, f"{option}=fg.{value.__name__}(...)" if own else f"{option}={example}")
        return False
    try:
        flaw = value.flaw()
    except Exception as error:
        note(code, f"{option}={value!r}: {error}", f"{rule} with numbers of the right kind", f"{option}={example}")
        return False
    if flaw is not None:
        note(code, f"{option}: {flaw.found}", flaw.expected, flaw.fix)
    return flaw is None


def _shown(value: Any) -> str:
    if inspect.isroutine(value) or inspect.isclass(value):
        return str(value.__name__)
    try:
        # The text of a policy for another option is clearer than its repr.
        return str(value) if hasattr(value, "flaw") else repr(value)
    except Exception:  # a policy that holds a wrong value
        return f"a {type(value).__name__}"


def _makes_rule(function: Callable[..., Any], methods: Methods) -> bool:
    """Return whether ``function`` is a function of flashgraph that makes such rules."""
    import typing

    if not str(getattr(function, "__module__", "")).startswith("flashgraph.policies") or inspect.isclass(function):
        return False
    made = typing.get_type_hints(function).get("return")
    return any(all(hasattr(made, m) for m in ms) for ms in methods)
