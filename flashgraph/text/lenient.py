"""JSON objects in what a model wrote, read with tolerance and in bounded time.  Nothing is ever evaluated.

Prose and fences may stand around an object.  An object that is no JSON is read once more by rules that models break
in ways one can be sure of: single quotes, quotation marks and line breaks inside of strings, trailing and missing
commas, names without quotes, stray backslashes, Python's constants.  Where a mark could mean two things the object is
not read: a text that was cut short at an apostrophe would go on as if its model had written it.
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
"""Characters of what cannot be read that are kept."""

PASSES = 6
"""How often a text is read over, from one brace after another: one that is all braces must not take minutes."""

DEPTH = 50
"""How deep an object may be nested."""

RECURSION = 5000
"""What an object costs, in characters, that is nested too deep for the decoder."""

QUOTES = {'"': '"', "'": "'", "\u201c": "\u201d", "\u2018": "\u2019"}
"""Marks that open a string, and those that close it."""

ESCAPES = {"n": "\n", "t": "\t", "r": "\r", "b": "\b", "f": "\f", '"': '"', "'": "'", "\\": "\\", "/": "/"}
CONSTANTS = {"true": True, "false": False, "null": None, "True": True, "False": False, "None": None}

# What repeats here is one class of characters, before none of that class: no pattern can backtrack for long.
_BLANKS = re.compile(r"\s*+")
_WORD = re.compile(r"[\w.+-]++")
_NUMBER = re.compile(r"[-+]?[\d.]++(?:[eE][-+]?\d++)?")
_STOPS = {close: re.compile(rf"[\\{{}}\[\]{re.escape(close)}]") for close in QUOTES.values()}


def objects(text: str, number: Callable[[str], Any] = str) -> list[dict[str, Any]]:
    """Return the JSON objects in a text in their order, those inside of others left out.

    ``number`` makes the value of a number out of how it is written: 12.50 is not 12.5 to whoever compares texts.
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
    # Half of a surrogate pair, as an escape, is valid JSON but no text that could be stored.  And nobody means a form
    # feed or a backspace who writes "\frac" or "\beta".
    valid = str(value).encode("utf-8", "replace").decode()
    return valid.replace("\f", "\\f").replace("\b", "\\b")


def shown(raw: Any) -> str:
    """Return the beginning of what cannot be read, for a record of it."""
    return plain(raw if isinstance(raw, str) else json.dumps(raw, ensure_ascii=False)).strip()[:SHOWN]


def unescaped(inside: str) -> str:
    """Return the inside of a JSON string as text; as it is where it is none."""
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
            # The exception counts the lines before the place where it stopped.
            stopped = error.pos if isinstance(error, json.JSONDecodeError) else len(text)
            left -= stopped - at + stopped // 50
            reader = _Reader(text, at, number)
            with suppress(_Unreadable, ValueError):  # ``number`` may raise the second
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
    """What stands here is no value, or could be two."""


Place = Literal["name", "member", "item"]
"""Where a string stands: before a colon, as the value of a member, in a list."""


@attrs.define
class _Reader:
    """Reads one object by the tolerant rules, from left to right; ``at`` is how far it has come."""

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
        """Past a comma; where it is missing, the next name or item begins with a mark of its own."""
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
        """Past blanks; returns the character that stands there.  Raises `_Unreadable` at the end of the text."""
        self.at = self._past_blanks(self.at)
        if self.at >= len(self.text):
            raise _Unreadable
        return self.text[self.at]

    def _past_blanks(self, at: int) -> int:
        found = _BLANKS.match(self.text, at)
        assert found is not None, "no blanks are blanks too"
        return found.end()

    def _word(self) -> str:
        """A name, number or constant without quotes."""
        found = _WORD.match(self.text, self.at)
        if found is None:
            raise _Unreadable
        self.at = found.end()
        return found[0]

    def _string(self, place: Place) -> str:
        """A string, up to the first mark that can end it.

        In the value of a member other marks of that kind are a part of it, elsewhere apostrophes alone.
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
        """Whether a mark is an apostrophe, as in "don't"."""
        return self.text[at] in "'\u2019" and self.text[at - 1].isalnum() and self._here().isalnum()

    def _escape(self) -> str:
        """What a backslash and the next character mean; both as they are where they mean nothing."""
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
        """Whether a mark just before ``at`` ends a string, by what follows: behind it its member, item or list has to
        go on or end.  ``open_`` are the brackets that the string itself has opened: these close before that."""
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
