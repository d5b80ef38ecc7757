"""The page of a run in progress, served by a separate process."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import anyio.to_thread

from flashgraph.text.terminal import say

__all__ = ["viewed_beside"]


@asynccontextmanager
async def viewed_beside(folder: Path | None, wanted: bool) -> AsyncIterator[None]:
    """Serve the page of the run in ``folder`` until the block ends, and print its address on stderr.

    Do nothing without ``wanted``. A page that cannot be served does not stop the run.
    """
    if not wanted or folder is None:
        yield
        return
    command = [sys.executable, "-m", "flashgraph", "view", str(folder)]
    # A new session, so that the Ctrl-C that drains the run does not end the page.
    process = subprocess.Popen(  # noqa: ASYNC220 - starting it takes milliseconds
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True, start_new_session=True
    )
    assert process.stdout is not None
    try:
        address = await anyio.to_thread.run_sync(process.stdout.readline, abandon_on_cancel=True)
        say(address.strip() or f"the page cannot be served; try: flashgraph view {folder}", err=True)
        yield
    finally:
        process.terminate()
        process.wait()
        process.stdout.close()
