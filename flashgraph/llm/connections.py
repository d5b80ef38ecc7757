"""Many requests at once over httpx, each on a connection that it has for itself.

httpx looks through all connections of a client whenever a request begins or ends, and asks the system about each idle
one; at a thousand connections that takes longer than everything else (docs/benchmarks.md, "Client").  How many requests
there are at once is bounded by who asks, so nothing has to be shared: each client here has one connection.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import attrs
import httpx

__all__ = ["Connections", "broke_off"]

ONE = httpx.Limits(max_connections=1, max_keepalive_connections=1)

NOT_MADE = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout, httpx.ProxyError, httpx.UnsupportedProtocol)


def broke_off(error: BaseException | None) -> bool:
    """Whether a connection of httpx was lost that had been made, so that the server may have worked on the request; by
    ``error`` or what it came of."""
    while error is not None and not isinstance(error, httpx.TransportError):
        error = error.__cause__ or error.__context__
    return error is not None and not isinstance(error, NOT_MADE)


@attrs.define(eq=False)
class Connections:
    """As many connections as there have been requests at once; the one used last is used first."""

    headers: Mapping[str, str]
    timeout: httpx.Timeout
    trust_env: bool
    _opened: AsyncExitStack = attrs.field(factory=AsyncExitStack, init=False, repr=False)
    _tls: Any = attrs.field(default=None, init=False, repr=False)
    _idle: list[httpx.AsyncClient] = attrs.field(factory=list, init=False, repr=False)

    @asynccontextmanager
    async def open(self) -> AsyncIterator[Connections]:
        """Close all of them in the end."""
        # Reading the authorities' certificates takes longer than the rest of a client.
        self._tls = httpx.create_ssl_context(trust_env=self.trust_env)
        async with self._opened:
            yield self

    async def request(self, method: str, url: httpx.URL | str, json: Any = None) -> httpx.Response:
        """One exchange, the body read.  Cancelling it closes its connection.

        Raises what ``httpx.AsyncClient.request`` raises.
        """
        client = self._idle.pop() if self._idle else await self._another()
        try:
            return await client.request(method, url, json=json)
        finally:
            self._idle.append(client)

    async def _another(self) -> httpx.AsyncClient:
        client = httpx.AsyncClient(
            headers=self.headers, timeout=self.timeout, trust_env=self.trust_env, limits=ONE, verify=self._tls
        )
        return await self._opened.enter_async_context(client)
