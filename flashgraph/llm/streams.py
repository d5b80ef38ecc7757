"""Streamed chat completions: show the text as it comes, and put the pieces together as one completion."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import attrs

from flashgraph.llm.completions import Malformed, NoJson, parsed

__all__ = ["Stream"]

DATA, DONE = b"data:", b"[DONE]"
REASONING = ("reasoning_content", "reasoning", "thinking")
"""The names of a delta's reasoning, which is no part of the text."""


@attrs.define(eq=False)
class Stream:
    """One streamed answer.  ``show`` is called with the text so far, whenever it grows."""

    show: Callable[[str], object]
    _read: int = 0
    """The bytes of the body whose lines were read."""
    _fields: dict[str, Any] = attrs.field(factory=dict)
    _message: dict[str, Any] = attrs.field(factory=dict)
    _calls: dict[int, dict[str, Any]] = attrs.field(factory=dict)
    _logprobs: list[Any] = attrs.field(factory=list)
    _finish: Any = None
    _done: bool = False

    def take(self, body: bytes | bytearray) -> None:
        """Read the lines that a body has now and had not before.  Raises `Malformed`, and what ``show`` raises."""
        before = self._message.get("content", "")
        while (end := body.find(b"\n", self._read)) >= 0:
            line, self._read = bytes(body[self._read : end]).strip(), end + 1
            if line.startswith(DATA):
                self._event(line[len(DATA) :].strip())
        if (text := self._message.get("content", "")) != before:
            self.show(text)

    def whole(self, body: bytes) -> Any:
        """Return the completion in a complete body, a JSON value: of its pieces, or of a server that does not stream.

        Raises `NoJson` for a stream that ended too early, and `Malformed` for other bodies.
        """
        self.take(body + b"\n")
        if not self._fields:
            return parsed(body)
        if "error" in self._fields:
            return self._fields
        if not self._done and self._finish is None:
            raise NoJson("a stream that ended too early")
        message = {"role": "assistant", "content": None, **self._message}
        if self._calls:
            message["tool_calls"] = [self._calls[index] for index in sorted(self._calls)]
        choice: dict[str, Any] = {"index": 0, "message": message, "finish_reason": self._finish}
        if self._logprobs:
            choice["logprobs"] = {"content": self._logprobs}
        return {**self._fields, "choices": [choice]}

    def _event(self, data: bytes) -> None:
        if data == DONE:
            self._done = True
            return
        chunk = parsed(data)
        if not isinstance(chunk, Mapping):
            raise Malformed("a piece of a stream that is no object")
        # The usage comes with the last piece, and an error instead of one.
        self._fields |= {name: value for name, value in chunk.items() if name != "choices" and value is not None}
        choices = chunk.get("choices") or []
        if not isinstance(choices, list) or len(choices) > 1 or not all(isinstance(one, Mapping) for one in choices):
            raise Malformed("a piece of a stream without one choice")
        for choice in choices:
            self._finish = choice.get("finish_reason") or self._finish
            self._logprobs += _entries((choice.get("logprobs") or {}), "content")
            self._delta(choice.get("delta") or {})

    def _delta(self, delta: Any) -> None:
        if not isinstance(delta, Mapping):
            raise Malformed("a delta that is no object")
        for name in ("content", "refusal", *REASONING):
            if (piece := delta.get(name)) is not None:
                if not isinstance(piece, str):
                    raise Malformed(f"a delta's {name} that is no text")
                self._message[name] = self._message.get(name, "") + piece
        for call in _entries(delta, "tool_calls"):
            self._call(call)

    def _call(self, piece: Any) -> None:
        """Add a piece of a call of a tool: the first has its name, all have parts of its arguments."""
        function = piece.get("function") if isinstance(piece, Mapping) else None
        index = piece.get("index", 0) if isinstance(piece, Mapping) else None
        if not isinstance(function, Mapping) or type(index) is not int:
            raise Malformed("a piece of a tool call of another form")
        call = self._calls.setdefault(index, {"id": None, "function": {"name": "", "arguments": ""}})
        call["id"] = piece.get("id") or call["id"]
        for name in ("name", "arguments"):
            part = function.get(name) or ""
            if not isinstance(part, str):
                raise Malformed(f"a tool call's {name} that is no text")
            call["function"][name] += part


def _entries(of: Any, name: str) -> list[Any]:
    found = of.get(name) if isinstance(of, Mapping) else None
    return found if isinstance(found, list) else []
