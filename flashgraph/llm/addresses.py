"""Addresses of model servers: how people write them, and what is known of their hosts."""

from __future__ import annotations

import ipaddress
import re

import httpx

from flashgraph.errors import DataError

__all__ = ["base_url", "is_loopback"]


def base_url(url: str) -> str:
    """``url`` with ``/v1`` at its end, checked without ever repeating a password that it may hold."""
    try:
        parsed = httpx.URL(url)
    except httpx.InvalidURL as error:
        raise DataError(f"model address: found {url!r} ({error}), expected http(s)://HOST[:PORT][/v1]") from None
    if parsed.userinfo:
        raise DataError(
            f"model address of {parsed.host}: found a user name or password in it, expected none; "
            "put the key into a variable, and name that with ?key_env=VARIABLE"
        )
    if parsed.scheme not in ("http", "https") or not parsed.host:
        raise DataError(
            f"model address: found {url!r}, expected http(s)://HOST[:PORT][/v1]; did you mean {'http://' + url!r}?"
        )
    path = parsed.path.rstrip("/").removesuffix("/chat/completions")
    if not re.search(r"/v\d", path):
        path += "/v1"
    return str(parsed.copy_with(path=path, query=None, fragment=None))


def is_loopback(host: str) -> bool:
    """Whether a host is this machine's loopback, which no proxy can reach."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")
