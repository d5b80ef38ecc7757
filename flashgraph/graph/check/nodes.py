"""Checks of single nodes: the signatures of pools, sources and stages, and options that depend on them."""

from __future__ import annotations

import inspect
from typing import Any, Union, get_args

import attrs

from flashgraph.graph.check.checked import Ports
from flashgraph.graph.contexts import Context, Draw, Emit
from flashgraph.graph.notes import Note, Notes
from flashgraph.graph.ports import Several, Stale, Verdict
from flashgraph.graph.signatures import (
    Signature,
    Unreadable,
    admits,
    function_name,
    returns_awaitable,
    signature_of,
)
from flashgraph.graph.spec import GraphSpec, PoolSpec, SourceSpec, StageSpec
from flashgraph.graph.types import assignable, is_a, members_of, show, unstorable

__all__ = ["check_nodes", "stale_of", "verdict_of"]


def check_nodes(graph: GraphSpec, notes: Notes) -> Ports:
    """Note the problems of every node, and return the types of those that have none."""
    ports = Ports()
    for pool in graph.pools:
        _pool(pool, ports, notes)
    for node in graph.nodes.values():
        if isinstance(node, SourceSpec):
            _source(graph, node, ports, notes)
        elif isinstance(node, StageSpec):
            _stage(graph, node, ports, notes)
    return ports


def verdict_of(gives: Any) -> Any | None:
    """Return T of a ``Verdict[T]``; None for anything else."""
    return (get_args(gives) or (Any,))[0] if is_a(gives, Verdict) else None


def stale_of(takes: Any) -> Any | None:
    """Return T of a ``Stale[T]``; None for anything else."""
    return (get_args(takes) or (Any,))[0] if is_a(takes, Stale) else None


# ---- pools -----------------------------------------------------------------------------------------------


def _pool(pool: PoolSpec, ports: Ports, notes: Notes) -> None:
    note = notes.of(pool.place, f"pool {pool.name!r}")
    factory: Any = pool.factory
    name = function_name(factory)
    wanted = "a class with apply(event: fg.PoolEvent[T]), artifacts and best()"
    if not callable(factory):
        kind = type(factory).__name__
        note(
            "pool-not-a-factory",
            f"a {kind} that exists already",
            "a class or function that makes the pool, because every run starts with a new one",
            f"graph.pool({pool.name!r}, {kind}), or lambda: {kind}(...)",
        )
        return
    if inspect.isclass(factory):
        try:
            ports.takes[pool.name] = admits(factory)
        except TypeError as error:
            _not_a_pool(note, name, error, wanted)
            return
    try:
        value = factory()
    except Exception as error:
        ports.takes.pop(pool.name, None)
        note(
            "pool-factory-raises",
            f"{name}() raised {type(error).__name__}: {error}",
            "a factory that makes the pool's value at version 0 without arguments",
            f"lambda: {name}(...) with its arguments" if inspect.isclass(factory) else "make it return the empty pool",
        )
        return
    ports.views[pool.name] = type(value)
    if not inspect.isclass(factory):
        try:
            ports.takes[pool.name] = admits(type(value))
        except TypeError as error:
            _not_a_pool(note, f"{name} makes a {type(value).__name__}", error, wanted)


def _not_a_pool(note: Note, name: str, error: TypeError, wanted: str) -> None:
    fix = "use a pool of flashgraph.parts, or write these three (docs/reference/graph-files.md, Pools)"
    note("not-a-pool", f"{name}: {error}", wanted, fix)


# ---- sources and stages ----------------------------------------------------------------------------------


def _signature(node: SourceSpec | StageSpec, note: Note) -> Signature | None:
    try:
        return signature_of(node.body, node.localns)
    except Unreadable as error:
        note(error.code, error.found, error.expected, error.fix)
    return None


def _result(node: SourceSpec | StageSpec, found: Signature, note: Note) -> bool:
    if found.returns is None:
        note(
            "returns-nothing",
            "it returns None only",
            "a type of item, with | None if some items are filtered out",
            "annotate what it returns, e.g. -> Proposal | None",
        )
        return False
    if any(is_a(member, Several) for member in members_of(found.returns)):
        note(
            "several-in-union",
            f"it returns {show(found.returns)}",
            "fg.Several[T], or fg.Several[T] | None, alone",
            "-> fg.Several[A | B], with one item in it where there is only one",
        )
        return False
    if returns_awaitable(node.body, found):
        note(
            "returns-awaitable",
            f"a plain function that returns {show(found.returns)}",
            "an async function where something is awaited",
            f"async def {node.body.__name__}(...)",
        )
        return False
    bad = unstorable(found.returns)
    if bad is not None:
        inside = "" if bad == found.returns else f"{show(found.returns)}, in which "
        note(
            "not-storable",
            f"it gives {inside}{show(bad)}{', which' if not inside else ''} cannot be stored and read back",
            "plain values, enums, attrs or data classes, and containers of them: a run must be resumable",
            f"copy the data of {show(bad)} into an attrs class of plain values",
        )
        return False
    return True


def _view(node: SourceSpec | StageSpec, at: Any, ports: Ports, note: Note) -> None:
    """Note a declared view that differs from the view that ``reads`` gives."""
    kind = "Draw" if is_a(at, Draw) else "Context"
    declared = (get_args(at) or (Any,))[0]
    if not node.reads:
        if declared not in (Any, type(None)):
            note(
                "view-without-reads",
                f"fg.{kind}[{show(declared)}] on a {node.kind} that reads no pool: ctx.view would be None",
                "reads=POOL on the same node",
                f"reads=POOL, or ctx: fg.{kind}",
            )
        return
    view = _seen(node, ports)
    if view is None or assignable(view, declared):
        return
    if len(node.reads) == 1:
        found, expected = f"pool {node.reads[0]!r} is a {show(view)}", "the class of the pool that it reads"
    else:
        found = f"pools {', '.join(map(repr, node.reads))} are a {show(view)}"
        expected = "a tuple of the classes of the pools that it reads, in the order of reads="
    note("wrong-view", f"fg.{kind}[{show(declared)}]; {found}", expected, f"ctx: fg.{kind}[{show(view)}]")


def _seen(node: SourceSpec | StageSpec, ports: Ports) -> Any:
    """Return the type of a node's view: its pool's class, or a tuple of several classes; None if one is unknown."""
    views = tuple(ports.views.get(pool) for pool in node.reads)
    if not views or None in views:
        return None
    return views[0] if len(views) == 1 else tuple.__class_getitem__(views)


def _params(graph: GraphSpec, node: SourceSpec | StageSpec, at: Any, note: Note) -> None:
    """Note a declared class of parameters that differs from the one of the graph."""
    arguments, own = get_args(at), graph.classes.get(node.prefix)
    declared = arguments[1] if len(arguments) > 1 else Any
    if declared in (Any, object) or (own is None and declared in (None, type(None))):
        return
    if own is None or not assignable(own, declared):
        kind = "Draw" if is_a(at, Draw) else "Context"
        named = "params=" + show(own) if own is not None else "no params="
        note(
            "wrong-params",
            f"{show(declared)} as the parameters of its fg.{kind}; its graph has {named}",
            "the class of parameters of its graph",
            f"ctx: fg.{kind}[{show(arguments[0])}, {show(own)}]" if own is not None else f"params={show(declared)}",
        )


# ---- sources ---------------------------------------------------------------------------------------------


def _source(graph: GraphSpec, source: SourceSpec, ports: Ports, notes: Notes) -> None:
    note = notes.of(source.place, f"source {source.name!r}")
    found = _signature(source, note)
    if found is None:
        return
    found = _without_state(found)
    if inspect.iscoroutinefunction(source.body):
        note(
            "async-source",
            "an async function",
            "a plain function, because draws happen in the order of emission; call models in stages",
            f"def {source.name}(...), and a stage after it for the work that waits",
        )
        return
    if len(found.parameters) != 1 or not is_a(found.parameters[0], Draw) or found.extra:
        shown = [f"{n}: {show(t)}" for n, t in zip(found.names, found.parameters, strict=True)]
        pool = _seen(source, ports)
        note(
            "source-takes-draw",
            f"({', '.join([*shown, *([found.extra] if found.extra else [])])})",
            "one parameter, a fg.Draw",
            f"def {source.name}(ctx: fg.Draw{f'[{show(pool)}]' if pool else ''}) -> ...",
        )
        return
    if found.several:
        note(
            "several-from-source",
            f"it returns Several[{show(found.returns)}]",
            "one item: a source starts one round at a time",
            "return a list and scatter= it on the edge, or return Several from a stage after it",
        )
        return
    _view(source, found.parameters[0], ports, note)
    _params(graph, source, found.parameters[0], note)
    _state(source, found.parameters[0], note)
    if not source.reads and source.rounds is None and not found.optional:
        note(
            "endless-source",
            "it reads no pool, has no rounds= and never returns None: it would never stop",
            "an end: a number of rounds, None when there is nothing left, or a pool whose versions it waits for",
            f"rounds=1, reads=POOL, or -> {show(found.returns)} | None",
        )
    if _result(source, found, note):
        ports.gives[source.name] = found.returns
        if found.optional:
            ports.optional.add(source.name)


def _without_state(found: Signature) -> Signature:
    """Return the signature of a source with the type of the item instead of its `Emit`."""
    results = [get_args(m)[0] if is_a(m, Emit) else m for m in members_of(found.returns)]
    members = [item for result in results for item in members_of(result)]
    kept = tuple(dict.fromkeys(m for m in members if m not in (None, type(None))))
    returns = Union[kept] if kept else None  # noqa: UP007 - `|` takes no tuple
    return attrs.evolve(found, returns=returns, optional=found.optional or len(kept) < len(members))


def _state(source: SourceSpec, at: Any, note: Note) -> None:
    arguments = get_args(at)
    if len(arguments) < 3:
        return
    declared, value = arguments[2], source.state
    bad = unstorable(type(value))
    if bad is not None:
        note(
            "state-not-storable",
            f"its state is a {show(bad)}, which cannot be stored and read back",
            "an immutable plain value or attrs class: a resumed run reads it back",
            "e.g. state=0, or state=fg.Epochs()",
        )
    elif declared is None or declared is type(None):
        if value is not None:
            note(
                "wrong-state",
                f"state={value!r}; its Draw declares no state",
                "the state's type as the third argument of fg.Draw",
                f"ctx: fg.Draw[{show(arguments[0])}, {show(arguments[1])}, {type(value).__name__}]",
            )
    elif not assignable(type(value), declared):
        note(
            "wrong-state",
            "no state=, which makes its first value None"
            if value is None
            else f"state={value!r}, a {type(value).__name__}",
            f"a first value of type {show(declared)}, as its fg.Draw declares",
            f"state={show(declared)}(...)",
        )


# ---- stages ----------------------------------------------------------------------------------------------


def _elsewhere(stage: StageSpec, found: Signature, note: Note) -> bool:
    """Return whether a stage can run in the thread or process that ``runs`` names; note a problem if it cannot."""
    if inspect.iscoroutinefunction(stage.body):
        note(
            "runs-of-async",
            f"runs={stage.runs!r} on an async function",
            "a plain function: an async one runs on the event loop",
            f"def {stage.body.__name__}(...), or leave runs out",
        )
        return False
    if stage.runs == "process" and len(found.parameters) > 1:
        note(
            "process-with-context",
            "runs='process' on a function of an item and a fg.Context",
            "a function of its item alone: the task, the view and the model stay in this process",
            "runs='thread', or leave the fg.Context out",
        )
        return False
    return True


def _stage(graph: GraphSpec, stage: StageSpec, ports: Ports, notes: Notes) -> None:
    note = notes.of(stage.place, f"stage {stage.name!r}")
    found = _signature(stage, note)
    if found is None or not _parameters(stage, found, note):
        return
    if stage.runs != "loop" and not _elsewhere(stage, found, note):
        return
    if stage.model is not None and stage.runs == "loop" and not inspect.iscoroutinefunction(stage.body):
        note(
            "model-needs-async",
            f"model={stage.model!r} on a plain function",
            "an async function: a model call is awaited",
            f"async def {stage.body.__name__}(...), or runs='thread', or leave model out",
        )
    elif len(found.parameters) == 1:
        _without_context(stage, note)
    else:
        _view(stage, found.parameters[1], ports, note)
        _params(graph, stage, found.parameters[1], note)
    if stage.fanout is not None and not found.several:
        note(
            "fanout-without-several",
            f"fanout={stage.fanout} on a stage that returns {show(found.returns)}",
            "fg.Several[...] as its result: fanout bounds how many items that may hold",
            "drop fanout, or return fg.Several",
        )
    if not _result(stage, found, note):
        return
    ports.takes[stage.name] = found.parameters[0]
    ports.gives[stage.name] = found.returns
    if found.several:
        ports.several.add(stage.name)
    if found.optional:
        ports.optional.add(stage.name)


def _parameters(stage: StageSpec, found: Signature, note: Note) -> bool:
    shape = f"def {stage.body.__name__}(item: TYPE, ctx: fg.Context) -> ..."
    if found.parameters and is_a(found.parameters[0], Draw):
        note(
            "stage-takes-draw",
            f"its first parameter {found.names[0]!r} is a fg.Draw",
            "an item: only sources draw",
            f"@graph.source on it, or {shape}",
        )
    elif found.parameters and is_a(found.parameters[0], Context):
        note(
            "item-comes-first",
            f"its first parameter {found.names[0]!r} is a fg.Context",
            "its item, and then the fg.Context",
            shape,
        )
    elif len(found.parameters) not in (1, 2) or found.extra:
        names = [*found.names, *([found.extra] if found.extra else [])]
        note(
            "stage-arity",
            f"{len(names)} parameters ({', '.join(names)})" if names else "no parameter",
            "its item, and optionally a fg.Context; nothing else can be filled in",
            f"{shape}; constants are parameters of the graph: ctx.params.NAME" if len(names) > 1 else shape,
        )
    elif len(found.parameters) == 2 and not is_a(found.parameters[1], Context):
        note(
            "second-is-context",
            f"its second parameter {found.names[1]!r} is a {show(found.parameters[1])}",
            "a fg.Context",
            "ctx: fg.Context; put other inputs in the item or in the parameters of the graph",
        )
    else:
        return True
    return False


def _without_context(stage: StageSpec, note: Note) -> None:
    reads = ", ".join(stage.reads) or None
    asks = [f"{o}={v!r}" for o, v in (("model", stage.model), ("reads", reads)) if v is not None]
    if asks:
        uses = " and ".join(u for u, v in (("ctx.llm", stage.model), ("ctx.view", reads)) if v is not None)
        note(
            "needs-context",
            f"{' and '.join(asks)} on a stage that takes only its item",
            f"a second parameter ctx: fg.Context, which has {uses}",
            f"def {stage.body.__name__}(item: TYPE, ctx: fg.Context) -> ..., or leave it out",
        )
