"""Read JSON objects from a model's text, with tolerance and in bounded time. Nothing is ever evaluated.

Prose and fences may surround an object. If an object is not valid JSON, a second reader accepts common mistakes whose
meaning is certain:

- single quotes, and quotation marks and line breaks inside strings;
- trailing and missing commas;
- names without quotes, stray backslashes, and Python's constants.

If a mark could mean two things, the object is skipped. A guess could end a text at an apostrophe.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Any, Literal

import attrs

__all__ = ["get", "objects", "plain", "shown", "unescaped"]

SHOWN = 500
"""The number of characters of an unreadable text that `shown` keeps."""

PASSES = 6
"""The most characters to read, in multiples of the text's length: a text of braces alone would take minutes."""

DEPTH = 50
"""The deepest nesting of an object."""

RECURSION = 5000
"""The characters to charge for an object that is nested too deeply for the decoder."""

QUOTES = {'"': '"', "'": "'", "\u201c": "\u201d", "\u2018": "\u2019"}
"""The marks that open a string, and those that close it."""

ESCAPES = {"n": "\n", "t": "\t", "r": "\r", "b": "\b", "f": "\f", '"': '"', "'": "'", "\\": "\\", "/": "/"}
CONSTANTS = {"true": True, "false": False, "null": None, "True": True, "False": False, "None": None}

# Each repetition is of one character class, before a character not in it, so no pattern backtracks for long.
_BLANKS = re.compile(r"\s*+")
_WORD = re.compile(r"[\w.+-]++")
_NUMBER = re.compile(r"[-+]?[\d.]++(?:[eE][-+]?\d++)?")
_STOPS = {close: re.compile(rf"[\\{{}}\[\]{re.escape(close)}]") for close in QUOTES.values()}


def objects(text: str, number: Callable[[str], Any] = str) -> list[dict[str, Any]]:
    """Return the JSON objects in a text, in their order, without nested ones.

    ``number`` converts a number from its written form. The default keeps that form, because 12.50 and 12.5 differ as
    texts.
    """
    return list(_objects(text, number))


def get(found: Mapping[str, Any], names: Sequence[str]) -> Any:
    """Return the value of the first of these keys that has one."""
    return next((found[name] for name in names if found.get(name) is not None), None)


def plain(value: Any) -> str:
    """Return a JSON value as plain text: items after commas, members as ``name: value``."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, list):
        return ", ".join(f"[{plain(one)}]" if isinstance(one, list) else plain(one) for one in value)
    if isinstance(value, Mapping):
        return ", ".join(f"{plain(name)}: {plain(one)}" for name, one in value.items())
    # JSON allows an escaped half of a surrogate pair, but no file can hold it. A model that writes "\frac" or "\beta"
    # does not mean a form feed or a backspace.
    valid = str(value).encode("utf-8", "replace").decode()
    return valid.replace("\f", "\\f").replace("\b", "\\b")


def shown(raw: Any) -> str:
    """Return the beginning of an unreadable text, to record it."""
    return plain(raw if isinstance(raw, str) else json.dumps(raw, ensure_ascii=False)).strip()[:SHOWN]


def unescaped(inside: str) -> str:
    """Return the inside of a JSON string with its escapes resolved; unchanged if it is not valid JSON."""
    try:
        return plain(json.JSONDecoder(strict=False).decode(f'"{inside}"'))
    except ValueError:
        return plain(inside)


def _objects(text: str, number: Callable[[str], Any]) -> Iterator[dict[str, Any]]:
    decoder = json.JSONDecoder(strict=False, parse_float=number, parse_int=number, parse_constant=number)
    left = PASSES * len(text)
    at = text.find("{")
    while at >= 0 and left >= 0:
        found, end = None, at + 1
        try:
            found, end = decoder.raw_decode(text, at)
            left -= end - at
        except RecursionError:
            left -= RECURSION
        except ValueError as error:
            # The exception counts the lines before the position where it stopped.
            stopped = error.pos if isinstance(error, json.JSONDecodeError) else len(text)
            left -= stopped - at + stopped // 50
            reader = _Reader(text, at, number)
            with suppress(_Unreadable, ValueError):  # ``number`` may raise ValueError
                found, end = reader.object(0), reader.at
            left -= reader.at - at
        if found is not None and not _too_deep(found):
            yield found
        at = text.find("{", end)


def _too_deep(found: Any) -> bool:
    """Return whether walking an object could exhaust the stack."""
    level = [found]
    for _ in range(DEPTH):
        inner = [one.values() if isinstance(one, dict) else one for one in level]
        level = [one for several in inner for one in several if isinstance(one, dict | list)]
        if not level:
            return False
    return True


class _Unreadable(Exception):
    """The text at this position is not a value, or is ambiguous."""


Place = Literal["name", "member", "item"]
"""The position of a string: before a colon, as the value of a member, or in a list."""


@attrs.define
class _Reader:
    """Reads one object by the tolerant rules, from left to right; ``at`` is the current position."""

    text: str
    at: int
    number: Callable[[str], Any]

    def object(self, depth: int) -> dict[str, Any]:
        self._nested(depth)
        found: dict[str, Any] = {}
        while self._skip() != "}":
            name = self._string("name") if self._here() in QUOTES else self._word()
            if self._skip() != ":":
                raise _Unreadable
            self.at += 1
            found[name] = self._value("member", depth)
            self._separated("}")
        self.at += 1
        return found

    def _list(self, depth: int) -> list[Any]:
        self._nested(depth)
        found = []
        while self._skip() != "]":
            found.append(self._value("item", depth))
            self._separated("]")
        self.at += 1
        return found

    def _nested(self, depth: int) -> None:
        if depth > DEPTH:
            raise _Unreadable
        self.at += 1

    def _separated(self, close: str) -> None:
        """Skip a comma. If it is missing, the next name or item must begin with a quotation mark or a bracket."""
        mark = self._skip()
        if mark == ",":
            self.at += 1
        elif mark != close and mark not in QUOTES and mark not in "{[":
            raise _Unreadable

    def _value(self, place: Place, depth: int) -> Any:
        mark = self._skip()
        if mark == "{":
            return self.object(depth + 1)
        if mark == "[":
            return self._list(depth + 1)
        if mark in QUOTES:
            return self._string(place)
        word = self._word()
        if word in CONSTANTS:
            return CONSTANTS[word]
        return self.number(word) if _NUMBER.fullmatch(word) else word

    def _here(self) -> str:
        return self.text[self.at : self.at + 1]

    def _skip(self) -> str:
        """Skip blanks, and return the next character. Raises `_Unreadable` at the end of the text."""
        self.at = self._past_blanks(self.at)
        if self.at >= len(self.text):
            raise _Unreadable
        return self.text[self.at]

    def _past_blanks(self, at: int) -> int:
        found = _BLANKS.match(self.text, at)
        assert found is not None, "no blanks are blanks too"
        return found.end()

    def _word(self) -> str:
        """Read a name, number or constant without quotes."""
        found = _WORD.match(self.text, self.at)
        if found is None:
            raise _Unreadable
        self.at = found.end()
        return found[0]

    def _string(self, place: Place) -> str:
        """Read a string, up to the first mark that can end it.

        Inside a member's value, marks that cannot end the string belong to it; elsewhere only apostrophes do.
        """
        close = QUOTES[self._here()]
        stops, parts, open_ = _STOPS[close], list[str](), {"}": 0, "]": 0}
        begin = self.at = self.at + 1
        while (found := stops.search(self.text, self.at)) is not None:
            stop, self.at = found[0], found.end()
            if stop == "\\":
                parts.append(self.text[begin : found.start()])
                parts.append(self._escape())
                begin = self.at
            elif stop in "{[":
                open_["}" if stop == "{" else "]"] += 1
            elif stop in open_:
                open_[stop] -= 1
            elif self._ends(place, open_):
                return "".join([*parts, self.text[begin : found.start()]])
            elif place != "member" and not self._in_a_word(found.start()):
                raise _Unreadable
        self.at = len(self.text)
        raise _Unreadable

    def _in_a_word(self, at: int) -> bool:
        """Return whether a mark is an apostrophe, as in "don't"."""
        return self.text[at] in "'\u2019" and self.text[at - 1].isalnum() and self._here().isalnum()

    def _escape(self) -> str:
        """Return the character that an escape means; an unknown escape is returned as it is."""
        mark = self._here()
        self.at += 1
        if mark == "u" and len(code := self.text[self.at : self.at + 4]) == 4:
            try:
                character = chr(int(code, 16))
            except ValueError:
                return "\\u"
            self.at += 4
            return character
        return ESCAPES.get(mark, f"\\{mark}")

    def _ends(self, place: Place, open_: Mapping[str, int]) -> bool:
        """Return whether a mark just before ``at`` ends a string, judging by the text that follows.

        After the mark, the member, item or list must continue or end. ``open_`` counts the brackets that the string
        itself has opened; they close first.
        """
        after = self._past_blanks(self.at)
        mark = self.text[after : after + 1]
        if place == "name":
            return mark == ":"
        if mark == ("}" if place == "member" else "]"):
            return open_[mark] <= 0
        if mark in QUOTES:  # a missing comma, between lines only
            return "\n" in self.text[self.at : after]
        if mark != ",":
            return False
        following = self._past_blanks(after + 1)
        mark = self.text[following : following + 1]
        word = _WORD.match(self.text, following)
        if place == "item":
            another = word is not None and (word[0] in CONSTANTS or _NUMBER.fullmatch(word[0]) is not None)
            return mark in QUOTES or mark in ("{", "[", "]") or another
        another = word is not None and self.text[word.end() : word.end() + 1] == ":"
        return mark in QUOTES or mark == "}" or another
