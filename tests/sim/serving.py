"""The simulated server in a process of its own, where a client under test must not share its processor time."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from multiprocessing.connection import Connection

import anyio
import anyio.abc

from flashgraph.sim.server import SimServer

__all__ = ["serving"]


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
