"""The parameters of a graph: an attrs class whose fields have types, defaults and validators.

``--set name=value`` and ``params=`` set fields of the class by name.  A value is checked against the type of its field,
then by the class itself, before a model opens.
"""

from __future__ import annotations

import inspect
import re
import typing
from collections.abc import Iterator, Mapping
from typing import Any, Literal, Protocol, get_args, get_origin

import attrs

from flashgraph.errors import DataError, Place, described
from flashgraph.graph.types import members_of, show

__all__ = ["Param", "choices", "expected", "given", "instance", "objects", "params_of_class", "takes"]


@attrs.frozen
class Param:
    """A parameter of a graph: a field of its parameter class, which ``--set name=value`` sets.

    The parameters of an included graph have its prefix in their names (``ace.batch``).
    """

    name: str
    default: Any
    place: Place | None = attrs.field(default=None, eq=False, repr=False)
    kind: Any = Any
    """The annotation of the field."""


def takes(param: Param, value: Any) -> bool:
    """Return whether ``value`` is of the parameter's type; an int is accepted for a float."""
    return _is(value, param.kind)


def choices(param: Param) -> list[str]:
    """Return the strings that the `Literal` types of a parameter allow."""
    literals = [m for m in members_of(param.kind) if get_origin(m) is Literal]
    return [choice for literal in literals for choice in get_args(literal) if isinstance(choice, str)]


def expected(param: Param) -> str:
    """Return the values that a parameter takes, as a phrase."""
    literals = [a for m in members_of(param.kind) if get_origin(m) is Literal for a in get_args(m)]
    others = [show(m) for m in members_of(param.kind) if get_origin(m) is not Literal]
    return " or ".join(filter(None, ["one of " + ", ".join(map(str, literals)) if literals else "", *others]))


def params_of_class(kind: type, place: Place | None = None) -> tuple[Param, ...]:
    """Return the parameters that an attrs class declares.

    Raises TypeError with the reason for a class that is not an attrs class, and for a field without a default.
    """
    if not (inspect.isclass(kind) and attrs.has(kind)):
        raise TypeError("it is not an attrs class")
    hints = typing.get_type_hints(kind)
    found = []
    for field in attrs.fields(kind):
        if field.default is attrs.NOTHING or field.alias != field.name or not field.init:
            raise TypeError(f"field {field.name!r} has no default that --set could replace")
        found.append(Param(field.name, getattr(kind(), field.name), place, hints.get(field.name, field.type or Any)))
    return tuple(found)


def objects(classes: Mapping[str, type], values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the parameter objects of a graph and of the graphs in it, by prefix ("" for the graph itself).

    ``values`` holds parameters by their full names; missing ones get the defaults of their class. Raises `DataError`
    for a value that a class refuses.
    """
    found = {}
    for prefix, kind in classes.items():
        names = {field.name for field in attrs.fields(kind)}
        own = {n.removeprefix(prefix): v for n, v in values.items() if n.startswith(prefix)}
        found[prefix] = instance(kind, {n: v for n, v in own.items() if n in names}, prefix)
    return found


class Reader(Protocol):
    """A source or stage: its prefix, and the names of its pools in this graph and in its own graph file."""

    @property
    def prefix(self) -> str: ...
    @property
    def reads(self) -> tuple[str, ...]: ...
    @property
    def reads_as(self) -> tuple[str, ...]: ...


def given(found: Mapping[str, Any], node: Reader | None = None) -> dict[str, Any]:
    """Return the arguments of a node's `Draw` or `Context` for its pools and for its graph's parameters.

    ``found`` are the `objects` of the whole graph.
    """
    prefix = "" if node is None else node.prefix
    inner = {p.removeprefix(prefix): each for p, each in found.items() if p.startswith(prefix)}
    pools = {} if node is None else dict(zip(node.reads_as, node.reads, strict=True))
    return {"params": inner.pop("", None), "parts": inner, "pools": pools}


def instance(kind: type, values: Mapping[str, Any], prefix: str = "") -> Any:
    """Return the parameter object with these values.

    ``prefix`` is the prefix of an included graph, for messages. Raises `DataError`, naming the parameter, for a value
    that the class refuses.
    """
    try:
        return kind(**values)
    except Exception as error:
        name, reason = _culprit(kind, values, error)
        shown = f"parameter {prefix}{name}={values[name]!r:.200}" if name else f"the parameters {dict(values)!r:.200}"
        # Validators of attrs say "'size' must be >= 1: 0", but this message already has the name and the value.
        reason = re.sub(r"^'\w+' (must be [^:]+): .*$", r"\1", reason)
        default = next((p.default for p in params_of_class(kind) if p.name == name), None)
        fix = f"e.g. {prefix}{name}={default!r}" if name else "values that fit together"
        raise DataError(f"{shown}: {reason}.\nFix: {fix}.") from error


def _culprit(kind: type, values: Mapping[str, Any], error: Exception) -> tuple[str, str]:
    """Return the parameter whose value alone the class refuses, and the reason; "" if only the combination fails."""
    for name, value in values.items():
        try:
            kind(**{name: value})
        except Exception as alone:
            return name, _reason(alone)
    return "", _reason(error)


def _reason(error: Exception) -> str:
    return str(error.args[0]) if isinstance(error, ValueError | TypeError) and error.args else described(error)


def _is(value: Any, kind: Any) -> bool:
    """Return whether a plain value is of a type: a class, a `Literal`, a union, or a container of them."""
    # beartype does not fit: it checks one random member of a container, and accepts True as an int.
    if kind is Any:
        return True
    if kind is None or kind is type(None):
        return value is None
    origin, arguments = get_origin(kind), get_args(kind)
    if len(members := members_of(kind)) > 1:
        return any(_is(value, member) for member in members)
    if origin is Literal:
        return any(type(value) is type(choice) and value == choice for choice in arguments)
    if kind in (int, float) and isinstance(value, bool):
        return False
    if kind is float:
        return isinstance(value, int | float)
    try:
        if not isinstance(value, origin or kind):
            return False
    except TypeError:  # a hint that has no instances of its own, such as a type variable
        return True
    return all(_is(part, expected) for part, expected in _parts(value, arguments))


def _parts(value: Any, arguments: tuple[Any, ...]) -> Iterator[tuple[Any, Any]]:
    """Yield each part of a container with its expected type."""
    if isinstance(value, Mapping) and len(arguments) == 2:
        for key, held in value.items():
            yield key, arguments[0]
            yield held, arguments[1]
    elif isinstance(value, tuple) and arguments and arguments[-1] is not Ellipsis:
        yield from zip(value, arguments, strict=False)
    elif isinstance(value, list | tuple | set | frozenset) and arguments:
        yield from ((part, arguments[0]) for part in value)
