"""Chat completions, validated: the one place that decides whether what a server sent is a reply.

A server may send anything: HTML with status 200, an error in the place of the answer, numbers that are no counts.  Only
what passes here reaches a run.  Everything else is `Malformed`, or the complaint that the server made.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

import attrs

from flashgraph.errors import DataError
from flashgraph.llm.complaints import Complaint
from flashgraph.llm.protocol import ToolCall, is_count, whole_text

__all__ = ["Completion", "Malformed", "NoJson", "parsed", "refuse_unsupported"]

LONGEST_FINISH, LONGEST_NAME = 100, 500
"""Characters of a finish reason; of the name of a model or a tool, and of a call's id."""

FINISHES: Mapping[str, str] = {
    "max_tokens": "length",
    "max_output_tokens": "length",
    "model_length": "length",
    "safety": "content_filter",
    "prohibited_content": "content_filter",
    "blocklist": "content_filter",
    "spii": "content_filter",
    "recitation": "content_filter",
    "sensitive": "content_filter",
    "content-filter": "content_filter",
    "network_error": "error",
    "server_error": "error",
    "internal_error": "error",
    "insufficient_system_resource": "error",
}
"""Finish reasons of other APIs, which some servers pass on, in the words of OpenAI's."""

UNSUPPORTED: Mapping[str, tuple[Any, str]] = {
    "n": (1, "ask n times"),
    "best_of": (1, "ask several times, and choose"),
    "stream": (False, "leave it out: a reply is given whole"),
    "stream_options": (None, "leave it out: a reply is given whole"),
    "logprobs": (False, "leave it out: a reply has no place for them"),
    "top_logprobs": (None, "leave it out: a reply has no place for them"),
    "audio": (None, "leave it out: a reply is text"),
}
"""Parameters whose effect a `Reply` could not show, each with the value that has none, and what to do instead."""


class Malformed(ValueError):
    """What came is no chat completion; the text says in a few words why."""


class NoJson(Malformed):
    """What came is not even JSON: a body that was cut, or one of something that stands before the server."""


@attrs.frozen
class Completion:
    """What a server answered.

    ``prompt`` and ``completion`` are its counts of tokens, None where it sent none that can be true.  ``complaint`` is
    an error that it sent in the place of an answer, or beside one: then the rest is no answer.  ``refusal`` is what the
    model says when it refuses to answer.
    """

    text: str = ""
    thoughts: str = ""
    tool_calls: tuple[ToolCall, ...] = ()
    refusal: str = ""
    finish: str = "stop"
    model: str = ""
    prompt: int | None = None
    completion: int | None = None
    complaint: Complaint | None = None
    begun: bool = True
    """Whether the model has worked on the request: there is a choice, if only beside an error."""

    @property
    def written(self) -> str:
        """All that the model wrote, as far as the server shows it."""
        return "".join([self.thoughts, self.text, self.refusal, *[c.name + c.arguments for c in self.tool_calls]])

    @classmethod
    def of(cls, data: object) -> Completion:
        """Return the completion that ``data``, a JSON value, holds.

        Raises `Malformed` for anything else.
        """
        try:
            return cls._of(data)
        except RecursionError:
            raise Malformed("a value that is nested too deeply") from None

    @classmethod
    def _of(cls, data: object) -> Completion:
        if not isinstance(data, Mapping):
            raise Malformed(f"found {_kind(data)}, expected an object")
        choices = data.get("choices")
        begun = isinstance(choices, list) and bool(choices)
        prompt, completion = _counts(data.get("usage"))
        complaint = _complaint(data)
        if complaint is not None:
            return cls(prompt=prompt, completion=completion, complaint=complaint, begun=begun)
        if not isinstance(choices, list) or not choices:
            raise Malformed("no choices")
        if len(choices) > 1:
            raise Malformed(f"{len(choices)} choices, expected one")
        choice = choices[0]
        message = _object(choice.get("message") if isinstance(choice, Mapping) else None, "message")
        calls = tuple(_tool_calls(message))
        text, thought = _content(message.get("content"))
        thoughts = thought + _text(message.get("reasoning_content") or message.get("reasoning"), "reasoning")
        refusal = _text(message.get("refusal"), "refusal")
        if not (text or calls or thoughts or refusal or "content" in message):
            raise Malformed("the message has no content")
        finish = _short(choice.get("finish_reason"), "finish_reason", LONGEST_FINISH)
        model = _short(data.get("model"), "model", LONGEST_NAME)
        return cls(
            text,
            thoughts,
            calls,
            refusal,
            FINISHES.get(finish.lower(), finish) or ("tool_calls" if calls else "stop"),
            model,
            prompt,
            completion,
        )


def parsed(body: bytes) -> Any:
    """Return the JSON value in ``body``.  Headers do not count: JSON is UTF-8, or says by its first bytes what else.

    Raises `NoJson` for anything else, `Malformed` for a value that is nested too deeply to be read.
    """
    try:
        return json.loads(body)
    except RecursionError:
        raise Malformed("JSON that is nested too deeply") from None
    except ValueError:
        begin = body[:1000].lstrip()
        if begin.startswith((b"data:", b"event:")):
            raise Malformed("an event stream, which was not asked for") from None
        raise NoJson("no JSON" if begin else "an empty body") from None


def refuse_unsupported(name: str, params: Mapping[str, Any]) -> None:
    """Raise `DataError` for the first parameter whose effect would be lost, so that nothing is dropped silently."""
    for key, (neutral, instead) in UNSUPPORTED.items():
        value = params.get(key)
        if value is not None and value != neutral:
            raise DataError(f"{name}: found parameter {key}={value!r:.80}, which is not supported.\nFix: {instead}.")


def _kind(value: object) -> str:
    names: Mapping[type, str] = {dict: "an object", list: "a list", str: "a text", bool: "a bool", type(None): "null"}
    return names.get(type(value), "a number")


def _object(value: object, named: str) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise Malformed(f"the {named} is {_kind(value)}, expected an object")
    return value


def _text(value: object, named: str) -> str:
    if value is None:
        return ""
    if not isinstance(value, str):
        raise Malformed(f"{named} is {_kind(value)}, expected a text")
    return whole_text(value)


def _short(value: object, named: str, longest: int) -> str:
    text = _text(value, named)
    if len(text) > longest:
        raise Malformed(f"{named} has {len(text)} characters, expected at most {longest}")
    return text


def _complaint(data: Mapping[str, Any]) -> Complaint | None:
    """An error in the place of an answer, or beside one."""
    if data.get("error"):
        return Complaint.of_error(data["error"])
    if data.get("object") == "error":
        return Complaint.of_error(data)
    choices = data.get("choices")
    for choice in choices if isinstance(choices, list) else ():
        if isinstance(choice, Mapping):
            if choice.get("error"):
                return Complaint.of_error(choice["error"])
            finish = choice.get("finish_reason")
            if isinstance(finish, str) and FINISHES.get(finish.lower(), finish.lower()) == "error":
                return Complaint(500, "", whole_text(f"finish_reason is {finish!r}"))
    return None


def _counts(usage: object) -> tuple[int | None, int | None]:
    """The tokens of prompt and reply; None for each that cannot be true: an account must never be charged with it."""
    if not isinstance(usage, Mapping):
        return None, None
    prompt, completion = (_count(usage.get(name)) for name in ("prompt_tokens", "completion_tokens"))
    return prompt, completion


def _count(value: object) -> int | None:
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return value if isinstance(value, int) and is_count(value) else None


def _content(content: object) -> tuple[str, str]:
    """The text and the reasoning of a content: a text, or a list of parts."""
    if not isinstance(content, list):
        return _text(content, "content"), ""
    texts: list[str] = []
    thoughts: list[str] = []
    for part in content:
        kind = part.get("type") if isinstance(part, Mapping) else None
        if isinstance(part, str):
            texts.append(whole_text(part))
        elif isinstance(part, Mapping) and kind in ("text", "output_text") and part.get("text") is not None:
            texts.append(_text(part["text"], "a part's text"))
        elif isinstance(part, Mapping) and kind in ("thinking", "reasoning"):
            thought = part.get("thinking", part.get("reasoning", part.get("text")))
            thoughts += [_thought(each) for each in (thought if isinstance(thought, list) else [thought])]
        else:
            # A name is not cut: nothing recognises the half of a key.
            shown = kind if isinstance(kind, str) and len(kind) <= LONGEST_FINISH else _kind(part)
            raise Malformed(f"the content has a part of kind {shown!r}, expected text")
    return "".join(texts), "".join(thoughts)


def _thought(part: object) -> str:
    return _text(part.get("text") if isinstance(part, Mapping) else part, "a part's thought")


def _tool_calls(message: Mapping[str, Any]) -> Iterator[ToolCall]:
    given = message.get("tool_calls") or []
    if not isinstance(given, list):
        raise Malformed(f"tool_calls are {_kind(given)}, expected a list")
    older = message.get("function_call")
    for call in [*given, *([{"function": older}] if older else [])]:
        function = _object(_object(call, "tool call").get("function"), "tool call's function")
        name = _short(function.get("name"), "a tool's name", LONGEST_NAME)
        arguments = function.get("arguments")
        if not name:
            raise Malformed("a tool call has no name")
        if isinstance(arguments, Mapping):  # some servers parse them
            arguments = json.dumps(arguments)
        yield ToolCall(_short(call.get("id"), "a tool call's id", LONGEST_NAME), name, _text(arguments, "arguments"))
