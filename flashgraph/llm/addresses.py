"""Addresses of model servers: how people write them, and what is known of their hosts."""

from __future__ import annotations

import ipaddress
import re

import httpx

from flashgraph.errors import DataError

__all__ = ["base_url", "is_exact", "is_loopback", "lacks_version", "masked"]

CHAT = "/chat/completions"

EXPECTED = "http(s)://HOST[:PORT][/PATH]"

USER = re.compile(r"//[^/@\s#?]*@")
# What repeats in them gives nothing back, so that a long text takes no time: a name is looked at when it was found.
OPTION = re.compile(r"(?<=[?&])([^=&#]*+)(=?)")
SECRET = re.compile(r"key|token|secret|password|auth", re.IGNORECASE)
END = re.compile(r"[&#]")


def masked(text: str) -> str:
    """Return an address or a model string without the passwords and keys that stand in it by mistake."""
    text = USER.sub("//***@", text)
    parts, at = [], 0
    for found in OPTION.finditer(text):
        if found.start() < at or not found[2] or found[1] == "key_env" or not SECRET.search(found[1]):
            continue
        parts += [text[at : found.end()], "***"]
        end = END.search(text, found.end())
        at = end.start() if end else len(text)
    return "".join([*parts, text[at:]])


def base_url(url: str) -> str:
    """Return the address below which ``/chat/completions`` is.

    ``/v1`` is added to a host alone.  A path is kept as it is, because not every server has that one, and one that ends
    in ``/chat/completions`` is taken at its word.  Raises `DataError`, which never shows a password, for what is no
    address.
    """
    shown = repr(masked(url))
    try:
        parsed = httpx.URL(url)
    except (httpx.InvalidURL, ValueError) as error:
        raise DataError(f"model address: found {shown} ({masked(str(error))}), expected {EXPECTED}") from None
    if parsed.userinfo:
        raise DataError(
            f"model address of {parsed.host}: found a user name or password in it, expected none; "
            "put the key into a variable, and name that with ?key_env=VARIABLE"
        )
    if parsed.scheme not in ("http", "https") or not parsed.host:
        raise DataError(f"model address: found {shown}, expected {EXPECTED}; did you mean 'http://{masked(url)}'?")
    if parsed.query or parsed.fragment:
        raise DataError(
            f"model address: found {shown}, expected {EXPECTED} without a query and a fragment.\n"
            "Fix: HttpModel(URL, MODEL), or openai:URL#MODEL?OPTIONS."
        )
    path = parsed.path.rstrip("/")
    if path.endswith(CHAT):
        path = path.removesuffix(CHAT)
    elif not path:
        path = "/v1"
    return str(parsed.copy_with(path=path))


def is_exact(url: str) -> bool:
    """Whether an address says to the end where chat completions are."""
    return url.rstrip("/").endswith(CHAT)


def lacks_version(url: str) -> bool:
    """Whether an address has a path without a version in it: its server may want ``/v1`` behind that."""
    return not re.search(r"/v\d", httpx.URL(url).path)


def is_loopback(host: str) -> bool:
    """Whether a host is this machine's loopback, which no proxy can reach."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")
