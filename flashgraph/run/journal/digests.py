"""Digests of a user's values and functions: stable between processes, and different once the content differs.

A value is digested as `pickle` would store it.  A function is digested by its source, its closure and its defaults.  In
the user's own files, the functions, classes and module-level assignments that it names count too.  The only user code
that runs is what copies a value (``__reduce_ex__``) and what prints it (``__repr__``).
"""

from __future__ import annotations

import ast
import functools
import hashlib
import inspect
import linecache
import re
from collections.abc import Callable, Iterator, Mapping, Set
from enum import Enum
from pathlib import Path
from types import BuiltinFunctionType, CodeType, FunctionType, MethodType, ModuleType
from typing import Any

from flashgraph.errors import is_own

__all__ = ["digest", "function_digest"]

ADDRESS = re.compile(r"\b0x[0-9a-fA-F]{4,}")
PLAIN = (type(None), bool, int, float, complex, str, bytes)
DIGITS = 16


def digest(value: Any) -> str:
    """Return the digest of a value: 16 hexadecimal digits."""
    return _Feed().of(value)


def function_digest(function: Callable[..., Any]) -> str:
    """Return the digest of a function's behaviour: 16 hexadecimal digits.  A callable object's class counts too."""
    feed = _Feed()
    if not isinstance(function, FunctionType | MethodType | functools.partial | BuiltinFunctionType | type):
        feed.feed(type(function))
    return feed.of(function)


class _Feed:
    """One digest in the making."""

    def __init__(self) -> None:
        self._hash = hashlib.sha256()
        self._inside: list[Any] = []
        """The values that enclose the current one; a value may contain itself."""
        self._functions: set[Any] = set()
        """Functions and classes that were fed already: each counts once."""

    def of(self, value: Any) -> str:
        self.feed(value)
        return self._hash.hexdigest()[:DIGITS]

    def text(self, kind: str, text: str) -> None:
        data = text.encode(errors="surrogatepass")
        # The length keeps any two sequences of texts apart.
        self._hash.update(f"{kind}:{len(data)}:".encode() + data)

    def feed(self, value: Any) -> None:
        kind = type(value)
        if kind in PLAIN:
            self.text(kind.__name__, value.hex() if kind in (bytes, float) else str(value))
        elif isinstance(value, Enum):
            self.text("enum", f"{kind.__qualname__}.{value.name}")
        elif isinstance(value, FunctionType | MethodType | type):
            self._code(value)
        elif isinstance(value, ModuleType):
            self.text("module", value.__name__)
        elif any(value is outer for outer in self._inside):
            self.text("cycle", "")
        else:
            self._inside.append(value)
            try:
                self._parts(value)
            except RecursionError:
                self.text("deep", kind.__qualname__)
            finally:
                self._inside.pop()

    def _parts(self, value: Any) -> None:
        kind = type(value)
        if kind in (list, tuple):
            self.text(kind.__name__, str(len(value)))
            for part in value:
                self.feed(part)
        elif kind is dict:
            self.text("dict", str(len(value)))
            for key, part in value.items():
                self.feed(key)
                self.feed(part)
        elif isinstance(value, Set):
            # The order of a set differs between processes.
            self.text("set", " ".join(sorted(_Feed().of(part) for part in value)))
        elif isinstance(value, functools.partial):
            self.feed((value.func, value.args, value.keywords))
        elif isinstance(wrapped := getattr(value, "__wrapped__", None), FunctionType):
            self.feed(wrapped)  # functools.cache wraps functions so
        else:
            self._object(value)

    def _object(self, value: Any) -> None:
        self.text("object", type(value).__qualname__)
        reduced: Any
        try:
            reduced = value.__reduce_ex__(4)
        except Exception:  # it cannot be copied: a lock, a file, a class of an extension module
            reduced = _shown(value)
        if isinstance(reduced, str):
            self.text("shown", reduced)
            return
        makes, arguments, state, parts, pairs = [*reduced, None, None, None, None][:5]
        self.text("makes", getattr(makes, "__qualname__", ""))
        # A class counts by name here: its source is not part of the value.
        self.feed([part.__qualname__ if isinstance(part, type) else part for part in arguments])
        self.feed(state)
        for rest in (parts, pairs):
            self.feed(None if rest is None else list(rest))

    # ---- code --------------------------------------------------------------------------------------------

    def _code(self, value: Any) -> None:
        if isinstance(value, MethodType):
            self.feed(value.__func__)
            self.feed(value.__self__)
            return
        self.text("code", value.__qualname__)
        if value in self._functions:
            return
        self._functions.add(value)
        if isinstance(value, type):
            self._class(value)
            return
        self.text("source", _source(value))
        self.feed((value.__defaults__, value.__kwdefaults__))
        for cell in value.__closure__ or ():
            try:
                self.feed(_constant(cell.cell_contents))
            except ValueError:  # the cell is not filled yet
                self.text("cell", "empty")
        if _own(value):
            self._named(value)

    def _class(self, kind: type) -> None:
        """Feed the members and the bases of a class of the user's."""
        members = list(_members(kind))
        if not any(_own(member) for _, member in members if isinstance(member, FunctionType)):
            return
        for name, member in members:
            self.text("member", name)
            self.feed(member)
        for base in kind.__bases__:
            self.feed(base)

    def _named(self, function: FunctionType) -> None:
        """Feed what a function of the user's names in its module and in the user's other modules."""
        names = sorted(set(_names(function.__code__)))
        statements: Mapping[str, str] | None = None
        for name in names:
            if name not in function.__globals__:
                continue
            found = function.__globals__[name]
            if isinstance(found, ModuleType):
                for inner in (vars(found).get(other) for other in names):
                    if isinstance(inner, FunctionType) and _own(inner):
                        self.feed(inner)
            elif isinstance(found, FunctionType | type):
                if isinstance(found, type) or _own(found):
                    self.feed(found)
            else:
                # By its source: the value may change during a run, as a cache does.
                statements = _statements(function.__code__.co_filename) if statements is None else statements
                self.text(name, statements.get(name, ""))


def _members(kind: type) -> Iterator[tuple[str, Any]]:
    """Yield what a class body defines: plain values, and functions, also those inside properties and wrappers."""
    for name, member in vars(kind).items():
        for found in (member, *(getattr(member, part, None) for part in ("__func__", "fget", "__wrapped__"))):
            named = not name.startswith("__") and isinstance(found, (*PLAIN[1:], tuple, frozenset))
            if named or isinstance(found, FunctionType):
                yield name, found


def _constant(value: Any) -> Any:
    """Return a closed-over value if it is immutable, else the name of its class."""
    if isinstance(value, (*PLAIN, tuple, frozenset, Enum, FunctionType, MethodType, functools.partial)):
        return value
    return type(value).__qualname__


def _source(function: FunctionType) -> str:
    try:
        return inspect.getsource(function.__code__)  # of the function itself, not of one that it wraps
    except (OSError, TypeError):  # it was defined without a file
        return repr(_compiled(function.__code__))


def _compiled(code: CodeType) -> list[Any]:
    constants = [_compiled(c) if isinstance(c, CodeType) else c for c in code.co_consts]
    return [code.co_code.hex(), code.co_names, constants]


def _names(code: CodeType) -> Iterator[str]:
    yield from code.co_names
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _names(constant)


def _own(function: FunctionType) -> bool:
    """Return whether a function is the user's own, and not of Python, a library or flashgraph."""
    return is_own(function.__module__ or "", function.__code__.co_filename)


@functools.lru_cache(maxsize=64)
def _parsed(file: str, text: str) -> Mapping[str, str]:
    try:
        body = ast.parse(text).body
    except (SyntaxError, ValueError):
        return {}
    found: dict[str, str] = {}
    for statement in body:
        targets: list[ast.expr] = []
        if isinstance(statement, ast.Assign):
            targets = statement.targets
        elif isinstance(statement, ast.AnnAssign | ast.AugAssign):
            targets = [statement.target]
        for name in {node.id for target in targets for node in ast.walk(target) if isinstance(node, ast.Name)}:
            found[name] = found.get(name, "") + (ast.get_source_segment(text, statement) or "")
    return found


def _statements(file: str) -> Mapping[str, str]:
    """Return the assignments of a file, each under the names that it binds."""
    try:
        text = Path(file).read_text(encoding="utf-8")
    except (OSError, ValueError):
        text = "".join(linecache.getlines(file))
    return _parsed(file, text)


def _shown(value: Any) -> str:
    shows: Any = type(value).__repr__
    if shows is object.__repr__:
        return type(value).__qualname__
    try:
        return ADDRESS.sub("0x", repr(value))
    except Exception:  # the user's __repr__ may raise anything
        return type(value).__qualname__
