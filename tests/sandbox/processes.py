"""The processes of a sandbox, as this machine sees them."""

from __future__ import annotations

import os
from pathlib import Path

import anyio

from flashgraph.sandbox import Sandbox

__all__ = ["descendants", "lives", "server", "until_idle"]

BUBBLEWRAP_AND_SERVER = 2
"""The number of processes below the one that was started: bubblewrap's process 1 and the server."""


def server(sandbox: Sandbox) -> int:
    """Return the process that the sandbox's first server was started as."""
    assert sandbox._workers
    return sandbox._workers[0].process.pid


def descendants(root: int) -> list[int]:
    """Return the living processes below ``root``."""
    parents = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            state, parent = _status(int(entry.name))
            if state != "Z":
                parents[int(entry.name)] = parent
    found = [root]
    for pid in found:
        found += [child for child, parent in parents.items() if parent == pid]
    return found[1:]


def lives(pid: int) -> bool:
    """Return whether a process exists and has not ended."""
    return _status(pid)[0] != "Z"


def _status(pid: int) -> tuple[str, int]:
    """Return a process's state (Z if it is gone) and its parent."""
    try:
        state, parent = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[:2]
    except OSError:
        return "Z", 0
    return state, int(parent)


async def until_idle(sandbox: Sandbox) -> None:
    """Wait until the server's only children are those that wait for a call."""
    spare = 2 * (os.cpu_count() or 1)
    for _ in range(400):
        if len(descendants(server(sandbox))) <= BUBBLEWRAP_AND_SERVER + spare:
            return
        await anyio.sleep(0.02)
    raise AssertionError(f"processes are left: {descendants(server(sandbox))}")
