"""Read the answer in a model's reply, for tasks that compare it with the right one.

Nothing here runs or evaluates the reply: numbers and JSON are parsed, everything else is text.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any

from flashgraph.text.lenient import objects
from flashgraph.text.replies import LONGEST, blocks, parted

__all__ = ["final_answer", "json_object", "last_number"]

_BOXED = re.compile(r"\\boxed\s*\{([^{}]*)\}")
_MARKED = re.compile(r"^[ \t*_#>-]*(?:the[ \t]+)?(?:final[ \t]+)?answer(?:[ \t]+is)?[ \t*_]*:[ \t*_]*", re.I | re.M)
_BRACKETED = re.compile(r"\([^()]*\)")
_NUMBER = re.compile(r"(?<![\w.])[-+]?(?:\d{1,3}(?:,\d{3})+(?!\d)|\d+)?(?:\.\d+|(?<=\d))(?:[eE][-+]?\d+)?")
_SIGNED_CURRENCY = re.compile(r"(?<=[-+])[$€£]")
_ORNAMENT = str.maketrans(dict.fromkeys("$€£*_`", " "))
_KEYS = ("final_answer", "answer", "prediction", "label")


def json_object(reply: str) -> Mapping[str, Any] | None:
    """Return the JSON object of a reply; None if it has none.

    It is the whole reply, or the last object in a fence, or the last one in the text. Small mistakes, such as single
    quotes and trailing commas, are tolerated (`flashgraph.text.lenient`).
    """
    text = _without_thoughts(reply)
    parts = [] if text.startswith("{") else [block.body for block in reversed(blocks(text))]
    return next((found[-1] for part in [*parts, text] if (found := objects(part, _number))), None)


def _number(text: str) -> float:
    """Return the number that a text spells. Raises `ValueError` if it spells none, or has thousands of digits."""
    try:
        return int(text)
    except ValueError:
        if text.lstrip("+-").isdigit():
            raise
        return float(text)


def final_answer(reply: str, joined: str = ", ") -> str:
    r"""Return the answer that a reply gives, after any reasoning.

    The answer is the first of these that the reply has:

    - the ``final_answer`` or ``answer`` of a JSON object (a list is joined by ``joined``);
    - the last ``\boxed{...}``;
    - the text after the last ``Answer:`` that begins a line;
    - the content of the last fence;
    - the whole reply.
    """
    text = _without_thoughts(reply)
    found = json_object(text) or {}
    for key in _KEYS:
        value = found.get(key)
        if isinstance(value, list):
            return joined.join(map(str, value))
        if isinstance(value, str | int | float) and not isinstance(value, bool):
            return str(value).strip()
    if boxed := _BOXED.findall(text):
        return str(boxed[-1]).strip()
    if marks := list(_MARKED.finditer(text)):
        rest = text[marks[-1].end() :].strip()
        line = text[marks[-1].end() :].partition("\n")[0].strip()
        return (line or rest).strip("*_` ")
    if fences := blocks(text):
        return fences[-1].body.strip()
    return text.strip("*_` \n")


def last_number(text: str) -> float | None:
    """Return the last number in a text, without ``$``, ``%`` and thousands separators; None if there is none.

    A number in brackets counts only if there is no number outside of brackets.
    """
    plain = _SIGNED_CURRENCY.sub("", text.replace("\N{MINUS SIGN}", "-")).translate(_ORNAMENT)
    for candidate in (_BRACKETED.sub(" ", plain), plain):
        if numbers := [n.group() for n in _NUMBER.finditer(candidate) if any(c.isdigit() for c in n.group())]:
            value = float(numbers[-1].replace(",", ""))
            return value if math.isfinite(value) else None
    return None


def _without_thoughts(reply: str) -> str:
    """Return the end of a reply, at most `LONGEST` characters, without a reasoning model's thoughts."""
    return parted(reply[-LONGEST:])[0].strip()
