"""Names for nodes and for messages, from the values that the user passed to the DSL."""

from __future__ import annotations

from typing import Any

from flashgraph.graph.signatures import function_name

__all__ = ["body_name", "end_name", "identifier", "shown", "text"]


def body_name(name: str | None, body: Any) -> str:
    """Return the given name, or the function's; an object without a name is named after its class."""
    inner = getattr(body, "func", body)  # of a partial
    return name if name is not None else str(getattr(inner, "__name__", type(inner).__name__))


def end_name(node: Any) -> str:
    """Return the name of an edge's end; "?" if it has none."""
    name = node if isinstance(node, str) else getattr(node, "name", getattr(node, "__name__", None))
    return name if isinstance(name, str) else "?"


def identifier(name: Any) -> str:
    """Return the identifier that is nearest to a name."""
    found = "".join(c if c.isalnum() else "_" for c in text(name)).strip("_")
    return found if found.isidentifier() else f"n{found}"


def text(value: Any) -> str:
    """Return a name for a message; if the value is not a string, its repr."""
    return value if isinstance(value, str) else repr(value)


def shown(value: Any) -> str:
    """Return a value as text for a message, without memory addresses."""
    if isinstance(value, type):
        return value.__name__
    return f"the function {function_name(value)}" if callable(value) and hasattr(value, "__qualname__") else repr(value)
