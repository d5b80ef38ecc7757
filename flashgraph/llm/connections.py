"""Many concurrent requests over httpx, each on a connection of its own.

httpx searches all connections of a client at the start and end of each request, and asks the system about each idle
one.  With a thousand connections that takes longer than everything else (docs/benchmarks/index.md, "Client").  The
caller bounds the number of concurrent requests, so connections need not be shared: each client here has one.

Bodies are read here, because httpx reads all that a server sends, and inflates a compressed body without a bound.
"""

from __future__ import annotations

import zlib
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import attrs
import httpx

from flashgraph.llm.environment import CERTIFICATES, PROXIES, wrong_variable

__all__ = ["LARGEST_BODY", "Connections", "HttpReply", "UnreadableBody", "connection_lost"]

LARGEST_BODY = 16 * 2**20
"""Maximum size of a body in bytes, after decoding."""

LARGEST_COMPLAINT = 64 * 2**10
"""Maximum number of bytes to read of a body with an error status."""

LONGEST_ENCODING = 200
"""Maximum length in characters of an encoding's name in an error; a longer name is not shown."""

ONE = httpx.Limits(max_connections=1, max_keepalive_connections=1)

NOT_MADE = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout, httpx.ProxyError, httpx.UnsupportedProtocol)

ENCODINGS = {"gzip": 16 + zlib.MAX_WBITS, "x-gzip": 16 + zlib.MAX_WBITS, "deflate": zlib.MAX_WBITS}
"""The ``wbits`` argument for zlib, by each content encoding that requests accept."""


def connection_lost(error: BaseException | None) -> bool:
    """Return whether ``error`` was caused by the loss of an established connection of httpx.

    The server may then have worked on the request.
    """
    while error is not None and not isinstance(error, httpx.TransportError):
        error = error.__cause__ or error.__context__
    return error is not None and not isinstance(error, NOT_MADE)


class UnreadableBody(Exception):
    """A body is too large, or not encoded as its header says; the text gives the reason in a few words."""


@attrs.frozen
class HttpReply:
    """A response whose body was read and decoded."""

    status: int
    phrase: str
    headers: httpx.Headers
    body: bytes = attrs.field(repr=False)

    @property
    def is_success(self) -> bool:
        return 200 <= self.status < 300

    @property
    def text(self) -> str:
        """Return the body as UTF-8, whatever charset the header names."""
        return self.body.decode(errors="replace")


@attrs.define(eq=False)
class Connections:
    """A stack of connections, as many as there were concurrent requests; the last used one is used first.

    ``largest`` bounds the body of each response, in bytes after decoding.  Without ``encrypted`` no certificates are
    loaded, because no connection needs them.
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
        """Close all connections at the end.

        Raises `DataError` that names the environment variable whose proxy or certificates cannot be used.
        """
        # Loaded once, because loading the authorities' certificates takes longer than the rest of a client.
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

    async def request(
        self,
        method: str,
        url: httpx.URL | str,
        json: Any = None,
        *,
        each: Callable[[bytearray], object] | None = None,
    ) -> HttpReply:
        """Send one request and read the response.  Cancelling closes the connection.

        ``each`` is called with the body so far, whenever a part of a successful one has come.
        Raises `UnreadableBody` for such a body in a successful response, and all errors of
        ``httpx.AsyncClient.request``.
        """
        client = self._idle.pop() if self._idle else await self._another()
        try:
            async with client.stream(method, url, json=json) as response:
                body = await self._body(response, each)
                return HttpReply(response.status_code, response.reason_phrase, response.headers, body)
        finally:
            self._idle.append(client)

    async def _body(self, response: httpx.Response, each: Callable[[bytearray], object] | None) -> bytes:
        if not response.is_success:
            body = _Body(response.headers, min(LARGEST_COMPLAINT, self.largest))
            try:
                async for chunk in response.aiter_raw():
                    body.add(chunk)
            except UnreadableBody:
                pass  # the part that was read suffices for an error message
            return bytes(body.taken)
        body = _Body(response.headers, self.largest)
        async for chunk in response.aiter_raw():
            body.add(chunk)
            if each is not None:
                each(body.taken)
        return body.whole()

    async def _another(self) -> httpx.AsyncClient:
        headers = {"accept-encoding": "gzip, deflate", **self.headers}
        client = httpx.AsyncClient(
            headers=headers, timeout=self.timeout, trust_env=self.trust_env, limits=ONE, verify=self._tls
        )
        return await self._opened.enter_async_context(client)


class _Body:
    """The decoded bytes of a body; neither they nor the encoded ones may be more than ``largest``."""

    def __init__(self, headers: httpx.Headers, largest: int) -> None:
        self.taken = bytearray()
        self._largest = largest
        self._came = 0
        named = headers.get("content-encoding", "").strip().lower()
        self._unknown = named if named not in ("", "identity", *ENCODINGS) else ""
        self._inflate: Any = zlib.decompressobj(ENCODINGS[named]) if named in ENCODINGS else None
        self._raw_deflate = named == "deflate"

    def add(self, chunk: bytes) -> None:
        """Add a received piece.  Raises `UnreadableBody`."""
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
        """Return the complete body.  Raises `UnreadableBody` if its compressed stream is incomplete."""
        if self._inflate is not None and not self._inflate.eof and self._came:
            raise UnreadableBody("a compressed body that ends too early")
        return bytes(self.taken)

    def _inflated(self, chunk: bytes) -> bytes:
        # With one byte more than allowed, because zlib takes 0 for no bound.
        room = self._largest - len(self.taken) + 1
        try:
            return bytes(self._inflate.decompress(chunk, room))
        except zlib.error as error:
            if self._raw_deflate and not self.taken:
                # Some servers send a deflated body without the zlib header.
                self._raw_deflate, self._inflate = False, zlib.decompressobj(-zlib.MAX_WBITS)
                return self._inflated(chunk)
            raise UnreadableBody(f"a compressed body that is damaged ({error})") from None
