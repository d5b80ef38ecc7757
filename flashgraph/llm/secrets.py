"""Keys of model servers: what may be sent, and how none of it gets into a message, a log or a journal."""

from __future__ import annotations

import html
import json
import os
import re
from collections.abc import Iterable
from functools import lru_cache
from urllib.parse import quote

from flashgraph.errors import KeyRefused

__all__ = ["environment_secrets", "redacted", "usable_key"]

HIDDEN = "***"

SHORTEST = 6
"""Characters from which on a key is a secret.  Shorter ones are fillers for servers that want none (``none``, ``x``):
to remove them would spoil any text that happens to hold them."""

NAMES = re.compile(r"KEY|TOKEN|SECRET|PASSWORD|CREDENTIAL", re.IGNORECASE)


def usable_key(key: str, where: str) -> str:
    """Return ``key`` as it is sent: without the blanks and line ends that copying leaves around it.

    Raises `KeyRefused`, which names ``where`` it comes from and never the key, for one with characters that no header
    can carry.
    """
    key = key.strip()
    for place, character in enumerate(key):
        if not "!" <= character <= "~":
            raise KeyRefused(
                f"the key in {where} has U+{ord(character):04X} in place {place} of {len(key)}; expected printable "
                f"ASCII without blanks.\nFix: set {where} to the key alone."
            )
    return key


def redacted(text: str, keys: Iterable[str]) -> str:
    """Return ``text`` with stars in the place of each key, also where it is quoted, escaped or encoded.

    Do it before a text is cut, or the first half of a key stays.
    """
    for key in keys:
        if len(key) >= SHORTEST:
            for form in _forms(key):
                text = text.replace(form, HIDDEN)
    return text


@lru_cache(maxsize=64)
def _forms(key: str) -> tuple[str, ...]:
    """A key as servers and libraries print it, the longest form first."""
    printed = {repr(key)[1:-1], repr(key.encode("utf-8", "replace"))[2:-1], json.dumps(key)[1:-1]}
    encoded = {quote(key, safe=""), html.escape(key), key.replace("/", "\\/")}
    return tuple(sorted({key, key.strip(), *printed, *encoded} - {""}, key=len, reverse=True))


def environment_secrets() -> list[str]:
    """Return the values of the environment's variables that look like secrets by their names, longest first."""
    found = {value.strip() for name, value in os.environ.items() if NAMES.search(name)}
    return sorted((value for value in found if len(value) >= SHORTEST), key=len, reverse=True)
