"""The model of generated runs."""

from __future__ import annotations

import anyio
import pytest

from flashgraph.errors import PassingFault
from flashgraph.llm.limits import parse_limits
from flashgraph.sim.clock import run_virtually
from flashgraph.testing.runs import LatencyModel


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_equal_requests_at_once_fare_alike(backend: str) -> None:
    """I14: which of two equal requests at one moment meets a fault does not depend on the event loop."""

    async def fates() -> list[list[tuple[str, float]]]:
        model = LatencyModel(9, lambda request: 1.0, limits=parse_limits("steered(4..9)"))
        found: list[list[tuple[str, float]]] = [[] for _ in range(40)]

        async def ask(number: int) -> None:
            try:
                await model.complete([{"role": "user", "content": f"request {number}"}], {})
                said = "answered"
            except PassingFault as fault:
                said = str(fault)
            found[number].append((said, anyio.current_time()))

        async with anyio.create_task_group() as tasks:
            for number in range(40):
                tasks.start_soon(ask, number)
                tasks.start_soon(ask, number)
        return found

    found = run_virtually(fates, backend=backend)
    assert all(one == other for one, other in found)
    assert {said.removeprefix("latency ") for (said, _), _ in found} == {
        "answered",
        "is full",
        "fails",
        "is late",
        "stammers",
    }
