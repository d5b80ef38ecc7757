"""The simulated server over real sockets, and what it says of itself: on this event loop, or in a process of its own,
where a client under test must not share its processor time."""

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
    """The server's address."""
    listener = await anyio.create_tcp_listener(local_host="127.0.0.1")
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(server.serve, listener)
        yield f"http://127.0.0.1:{listener.extra(anyio.abc.SocketAttribute.local_port)}"
        tasks.cancel_scope.cancel()


async def metrics(url: str) -> dict[str, float]:
    """Each sample's value by its name, the reason of an end added to it."""
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


def _serve(make: Callable[[], SimServer], parent: Connection) -> None:
    anyio.run(partial(_until_orphaned, make(), parent))


async def _until_orphaned(server: SimServer, parent: Connection) -> None:
    listener = await anyio.create_tcp_listener(local_host="127.0.0.1", backlog=4096)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(server.serve, listener)
        parent.send(listener.extra(anyio.abc.SocketAttribute.local_port))
        # Nothing is sent to here: it can be read from once the other end is closed, also by a parent that was killed.
        await anyio.wait_readable(parent.fileno())
        tasks.cancel_scope.cancel()
