"""Stored runs for tests of the page: whole runs of GEPA on a simulated server, in virtual time."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import flashgraph as fg
from flashgraph.sim.clock import run_virtually, settle
from flashgraph.sim.model import SimModel
from flashgraph.sim.profiles import PROFILES
from flashgraph.sim.world import World

__all__ = ["stored_run"]

WORLD = World(seed=0, train=60, val=60)


def stored_run(folder: Path, *, seed: int = 0, seconds: float = 60, schedule: str = "pipelined") -> fg.Result:
    """Run GEPA for some virtual seconds and store it in ``folder``; the same run for the same seed."""
    model = SimModel(PROFILES["vllm"], WORLD.answer, seed=seed)

    async def run() -> fg.Result:
        models: dict[str, Any] = {"task": model, "reflection": model}
        budget = fg.Budget(seconds=seconds, tokens=3_000_000)
        return await fg.arun(
            "gepa", WORLD.task(), models=models, seed=seed, budget=budget, settle=settle, folder=folder,
            schedule=schedule,
        )  # fmt: skip

    return run_virtually(run, "asyncio")
