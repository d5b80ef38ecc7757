"""Encode values of a graph's types as JSON, and decode them.

JSON has no tuples and no classes, so such values carry a tag.  Decoding makes only classes that the graph's ports name:
a journal is data, and reading one runs no code of its own.  Long texts are stored once, under their hash.
"""

from __future__ import annotations

import base64
import dataclasses
import enum
import inspect
import math
from collections.abc import Callable, Iterable, Mapping, Set
from contextlib import suppress
from functools import cache
from typing import Any, get_origin, get_type_hints

import attrs

from flashgraph.errors import DataError
from flashgraph.graph.check import CheckedGraph
from flashgraph.graph.ports import Group, Member, Several, Verdict
from flashgraph.graph.spec import GraphSpec
from flashgraph.graph.types import parts
from flashgraph.run.journal.jsontext import TAG, tagged, untagged

__all__ = ["LONG", "Codec"]

LONG = 200
"""Texts of at least this many characters are stored apart, under their hash."""

LARGE = 10_000
"""Bits of the largest integer that is stored in decimal: Python reads at most 4,300 digits."""

OWN = ("long", "tuple", "dict", "set", "frozenset", "bytes", "enum", "float", "int")
"""Tags that do not name a class."""
Put = Callable[[str], str]
Get = Callable[[str], str]


class Codec:
    """Encode values whose classes it knows; refuse others with `DataError`."""

    def __init__(self, classes: Iterable[type], own: Iterable[type] = ()) -> None:
        self._classes: dict[str, type] = {}
        self._names: dict[type, str] = {}
        self._own = frozenset(own)
        self._strict = True
        for kind in classes:
            self._know(kind)

    @classmethod
    def of_graph(cls, checked: CheckedGraph) -> Codec:
        """Return a codec for everything that flows in a graph."""
        graph, ports = checked.spec, checked.ports
        hints = [*ports.gives.values(), *ports.takes.values()]
        found = [get_origin(part) or part for hint in hints for part in parts(hint)]
        found += [type(source.state) for source in graph.sources]
        return cls([Group, Member, Several, Verdict, *(kind for kind in found if inspect.isclass(kind))], _own(graph))

    def _know(self, kind: type) -> None:
        composed = attrs.has(kind) or dataclasses.is_dataclass(kind) or hasattr(kind, "_fields")
        if kind in self._names or not (composed or issubclass(kind, enum.Enum)):
            return
        # Without the module: a file that is loaded by its path gets another module name on another machine.
        name, number = kind.__qualname__, 1
        while name in self._classes or name in OWN:
            number += 1
            name = f"{kind.__qualname__}#{number}"
        self._classes[name], self._names[kind] = kind, name
        for hint in _hints(kind):
            for part in parts(hint):
                inner = get_origin(part) or part
                if inspect.isclass(inner):
                    self._know(inner)
        below: list[type] = kind.__subclasses__()
        # A process that loaded a graph's file twice has two classes of each name; the graph's own gets the plain one.
        for sub in sorted(below, key=lambda sub: sub not in self._own):
            self._know(sub)

    def loose(self) -> Codec:
        """Return a codec that also encodes classes that it does not know; they can only be read as plain data."""
        other = Codec(())
        other._classes, other._names, other._strict = self._classes, self._names, False
        return other

    def encode(self, value: Any, put: Put) -> Any:
        """Return ``value`` as JSON; ``put`` stores a long text and returns its name.

        Raises `DataError` for a value that could not be decoded.
        """
        try:
            return self._encoded(value, put)
        except RecursionError:
            raise DataError(
                "a value that is nested too deeply, or holds itself, cannot be stored with the run.\n"
                "Fix: make it flat, as a list of its parts with their numbers."
            ) from None

    def _encoded(self, value: Any, put: Put) -> Any:
        if isinstance(value, int) and value.bit_length() > LARGE:
            return {TAG: "int", "of": hex(value)}
        if value is None or (isinstance(value, bool | int | float) and not isinstance(value, enum.Enum)):
            return tagged(value) if isinstance(value, float) and not math.isfinite(value) else value
        if isinstance(value, enum.Enum):
            # A combination of flags has no name of its own.
            member = value.value if isinstance(value, enum.Flag) else value.name
            return {TAG: "enum", "of": self._name(type(value)), "is": member}
        if isinstance(value, str):
            text = str.__str__(value)  # the content: a subclass may override how it prints
            return {TAG: "long", "of": put(text)} if len(text) >= LONG else text
        if isinstance(value, bytes):
            return {TAG: "bytes", "of": base64.b64encode(value).decode()}
        return self._composed(value, put)

    def _composed(self, value: Any, put: Put) -> Any:
        kind = type(value)
        if kind is list:
            return [self._encoded(v, put) for v in value]
        if kind is tuple:
            return {TAG: "tuple", "of": [self._encoded(v, put) for v in value]}
        if attrs.has(kind) or dataclasses.is_dataclass(kind):
            fields = {f: self._encoded(getattr(value, f), put) for f in _fields(kind)}
            return {TAG: self._name(kind), **fields}
        if hasattr(kind, "_fields"):
            return {TAG: self._name(kind), "of": [self._encoded(v, put) for v in value]}
        if isinstance(value, Mapping):
            if all(type(k) is str for k in value) and TAG not in value:
                return {k: self._encoded(v, put) for k, v in value.items()}
            return {TAG: "dict", "of": [[self._encoded(k, put), self._encoded(v, put)] for k, v in value.items()]}
        if isinstance(value, Set):
            # Sorted, so that equal sets give equal JSON.
            members = sorted((self._encoded(v, put) for v in value), key=repr)
            return {TAG: "set" if kind is set else "frozenset", "of": members}
        if isinstance(value, list):
            return self._composed(list(value), put)
        if isinstance(value, tuple):
            return self._composed(tuple(value), put)
        if not self._strict:
            return repr(value)
        raise self._unknown(kind)

    def decode(self, data: Any, get: Get) -> Any:
        """Return the value that `encode` made ``data`` from.  Raises `DataError` for a class that the graph lacks."""
        if isinstance(data, list):
            return [self.decode(d, get) for d in data]
        if not isinstance(data, dict):
            return data
        tag = data.get(TAG)
        if tag is None:
            return {k: self.decode(v, get) for k, v in data.items()}
        of: Any = data.get("of")
        match tag:
            case "long":
                return get(of)
            case "tuple":
                return tuple(self.decode(d, get) for d in of)
            case "dict":
                return {self.decode(k, get): self.decode(v, get) for k, v in of}
            case "set" | "frozenset":
                members = (self.decode(d, get) for d in of)
                return set(members) if tag == "set" else frozenset(members)
            case "bytes":
                return base64.b64decode(of)
            case "int":
                return int(of, 16)
            case "float":
                return untagged(data)
            case "enum":
                kind, member = self._class(of), data["is"]
                return getattr(kind, member) if isinstance(member, str) else kind(member)
        kind = self._class(tag)
        if "of" in data and hasattr(kind, "_fields"):
            return kind(*(self.decode(d, get) for d in of))
        made = {name: self.decode(data[name], get) for name in _fields(kind) if name in data}
        try:
            return kind(**{_argument(kind, name): value for name, value in made.items()})
        except TypeError as error:
            had = ", ".join(name for name in data if name != TAG)
            raise DataError(
                f"the journal holds a {tag!r} of another version of its class, with the fields {had}; expected "
                f"{', '.join(_fields(kind))} ({error}).\n"
                "Fix: resume with the graph and the version of flashgraph that the run was started with."
            ) from None

    def _name(self, kind: type) -> str:
        if kind not in self._names:
            for base in kind.__mro__[1:]:
                if base in self._names:  # a subclass that was defined after the codec was made
                    self._know(kind)
                    break
            else:
                if not self._strict:
                    return kind.__qualname__
                raise self._unknown(kind)
        return self._names[kind]

    def _class(self, name: str) -> type:
        if name not in self._classes:
            raise DataError(
                f"the journal holds a {name!r}, which is not a type of this graph; expected one of "
                f"{', '.join(sorted(self._classes))}.\nFix: resume with the graph that the run was started with."
            )
        return self._classes[name]

    def _unknown(self, kind: type) -> DataError:
        return DataError(
            f"a value of {kind.__module__}.{kind.__qualname__} cannot be stored with the run; expected plain values, "
            "attrs or data classes, or lists, tuples, sets and mappings of them, of types that the graph's annotations "
            "name.\nFix: annotate the stage that makes it with its type, or make it of such parts."
        )


def _own(graph: GraphSpec) -> set[type]:
    """Return the classes that are bound to a name in the modules of a graph's functions."""
    bodies = [inspect.unwrap(body) for body in [*(s.body for s in graph.sources), *(s.body for s in graph.stages)]]
    found = [value for body in bodies for value in getattr(body, "__globals__", {}).values()]
    return {value for value in found if inspect.isclass(value)}


def _hints(kind: type) -> list[Any]:
    """Return the types of a class's fields, without those whose names cannot be resolved."""
    found = []
    for hint in getattr(kind, "__annotations__", {}).values():
        if not isinstance(hint, str):
            found.append(hint)
            continue
        holder = type("", (), {"__annotations__": {"hint": hint}, "__module__": kind.__module__})
        with suppress(Exception):  # a name of a function's own, or one that only type checkers see
            found.append(get_type_hints(holder, localns=dict(vars(kind)))["hint"])
    return found


@cache
def _fields(kind: type) -> tuple[str, ...]:
    if attrs.has(kind):
        return tuple(f.name for f in attrs.fields(kind) if f.init)
    return tuple(f.name for f in dataclasses.fields(kind) if f.init)


def _argument(kind: type, name: str) -> str:
    """Return the name of a field's argument; attrs strips a leading underscore from it."""
    if not attrs.has(kind):
        return name
    return str(attrs.fields_dict(kind)[name].alias)
