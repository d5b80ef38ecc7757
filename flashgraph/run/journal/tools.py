"""The calls of tools in a journal: one column of JSON beside each reply, empty for a reply without calls."""

from __future__ import annotations

from typing import Any

from flashgraph.llm.protocol import Reply, ToolCall
from flashgraph.run.journal.columns import json_of, list_of, word
from flashgraph.run.journal.jsontext import dumped

__all__ = ["KEPT", "tool_calls", "written"]

KEPT = "(finish != 'tool_calls' OR tools IS NOT NULL)"
"""The condition for replies that are whole: schemas up to 5 store no calls of tools."""


def written(reply: Reply) -> str | None:
    """Return the column's value for a reply."""
    calls = [[call.id, call.name, call.arguments] for call in reply.tool_calls]
    return dumped(calls) if calls else None


def tool_calls(value: Any) -> tuple[ToolCall, ...]:
    """Return the calls in a column's value.  Raises `ValueError` for anything else."""
    return () if value is None else tuple([ToolCall(*call) for call in json_of(list_of(_three))(value)])


def _three(value: Any) -> list[str]:
    if not isinstance(value, list) or len(value) != 3:
        raise ValueError("an id, a name and arguments")
    return [word(part) for part in value]
