"""Checks of the functions on an edge: the types that ``scatter`` and ``when`` take and return.

They are functions, or methods of the item's class, whose ``self`` needs no annotation.  A ``when`` may also be a
lambda, whose types are unknown.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any, get_args, get_origin

from flashgraph.graph.notes import Note
from flashgraph.graph.signatures import Signature, Unreadable, function_name, signature_of
from flashgraph.graph.spec import EdgeSpec, GraphSpec, PoolSpec
from flashgraph.graph.types import assignable, members_of, show

__all__ = ["check_scatter", "check_when", "scattered"]


def local_names(graph: GraphSpec, edge: EdgeSpec) -> Mapping[str, Any]:
    """Return the local variables of the functions that declared the edge's nodes; annotations may use their names."""
    ends = [node for node in (graph.nodes[edge.src], graph.nodes[edge.dst]) if not isinstance(node, PoolSpec)]
    return {name: value for node in ends for name, value in node.localns.items()}


def _owner(function: Any, gives: Any) -> type | None:
    """Return the class among the item's types that has ``function`` as a method."""
    for member in members_of(gives):
        for base in getattr(get_origin(member) or member, "__mro__", ()):
            if any(value is function for value in vars(base).values()):
                return base  # type: ignore[no-any-return]  # an entry of __mro__ is a class
    return None


def _foreign_class(function: Any) -> str | None:
    """Return the class of an unannotated method, if it is not a class of the item; None for other functions."""
    path = str(getattr(function, "__qualname__", "")).rpartition("<locals>.")[2]
    names = list(inspect.signature(function).parameters) if inspect.isfunction(function) else []
    return path.rpartition(".")[0] if "." in path and names and names[0] not in function.__annotations__ else None


def scattered(edge: EdgeSpec, gives: Any, localns: Mapping[str, Any]) -> Any:
    """Return the type of the members that ``edge.scatter`` makes from ``gives``, after `check_scatter` has passed."""
    function: Any = edge.scatter
    returns = signature_of(function, localns, _owner(function, gives)).returns
    arguments = [a for a in get_args(returns) if a is not Ellipsis]
    if not arguments:
        return Any
    found = arguments[0]
    for other in arguments[1:]:
        found = found | other
    return found


def _read(
    option: str, function: Callable[..., Any], gives: Any, localns: Mapping[str, Any], note: Note
) -> Signature | None:
    """Return the function's signature; note a problem and return None if it does not take the arriving type."""
    owner = _owner(function, gives)
    foreign = None if owner is not None else _foreign_class(function)
    if foreign is not None:
        _wrong_type(option, function, foreign.rpartition(".")[2], gives, note)
        return None
    found = signature_of(function, localns, owner)
    takes = found.parameters[0] if found.parameters else Any
    if owner is None and not assignable(gives, takes):
        _wrong_type(option, function, show(takes), gives, note)
        return None
    if owner is not None and not assignable(gives, owner):
        # It is a method of one member of a union; the other members lack it.
        _wrong_type(option, function, show(owner), gives, note)
        return None
    return found


def _wrong_type(option: str, function: Any, takes: str, gives: Any, note: Note) -> None:
    classes = [m for m in members_of(gives) if inspect.isclass(m)]
    twin = next((m.__name__ for m in classes if callable(getattr(m, getattr(function, "__name__", ""), None))), None)
    note(
        f"{option}-of-another-type",
        f"{option}={function_name(function)} takes {takes}; {show(gives)} arrives",
        f"a function of {show(gives)}",
        f"{option}={twin}.{function.__name__}"
        if twin is not None and len(classes) == 1
        else f"a function that takes {show(gives)}",
    )


def check_scatter(edge: EdgeSpec, gives: Any, localns: Mapping[str, Any], note: Note) -> bool:
    """Return whether ``edge.scatter`` can make members from ``gives``; note a problem if it cannot."""
    function: Any = edge.scatter
    name = function_name(function)
    try:
        found = _read("scatter", function, gives, localns, note)
    except Unreadable as error:
        note(
            "scatter-unannotated",
            f"scatter={name}, which cannot be annotated" if name == "a lambda" else f"scatter={name}: {error.found}",
            "a function (item) -> Sequence[MEMBER], annotated: its members' type must be known",
            "write it as a def with annotations, or as a method of the item"
            if name == "a lambda"
            else error.fix.replace("-> TYPE", "-> list[MEMBER]"),
        )
        return False
    if found is None:
        return False
    origin = get_origin(found.returns) or found.returns
    if inspect.isclass(origin) and issubclass(origin, Sequence) and origin not in (str, bytes) and not found.optional:
        return True
    note(
        "scatter-not-a-sequence",
        f"scatter={name} returns {show(found.returns)}{' | None' if found.optional else ''}",
        "a list or tuple of members: their number and order must be known",
        "an empty list where there are none" if found.optional else "-> list[MEMBER]",
    )
    return False


def check_when(edge: EdgeSpec, gives: Any, localns: Mapping[str, Any], note: Note) -> None:
    """Note a problem if ``edge.when`` takes another type than the one that arrives, or does not return a bool."""
    function: Any = edge.when
    try:
        found = _read("when", function, gives, localns, note)
    except Unreadable:
        return  # a lambda, or a function without annotations: only its values can be checked
    if found is not None and found.returns is not Any and not assignable(found.returns, bool):
        note(
            "when-not-a-bool",
            f"when={function_name(function)} returns {show(found.returns)}",
            "True or False: whether the edge takes the item",
            "-> bool",
        )
