"""The parts of a reply beside its text, in a journal: one column of JSON, empty for a reply of text alone.

The column is named for the calls of tools, which are a list in it.  A reply with further answers or log probabilities
has an object with all its parts.
"""

from __future__ import annotations

import json
from typing import Any

from flashgraph.llm.protocol import Reply, TokenLogprob, ToolCall
from flashgraph.run.journal.columns import list_of, mapping, real, word
from flashgraph.run.journal.jsontext import dumped

__all__ = ["KEPT", "beside_text", "written"]

KEPT = "(finish != 'tool_calls' OR tools IS NOT NULL)"
"""The condition for replies that are whole: schemas up to 5 store no calls of tools."""

PARTS = {"tools", "more", "logprobs"}


def written(reply: Reply) -> str | None:
    """Return the column's value for a reply."""
    calls = [[call.id, call.name, call.arguments] for call in reply.tool_calls]
    tokens = [[each.token, each.logprob, dict(each.top)] for each in reply.logprobs]
    if reply.more or tokens:
        return dumped({"tools": calls, "more": list(reply.more), "logprobs": tokens})
    return dumped(calls) if calls else None


def beside_text(value: Any) -> dict[str, Any]:
    """Return the parts in a column's value, by the names of `Reply`.  Raises `ValueError` for anything else."""
    if value is None:
        return {}
    found = json.loads(word(value))
    parts = mapping(found) if isinstance(found, dict) else {"tools": found}
    if unknown := parts.keys() - PARTS:
        raise ValueError(f"the parts of a reply, without {min(unknown)!r}")
    return {
        "tool_calls": tuple([ToolCall(*call) for call in list_of(_three)(parts["tools"])]),
        "more": tuple(list_of(_text)(parts.get("more", []))),
        "logprobs": tuple(list_of(_token)(parts.get("logprobs", []))),
    }


def _three(value: Any) -> list[str]:
    if not isinstance(value, list) or len(value) != 3:
        raise ValueError("an id, a name and arguments")
    return [word(part) for part in value]


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError("a text")
    return value


def _token(value: Any) -> TokenLogprob:
    if not isinstance(value, list) or len(value) != 3:
        raise ValueError("a token, its log probability and the likeliest tokens")
    token, logprob, top = value
    return TokenLogprob(_text(token), real(logprob), {name: real(number) for name, number in mapping(top).items()})
