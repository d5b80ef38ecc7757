"""JSON objects in what a model wrote, read with tolerance: prose and fences around them, trailing commas, stray
backslashes, other names of keys.  Nothing is ever evaluated."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

__all__ = ["get", "objects", "plain", "shown", "unescaped"]

SHOWN = 500
"""How many characters of what cannot be read are kept."""

PASSES = 10
"""How often a reply is read over, from one brace after another: one that is all braces must not take minutes."""

DEPTH = 50
"""How deep an object may be nested."""

RECURSION = 5000
"""What an object costs, in characters, that is nested too deep for the decoder."""

_OPENING = re.compile(r'\{(?=\s*+["}])')
_STRING_OR_COMMA = re.compile(r'("(?:[^"\\]|\\.)*+(?:"|\\?\Z))|,(?=\s*+[}\]])', re.DOTALL)
_BACKSLASH = re.compile(r'\\(?:(["\\/bfnrt]|u[0-9a-fA-F]{4})|)')

# Numbers stay as they were written: 12.50 is not 12.5 to whoever compares answers as texts.
_DECODER = json.JSONDecoder(strict=False, parse_float=str, parse_int=str, parse_constant=str)


def objects(reply: str, wanted: Sequence[str]) -> list[dict[str, Any]]:
    """The JSON objects in a text, those inside of others left out.

    Where none has one of the keys ``wanted``, the text is read once more with its small mistakes mended.
    """
    found = list(_objects(reply))
    if any(get(one, wanted) is not None for one in found):
        return found
    mended = list(_objects(_mended(reply)))
    if any(get(one, wanted) is not None for one in mended):
        return mended
    return max(found, mended, key=len)


def get(found: Mapping[str, Any], names: Sequence[str]) -> Any:
    """The first of these keys that has a value."""
    return next((found[name] for name in names if found.get(name) is not None), None)


def plain(value: Any) -> str:
    """A JSON value as plain text: items after commas, members as ``name: value``."""
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
    """The beginning of what cannot be read, for a record of it."""
    return plain(raw if isinstance(raw, str) else json.dumps(raw, ensure_ascii=False)).strip()[:SHOWN]


def unescaped(inside: str) -> str:
    """The inside of a JSON string as text; as it is where it is none."""
    try:
        return plain(_DECODER.decode(f'"{inside}"'))
    except ValueError:
        return plain(inside)


def _objects(reply: str) -> Iterator[dict[str, Any]]:
    left = PASSES * len(reply)
    opening = _OPENING.search(reply)
    while opening and left >= 0:
        at = opening.start()
        found, end = None, at + 1
        try:
            found, end = _DECODER.raw_decode(reply, at)
            left -= end - at
        except RecursionError:
            left -= RECURSION
        except json.JSONDecodeError as error:
            left -= error.pos - at + error.pos // 50  # the exception counts the lines before it
        if found is not None and not _too_deep(found):
            yield found
        opening = _OPENING.search(reply, end)


def _too_deep(found: Any) -> bool:
    """Whether walking an object could exhaust the stack."""
    level = [found]
    for _ in range(DEPTH):
        inner = [one.values() if isinstance(one, dict) else one for one in level]
        level = [one for several in inner for one in several if isinstance(one, dict | list)]
        if not level:
            return False
    return True


def _mended(reply: str) -> str:
    """Without trailing commas, and with backslashes doubled that begin no escape (``\\alpha``), from the first brace
    on: a quotation mark in the prose before it would be taken for a string's."""
    start = max(reply.find("{"), 0)
    return reply[:start] + _STRING_OR_COMMA.sub(_mend, reply[start:])


def _mend(found: re.Match[str]) -> str:
    return _BACKSLASH.sub(lambda m: m[0] if m[1] else "\\\\", found[1]) if found[1] else ""
