"""Strictly valid JSON: without ``NaN`` and ``Infinity``, which JSON does not have.

A journal tags such a number, ``{"$": "float", "of": "nan"}``, and so reads it back unchanged.  JSON for people and
scripts uses the texts of protocol buffers: ``"NaN"``, ``"Infinity"``, ``"-Infinity"``.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from typing import Any

__all__ = ["TAG", "dumped", "loaded", "printed", "tagged", "untagged"]

TAG = "$"
NAMES = {"nan": math.nan, "inf": math.inf, "-inf": -math.inf}


def tagged(number: float) -> dict[str, str]:
    """Return the tagged form of a number that is not finite."""
    return {TAG: "float", "of": "nan" if number != number else "inf" if number > 0 else "-inf"}


def untagged(data: dict[str, Any]) -> Any:
    """Return the number that tagged ``data`` stands for, or ``data`` itself if it is not tagged so."""
    if len(data) == 2 and data.get(TAG) == "float" and isinstance(data.get("of"), str):
        return NAMES.get(data["of"], data)
    return data


def dumped(data: Any, *, default: Callable[[Any], Any] | None = None) -> str:
    """Return ``data`` as compact JSON for a journal; tag numbers that are not finite."""
    return _valid(data, tagged, separators=(",", ":"), default=default)


def loaded(text: str) -> Any:
    """Return what `dumped` was given.  Bare ``NaN``, as in journals of 0.1.0, is read too.

    Raises ValueError for invalid JSON.
    """
    # The hook costs a call for each object, and few texts have such a number.
    return json.loads(text, object_hook=untagged) if '"float"' in text else json.loads(text)


def printed(data: Any, *, indent: int | None = None, default: Callable[[Any], Any] = str) -> str:
    """Return ``data`` as JSON for people and scripts; numbers that are not finite become texts."""
    return _valid(data, _word, indent=indent, default=default)


def _valid(data: Any, stand_in: Callable[[float], Any], **options: Any) -> str:
    try:
        text = json.dumps(data, ensure_ascii=False, allow_nan=False, **options)
    except ValueError:
        data = _finite(data, stand_in)
        text = json.dumps(data, ensure_ascii=False, allow_nan=False, **options)
    try:
        text.encode()
    except UnicodeEncodeError:  # half of a surrogate pair, which neither SQLite nor a file accepts
        return json.dumps(data, allow_nan=False, **options)
    return text


def _finite(data: Any, stand_in: Callable[[float], Any]) -> Any:
    if isinstance(data, float):
        return data if math.isfinite(data) else stand_in(data)
    if isinstance(data, Mapping):
        return {_finite_key(key): _finite(value, stand_in) for key, value in data.items()}
    if isinstance(data, list | tuple):
        return [_finite(value, stand_in) for value in data]
    return data


def _finite_key(key: Any) -> Any:
    return _word(key) if isinstance(key, float) and not math.isfinite(key) else key


def _word(number: float) -> str:
    return "NaN" if number != number else "Infinity" if number > 0 else "-Infinity"
