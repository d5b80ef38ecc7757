"""Fixtures for pytest: runs under a virtual clock, where an hour of waiting costs a millisecond.

pytest finds this plugin wherever flashgraph is installed; the fixtures need ``flashgraph[testing]``::

    def test_an_hour(virtually):
        async def wait() -> float:
            await anyio.sleep(3600)
            return anyio.current_time()

        assert virtually(wait) >= 3600

It is a separate module, because pytest imports it in every project of an environment. Only the tests that use a fixture
import flashgraph, hypothesis and trio.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from flashgraph.testing import SlowModel

__all__ = ["slow_model", "virtual_backend", "virtually"]


@pytest.fixture(params=["trio", "asyncio"])
def virtual_backend(request: pytest.FixtureRequest) -> str:
    """The event loop: the test runs on trio and on asyncio."""
    return str(request.param)


@pytest.fixture
def virtually(virtual_backend: str) -> Callable[[Callable[[], Awaitable[Any]]], Any]:
    """Runs an async function under virtual time, on each event loop.

    Inside it, pass ``settle=flashgraph.testing.settle`` to `flashgraph.open_run`.
    """
    from flashgraph.testing import run_virtually

    return lambda function: run_virtually(function, virtual_backend)


@pytest.fixture
def slow_model() -> Callable[..., SlowModel]:
    """Makes models that answer by a function, with a long tail of latencies: `flashgraph.testing.SlowModel`."""
    from flashgraph.testing import SlowModel

    return SlowModel
