"""The simulated engine behind HTTP, in real time: an OpenAI-compatible server in a process of its own.

It answers as `SimModel` does with the same profile and seed, only that its seconds are real ones.  A connection that
is closed frees its slot, as in the servers that it stands for.
"""

from __future__ import annotations

import asyncio
import json
import multiprocessing
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from multiprocessing.connection import Connection
from typing import Any

from flashgraph.sim.model import SimModel

__all__ = ["serving"]


@contextmanager
def serving(make: Callable[[], SimModel]) -> Iterator[str]:
    """The server's address.  ``make`` is called in its process."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_serve, args=(make, theirs), daemon=True)
    process.start()
    theirs.close()
    try:
        yield f"http://127.0.0.1:{ours.recv()}"
    finally:
        process.terminate()
        process.join()


def _serve(make: Callable[[], SimModel], parent: Connection) -> None:
    asyncio.run(_listen(make(), parent))


async def _listen(model: SimModel, parent: Connection) -> None:
    async def client(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError, asyncio.IncompleteReadError):
            while True:
                await _exchange(model, reader, writer)
        writer.close()

    async with model.open():
        server = await asyncio.start_server(client, "127.0.0.1", 0)
        parent.send(server.sockets[0].getsockname()[1])
        over = asyncio.Event()
        # Nothing is sent to here: it can be read from once the other end is closed, also by a parent that was killed.
        asyncio.get_running_loop().add_reader(parent.fileno(), over.set)
        await over.wait()
        server.close()


async def _exchange(model: SimModel, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    head = (await reader.readuntil(b"\r\n\r\n")).decode()
    length = next((int(x.partition(":")[2]) for x in head.split("\r\n") if x.lower().startswith("content-length")), 0)
    if not length:
        _send(writer, {"data": [{"id": "sim"}]})
        return
    body = json.loads(await reader.readexactly(length))
    asked = asyncio.ensure_future(model.complete(body["messages"], body))
    gone = asyncio.ensure_future(reader.read(1))  # nothing is sent before the answer: a byte means that it was closed
    await asyncio.wait((asked, gone), return_when=asyncio.FIRST_COMPLETED)
    if not asked.done():
        asked.cancel()
        raise ConnectionResetError
    gone.cancel()
    with suppress(asyncio.CancelledError):
        await gone
    reply = asked.result()
    usage = {"prompt_tokens": reply.usage.prompt, "completion_tokens": reply.usage.completion}
    message = {"role": "assistant", "content": reply.text}
    _send(writer, {"choices": [{"message": message, "finish_reason": reply.finish}], "usage": usage, "model": "sim"})


def _send(writer: asyncio.StreamWriter, data: Any) -> None:
    body = json.dumps(data).encode()
    writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n" % len(body) + body)
