"""A forecast's run equals a run over HTTP, apart from time; `tests.benchmarks.validation` measures the difference."""

from __future__ import annotations

from typing import Any

import flashgraph as fg
from flashgraph.sim.clock import run_virtually, settle
from flashgraph.sim.model import SimModel
from flashgraph.sim.profiles import PROFILES
from flashgraph.sim.server import SimServer
from flashgraph.sim.world import World

from .serving import serving

WORLD = World(seed=1, train=30, val=12)
FAST = PROFILES["vllm"].faster(5000)


def make() -> SimModel:
    return SimModel(FAST, WORLD.answer, seed=1)


def serve() -> SimServer:
    return SimServer(make())


def test_lockstep_over_http_equals_the_forecast() -> None:
    """A run on the wall clock, with the server in another process, equals the forecast call for call and text for
    text."""
    options: dict[str, Any] = {"schedule": "lockstep", "budget": fg.Budget(proposals=4), "seed": 1}
    with serving(serve) as url:
        model = f"vllm:{url}#sim?limit=128"
        real = fg.run("gepa", WORLD.task(), models={"task": model, "reflection": model}, **options)

    async def virtual() -> fg.Result:
        ours: dict[str, Any] = dict.fromkeys(("task", "reflection"), make())
        return await fg.arun("gepa", WORLD.task(), models=ours, settle=settle, **options)

    foreseen = run_virtually(virtual, "asyncio")
    for name in ("calls", "proposals", "evaluations", "tokens"):
        assert getattr(real.spent, name) == getattr(foreseen.spent, name)
    assert [(a.value, a.score) for a in real.artifacts] == [(a.value, a.score) for a in foreseen.artifacts]
    assert real.spent.calls > 30
