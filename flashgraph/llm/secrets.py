"""Keys of model servers: what may be sent, and how none of it gets into a message, a log or a journal."""

from __future__ import annotations

import html
import json
import os
import re
from collections.abc import Iterable
from functools import lru_cache
from urllib.parse import quote, urlsplit

import attrs

from flashgraph.errors import KeyRefused

__all__ = ["Key", "environment_secrets", "redacted"]

OPENAI = "OPENAI_API_KEY"
OPENAI_HOST = "api.openai.com"
OPENAI_ADDRESSES = ("OPENAI_BASE_URL", "OPENAI_API_BASE")
"""Variables that say for which other address `OPENAI` is."""

HIDDEN = "***"

SHORTEST = 6
"""Characters from which on a key is a secret.  Shorter ones are fillers for servers that want none (``none``, ``x``):
to remove them would spoil any text that happens to hold them."""

NAMES = re.compile(r"KEY|TOKEN|SECRET|PASSWORD|CREDENTIAL", re.IGNORECASE)


@attrs.frozen
class Key:
    """The key of one address: its ``value`` as it was found, and ``where`` that is, for people.

    Where there is none, ``where`` is empty and ``otherwise`` says how one is set.
    """

    value: str = attrs.field(default="", repr=False)
    where: str = ""
    otherwise: str = ""

    @classmethod
    def of(cls, host: str, key: str | None, variable: str | None) -> Key:
        """Return the key for ``host``: ``key``, or that of the environment's ``variable``.

        With neither it is OpenAI's own variable, for OpenAI's address alone: a key must not go to whatever server an
        address names.
        """
        if key is not None:
            return cls(key, "the `key` argument") if key else cls("", "", "no key is sent")
        if variable is not None:
            found = os.environ.get(variable, "")
            return cls(found, variable) if found else cls("", "", f"set {variable}: it is empty or not set")
        value = os.environ.get(OPENAI, "")
        if _is_openais(host):
            return cls(value, OPENAI) if value else cls("", "", f"set {OPENAI}: it is empty or not set")
        why = f"{OPENAI} is sent to {OPENAI_HOST} alone" if value else "no key is set"
        example = OPENAI if value else "VARIABLE"
        return cls("", "", f"name the variable that holds its key with ?key_env={example} ({why})")

    def usable(self) -> str:
        """Return the key as it is sent: without the blanks and line ends that copying leaves around it.

        Raises `KeyRefused`, which never shows the key, for one with characters that no header can carry.
        """
        key = self.value.strip()
        for place, character in enumerate(key):
            if not "!" <= character <= "~":
                raise KeyRefused(
                    f"the key in {self.where} has U+{ord(character):04X} in place {place} of {len(key)}; expected "
                    f"printable ASCII without blanks.\nFix: set {self.where} to the key alone."
                )
        return key


def _is_openais(host: str) -> bool:
    return host == OPENAI_HOST or host.endswith(f".{OPENAI_HOST}") or host in map(_host, OPENAI_ADDRESSES)


def _host(variable: str) -> str | None:
    """The host of the address in a variable of the environment, if it holds one."""
    try:
        return urlsplit(os.environ.get(variable, "")).hostname
    except ValueError:
        return None


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
