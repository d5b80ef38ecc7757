"""Many requests at once over httpx, each on a connection that it has for itself.

httpx looks through all connections of a client whenever a request begins or ends, and asks the system about each idle
one; at a thousand connections that takes longer than everything else (docs/benchmarks/index.md, "Client").
How many requests there are at once is bounded by who asks,
so nothing has to be shared: each client here has one connection.

Bodies are read here and not by httpx, which takes in whatever a server sends and inflates a compressed body without a
bound.
"""

from __future__ import annotations

import zlib
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import attrs
import httpx

from flashgraph.llm.environment import CERTIFICATES, PROXIES, wrong_variable

__all__ = ["LARGEST_BODY", "Connections", "HttpReply", "UnreadableBody", "broke_off"]

LARGEST_BODY = 16 * 2**20
"""Bytes of a body, decoded, that are taken at most."""

LARGEST_COMPLAINT = 64 * 2**10
"""Bytes that are taken of a body with an error status; the rest is left unread."""

LONGEST_ENCODING = 200
"""Characters of the name of a content encoding that an error shows; a longer one is not shown at all."""

ONE = httpx.Limits(max_connections=1, max_keepalive_connections=1)

NOT_MADE = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout, httpx.ProxyError, httpx.UnsupportedProtocol)

ENCODINGS = {"gzip": 16 + zlib.MAX_WBITS, "x-gzip": 16 + zlib.MAX_WBITS, "deflate": zlib.MAX_WBITS}
"""What zlib is told of each content encoding that is asked for."""


def broke_off(error: BaseException | None) -> bool:
    """Whether a connection of httpx was lost that had been made, so that the server may have worked on the request; by
    ``error`` or what it came of."""
    while error is not None and not isinstance(error, httpx.TransportError):
        error = error.__cause__ or error.__context__
    return error is not None and not isinstance(error, NOT_MADE)


class UnreadableBody(Exception):
    """A body that is too large, or is not encoded as its header says; the text says which in a few words."""


@attrs.frozen
class HttpReply:
    """One response, its body read and decoded."""

    status: int
    phrase: str
    headers: httpx.Headers
    body: bytes = attrs.field(repr=False)

    @property
    def is_success(self) -> bool:
        return 200 <= self.status < 300

    @property
    def text(self) -> str:
        """The body as UTF-8, whatever the header calls its charset."""
        return self.body.decode(errors="replace")


@attrs.define(eq=False)
class Connections:
    """As many connections as there have been requests at once; the one used last is used first.

    ``largest`` bounds the body of each response, in bytes after decoding.  Without ``encrypted`` no certificates are
    read, because no connection will need them.
    """

    headers: Mapping[str, str] = attrs.field(repr=False)
    timeout: httpx.Timeout
    trust_env: bool
    largest: int = LARGEST_BODY
    encrypted: bool = True
    _opened: AsyncExitStack = attrs.field(factory=AsyncExitStack, init=False, repr=False)
    _tls: Any = attrs.field(default=None, init=False, repr=False)
    _idle: list[httpx.AsyncClient] = attrs.field(factory=list, init=False, repr=False)

    @asynccontextmanager
    async def open(self) -> AsyncIterator[Connections]:
        """Close all of them in the end.

        Raises `DataError` that names a variable of the environment whose proxies or certificates cannot be used.
        """
        # Once for all: reading the authorities' certificates takes longer than the rest of a client.
        try:
            self._tls = httpx.create_ssl_context(trust_env=self.trust_env) if self.encrypted else False
        except OSError as error:
            raise wrong_variable(CERTIFICATES, error) from None
        async with self._opened:
            try:
                self._idle.append(await self._another())
            except (ValueError, ImportError, httpx.InvalidURL) as error:
                raise wrong_variable(PROXIES, error) from None
            yield self

    async def request(self, method: str, url: httpx.URL | str, json: Any = None) -> HttpReply:
        """One exchange, the body read.  Cancelling it closes its connection.

        Raises `UnreadableBody` for a successful response whose body is, and what ``httpx.AsyncClient.request`` raises.
        """
        client = self._idle.pop() if self._idle else await self._another()
        try:
            async with client.stream(method, url, json=json) as response:
                body = await self._body(response)
                return HttpReply(response.status_code, response.reason_phrase, response.headers, body)
        finally:
            self._idle.append(client)

    async def _body(self, response: httpx.Response) -> bytes:
        if not response.is_success:
            body = _Body(response.headers, min(LARGEST_COMPLAINT, self.largest))
            try:
                async for chunk in response.aiter_raw():
                    body.add(chunk)
            except UnreadableBody:
                pass  # what has come will do: it is shown to people
            return bytes(body.taken)
        body = _Body(response.headers, self.largest)
        async for chunk in response.aiter_raw():
            body.add(chunk)
        return body.whole()

    async def _another(self) -> httpx.AsyncClient:
        headers = {"accept-encoding": "gzip, deflate", **self.headers}
        client = httpx.AsyncClient(
            headers=headers, timeout=self.timeout, trust_env=self.trust_env, limits=ONE, verify=self._tls
        )
        return await self._opened.enter_async_context(client)


class _Body:
    """The decoded bytes of a body, at most ``largest`` of them; neither they nor what came may be more."""

    def __init__(self, headers: httpx.Headers, largest: int) -> None:
        self.taken = bytearray()
        self._largest = largest
        self._came = 0
        named = headers.get("content-encoding", "").strip().lower()
        self._unknown = named if named not in ("", "identity", *ENCODINGS) else ""
        self._inflate: Any = zlib.decompressobj(ENCODINGS[named]) if named in ENCODINGS else None
        self._raw_deflate = named == "deflate"

    def add(self, chunk: bytes) -> None:
        """Take a piece as it came.  Raises `UnreadableBody`."""
        if self._unknown:
            shown = repr(self._unknown) if len(self._unknown) <= LONGEST_ENCODING else "of a long name"
            raise UnreadableBody(f"a body with content-encoding {shown}, expected gzip, deflate or none")
        self._came += len(chunk)
        if self._inflate is None:
            self.taken += chunk[: self._largest - len(self.taken)]
        else:
            self.taken += self._inflated(chunk)
        if self._came > self._largest or len(self.taken) > self._largest:
            raise UnreadableBody(f"a body of more than {self._largest:,} bytes")

    def whole(self) -> bytes:
        """Return the body at its end.  Raises `UnreadableBody` if its compressed stream has none."""
        if self._inflate is not None and not self._inflate.eof and self._came:
            raise UnreadableBody("a compressed body that ends too early")
        return bytes(self.taken)

    def _inflated(self, chunk: bytes) -> bytes:
        # One byte of room is left, because zlib takes 0 for no bound.
        room = self._largest - len(self.taken) + 1
        try:
            return bytes(self._inflate.decompress(chunk, room))
        except zlib.error as error:
            if self._raw_deflate and not self.taken:
                # Some servers send a deflated body without zlib's frame.
                self._raw_deflate, self._inflate = False, zlib.decompressobj(-zlib.MAX_WBITS)
                return self._inflated(chunk)
            raise UnreadableBody(f"a compressed body that is damaged ({error})") from None
