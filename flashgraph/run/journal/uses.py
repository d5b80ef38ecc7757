"""Find the names that a user's file only reads, and how it defines them.

A digest of a function covers the values that the function reads.  It must not cover a value that changes during a run,
such as a cache or a counter.  Otherwise a resumed run would not recognise its own task.
"""

from __future__ import annotations

import ast
import functools
import linecache
from collections.abc import Iterator, Mapping
from pathlib import Path

import attrs

__all__ = ["NOTHING", "Uses", "uses_of"]

READERS = frozenset({
    "count", "difference", "dot", "endswith", "find", "findall", "finditer", "fullmatch", "get", "index",
    "intersection", "isdisjoint", "issubset", "issuperset", "items", "keys", "lower", "match", "search", "split",
    "splitlines", "startswith", "strip", "union", "upper", "values",
})  # fmt: skip
"""Methods that do not change their object."""

TAKERS = frozenset({
    "abs", "all", "any", "bool", "dict", "enumerate", "filter", "float", "frozenset", "int", "isinstance", "len",
    "list", "map", "max", "min", "print", "range", "repr", "reversed", "round", "set", "sorted", "str", "sum", "tuple",
    "type", "zip",
})  # fmt: skip
"""Built-in functions that do not change their arguments."""

MAKERS = ("__init__", "__new__", "__attrs_post_init__", "__post_init__", "__setstate__")
"""Methods that initialise a new object."""

READING = (
    ast.Attribute, ast.Subscript, ast.Compare, ast.BinOp, ast.BoolOp, ast.UnaryOp, ast.FormattedValue, ast.If, ast.IfExp
)  # fmt: skip
"""Nodes that only read their names; `_changed` finds changes of attributes and items separately."""


@attrs.frozen
class Uses:
    """The uses of names, also of attributes, in one file."""

    changed: frozenset[str] = frozenset()
    """Names whose objects the file may change after it is loaded."""
    rebound: frozenset[str] = frozenset()
    """Names that a function of the file rebinds, and attributes that are set outside constructors."""
    statements: Mapping[str, str] = attrs.field(factory=dict)
    """The assignments at the top of the file, by the name that they bind."""
    parts: Mapping[str, tuple[str, ...]] = attrs.field(factory=dict)
    """The names that these assignments use."""
    imported: Mapping[str, tuple[str, str]] = attrs.field(factory=dict)
    """The module that each imported name comes from, and its name there."""

    def may_change(self, name: str, constant: bool) -> bool:
        """Return whether the file may change the value of a name; ``constant`` says that the value is immutable."""
        return name in self.rebound or (not constant and name in self.changed)

    def beside(self, other: Uses) -> Uses:
        """Return these uses with the changes by another file that uses the same objects."""
        return attrs.evolve(self, changed=self.changed | other.changed)


NOTHING = Uses()


def uses_of(file: str) -> Uses:
    """Return how a file uses its names; `NOTHING` if it cannot be read or parsed."""
    try:
        text = Path(file).read_text(encoding="utf-8")
    except (OSError, ValueError):
        text = "".join(linecache.getlines(file))
    return _uses(text)


@functools.lru_cache(maxsize=64)
def _uses(text: str) -> Uses:
    try:
        tree = ast.parse(text)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return NOTHING
    changed, stored = _changed(tree)
    rebound = {name for node in ast.walk(tree) if isinstance(node, ast.Global | ast.Nonlocal) for name in node.names}
    statements: dict[str, str] = {}
    parts: dict[str, tuple[str, ...]] = {}
    for statement, bound in _assignments(tree):
        for name in bound:
            statements[name] = statements.get(name, "") + (ast.get_source_segment(text, statement) or "")
            parts[name] = (*parts.get(name, ()), *_read_in(statement))
    imported = {
        alias.asname or alias.name: (node.module, alias.name)
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and node.module is not None and not node.level
        for alias in node.names
    }
    return Uses(frozenset(changed), frozenset(rebound | stored), statements, parts, imported)


def _assignments(tree: ast.Module) -> Iterator[tuple[ast.stmt, set[str]]]:
    """Yield each assignment at the top of a file, with the names that it binds."""
    for statement in tree.body:
        targets: list[ast.expr] = []
        if isinstance(statement, ast.Assign):
            targets = statement.targets
        elif isinstance(statement, ast.AnnAssign | ast.AugAssign):
            targets = [statement.target]
        yield statement, {node.id for target in targets for node in ast.walk(target) if isinstance(node, ast.Name)}


def _read_in(statement: ast.stmt) -> tuple[str, ...]:
    loaded = (n for n in ast.walk(statement) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Load))
    return tuple(dict.fromkeys(node.id for node in loaded if not node.id.startswith("__")))


def _changed(tree: ast.Module) -> tuple[set[str], set[str]]:
    """Return two sets of names.

    The first has names and attributes whose objects the file changes, or passes to code that may change them.  The
    second has attributes that a function other than a constructor sets.
    """
    changed: set[str] = set()
    stored: set[str] = set()
    called = {id(node.func) for node in ast.walk(tree) if isinstance(node, ast.Call)}
    waiting: list[tuple[ast.AST, ast.AST | None, str]] = [(tree, None, "")]
    while waiting:
        node, parent, function = waiting.pop()
        if isinstance(node, ast.Name | ast.Attribute) and not _harmless(node, parent, function):
            changed.add(_name(node))
        changes = isinstance(getattr(node, "ctx", None), ast.Store | ast.Del) and function not in MAKERS
        if isinstance(node, ast.Subscript | ast.Attribute) and (changes or (id(node) in called and not _reads(node))):
            changed.update(_chain(node.value))
        if isinstance(node, ast.Attribute) and changes:
            stored.add(node.attr)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            function = node.name
        waiting += [(child, node, function) for child in ast.iter_child_nodes(node)]
    return changed, stored


def _name(node: ast.Name | ast.Attribute) -> str:
    return node.id if isinstance(node, ast.Name) else node.attr


def _reads(node: ast.Subscript | ast.Attribute) -> bool:
    """Return whether a call of this method leaves its object as it is."""
    return isinstance(node, ast.Attribute) and node.attr in READERS


def _chain(node: ast.expr) -> Iterator[str]:
    """Yield the names in ``a.b[c].d`` whose parts are changed."""
    while isinstance(node, ast.Attribute | ast.Subscript):
        if isinstance(node, ast.Attribute):
            yield node.attr
        node = node.value
    if isinstance(node, ast.Name):
        yield node.id


def _harmless(node: ast.Name | ast.Attribute, parent: ast.AST | None, function: str) -> bool:
    """Return whether a name or an attribute gets its first value here, or is only read."""
    if isinstance(node.ctx, ast.Store):
        return (isinstance(node, ast.Name) or function in MAKERS) and not isinstance(parent, ast.AugAssign)
    if isinstance(parent, ast.Call):
        return parent.func is node or (isinstance(parent.func, ast.Name) and parent.func.id in TAKERS)
    if isinstance(parent, ast.For | ast.comprehension):
        return parent.iter is node
    return isinstance(parent, READING)
