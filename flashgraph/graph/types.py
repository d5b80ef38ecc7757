"""Types of ports: read from annotations, compared by beartype, and tried for (un)structuring by cattrs."""

from __future__ import annotations

import inspect
import types
import typing
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from typing import Any, TypeVar, Union, get_args, get_origin

import attrs

from flashgraph.graph.ports import Context, Draw, Group, PoolEvent, Several, Stale, Verdict

__all__ = ["Signature", "assignable", "show", "signature_of", "unstorable"]

UNION = (Union, types.UnionType)


@attrs.frozen
class Signature:
    """The annotations of a function: its parameters' types in order, and what it returns without None.

    ``returns`` is None when it returns nothing but None; ``several`` says that it returns a `Several`, whose item
    type ``returns`` then is.
    """

    parameters: tuple[Any, ...]
    names: tuple[str, ...]
    returns: Any
    several: bool
    asynchronous: bool


class Unannotated(Exception):
    """A parameter or the return value has no annotation; the argument is its name, or ``"return"``."""


def signature_of(body: Callable[..., Any], localns: Mapping[str, Any] | None = None) -> Signature:
    """Raises `Unannotated` for a missing annotation and NameError for one that cannot be resolved."""
    function = body if inspect.isroutine(body) or inspect.isclass(body) else type(body).__call__
    parameters = [p for p in inspect.signature(body).parameters.values() if p.default is p.empty]
    hints = typing.get_type_hints(function, localns=dict(localns or {}))
    for parameter in parameters:
        if parameter.name not in hints:
            raise Unannotated(parameter.name)
    if "return" not in hints:
        raise Unannotated("return")
    returns = hints["return"]
    members = [m for m in (get_args(returns) if get_origin(returns) in UNION else (returns,)) if m is not type(None)]
    several = len(members) == 1 and (get_origin(members[0]) or members[0]) is Several
    if several:
        members = list(get_args(members[0])) or [Any]
    found = None if not members else members[0] if len(members) == 1 else Union[tuple(members)]  # noqa: UP007
    return Signature(
        tuple(hints[p.name] for p in parameters),
        tuple(p.name for p in parameters),
        found,
        several,
        inspect.iscoroutinefunction(body) or get_origin(returns) is Awaitable,
    )


def is_a(hint: Any, kind: type) -> bool:
    """Whether a hint is the class or a generic of it."""
    return (get_origin(hint) or hint) is kind


def assignable(produced: Any, consumed: Any) -> bool:
    """Whether a value of the first type may go where the second is expected: unions, generics, subclasses, Any."""
    if Any in (produced, consumed) or isinstance(consumed, TypeVar) or isinstance(produced, TypeVar):
        return True
    left, right = get_origin(produced), get_origin(consumed)
    if left is not None and left is right and left not in UNION:
        pairs = zip(get_args(produced), get_args(consumed), strict=False)
        return len(get_args(produced)) == len(get_args(consumed)) and all(assignable(a, b) for a, b in pairs)
    if left in UNION:
        return all(assignable(member, consumed) for member in get_args(produced))
    if right in UNION:
        return any(assignable(produced, member) for member in get_args(consumed))
    from beartype.door import is_subhint

    try:
        return bool(is_subhint(produced, consumed))
    except Exception:  # a hint beartype does not know: let it pass, the values will tell
        return True


def show(hint: Any) -> str:
    """A type as the user wrote it, without module names."""
    if hint is None or hint is type(None):
        return "None"
    arguments = get_args(hint)
    if get_origin(hint) in UNION:
        return " | ".join(map(show, arguments))
    if arguments:
        origin = get_origin(hint)
        return f"{getattr(origin, '__name__', origin)}[{', '.join(map(show, arguments))}]"
    return getattr(hint, "__name__", None) or str(hint)


def parts(hint: Any) -> Iterator[Any]:
    """The hint and everything it is made of, through attrs fields and type arguments, each once."""
    seen: list[Any] = []
    todo = [hint]
    while todo:
        now = todo.pop()
        if any(now is s or now == s for s in seen):
            continue
        seen.append(now)
        yield now
        todo.extend(a for a in get_args(now) if a is not Ellipsis)
        kind = get_origin(now) or now
        if inspect.isclass(kind) and attrs.has(kind):
            try:
                todo.extend(f.type for f in attrs.fields(attrs.resolve_types(kind)) if f.type is not None)
            except NameError:
                continue


PLAIN = (str, int, float, bool, bytes, type(None))
CONTAINERS = (list, tuple, dict, set, frozenset, Sequence, Mapping, typing.Literal, *UNION)
OURS = (Group, Several, Stale, Verdict)


def unstorable(hint: Any) -> Any | None:
    """The first part of a type that a run could not store and read back; None when all of it can.

    Storable are plain values, enums, attrs and data classes, and lists, tuples, sets and mappings of them.
    """
    import dataclasses
    import enum

    for part in parts(hint):
        kind = get_origin(part) or part
        if part is Any or kind in PLAIN or kind in CONTAINERS or isinstance(part, TypeVar):
            continue
        if not inspect.isclass(kind):
            if isinstance(part, str | int | float | bool) or part is None:
                continue  # the values of a Literal
            return part
        if attrs.has(kind) or dataclasses.is_dataclass(kind) or issubclass(kind, enum.Enum) or kind in OURS:
            continue
        if issubclass(kind, tuple) and hasattr(kind, "_fields"):
            continue
        return part
    return None


def admits(factory: Callable[[], Any]) -> Any:
    """What a pool's `apply` takes: the argument of its event type.  Raises TypeError with the reason if unclear."""
    pool = factory if inspect.isclass(factory) else type(factory())
    if not callable(getattr(pool, "apply", None)):
        raise TypeError("it has no method apply(event)")
    for name in ("best", "focus"):
        if not callable(getattr(pool, name, None)):
            raise TypeError(f"it has no method {name}()")
    fields = {f.name for f in attrs.fields(pool)} if attrs.has(pool) else set()
    if "artifacts" not in fields and not hasattr(pool, "artifacts"):
        raise TypeError("it has no artifacts")
    try:
        events = [hint for name, hint in typing.get_type_hints(pool.apply).items() if name != "return"]
    except NameError:
        events = []
    if len(events) != 1 or not is_a(events[0], PoolEvent):
        raise TypeError("apply(event) is not annotated with fg.PoolEvent[...]")
    return (get_args(events[0]) or (Any,))[0]


def is_context(hint: Any) -> bool:
    return is_a(hint, Context)


def is_draw(hint: Any) -> bool:
    return is_a(hint, Draw)
