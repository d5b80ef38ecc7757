"""The messages of a model call, checked when a stage or a task passes them, and their texts."""

from __future__ import annotations

import json
import operator
from collections.abc import Mapping, Sequence
from typing import Any

from flashgraph.errors import DataError
from flashgraph.llm.protocol import Message, Reply, choices_wanted, whole_text

__all__ = ["as_texts", "checked", "checked_reply", "said_in", "text_of"]

FORM = '[{"role": "user", "content": "..."}], or one text'
PART = '{"type": "text", "text": "..."}'


def checked(messages: Any) -> Sequence[Message]:
    """Return the messages of a request; a single text is one user message.

    A content is a text, or a list of parts: ``{"type": "text", "text": ...}``, ``{"type": "image_url", ...}`` and
    others that the model accepts.  It may be None beside ``tool_calls``.  Raises `DataError` for anything else.

    Lone surrogates become U+FFFD: samples and outputs may contain them, and requests cannot.
    """
    if isinstance(messages, str):
        return [{"role": "user", "content": whole_text(messages)}]
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
        content = message["content"]
        if not isinstance(content, str) and not (content is None and message.get("tool_calls")):
            if not isinstance(content, list | tuple) or not content:
                raise _wrong(f"the content of message {number} is {_shown(content)}", f"a text, or parts like {PART}")
            for place, part in enumerate(content):
                _check_part(part, f"part {place} of message {number}")
    return [_whole(message) for message in messages]


def _whole(value: Any) -> Any:
    """Return ``value`` without lone surrogates; the same object if it has none."""
    if isinstance(value, str):
        return whole_text(value)
    if isinstance(value, Mapping):
        made = {key: _whole(part) for key, part in value.items()}
        return value if all(made[key] is part for key, part in value.items()) else made
    if isinstance(value, list | tuple):
        parts = [_whole(part) for part in value]
        return value if all(map(operator.is_, parts, value)) else parts
    return value


def _check_part(part: Any, named: str) -> None:
    if not isinstance(part, Mapping) or not isinstance(part.get("type"), str):
        raise _wrong(f"{named} is {_shown(part)}", f"a mapping with a type, like {PART}")
    if part["type"] == "text" and not isinstance(part.get("text"), str):
        raise _wrong(f"{named} is {_shown(part)}", f"one with a text: {PART}")


def checked_reply(reply: object, name: str, params: Mapping[str, Any]) -> Reply:
    """Return a model's reply to a request with these parameters.

    Raises `DataError` for anything else, and for a reply without the choices or log probabilities of its request. So a
    backend that has none does not drop the parameter silently.
    """
    if not isinstance(reply, Reply):
        raise DataError(
            f"model {name}: complete returned {_shown(reply)}; expected a reply.\n"
            "Fix: return fg.Reply(text, fg.Usage(prompt_tokens, completion_tokens))."
        )
    if len(reply.choices) != (wanted := choices_wanted(params)):
        raise DataError(
            f"model {name}: the reply to a request with n={wanted} has {len(reply.choices)} of {wanted} choices; this "
            "backend does not support n.\nFix: leave n out, and make several calls."
        )
    if params.get("logprobs") and not reply.logprobs and reply.text:
        raise DataError(
            f"model {name}: the reply to a request with logprobs has none; this backend does not support logprobs.\n"
            "Fix: leave logprobs out, or use an openai: or vllm: server that has them."
        )
    return reply


def text_of(content: Any) -> str:
    """Return a content as a text: a list of parts as its JSON, and the None beside calls of tools as an empty text."""
    if content is None:
        return ""
    return content if isinstance(content, str) else json.dumps(content, ensure_ascii=False, default=repr)


def said_in(message: Message) -> str:
    """Return all that a message says as a text: its content, and the calls of tools as JSON."""
    calls = message.get("tool_calls")
    text = text_of(message["content"])
    return f"{text}\n{text_of(calls)}".lstrip() if calls else text


def as_texts(messages: Sequence[Message]) -> list[Message]:
    """Return the same messages with all contents as texts, which include every part and call of a tool."""
    return [{**message, "content": said_in(message)} for message in messages]


def _wrong(found: str, expected: str) -> DataError:
    return DataError(f"llm(messages): {found}; expected {expected}.\nFix: {FORM}.")


def _shown(value: Any) -> str:
    text = f"{value!r} ({type(value).__name__})"
    return text if len(text) <= 80 else f"{text[:79]}…"
