"""Errors that servers report: a status, a code and a sentence, in any of the usual shapes."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

import attrs

from flashgraph.llm.protocol import whole_text

__all__ = ["LONGEST_SAID", "SAYING", "Complaint"]

LONGEST_SAID = 20_000
"""Characters of a server's error text that are kept: enough for a key in the text to be whole when it is removed."""

LONGEST_CODE = 200

STATUSES: tuple[tuple[int, re.Pattern[str]], ...] = tuple(
    (status, re.compile(pattern, re.IGNORECASE))
    for status, pattern in (
        (402, r"insufficient_(quota|credit|balance|funds)|billing|payment|credit"),
        (429, r"rate.?limit|too.?many.?requests|throttl|resource.?exhausted|quota"),
        (401, r"authenticat|api.?key|unauthorized"),
        (403, r"permission|forbidden|access.?denied"),
        (404, r"not.?found"),
        (400, r"invalid.?(request|argument|prompt)|bad.?request|context.?length|content.?(filter|policy)|unsupported"),
    )
)
"""Patterns of codes and types that are words, by the status that they stand for."""

SAYING = ("message", "detail", "msg", "error_message", "error_msg", "errorMessage", "status_msg")
"""Keys of the text in servers' errors."""

NUMBER = re.compile(r"(?<!\d)[45]\d\d(?!\d)")
"""A status within a code."""

SAID_NUMBER = re.compile(r"^\W{0,3}([45]\d\d)\b|\b(?:http|status|code|error)\W{0,3}([45]\d\d)\b", re.IGNORECASE)
"""A status within a sentence, which may contain other numbers too."""

UNREADABLE = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")
"""Control characters, which could manipulate the terminal that a message is printed on."""


@attrs.frozen
class Complaint:
    """A server's error: its HTTP status (or the one that its code stands for), its code and its text.

    ``said`` may contain secrets that the server repeats: remove them, then call `cut`.
    """

    status: int
    code: str
    said: str

    @classmethod
    def of_response(cls, status: int, phrase: str, body: bytes) -> Complaint:
        """Return the error in a response with an error status."""
        try:
            data = json.loads(body)
        except (ValueError, RecursionError):
            return cls(status, "", _said(body.decode(errors="replace").strip() or phrase))
        if isinstance(data, list) and len(data) == 1:  # Gemini's form
            data = data[0]
        error = data.get("error", data) if isinstance(data, Mapping) else data
        return attrs.evolve(cls.of_error(error), status=status)

    @classmethod
    def of_error(cls, error: Any) -> Complaint:
        """Return the error that a JSON value describes, which a server may send with status 200 too.

        Its status is that of its code, or else 500.
        """
        if isinstance(error, list) and error:
            error = error[0]
        if not isinstance(error, Mapping):
            return cls(_status([], error), "", _said(error))
        said = next((error[name] for name in SAYING if error.get(name)), error)
        words = [error.get(name) for name in ("code", "status", "status_code", "type")]
        code = next((str(word)[:LONGEST_CODE] for word in (words[0], words[3]) if word and _is_word(word)), "")
        return cls(_status(words, said), whole_text(code), _said(said))

    def cut(self, longest: int) -> str:
        """Return at most ``longest`` characters of the server's text, on one line without control characters."""
        text = " ".join(UNREADABLE.sub(" ", self.said).split())
        return text if len(text) <= longest else f"{text[: longest - 1]}…"


def _is_word(value: Any) -> bool:
    return isinstance(value, str | int) and not isinstance(value, bool)


def _status(words: list[Any], said: Any) -> int:
    """Return the status in the codes and types of an error, or else in its sentence; 500 if there is none."""
    for word in words:
        if isinstance(word, str) and (found := NUMBER.search(word[:LONGEST_CODE])):
            return int(found[0])
        if isinstance(word, int | float) and 400 <= word <= 599:
            return int(word)
    sentence = said[:LONGEST_CODE] if isinstance(said, str) else ""
    for word in [*words, sentence]:
        if isinstance(word, str) and (status := _status_of_words(word[:LONGEST_CODE])):
            return status
    return 500


def _status_of_words(text: str) -> int:
    if found := SAID_NUMBER.search(text):
        return int(found[1] or found[2])
    return next((status for status, pattern in STATUSES if pattern.search(text)), 0)


def _said(value: Any) -> str:
    if not isinstance(value, str):
        try:
            value = json.dumps(value, ensure_ascii=False)
        except (ValueError, RecursionError):
            value = f"an error ({type(value).__name__})"
    return whole_text(value[:LONGEST_SAID])
