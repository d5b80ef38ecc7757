"""Keys of model servers: which can be sent, and how they are kept out of messages, logs and journals."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from functools import lru_cache
from html.entities import codepoint2name
from urllib.parse import urlsplit

import attrs

from flashgraph.errors import KeyRefused

__all__ = ["Key", "environment_secrets", "redacted", "without_secrets"]

OPENAI = "OPENAI_API_KEY"
OPENAI_HOST = "api.openai.com"
OPENAI_ADDRESSES = ("OPENAI_BASE_URL", "OPENAI_API_BASE")
"""Variables that name another address for the key in `OPENAI`."""

HIDDEN = "***"

SHORTEST = 6
"""Minimum length of a secret in characters.  Shorter keys are fillers for servers without keys (``none``, ``x``), and
removing them would spoil any text that contains them."""

NAMES = re.compile(r"KEY|TOKEN|SECRET|PASSW|PASSPHRASE|PASS$|PWD$|CREDENTIAL", re.IGNORECASE)


@attrs.frozen
class Key:
    """The key of one address: its ``value`` as it was found, and ``where`` that is, for people.

    Without a key, ``where`` is empty and ``otherwise`` says how to set one.
    """

    value: str = attrs.field(default="", repr=False)
    where: str = ""
    otherwise: str = ""

    @classmethod
    def of(cls, host: str, key: str | None, variable: str | None, port: int | None = None) -> Key:
        """Return the key for ``host``: ``key``, or the value of the environment's ``variable``.

        With neither it is the value of OpenAI's variable, for OpenAI's address alone: a key must not be sent to
        whatever server an address names.
        """
        if key is not None:
            return cls(key, "the `key` argument") if key else cls("", "", "no key is sent")
        if variable is not None:
            found = os.environ.get(variable, "")
            # Somebody may have typed the key where the variable's name belongs.
            named = variable if variable.isupper() else "the variable that key_env names"
            return cls(found, variable) if found else cls("", "", f"set {named}: it is empty or not set")
        value = os.environ.get(OPENAI, "")
        if _is_openais(host, port):
            return cls(value, OPENAI) if value else cls("", "", f"set {OPENAI}: it is empty or not set")
        why = f"{OPENAI} is sent to {OPENAI_HOST} alone" if value else "no key is set"
        example = OPENAI if value else "VARIABLE"
        return cls("", "", f"name the variable that contains its key with ?key_env={example} ({why})")

    def usable(self) -> str:
        """Return the key as it is sent: without blanks and line ends around it, which copying adds.

        Raises `KeyRefused`, which never shows the key, for a key with characters that no header can contain.
        """
        key = self.value.strip()
        for place, character in enumerate(key):
            if not "!" <= character <= "~":
                raise KeyRefused(
                    f"the key in {self.where} has U+{ord(character):04X} in place {place} of {len(key)}; expected "
                    f"printable ASCII without blanks.\nFix: set {self.where} to the key alone."
                )
        return key


def _is_openais(host: str, port: int | None) -> bool:
    # Another port of a host may be another user's server.
    own = host == OPENAI_HOST or host.endswith(f".{OPENAI_HOST}")
    return own or (host, port) in map(_address, OPENAI_ADDRESSES)


def _address(variable: str) -> tuple[str | None, int | None]:
    """Return the host of the address in an environment variable, and its port if that is not the usual one."""
    try:
        parts = urlsplit(os.environ.get(variable, ""))
        return parts.hostname, None if parts.port == {"http": 80, "https": 443}.get(parts.scheme) else parts.port
    except ValueError:
        return None, None


def redacted(text: str, keys: Iterable[str]) -> str:
    """Return ``text`` with stars in place of each key.

    A key is found in any letter case, and also where a server or a library has quoted, escaped or encoded it, even
    several times.  Redact a text before it is truncated, or the first part of a key would stay.
    """
    for key in keys:
        if len(key.strip()) >= SHORTEST:
            core, pattern = _any_form(key.strip())
            # Searching for the core takes a fraction of the pattern's time, and few texts contain a key.
            if core in text.lower():
                text = pattern.sub(HIDDEN, text)
    return text


@lru_cache(maxsize=64)
def _any_form(key: str) -> tuple[str, re.Pattern[str]]:
    """Return the longest part of a key that no encoding changes, in lower case, and a pattern for all of its forms."""
    core = max(re.split(r"[^A-Za-z0-9]+", key), key=len).lower()
    first, *rest = (_forms(character) for character in key)
    # An escape is preceded by one backslash for each time that the text was quoted.
    return core, re.compile(first + "".join(rf"\\*{form}" for form in rest), re.IGNORECASE)


def _forms(character: str) -> str:
    """Return a pattern for one character of a key, plain or as JSON, Python, a URL or HTML may write it."""
    if character.isascii() and character.isalnum():
        return character
    code, octets = ord(character), character.encode("utf-8", "surrogatepass")
    forms = [
        r"\\+" if character == "\\" else re.escape(character),
        re.escape(repr(character)[1:-1].lstrip("\\")),
        f"u{code:04x}",
        r"\\*".join(f"x{octet:02x}" for octet in octets),
        "".join(f"%{octet:02x}" for octet in octets),
        f"&#0*{code};",
        f"&#x0*{code:x};",
    ]
    if code in codepoint2name:
        forms.append(f"&{codepoint2name[code]};")
    return f"(?:{'|'.join(dict.fromkeys(filter(None, forms)))})"


def environment_secrets() -> list[str]:
    """Return the secrets in the environment: values of variables with telling names, and passwords in addresses.

    Paths and numbers are left out, such as those of ``SSL_KEY_FILE`` and ``MAX_TOKENS``.  The longest comes first.
    """
    found = set()
    for name, value in os.environ.items():
        value = value.strip()
        if "://" in value:
            found.add(_password(value))
        elif NAMES.search(name) and not value.isdecimal() and not value.startswith(("/", "./", "~/")):
            found.add(value)
    return sorted((value for value in found if len(value) >= SHORTEST), key=lambda value: (-len(value), value))


def _password(address: str) -> str:
    """Return the password in an address; empty if it has none."""
    user, at, _ = address.partition("://")[2].rpartition("@")
    return user.partition(":")[2] if at else ""


def without_secrets(text: str) -> str:
    """Return ``text`` with stars in place of the environment's secrets, which a library's error may quote."""
    return redacted(text, environment_secrets())
