"""The messages of a model call, as a stage or a task gives them: checked where they are given, and as texts."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from flashgraph.errors import DataError
from flashgraph.llm.protocol import Message

__all__ = ["as_texts", "checked", "text_of"]

FORM = '[{"role": "user", "content": "..."}], or one text'


def checked(messages: Any) -> Sequence[Message]:
    """The messages of a request; a text alone is one message of the user's.

    A content is a text, or a list of parts: ``{"type": "text", "text": ...}``, ``{"type": "image_url", ...}`` and what
    else the model takes.  Raises `DataError` for anything else.
    """
    if isinstance(messages, str):
        return [{"role": "user", "content": messages}]
    if not isinstance(messages, Sequence) or not messages:
        raise _wrong(f"the messages are {_shown(messages)}", "a list of messages")
    for number, message in enumerate(messages):
        if not isinstance(message, Mapping):
            raise _wrong(f"message {number} is {_shown(message)}", "a mapping with role and content")
        for key in ("role", "content"):
            if key not in message:
                raise _wrong(f"message {number} has no {key}; it has {', '.join(map(repr, message))}", "both")
        if not isinstance(message["role"], str):
            raise _wrong(f"the role of message {number} is {_shown(message['role'])}", "a text")
        content: Any = message["content"]
        parts = isinstance(content, list | tuple) and all(isinstance(p, Mapping) and "type" in p for p in content)
        if not (isinstance(content, str) or (parts and content)):
            found = f"the content of message {number} is {_shown(content)}"
            raise _wrong(found, 'a text, or parts like {"type": "text", "text": "..."}')
    return messages


def text_of(content: Any) -> str:
    """A content as a text: of parts it is their JSON."""
    return content if isinstance(content, str) else json.dumps(content, ensure_ascii=False, default=repr)


def as_texts(messages: Sequence[Message]) -> list[Message]:
    """The same messages with all contents as texts, to count their characters."""
    return [{**message, "content": text_of(message["content"])} for message in messages]


def _wrong(found: str, expected: str) -> DataError:
    return DataError(f"llm(messages): {found}; expected {expected}.\nFix: {FORM}.")


def _shown(value: Any) -> str:
    text = f"{value!r} ({type(value).__name__})"
    return text if len(text) <= 80 else f"{text[:79]}…"
