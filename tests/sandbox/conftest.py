"""One warm sandbox for each module and backend; a machine without confinement skips the tests with the reason."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from flashgraph.errors import DataError
from flashgraph.sandbox import Sandbox, SandboxLimits


@pytest.fixture(scope="module", params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
async def sandbox(anyio_backend: str) -> AsyncIterator[Sandbox]:
    """An open sandbox with limits that most tests reach quickly."""
    sandbox = Sandbox(limits=SandboxLimits(memory_bytes=256 * 1024 * 1024))
    opening = sandbox.open()
    try:
        await opening.__aenter__()
    except DataError as error:
        pytest.skip(f"code cannot be confined on this machine: {error}")
    try:
        yield sandbox
    finally:
        await opening.__aexit__(None, None, None)
