"""The real client of a model server with the simulated server in virtual time: everything except the sockets."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import attrs
import httpx

from flashgraph.llm.connections import HttpReply
from flashgraph.llm.serving import HttpRequest
from flashgraph.llm.vllm import VllmModel
from flashgraph.sim.server import SimServer

__all__ = ["LinkedModel"]


@attrs.frozen
class Wire:
    """Replaces `flashgraph.llm.connections.Connections`, without a network."""

    server: SimServer

    async def request(self, method: str, url: httpx.URL | str, json: Any = None, **each: Any) -> HttpReply:
        body = b"" if json is None else _encoded(json)
        response = await self.server.answer(HttpRequest(method, httpx.URL(url).path, body))
        return HttpReply(response.status, "", httpx.Headers(dict(response.headers)), response.body)


def _encoded(body: Any) -> bytes:
    return json.dumps(body).encode()


@attrs.define(eq=False)
class LinkedModel(VllmModel):
    """A client with retries, errors, ``Retry-After``, priorities and ``/metrics`` as over HTTP.

    A cancelled request leaves the server at once.
    """

    server: SimServer = attrs.field(kw_only=True)

    @asynccontextmanager
    async def open(self) -> AsyncIterator[None]:
        async with self.server.model.open(), self._connections.hold(self._wired):
            yield

    @asynccontextmanager
    async def _wired(self) -> AsyncIterator[Any]:
        yield Wire(self.server)
