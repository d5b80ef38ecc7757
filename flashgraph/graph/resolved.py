"""Options that are functions of the graph's parameters, such as ``rounds=lambda params: params.generations``.

Each is called with the parameters of its own graph: before the checks with the defaults, and again with a run's values.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from functools import partial
from typing import Any, TypeVar

import attrs

from flashgraph.errors import DataError, described
from flashgraph.graph.notes import Notes
from flashgraph.graph.params import objects
from flashgraph.graph.signatures import function_name
from flashgraph.graph.spec import EdgeSpec, GraphSpec, NodeSpec, PoolSpec, SourceSpec

__all__ = ["resolve"]

Spec = TypeVar("Spec", bound="NodeSpec | EdgeSpec")


def resolve(spec: GraphSpec, params: Mapping[str, Any] | None, notes: Notes) -> GraphSpec:
    """Return the graph with each such function replaced by its value; the same graph if there is none.

    ``params`` holds parameters by their full names; missing ones get their defaults. A function that raises is noted as
    a problem, and its option becomes None.
    """
    if not any(_of_params(each) for each in (*spec.nodes.values(), *spec.edges)):
        return spec
    values = {name: param.default for name, param in spec.params.items()} | dict(params or {})
    try:
        found = objects(spec.classes, values)
    except DataError as error:
        wrong, _, fix = str(error).rstrip(".").partition(".\nFix: ")
        notes.add(
            "bad-default", spec.place, f"parameters of graph {spec.name!r}", wrong, "values that its classes take", fix
        )
        found = objects(spec.classes, {})
    nodes = {name: _resolved(node, node.name, found, notes) for name, node in spec.nodes.items()}
    edges = tuple(_resolved(edge, edge.name, found, notes) for edge in spec.edges)
    return attrs.evolve(spec, nodes=nodes, edges=edges)


def _of_params(spec: NodeSpec | EdgeSpec) -> list[str]:
    """Return the options of a node or edge that are functions of the parameters."""
    if isinstance(spec, PoolSpec):
        return ["factory"] if _takes_params(spec.factory) else []
    names = (
        ("capacity", "fanout", "loop")
        if isinstance(spec, EdgeSpec)
        else ("rounds", "window")
        if isinstance(spec, SourceSpec)
        else ("workers", "fanout")
    )
    return [name for name in names if callable(getattr(spec, name))]


def _takes_params(factory: Any) -> bool:
    """Return whether a pool's factory is a function with one parameter."""
    if not (inspect.isfunction(factory) or inspect.ismethod(factory)):
        return False  # a built-in may have no signature
    empty = inspect.Parameter.empty
    required = [p for p in inspect.signature(factory).parameters.values() if p.default is empty]
    return len(required) == 1 and required[0].kind in (required[0].POSITIONAL_ONLY, required[0].POSITIONAL_OR_KEYWORD)


def _resolved(spec: Spec, name: str, found: Mapping[str, Any], notes: Notes) -> Spec:
    kind = "edge" if isinstance(spec, EdgeSpec) else spec.kind
    changes: dict[str, Any] = {}
    for option in _of_params(spec):
        function = getattr(spec, option)
        if option == "factory":
            changes[option] = partial(function, found.get(spec.prefix))
            continue
        try:
            changes[option] = function(found[spec.prefix])
        except Exception as error:
            changes[option] = None
            own = "the parameters of its graph" if spec.prefix in found else "params=, a class of parameters"
            notes.add(
                "option-raises", spec.place, f"{kind} {name if kind == 'edge' else repr(name)}",
                f"{option}={function_name(function)}, which raised {described(error)}",
                f"a function of {own} that returns a whole number",
                f"{option}=lambda params: params.NAME, or a number",
            )  # fmt: skip
    return attrs.evolve(spec, **changes) if changes else spec
