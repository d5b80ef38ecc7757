"""Types of ports: whether one can be assigned to another, their text form, and whether a run can store their values.

Python's own generics are compared part by part, other types by beartype.
"""

from __future__ import annotations

import collections.abc
import dataclasses
import enum
import functools
import inspect
import operator
import types
import typing
from collections.abc import Iterator
from typing import Any, TypeVar, Union, get_args, get_origin

import attrs

from flashgraph.graph.contexts import Context, Draw
from flashgraph.graph.ports import Group, Several, Stale, Verdict

__all__ = ["assignable", "classes_of", "is_a", "members_of", "narrowed", "show", "show_apart", "unstorable"]

UNION = (Union, types.UnionType)
PROMOTED = {int: (float, complex), float: (complex,)}
"""Types that may be assigned to wider ones: an int to a float, as in type checkers (PEP 484, the numeric tower)."""


def is_a(hint: Any, kind: type) -> bool:
    """Return whether a hint is the class ``kind``, with or without type arguments."""
    return (get_origin(hint) or hint) is kind


def members_of(hint: Any) -> tuple[Any, ...]:
    """Return the members of a union; for any other type, the type alone."""
    return get_args(hint) if get_origin(hint) in UNION else (hint,)


def classes_of(hint: Any) -> tuple[type, ...] | None:
    """Return the classes whose instances are values of this type; None if the class alone cannot decide.

    Type arguments are ignored, so the contents of a value are not checked.
    """
    hint = _unaliased(hint)
    if get_origin(hint) in UNION:
        parts = [classes_of(member) for member in get_args(hint)]
        return None if None in parts else tuple(kind for part in parts for kind in part or ())
    if get_origin(hint) is typing.Literal:
        return tuple({type(value) for value in get_args(hint)})
    if typing.is_typeddict(hint):
        return (dict,)
    kind = get_origin(hint) or getattr(hint, "__supertype__", hint)  # a NewType is its own class at run time
    if not inspect.isclass(kind) or getattr(kind, "_is_protocol", False) or kind is Any:
        return None
    return (kind, *(given for given, takers in PROMOTED.items() if kind in takers))


def narrowed(hint: Any, only: type) -> Any | None:
    """Return the part of a type whose values are instances of a class; None if there is none."""
    if hint is Any:
        return only
    kept: list[Any] = []
    for member in members_of(hint):
        kind = get_origin(member) or member
        if inspect.isclass(kind) and issubclass(kind, only):
            kept.append(member)
        elif inspect.isclass(kind) and issubclass(only, kind):
            kept.append(only)
    return functools.reduce(operator.or_, kept) if kept else None


def assignable(produced: Any, consumed: Any) -> bool:
    """Return whether a value of type ``produced`` may be used where ``consumed`` is expected.

    Generics are compared part by part, so that ``Group[A, B]`` is assignable to ``Group[A, B | C]``. A generic without
    arguments is compatible with every other one of its class.
    """
    produced, consumed = _unaliased(produced), _unaliased(consumed)
    if Any in (produced, consumed) or isinstance(consumed, TypeVar) or isinstance(produced, TypeVar):
        return True
    if get_origin(produced) in UNION:
        return all(assignable(member, consumed) for member in get_args(produced))
    if get_origin(consumed) in UNION:
        return any(assignable(produced, member) for member in get_args(consumed))
    if inspect.isclass(produced) and consumed in PROMOTED.get(produced, ()):
        return True
    left, right = get_origin(produced) or produced, get_origin(consumed) or consumed
    if left is typing.Literal and right is typing.Literal:
        return set(get_args(produced)) <= set(get_args(consumed))
    if inspect.isclass(left) and inspect.isclass(right):
        return _class_fits(produced, left, consumed, right)
    return _by_beartype(produced, consumed)


def _class_fits(produced: Any, left: type, consumed: Any, right: type) -> bool:
    gives, takes = get_args(produced), get_args(consumed)
    if left is right is tuple and gives and takes:
        return _tuple_fits(gives, takes)
    if not takes or (left is right and not gives):
        return _by_beartype(left, right)
    if left is right:
        return len(gives) == len(takes) and all(map(assignable, gives, takes))
    if left is tuple and len(takes) == 1:
        return _by_beartype(tuple, right) and all(assignable(a, takes[0]) for a in gives if a is not Ellipsis)
    if len(gives) == len(takes) and left.__module__ in ("builtins", "collections.abc", "collections"):
        # list[int] for Sequence[float], dict[str, A] for Mapping[str, A | B]
        return _by_beartype(left, right) and all(map(assignable, gives, takes))
    return _by_beartype(left, right) and _by_beartype(produced, consumed)


def _tuple_fits(gives: tuple[Any, ...], takes: tuple[Any, ...]) -> bool:
    if takes[-1] is Ellipsis:
        return all(assignable(a, takes[0]) for a in gives if a is not Ellipsis)
    return gives[-1] is not Ellipsis and len(gives) == len(takes) and all(map(assignable, gives, takes))


def _by_beartype(produced: Any, consumed: Any) -> bool:
    if inspect.isclass(produced) and inspect.isclass(consumed):
        try:
            return issubclass(
                produced, consumed
            )  # decides most edges without beartype, whose import would take a fifth of the time of `check`
        except TypeError:  # a protocol or a typed dict, which Python cannot compare
            pass
    from beartype.door import is_subhint

    try:
        return bool(is_subhint(produced, consumed))
    except Exception:  # a hint that beartype does not know: accept it; only values can be checked, at run time
        return True


def _unaliased(hint: Any) -> Any:
    """Return the type that a ``type`` alias names."""
    seen = 0
    while type(hint).__name__ == "TypeAliasType" and seen < 100:
        hint, seen = hint.__value__, seen + 1
    return type(None) if hint is None else hint


def show(hint: Any, *, full: bool = False) -> str:
    """Return a type as the user wrote it; with ``full``, each class has its module before it."""
    if hint is None or hint is type(None):
        return "None"
    if hint is Ellipsis:
        return "..."
    if isinstance(hint, list):
        return f"[{', '.join(show(h, full=full) for h in hint)}]"
    origin, arguments = get_origin(hint), get_args(hint)
    if origin in UNION:
        return " | ".join(show(a, full=full) for a in arguments)
    if origin is typing.Literal:
        return f"Literal[{', '.join(map(repr, arguments))}]"
    if origin in (Draw, Context):
        while len(arguments) > 1 and arguments[-1] in (object, type(None)):
            arguments = arguments[:-1]  # a default type argument, which nobody writes
    if arguments:
        return f"{show(origin, full=full)}[{', '.join(show(a, full=full) for a in arguments)}]"
    name = getattr(hint, "__name__", None)
    if name is None:
        return str(hint)
    return f"{hint.__module__}.{name}" if full and getattr(hint, "__module__", "builtins") != "builtins" else str(name)


def show_apart(one: Any, other: Any) -> tuple[str, str]:
    """Return two types as text, with their modules if they would look the same without."""
    shown = show(one), show(other)
    return shown if shown[0] != shown[1] else (show(one, full=True), show(other, full=True))


PLAIN = (str, int, float, bool, bytes, type(None))
CONTAINERS = (
    list, tuple, dict, set, frozenset, typing.Literal, *UNION,
    collections.abc.Sequence, collections.abc.MutableSequence, collections.abc.Mapping,
    collections.abc.MutableMapping, collections.abc.Set, collections.abc.MutableSet,
)  # fmt: skip
OURS = (Group, Several, Stale, Verdict)


def _fields(kind: Any) -> list[Any]:
    """Return the types of a class's fields; an empty list if it has none or they cannot be resolved."""
    try:
        if attrs.has(kind):
            return [f.type for f in attrs.fields(attrs.resolve_types(kind)) if f.type is not None]
        if dataclasses.is_dataclass(kind):
            hints = typing.get_type_hints(kind)
            return [hints[f.name] for f in dataclasses.fields(kind)]
        if typing.is_typeddict(kind) or hasattr(kind, "_fields"):
            return list(typing.get_type_hints(kind).values())
    except Exception:  # a forward reference to a class inside a function: only values can be checked, at run time
        return []
    return []


def parts(hint: Any) -> Iterator[Any]:
    """Yield the hint and all its parts, through fields and type arguments, each once."""
    seen: list[Any] = []
    todo = [hint]
    while todo:
        now = _unaliased(todo.pop())
        now = getattr(now, "__supertype__", now)
        if any(now is s or now == s for s in seen):
            continue
        seen.append(now)
        yield now
        if get_origin(now) is typing.Literal:
            continue
        todo.extend(a for a in get_args(now) if a is not Ellipsis)
        kind = get_origin(now) or now
        if inspect.isclass(kind):
            todo.extend(_fields(kind))


def unstorable(hint: Any) -> Any | None:
    """Return the first part of a type that a run could not store and read back; None if there is none.

    A run stores plain values, enums, attrs and data classes, named tuples, typed dicts, and lists, tuples, sets and
    mappings of them.
    """
    for part in parts(hint):
        kind = get_origin(part) or part
        if part is Any or kind in PLAIN or kind in CONTAINERS or isinstance(part, TypeVar):
            continue
        if not inspect.isclass(kind):
            return part
        if attrs.has(kind) or dataclasses.is_dataclass(kind) or issubclass(kind, enum.Enum) or kind in OURS:
            continue
        if typing.is_typeddict(kind) or (issubclass(kind, tuple) and hasattr(kind, "_fields")):
            continue
        return part
    return None
