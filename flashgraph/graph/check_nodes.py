"""Checks of single nodes: sources, stages and pools, their signatures and their options."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, Protocol, get_args

import attrs

from flashgraph.errors import Place, did_you_mean
from flashgraph.graph.ports import Stale, Verdict
from flashgraph.graph.spec import GraphSpec, PoolSpec, SourceSpec, StageSpec
from flashgraph.graph.types import (
    Signature,
    Unannotated,
    admits,
    is_a,
    is_context,
    is_draw,
    show,
    signature_of,
    unstorable,
)

__all__ = ["Notebook", "Ports", "check_nodes"]

SPENDABLE = ("proposals", "evaluations")


class Notebook(Protocol):
    def add(self, code: str, place: Place, what: str, found: str, expected: str, fix: str) -> None: ...


@attrs.define
class Ports:
    """What each node takes and gives; a node whose signature is broken is missing."""

    takes: dict[str, Any] = attrs.field(factory=dict)
    gives: dict[str, Any] = attrs.field(factory=dict)
    several: set[str] = attrs.field(factory=set)


def check_nodes(graph: GraphSpec, notes: Notebook) -> Ports:
    """Note the problems of every node, and return the types of those that have none."""
    ports = Ports()
    for node in graph.nodes.values():
        if isinstance(node, PoolSpec):
            _pool(node, ports, notes)
        elif isinstance(node, SourceSpec):
            _source(node, ports, notes)
        else:
            _stage(node, ports, notes)
    return ports


def _pool(pool: PoolSpec, ports: Ports, notes: Notebook) -> None:
    try:
        ports.takes[pool.name] = admits(pool.factory)
    except Exception as error:
        notes.add(
            "not-a-pool",
            pool.place,
            f"pool {pool.name!r}",
            f"{getattr(pool.factory, '__name__', pool.factory)}: {error}",
            "a class with apply(event: fg.PoolEvent[T]), artifacts, best() and focus()",
            "use a pool of flashgraph.pools, or write these four (docs/dsl.md, Pools)",
        )


def _signature(node: SourceSpec | StageSpec, notes: Notebook) -> Signature | None:
    what = f"{node.kind} {node.name!r}"
    try:
        return signature_of(node.body, node.localns)
    except Unannotated as error:
        part = str(error)
        found = "no return annotation" if part == "return" else f"parameter {part!r} has no annotation"
        notes.add(
            "unannotated",
            node.place,
            what,
            found,
            "annotations on every parameter and on the result: they are the types of the ports",
            f"def {node.body.__name__}({'...' if part == 'return' else part + ': TYPE'}) -> TYPE",
        )
    except NameError as error:
        notes.add(
            "unresolved-annotation",
            node.place,
            what,
            f"an annotation names {error.name!r}, which is not defined",
            "annotations that resolve when the file has been loaded",
            f"define or import {error.name!r} at the top of the file (not under TYPE_CHECKING)",
        )
    except (TypeError, ValueError) as error:
        notes.add(
            "not-a-function",
            node.place,
            what,
            f"{node.body!r} ({error})",
            "a function",
            "decorate a def, or pass one",
        )
    return None


def _positive(node: StageSpec | SourceSpec, option: str, value: Any, notes: Notebook) -> None:
    if value is not None and (not isinstance(value, int) or isinstance(value, bool) or value < 1):
        notes.add(
            "not-positive",
            node.place,
            f"{node.kind} {node.name!r}",
            f"{option}={value!r}",
            "a whole number from 1",
            f"{option}=1, or leave it out",
        )


def _result(node: SourceSpec | StageSpec, found: Signature, notes: Notebook) -> bool:
    what = f"{node.kind} {node.name!r}"
    if found.returns is None:
        notes.add(
            "returns-nothing",
            node.place,
            what,
            "it returns None only",
            "a type that flows on; None beside it filters single items",
            "annotate what it returns, e.g. -> Proposal | None",
        )
        return False
    bad = unstorable(found.returns)
    if bad is not None:
        notes.add(
            "not-storable",
            node.place,
            what,
            f"it gives {show(found.returns)}, in which {show(bad)} cannot be stored and read back",
            "plain values, enums, attrs or data classes, and containers of them: a run must be resumable",
            f"put what {show(bad)} holds into an attrs class of plain values",
        )
        return False
    return True


def _source(source: SourceSpec, ports: Ports, notes: Notebook) -> None:
    what = f"source {source.name!r}"
    _positive(source, "rounds", source.rounds, notes)
    if source.stream not in ("keyed", "sequential"):
        notes.add(
            "bad-stream",
            source.place,
            what,
            f"stream={source.stream!r}",
            "'keyed' or 'sequential'",
            did_you_mean(str(source.stream), ["keyed", "sequential"]),
        )
    found = _signature(source, notes)
    if found is None:
        return
    if found.asynchronous:
        notes.add(
            "async-source",
            source.place,
            what,
            "an async function",
            "a plain one: draws happen in the order of emission, and models are called in stages",
            f"def {source.name}(...), and a stage behind it for what has to wait",
        )
        return
    if len(found.parameters) != 1 or not is_draw(found.parameters[0]):
        notes.add(
            "source-takes-draw",
            source.place,
            what,
            f"parameters ({', '.join(show(p) for p in found.parameters)})",
            "one parameter, a fg.Draw",
            f"def {source.name}(at: fg.Draw[POOL]) -> ...",
        )
        return
    if _result(source, found, notes):
        ports.gives[source.name] = found.returns
        if found.several:
            ports.several.add(source.name)


def _stage(stage: StageSpec, ports: Ports, notes: Notebook) -> None:
    what = f"stage {stage.name!r}"
    _positive(stage, "workers", stage.workers, notes)
    _positive(stage, "fanout", stage.fanout, notes)
    for budget in stage.spends:
        if budget not in SPENDABLE:
            notes.add(
                "unknown-budget",
                stage.place,
                what,
                f"spends={budget!r}",
                "one of " + ", ".join(SPENDABLE),
                did_you_mean(budget, SPENDABLE),
            )
    found = _signature(stage, notes)
    if found is None:
        return
    if len(found.parameters) not in (1, 2):
        notes.add(
            "stage-arity",
            stage.place,
            what,
            f"{len(found.parameters)} parameters ({', '.join(found.names)})",
            "its item, and optionally a fg.Context",
            f"def {stage.body.__name__}(item: TYPE, at: fg.Context) -> ...",
        )
        return
    if len(found.parameters) == 2 and not is_context(found.parameters[1]):
        notes.add(
            "second-is-context",
            stage.place,
            what,
            f"second parameter {found.names[1]!r} is a {show(found.parameters[1])}",
            "a fg.Context",
            f"{found.names[1]}: fg.Context; what else the stage needs belongs into its item",
        )
        return
    if stage.llm is not None and not inspect.iscoroutinefunction(stage.body):
        notes.add(
            "llm-needs-async",
            stage.place,
            what,
            f"llm={stage.llm!r} on a plain function",
            "an async function: a model call is awaited",
            f"async def {stage.body.__name__}(...), or leave llm out",
        )
    if not _result(stage, found, notes):
        return
    ports.takes[stage.name] = found.parameters[0]
    ports.gives[stage.name] = found.returns
    if found.several:
        ports.several.add(stage.name)


def verdict_of(gives: Any) -> Any | None:
    """T of a Verdict[T]; None for anything else."""
    return (get_args(gives) or (Any,))[0] if is_a(gives, Verdict) else None


def stale_of(takes: Any) -> Any | None:
    """T of a Stale[T]; None for anything else."""
    return (get_args(takes) or (Any,))[0] if is_a(takes, Stale) else None


def function_name(function: Callable[..., Any]) -> str:
    return getattr(function, "__qualname__", None) or repr(function)
