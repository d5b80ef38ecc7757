"""Fixtures for pytest: runs under a virtual clock, in which an hour of waiting costs a millisecond.

Installed as the plugin ``flashgraph`` (entry point ``pytest11``)::

    def test_an_hour(virtually):
        async def wait() -> float:
            await anyio.sleep(3600)
            return anyio.current_time()

        assert virtually(wait) >= 3600
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:  # pytest loads this in every project that has flashgraph installed
    from flashgraph.testing.algorithms import SlowModel

__all__ = ["slow_model", "virtual_backend", "virtually"]


@pytest.fixture(params=["trio", "asyncio"])
def virtual_backend(request: pytest.FixtureRequest) -> str:
    """Both event loops, one after the other."""
    return str(request.param)


@pytest.fixture
def virtually(virtual_backend: str) -> Callable[[Callable[[], Awaitable[Any]]], Any]:
    """Runs an async function under virtual time, on each event loop; pass ``settle=flashgraph.testing.settle`` to
    `open_run` in it."""
    from flashgraph.testing.clock import run_virtually

    return lambda function: run_virtually(function, virtual_backend)


@pytest.fixture
def slow_model() -> Callable[..., SlowModel]:
    """Makes models that answer by a function, with a long tail of latencies; all their requests must have ended."""
    from flashgraph.testing.algorithms import SlowModel

    return SlowModel
