"""Digests of a user's values and functions: stable between processes, and different once the content differs.

A value is digested as `pickle` would store it.  A function is digested by its source, its closure and its defaults.  In
the user's own files, the functions, classes, modules and values that it names count too.  A value counts only if
the source of its file does not change it (`flashgraph.run.journal.uses`), so that a cache may fill.  The only
user code that runs is what copies a value (``__reduce_ex__``) and what prints it (``__repr__``).
"""

from __future__ import annotations

import dis
import functools
import hashlib
import inspect
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Set
from contextlib import suppress
from enum import Enum
from pathlib import Path
from types import BuiltinFunctionType, CodeType, FunctionType, MethodType, ModuleType
from typing import Any

from flashgraph.errors import is_own
from flashgraph.run.journal.uses import NOTHING, Uses, uses_of

__all__ = ["digest", "function_digest"]

ADDRESS = re.compile(r"\b0x[0-9a-fA-F]{4,}")
PLAIN = (type(None), bool, int, float, complex, str, bytes)
DIGITS = 16

HOLDING = ("builtins", "collections", "datetime", "decimal", "fractions", "numpy", "pathlib")
"""Modules whose objects are data, and not clients, locks or random streams."""


def digest(value: Any) -> str:
    """Return the digest of a value: 16 hexadecimal digits."""
    return _Feed().of(value)


def function_digest(function: Callable[..., Any]) -> str:
    """Return the digest of a function's behaviour: 16 hexadecimal digits.  A callable object's class counts too."""
    feed = _Feed()
    if not isinstance(function, FunctionType | MethodType | functools.partial | BuiltinFunctionType | type):
        feed.feed(type(function))
        if not hasattr(function, "__wrapped__"):
            feed.holder(function)
            return feed.digest()
    return feed.of(function)


class _Feed:
    """One digest in the making."""

    def __init__(self) -> None:
        self._hash = hashlib.sha256()
        self._inside: list[Any] = []
        """The values that enclose the current one; a value may contain itself."""
        self._functions: set[Any] = set()
        """Functions and classes that were fed already: each counts once."""
        self._seen: set[tuple[int, str]] = set()
        """The names whose values were fed, each with the id of its module."""

    def of(self, value: Any) -> str:
        self.feed(value)
        return self.digest()

    def digest(self) -> str:
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
        elif isinstance(wrapped := inspect.getattr_static(value, "__wrapped__", None), FunctionType):
            self.feed(wrapped)  # functools.cache wraps functions so
        else:
            self._object(value)

    def _object(self, value: Any) -> None:
        self.text("object", type(value).__qualname__)
        reduced: Any
        try:
            reduced = value.__reduce_ex__(4)
        except KeyboardInterrupt:
            raise
        except BaseException:  # it cannot be copied: a lock, a file, a class of an extension module
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
            self.holder(value.__self__)
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
        uses = uses_of(value.__code__.co_filename) if _own(value) else NOTHING
        for name, cell in zip(value.__code__.co_freevars, value.__closure__ or (), strict=True):
            try:
                self._value(name, cell.cell_contents, uses)
            except ValueError:  # the cell is not filled yet
                self.text("cell", "empty")
        if _own(value):
            self._named(value, uses)

    def holder(self, value: Any) -> None:
        """Feed the class of an object and its attributes, without those that its methods change."""
        kind = type(value)
        if isinstance(value, type | ModuleType) or not hasattr(value, "__dict__") or not _own_class(kind):
            self.feed(value)
            return
        self.feed(kind)
        uses = uses_of(_file_of(kind))
        for name, part in vars(value).items():
            self.text("attribute", name)
            if not uses.may_change(name, _is_constant(part)):
                self.feed(part)

    def _class(self, kind: type) -> None:
        """Feed the source, the members and the bases of a class of the user's."""
        if not _own_class(kind):
            return
        self.text("source", _source(kind))
        for name, member in _members(kind):
            if isinstance(member, FunctionType) and member.__code__.co_filename.startswith("<"):
                continue  # generated from the source of the class
            self.text("member", name)
            self.feed(member)
        for base in kind.__bases__:
            self.feed(base)

    def _named(self, function: FunctionType, uses: Uses) -> None:
        """Feed what a function of the user's names in its module and in the user's other modules."""
        names = sorted(set(_names(function.__code__)))
        for name in names:
            if name in function.__globals__:
                self._global(name, function.__globals__, uses, names)
        # A module that a call imports may not be loaded yet, so its file counts.
        for module in sorted(set(_imports(function.__code__))):
            start = Path(function.__code__.co_filename).parent.joinpath(*module.split("."))
            for file in (start.with_suffix(".py"), start / "__init__.py"):
                with suppress(OSError, ValueError):
                    self.text("import", file.read_text(encoding="utf-8"))

    def _global(self, name: str, scope: Mapping[str, Any], uses: Uses, names: Iterable[str]) -> None:
        """Feed the object of a name in the globals ``scope``; for a module, feed its objects with one of ``names``."""
        found = scope[name]
        if isinstance(found, ModuleType):
            if (id(found), "module") in self._seen or not is_own(found.__name__, _path(found)):
                return
            self._seen.add((id(found), "module"))
            inner = uses_of(_path(found)).beside(uses)
            for other in names:
                if other in vars(found):
                    self._global(other, vars(found), inner, names)
            self._seen.discard((id(found), "module"))
            return
        if isinstance(found, FunctionType | type):
            if isinstance(found, type) or _own(found):
                self.feed(found)
            return
        origin, there = uses.imported.get(name, ("", ""))
        if (module := sys.modules.get(origin)) is not None and there in vars(module):
            scope, name, uses = vars(module), there, uses_of(_path(module)).beside(uses)
        self._value(name, found, uses)
        if (id(scope), name) in self._seen or _is_constant(found):
            return
        self._seen.add((id(scope), name))
        for part in uses.parts.get(name, ()):
            if part in scope and part != name:
                self._global(part, scope, uses, ())

    def _value(self, name: str, value: Any, uses: Uses) -> None:
        """Feed a value that a function reads under a name; only its source if it may change during a run."""
        self.text(name, uses.statements.get(name, ""))
        constant = _is_constant(value)
        kept = uses != NOTHING and (_own_class(type(value)) or type(value).__module__.split(".")[0] in HOLDING)
        if not uses.may_change(name, constant) and (constant or kept):
            self.holder(value)


def _members(kind: type) -> Iterator[tuple[str, Any]]:
    """Yield what a class body defines: plain values, and functions, also those inside properties and wrappers."""
    for name, member in vars(kind).items():
        for found in (member, *(getattr(member, part, None) for part in ("__func__", "fget", "__wrapped__"))):
            named = not name.startswith("__") and isinstance(found, (*PLAIN[1:], tuple, frozenset))
            if named or isinstance(found, FunctionType):
                yield name, found


def _is_constant(value: Any) -> bool:
    """Return whether a value is immutable."""
    constant = (*PLAIN, tuple, frozenset, Enum, re.Pattern, FunctionType, MethodType, functools.partial)
    return isinstance(value, constant)


def _own_class(kind: type) -> bool:
    """Return whether a class is the user's own."""
    file = _file_of(kind)
    return bool(file) and is_own(kind.__module__ or "", file)


def _file_of(kind: type) -> str:
    """Return the file of a class; empty if unknown."""
    if (module := sys.modules.get(kind.__module__ or "")) is not None:
        return _path(module)
    files = (member.__code__.co_filename for _, member in _members(kind) if isinstance(member, FunctionType))
    return next((file for file in files if not file.startswith("<")), "")


def _path(module: ModuleType) -> str:
    """Return the file of a module; without a file, a name that no user's file has."""
    return getattr(module, "__file__", None) or "<none>"


def _source(value: FunctionType | type) -> str:
    try:
        # Of the function itself, not of one that it wraps.
        return inspect.getsource(value if isinstance(value, type) else value.__code__)
    except (OSError, TypeError, SyntaxError):  # it was defined without a file
        return "" if isinstance(value, type) else repr(_compiled(value.__code__))


def _compiled(code: CodeType) -> list[Any]:
    constants = [_compiled(c) if isinstance(c, CodeType) else c for c in code.co_consts]
    return [code.co_code.hex(), code.co_names, constants]


def _names(code: CodeType) -> Iterator[str]:
    yield from code.co_names
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _names(constant)


def _imports(code: CodeType) -> Iterator[str]:
    """Yield the modules that a function imports when it is called."""
    for step in dis.get_instructions(code):
        if step.opname == "IMPORT_NAME":
            yield str(step.argval)
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _imports(constant)


def _own(function: FunctionType) -> bool:
    """Return whether a function is the user's own, and not of Python, a library or flashgraph."""
    return is_own(function.__module__ or "", function.__code__.co_filename)


def _shown(value: Any) -> str:
    shows: Any = type(value).__repr__
    if shows is object.__repr__:
        return type(value).__qualname__
    try:
        return ADDRESS.sub("0x", repr(value))
    except KeyboardInterrupt:
        raise
    except BaseException:  # the user's __repr__ may raise anything
        return type(value).__qualname__
