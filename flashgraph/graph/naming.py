"""Names of what the DSL is given, for nodes and for messages."""

from __future__ import annotations

from typing import Any

from flashgraph.graph.signatures import function_name

__all__ = ["body_name", "end_name", "identifier", "shown", "text"]


def body_name(name: str | None, body: Any) -> str:
    """The name that was given, or the function's; what has none of its own is named after its kind."""
    inner = getattr(body, "func", body)  # of a partial
    return name if name is not None else str(getattr(inner, "__name__", type(inner).__name__))


def end_name(node: Any) -> str:
    """What the end of an edge is called, if it is called anything."""
    name = node if isinstance(node, str) else getattr(node, "name", getattr(node, "__name__", None))
    return name if isinstance(name, str) else "?"


def identifier(name: Any) -> str:
    """The nearest name that is allowed."""
    found = "".join(c if c.isalnum() else "_" for c in text(name)).strip("_")
    return found if found.isidentifier() else f"n{found}"


def text(value: Any) -> str:
    """A name for a message, also where it is none; a wrong value's own words may fail."""
    return value if isinstance(value, str) else repr(value)


def shown(value: Any) -> str:
    """A value for a message, without addresses."""
    if isinstance(value, type):
        return value.__name__
    return f"the function {function_name(value)}" if callable(value) and hasattr(value, "__qualname__") else repr(value)
