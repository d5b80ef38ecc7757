"""Addresses of model servers: how people write them, and what can be derived from them."""

from __future__ import annotations

import ipaddress
import re

import httpx

from flashgraph.errors import DataError

__all__ = ["base_url", "is_exact", "is_loopback", "lacks_version", "masked"]

CHAT = "/chat/completions"

EXPECTED = "http(s)://HOST[:PORT][/PATH]"

BEGIN = re.compile(r"(?:\b(?:https?|openai|vllm|vllm-engine|litellm|local|replay|sim):)*+[/\\]*+", re.IGNORECASE)
"""Where a host or a user name can begin: after schemes and slashes."""
HOST = re.compile(r"(?:\[[^\]\s]*\]|[^/\\?#@:\s]*+)(?::\d{1,5})?(?=[/\\?#])")
"""A host with its port, recognised by the text behind it."""
PORT = re.compile(r"(?<=//)([\w.-]++):(?!\d{1,5}(?:[/?#&,]|$))[^/?#&,@\s]++")
"""A port that is not a number: it may be the password of an address without a host."""
# The repetitions are possessive, so that long texts take linear time; a name is tested after it is found.
OPTION = re.compile(r"(?<=[?&])([^=&#]*+)(=?)")
SECRET = re.compile(
    r"key|token|secret|passw|pwd|auth|cred|bearer|signature|\bsig\b|access|cookie|session", re.IGNORECASE
)
MEMBER = re.compile(r"[\"']([^\"':{},]*+)[\"']\s*+:\s*+(\"[^\"]*+\"?|'[^']*+'?|[^,}\s]++)")
"""A name and its value in the JSON of an option."""
END = re.compile(r"[&#]")
HIDDEN = "***"


def masked(text: str) -> str:
    """Return an address or a model string without passwords and keys that it contains by mistake."""
    text = MEMBER.sub(_masked_member, _without_user(text))
    parts, at = [], 0
    for found in OPTION.finditer(text):
        if found.start() < at or not found[2] or not SECRET.search(found[1]) or "_tokens" in found[1]:
            continue
        end = END.search(text, found.end())
        value = text[found.end() : end.start() if end else len(text)]
        # Somebody may have typed the key where the variable's name belongs.
        if found[1] != "key_env" or not value.isupper():
            parts += [text[at : found.end()], HIDDEN]
            at = found.end() + len(value)
    return "".join([*parts, text[at:]])


def _without_user(text: str) -> str:
    """Return a text without the user names and passwords of its addresses.

    A password may contain any character.  A user's part therefore ends at the last ``@``, unless it begins with a host
    and its port, because paths and names of models contain ``@`` too.
    """
    last, parts, at = text.rfind("@"), [], 0
    for found in BEGIN.finditer(text, 0, last) if last >= 0 else ():
        begins = found.start() == 0 or found[0][-1:] in ("/", "\\") or found[0].endswith(":")
        begin = found.end()
        if not begins or begin < at or HOST.match(text, begin, last):
            continue
        has_password = ":" in text[begin:last]
        if has_password or "//" in found[0]:
            parts += [text[at:begin], HIDDEN]
            at = last
    return PORT.sub(rf"\1:{HIDDEN}", "".join([*parts, text[at:]]))


def _masked_member(found: re.Match[str]) -> str:
    return f'"{found[1]}": "{HIDDEN}"' if SECRET.search(found[1]) and "_tokens" not in found[1] else found[0]


def base_url(url: str) -> str:
    """Return the address below which ``/chat/completions`` is.

    ``/v1`` is added to a host alone.  A path stays unchanged, because not every server has ``/v1``; a final
    ``/chat/completions`` is removed.  Raises `DataError`, which never shows a password, for an invalid address.
    """
    shown = f"{masked(url)!r:.300}"
    try:
        parsed = httpx.URL(url)
    except (httpx.InvalidURL, ValueError) as error:
        # The library may quote part of a password.
        why = f" ({masked(str(error)):.300})" if masked(url) == url else ""
        raise DataError(f"model address: found {shown}{why}, expected {EXPECTED}") from None
    if parsed.userinfo:
        raise DataError(
            f"model address of {parsed.host}: found a user name or password, expected none; "
            "put the key into a variable, and name the variable with ?key_env=VARIABLE"
        )
    if parsed.scheme not in ("http", "https") or not parsed.host:
        raise DataError(f"model address: found {shown}, expected {EXPECTED}; did you mean 'http://{masked(url):.300}'?")
    if parsed.query or parsed.fragment:
        raise DataError(
            f"model address: found {shown}, expected {EXPECTED} without query and fragment.\n"
            "Fix: HttpModel(URL, MODEL), or openai:URL#MODEL?OPTIONS."
        )
    path = parsed.path.rstrip("/")
    if path.endswith(CHAT):
        path = path.removesuffix(CHAT)
    elif not path:
        path = "/v1"
    return str(parsed.copy_with(path=path))


def is_exact(url: str) -> bool:
    """Return whether an address ends in the full path of chat completions."""
    return url.rstrip("/").endswith(CHAT)


def lacks_version(url: str) -> bool:
    """Return whether an address has a path without a version; its server may want ``/v1`` after it."""
    return not re.search(r"/v\d", httpx.URL(url).path)


def is_loopback(host: str) -> bool:
    """Return whether a host is this machine's loopback, which no proxy can reach."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")
