"""Signatures of a graph's functions, read from their annotations."""

from __future__ import annotations

import collections.abc
import functools
import inspect
import typing
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from typing import Any, Union, get_args, get_origin

import attrs

from flashgraph.errors import did_you_mean
from flashgraph.graph.ports import PoolEvent, Several
from flashgraph.graph.types import is_a, members_of, show

__all__ = ["Signature", "Unreadable", "admits", "function_name", "signature_of"]


@attrs.frozen
class Signature:
    """The types of a function's parameters, in order, and of its result.

    ``returns`` is the type of its result, without None; it is None if the function returns only None.  If ``several``
    is True, the function returns a `Several`, and ``returns`` is the type of one item.  ``optional`` is True if it may
    return None. ``extra`` names a parameter that the scheduler cannot fill: a keyword-only one, or ``*args``.
    """

    parameters: tuple[Any, ...]
    names: tuple[str, ...]
    returns: Any
    several: bool = False
    optional: bool = False
    extra: str | None = None


class Unreadable(Exception):
    """A function whose types cannot be read; the fields are those of a `Problem`."""

    def __init__(self, code: str, found: str, expected: str, fix: str) -> None:
        super().__init__(found)
        self.code, self.found, self.expected, self.fix = code, found, expected, fix


def function_name(function: Any) -> str:
    """Return the name of a function as the user knows it."""
    if isinstance(function, functools.partial):
        return f"partial({function_name(function.func)})"
    if isinstance(function, property):
        return f"property {getattr(function.fget, '__qualname__', '')}"
    name = str(getattr(function, "__qualname__", "")).rpartition("<locals>.")[2]
    return "a lambda" if name == "<lambda>" else name or repr(function)


def signature_of(
    body: Callable[..., Any], localns: Mapping[str, Any] | None = None, owner: type | None = None
) -> Signature:
    """Return the signature of a function or method; ``owner`` is the class of an unannotated ``self``.

    Raises `Unreadable` for other objects, and for an annotation that is missing or cannot be resolved.
    """
    if not (inspect.isfunction(body) or inspect.ismethod(body)):
        raise _not_a_function(body)
    _refuse_kinds(body)
    parameters = list(inspect.signature(body).parameters.values())
    hints = _hints(body, localns)
    extra = next((p.name for p in parameters if p.kind not in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)), None)
    places = [p.name for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    if owner is not None and places and places[0] not in hints:
        hints[places[0]] = owner
    for name in (*places, "return"):
        if name not in hints:
            raise _unannotated(body, name)
    for name, hint in hints.items():
        if isinstance(hint, str | int | float | bytes | list | tuple | dict):
            raise Unreadable(
                "unresolved-annotation",
                f"the annotation of {name!r} is {hint!r}, which is not a type",
                "types as annotations",
                f"{name}: {type(hint).__name__}, or the class that is meant" if name != "return" else "-> TYPE",
            )
    return _read(places, hints, extra)


def _read(places: list[str], hints: Mapping[str, Any], extra: str | None) -> Signature:
    results = members_of(hints["return"])
    members = [m for m in results if m is not type(None)]
    several = len(members) == 1 and is_a(members[0], Several)
    if several:
        members = list(get_args(members[0])) or [Any]
    found = None if not members else members[0] if len(members) == 1 else Union[tuple(members)]  # noqa: UP007 - `|` takes no tuple
    optional = type(None) in results
    return Signature(tuple(hints[n] for n in places), tuple(places), found, several, optional, extra)


def _not_a_function(body: Any) -> Unreadable:
    if isinstance(body, functools.partial):
        inner = function_name(body.func)
        fix = f"a def that calls {inner}; make the varying part a parameter of the graph: ctx.params.NAME"
    elif inspect.isclass(body):
        fix = f"a def that returns {body.__name__}(...)"
    elif callable(body):
        fix = "pass its method, or a def that calls it"
    else:
        fix = "decorate a def, or pass one"
    kind = "class " if inspect.isclass(body) else "" if isinstance(body, functools.partial) else "the object "
    found = f"{kind}{function_name(body)}"
    return Unreadable("not-a-function", found, "a function with annotations, or a method", fix)


def _refuse_kinds(body: Any) -> None:
    if inspect.isgeneratorfunction(body) or inspect.isasyncgenfunction(body):
        raise Unreadable(
            "generator",
            "a generator: it yields",
            "a function that returns its result once",
            "return fg.Several([...]) for several items, or a list and scatter= on the edge after it",
        )


def _hints(body: Any, localns: Mapping[str, Any] | None) -> dict[str, Any]:
    expected = "annotations that resolve when the file has been loaded"
    try:
        return typing.get_type_hints(body, localns=dict(localns or {}))
    except NameError as error:
        name = str(error.name)
        known = [n for n in {**getattr(body, "__globals__", {}), **(localns or {})} if not n.startswith("_")]
        close = did_you_mean(name, known)
        fix = f"define or import {name!r} at the top of the file (not under TYPE_CHECKING)"
        raise Unreadable(
            "unresolved-annotation",
            f"an annotation names {name!r}, which is not defined",
            expected,
            close if close.startswith("did you") else fix,
        ) from error
    except AttributeError as error:
        close = did_you_mean(str(error.name), [n for n in dir(error.obj) if not n.startswith("_")])
        raise Unreadable(
            "unresolved-annotation",
            f"an annotation cannot be read: {error}",
            expected,
            close if close.startswith("did you") else "correct the name",
        ) from error
    except Exception as error:
        raise Unreadable(
            "unresolved-annotation",
            f"an annotation cannot be read: {type(error).__name__}: {error}",
            expected,
            "correct the annotation",
        ) from error


def _unannotated(body: Any, name: str) -> Unreadable:
    expected = "annotations on every parameter and on the result: they are the types of the ports"
    if body.__name__ == "<lambda>":
        return Unreadable(
            "unannotated", "a lambda, which cannot be annotated", expected, "write it as an annotated def"
        )
    if name == "return":
        return Unreadable("unannotated", "no return annotation", expected, f"def {body.__name__}(...) -> TYPE")
    return Unreadable(
        "unannotated", f"parameter {name!r} has no annotation", expected, f"def {body.__name__}({name}: TYPE) -> TYPE"
    )


def returns_awaitable(body: Callable[..., Any], found: Signature) -> bool:
    """Return whether a plain function returns an awaitable."""
    return not inspect.iscoroutinefunction(body) and (get_origin(found.returns) or found.returns) in (
        Awaitable,
        Coroutine,
        collections.abc.Awaitable,
    )


def admits(pool: type) -> Any:
    """Return the type of the values that a pool admits: the argument of its event type.

    Raises TypeError, naming the missing part, if the class is not a pool.
    """
    for name in ("apply", "best"):
        if not callable(getattr(pool, name, None)):
            raise TypeError(f"it has no method {name}({'event' if name == 'apply' else ''})")
    fields = {f.name for f in attrs.fields(pool)} if attrs.has(pool) else set()
    if not fields & {"artifacts"} and not hasattr(pool, "artifacts") and "artifacts" not in _annotated(pool):
        raise TypeError("it has no artifacts")
    try:
        hints = typing.get_type_hints(pool.apply)  # type: ignore[attr-defined]  # found above
    except Exception as error:
        raise TypeError(f"the annotations of apply cannot be read: {error}") from error
    events = [hint for name, hint in hints.items() if name != "return"]
    if len(events) != 1 or not is_a(events[0], PoolEvent):
        shown = f"it takes {', '.join(map(show, events))}" if events else "its event is not annotated"
        raise TypeError(f"apply(event) must take a fg.PoolEvent[...]; {shown}")
    return (get_args(events[0]) or (Any,))[0]


def _annotated(pool: type) -> set[str]:
    return {name for base in pool.__mro__ for name in vars(base).get("__annotations__", {})}
