"""Connections: as many as there are concurrent requests, and each is reused."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any

import anyio
import anyio.abc
import anyio.lowlevel
import attrs
import httpx
import pytest

from flashgraph.errors import DataError
from flashgraph.llm.connections import Connections
from flashgraph.llm.environment import CERTIFICATES, PROXIES
from flashgraph.llm.serving import HttpRequest, Response, serve_http

pytestmark = pytest.mark.anyio


@attrs.define(eq=False)
class Door:
    """A server that answers once it is open, and counts connections and the requests that it holds."""

    connections: int = 0
    held: int = 0
    opened: anyio.Event = attrs.field(factory=anyio.Event)

    async def answer(self, request: HttpRequest) -> Response:
        self.held += 1
        try:
            await self.opened.wait()
        finally:
            self.held -= 1
        return Response(body=b"{}")

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[str]:
        """Yield its address."""
        listener = await anyio.create_tcp_listener(local_host="127.0.0.1")
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(serve_http, Counted(listener, self), self.answer)
            yield f"http://127.0.0.1:{listener.extra(anyio.abc.SocketAttribute.local_port)}"
            tasks.cancel_scope.cancel()

    async def holds(self, count: int) -> None:
        with anyio.fail_after(20):
            while self.held != count:
                await anyio.lowlevel.checkpoint()


@attrs.frozen
class Counted(anyio.abc.Listener[anyio.abc.SocketStream]):
    """A listener that counts its connections."""

    listener: anyio.abc.Listener[anyio.abc.SocketStream]
    door: Door

    async def serve(self, handler: Callable[[anyio.abc.SocketStream], Any], task_group: Any = None) -> None:
        async def counted(stream: anyio.abc.SocketStream) -> None:
            self.door.connections += 1
            await handler(stream)

        await self.listener.serve(counted, task_group)

    async def aclose(self) -> None:
        await self.listener.aclose()


async def ask(connections: Connections, url: str) -> None:
    assert (await connections.request("POST", url, {"a": 1})).body == b"{}"


async def together(function: Callable[[], Coroutine[Any, Any, None]], count: int) -> None:
    async with anyio.create_task_group() as tasks:
        for _ in range(count):
            tasks.start_soon(function)


def fresh() -> Connections:
    return Connections({}, httpx.Timeout(None), trust_env=False)


async def test_as_many_as_there_are_requests_at_once() -> None:
    """Sequential requests share a connection; five concurrent ones have five, which the next five reuse."""
    door = Door()
    async with door.serving() as url, fresh().open() as connections:
        door.opened.set()
        for _ in range(3):
            await ask(connections, url)
        assert door.connections == 1
        for _ in range(2):
            door.opened = anyio.Event()
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(together, lambda: ask(connections, url), 5)
                await door.holds(5)
                door.opened.set()
            assert door.connections == 5


async def test_a_cancelled_request_closes_its_connection_alone() -> None:
    """The server holds one request less, the other continues, and a later one is answered."""
    door = Door()
    async with door.serving() as url, fresh().open() as connections, anyio.create_task_group() as stays:
        stays.start_soon(ask, connections, url)
        await door.holds(1)
        async with anyio.create_task_group() as goes:
            goes.start_soon(ask, connections, url)
            await door.holds(2)
            goes.cancel_scope.cancel()
        await door.holds(1)
        door.opened.set()
        await ask(connections, url)


@pytest.mark.parametrize(
    ("variables", "named"),
    [
        ({"ALL_PROXY": "socks://user:sk-123456@127.0.0.1:1"}, "ALL_PROXY"),
        ({"all_proxy": "socks4://127.0.0.1:1"}, "all_proxy"),
        ({"HTTPS_PROXY": "127.0.0.1:port"}, "HTTPS_PROXY"),
        ({"HTTPS_PROXY": "http://user:sk-123456/rest@127.0.0.1:1"}, "HTTPS_PROXY"),
        ({"all_proxy": "http://user:sk-123456#rest@127.0.0.1:1"}, "all_proxy"),
        ({"HTTP_PROXY": "http://127.0.0.1:1", "HTTPS_PROXY": "ftp://127.0.0.1:1"}, "HTTPS_PROXY"),
        ({"NO_PROXY": "[::1]"}, "NO_PROXY"),
        ({"ALL_PROXY": "http://127.0.0.1:1", "no_proxy": "localhost,[fe80::1]:80"}, "no_proxy"),
        ({"SSL_CERT_FILE": "/not/there.pem"}, "SSL_CERT_FILE"),
        ({"SSL_CERT_FILE": __file__}, "SSL_CERT_FILE"),
        ({"SSL_CERT_FILE": "/"}, "SSL_CERT_FILE"),
    ],
    ids=lambda value: "+".join(value) if isinstance(value, dict) else "",
)
async def test_a_variable_that_cannot_be_used_is_named(
    variables: dict[str, str], named: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Opening the model raises an error with the variable and the expected value, without a password."""
    for name in (*CERTIFICATES, *PROXIES):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(DataError, match=rf"environment variable {named}: .*; expected .*\nFix: ") as caught:
        async with Connections({}, httpx.Timeout(None), trust_env=True).open():
            pass
    assert "sk-123456" not in str(caught.value)


async def test_what_is_closed_cannot_be_used() -> None:
    """All connections end with the block."""
    door = Door()
    door.opened.set()
    async with door.serving() as url:
        async with fresh().open() as connections:
            await ask(connections, url)
        with pytest.raises(RuntimeError, match="closed"):
            await ask(connections, url)
