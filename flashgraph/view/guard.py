"""Protect a page: only a browser on this machine that has the token may see it, and only from its own address."""

from __future__ import annotations

import hmac
from collections.abc import Mapping
from http.cookies import CookieError, SimpleCookie
from urllib.parse import parse_qs

import attrs

from flashgraph.llm.serving import HttpRequest, Response

__all__ = ["HEADERS", "Guard"]

HEADERS: Mapping[str, str] = {
    "content-security-policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-resource-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "cache-control": "no-store",
}
"""The headers of every response."""


@attrs.frozen
class Guard:
    """Check requests to the server at 127.0.0.1 and ``port``."""

    port: int
    token: str = attrs.field(repr=False)

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.port}/?token={self.token}"

    def refusal(self, request: HttpRequest) -> Response | None:
        """Return the response for a request that is refused, or that exchanges the token for a cookie; else None.

        A foreign ``Host`` (DNS rebinding) or ``Origin`` gives 403, a missing token 401.
        """
        hosts = [f"{name}:{self.port}" for name in ("127.0.0.1", "localhost")]
        host, origin = request.headers.get("host", ""), request.headers.get("origin")
        site = request.headers.get("sec-fetch-site", "none")
        given = parse_qs(request.query).get("token", [""])[0]
        opening = request.path == "/" and bool(given)
        if host not in hosts or origin not in (None, f"http://{host}"):
            return _plain(403, "This page belongs to another address.")
        if site not in ("none", "same-origin") and not opening and request.path != "/":
            return _plain(403, "Only this page itself may ask.")
        if request.method not in ("GET", "HEAD"):
            return _plain(405, "This server only reads.")
        if opening and self._is(given):
            cookie = f"{self._cookie}={self.token}; HttpOnly; SameSite=Strict; Path=/"
            return _plain(303, "", {"location": "/", "set-cookie": cookie})
        if not self._is(self._known(request)):
            return _plain(401, "The address lacks its token.\nFix: use the address that `flashgraph view` printed.")
        return None

    @property
    def _cookie(self) -> str:
        return f"flashgraph-{self.port}"  # browsers share the cookies of all ports

    def _is(self, given: str) -> bool:
        return hmac.compare_digest(given.encode(errors="replace"), self.token.encode())

    def _known(self, request: HttpRequest) -> str:
        bearer = request.headers.get("authorization", "")
        if bearer.startswith("Bearer "):
            return bearer.removeprefix("Bearer ")
        try:
            cookies = SimpleCookie(request.headers.get("cookie", ""))
        except CookieError:
            return ""
        return cookies[self._cookie].value if self._cookie in cookies else ""


def _plain(status: int, text: str, headers: Mapping[str, str] = {}) -> Response:
    return Response(status, text.encode(), {**HEADERS, **headers}, type="text/plain; charset=utf-8")
