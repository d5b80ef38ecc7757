"""A small HTTP/1.1 server on anyio's streams, with h11: for the gateway and the simulated server.

A framework would hide what these need. A client that hangs up must cancel the work on its request at once. And a
simulated reply must break on purpose, in the middle of its body or before its first byte.
"""

from __future__ import annotations

import socket
import struct
import traceback
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import suppress
from typing import Literal

import anyio
import anyio.abc
import attrs
import h11

from flashgraph.text.terminal import say

__all__ = ["Handler", "HttpRequest", "Response", "serve_http"]

LARGEST_BODY = 64 * 2**20
"""The most bytes of a request; a larger one is refused."""

RESET_WHEN_CLOSED = struct.pack("ii", 1, 0)
"""SO_LINGER with no time: closing the socket sends a reset."""


@attrs.frozen
class HttpRequest:
    """``path`` is without its query; the names of ``headers`` are in lower case."""

    method: str
    path: str
    body: bytes = b""
    headers: Mapping[str, str] = attrs.field(factory=dict)
    query: str = ""


@attrs.frozen
class Response:
    """``sent`` says how much is sent: all, the head and half of the body, or nothing but a reset.

    With ``stream``, the body is what it yields, piece by piece, until the client hangs up.
    """

    status: int = 200
    body: bytes = b""
    headers: Mapping[str, str] = attrs.field(factory=dict)
    type: str = "application/json"
    sent: Literal["all", "half", "nothing"] = "all"
    stream: AsyncIterator[bytes] | None = None


Handler = Callable[[HttpRequest], Awaitable[Response]]


async def serve_http(listener: anyio.abc.Listener[anyio.abc.SocketStream], handler: Handler) -> None:
    """Answer every connection, until cancelled. If a client hangs up, its request's handler is cancelled.

    A handler that raises is a defect: its traceback goes to stderr, its client gets a 500, and the server continues.
    """

    async def connected(stream: anyio.abc.SocketStream) -> None:
        # The client is gone, so nobody is left to notify.
        with suppress(anyio.BrokenResourceError, anyio.ClosedResourceError):
            async with stream:
                await _Connection(stream, handler).serve()

    await listener.serve(connected)


class _Connection:
    """One client, one request after the other."""

    def __init__(self, stream: anyio.abc.SocketStream, handler: Handler) -> None:
        self._stream = stream
        self._handler = handler
        self._http = h11.Connection(h11.SERVER)

    async def serve(self) -> None:
        try:
            while (request := await self._received()) is not None:
                response = await self._answered(request)
                if response is None or not await self._respond(response):
                    return
                self._http.start_next_cycle()
        except h11.RemoteProtocolError as error:
            if self._http.our_state in (h11.IDLE, h11.SEND_RESPONSE):
                await self._respond(Response(error.error_status_hint, str(error).encode(), type="text/plain"))

    async def _received(self) -> HttpRequest | None:
        """Return the next request; None if the client has no further one."""
        head: h11.Request | None = None
        body = bytearray()
        while True:
            event = self._http.next_event()
            if event is h11.NEED_DATA:
                if self._http.they_are_waiting_for_100_continue:
                    await self._send(h11.InformationalResponse(status_code=100, headers=[]))
                try:
                    data = await self._stream.receive()
                except anyio.EndOfStream:
                    data = b""
                self._http.receive_data(data)
            elif isinstance(event, h11.Request):
                head = event
            elif isinstance(event, h11.Data):
                body += event.data
                if len(body) > LARGEST_BODY:
                    raise h11.RemoteProtocolError("the body is too large", error_status_hint=413)
            elif isinstance(event, h11.EndOfMessage) and head is not None:
                path, _, query = head.target.decode("latin-1").partition("?")
                headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in head.headers}
                return HttpRequest(head.method.decode(), path, bytes(body), headers, query)
            else:
                return None

    async def _answered(self, request: HttpRequest) -> Response | None:
        """Return the handler's response; None if the client hung up meanwhile."""
        response: Response | None = None
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._cancel_when_closed, tasks.cancel_scope)
            try:
                response = await self._handler(request)
            except Exception:
                say(traceback.format_exc(), err=True, end="")
                response = Response(500, b"a defect of the server; its log says more", type="text/plain")
            tasks.cancel_scope.cancel()
        return response

    async def _cancel_when_closed(self, scope: anyio.CancelScope) -> None:
        try:
            while True:
                # Bytes that arrive before the answer start the next request; h11 keeps them.
                self._http.receive_data(await self._stream.receive())
        except (anyio.EndOfStream, anyio.BrokenResourceError):
            scope.cancel()

    async def _respond(self, response: Response) -> bool:
        """Send it; return whether the connection can be used again."""
        if response.sent == "nothing":
            raw = self._stream.extra(anyio.abc.SocketAttribute.raw_socket)
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_WHEN_CLOSED)
            return False
        if response.stream is not None:
            return await self._stream_out(response, response.stream)
        headers = {"content-type": response.type, "content-length": str(len(response.body)), **response.headers}
        head = self._http.send(h11.Response(status_code=response.status, headers=list(headers.items())))
        assert head is not None
        if response.sent == "half":
            await self._stream.send(head + response.body[: len(response.body) // 2])
            return False
        body = self._http.send(h11.Data(data=response.body))
        end = self._http.send(h11.EndOfMessage())
        await self._stream.send(head + (body or b"") + (end or b""))
        return self._http.our_state is h11.DONE

    async def _stream_out(self, response: Response, stream: AsyncIterator[bytes]) -> bool:
        """Send the pieces of a body until they or the client end; the connection is not used again."""
        headers = {"content-type": response.type, "connection": "close", **response.headers}
        await self._send(h11.Response(status_code=response.status, headers=list(headers.items())))
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._cancel_when_closed, tasks.cancel_scope)
            async for piece in stream:
                await self._send(h11.Data(data=piece))
            await self._send(h11.EndOfMessage())
            tasks.cancel_scope.cancel()
        return False

    async def _send(self, event: h11.Event) -> None:
        data = self._http.send(event)
        assert data is not None
        await self._stream.send(data)
