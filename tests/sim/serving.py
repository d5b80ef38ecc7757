"""Run the simulated server over real sockets, on this event loop or in another process, and read its metrics.

In another process it does not share processor time with the client under test.
"""

from __future__ import annotations

import multiprocessing
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from functools import partial
from multiprocessing.connection import Connection

import anyio
import anyio.abc
import httpx

from flashgraph.sim.server import SimServer

__all__ = ["metrics", "running", "serving"]


@asynccontextmanager
async def running(server: SimServer) -> AsyncIterator[str]:
    """Yield the server's address."""
    listener = await anyio.create_tcp_listener(local_host="127.0.0.1")
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(server.serve, listener)
        yield f"http://127.0.0.1:{listener.extra(anyio.abc.SocketAttribute.local_port)}"
        tasks.cancel_scope.cancel()


async def metrics(url: str) -> dict[str, float]:
    """Return the metrics by name; finish reasons are part of the name."""
    async with httpx.AsyncClient(trust_env=False) as client:
        text = (await client.get(f"{url}/metrics")).text
    found = {}
    for line in text.splitlines():
        if not line.startswith("#"):
            name, _, rest = line.partition("{")
            labels, _, value = rest.partition("} ")
            assert 'model_name="sim"' in labels
            reason = labels.partition('finished_reason="')[2].partition('"')[0]
            found[f"{name}:{reason}" if reason else name] = float(value)
    return found


@contextmanager
def serving(make: Callable[[], SimServer]) -> Iterator[str]:
    """Yield the server's address; ``make`` is called in its process."""
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


def _serve(make: Callable[[], SimServer], parent: Connection) -> None:
    anyio.run(partial(_until_orphaned, make(), parent))


async def _until_orphaned(server: SimServer, parent: Connection) -> None:
    listener = await anyio.create_tcp_listener(local_host="127.0.0.1", backlog=4096)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(server.serve, listener)
        parent.send(listener.extra(anyio.abc.SocketAttribute.local_port))
        # Nothing is sent here. It becomes readable when the other end closes, also if the parent is killed.
        await anyio.wait_readable(parent.fileno())
        tasks.cancel_scope.cancel()
