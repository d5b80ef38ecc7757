"""Forecasts against real runs: the same engine behind HTTP, on the wall clock.

    python -m tests.sim.test_validation

prints the table of docs/simulate.md.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from statistics import mean

import attrs
import pytest

import flashgraph as fg
from flashgraph.loading import load_graph
from flashgraph.sim.forecast import Simulation, expanded, forecast
from flashgraph.sim.model import SimModel
from flashgraph.sim.profiles import PROFILES
from flashgraph.sim.scene import Scene
from flashgraph.sim.server import SimServer
from flashgraph.sim.world import World
from flashgraph.testing.clock import run_virtually, settle

from .serving import serving

SECONDS = 400.0
SPEED = 1.5
"""The server is so much faster than the shipped profile: 400 seconds hold ten minutes of the profile's.  At a higher
speed the milliseconds that a request costs in these processes count: at 3, on two cores shared with other work, real
runs were up to a fifth slower than the server alone would let them be."""

PROFILE = PROFILES["vllm"].faster(SPEED)
WORLD = World(seed=0, val=20)
"""A small validation, so that there are enough proposals to count."""


@attrs.frozen
class Configuration:
    """``seeds`` are more where a schedule makes few calls: which candidates are accepted then moves the figures by more
    than a tenth from seed to seed."""

    schedule: str = "pipelined"
    limit: int = 128
    settings: Mapping[str, str] = attrs.field(factory=dict)
    seeds: int = 1


CONFIGURATIONS: Mapping[str, Configuration] = {
    "lockstep": Configuration("lockstep", seeds=4),
    "window 2": Configuration(settings={"window": "2"}, seeds=3),
    "window 4": Configuration(settings={"window": "4"}, seeds=2),
    "window 8 (defaults)": Configuration(),
    "window 8, alpha 1": Configuration(settings={"alpha": "1"}),
    "window 8, 16 slots": Configuration(limit=16),
    "window 16, 32 slots": Configuration(limit=32, settings={"window": "16"}),
}


@attrs.frozen
class Rates:
    """Calls and proposals in a minute of the profile's time."""

    calls: float
    proposals: float

    @classmethod
    def mean(cls, spent: Sequence[tuple[int, int]]) -> Rates:
        minutes = SECONDS / 60 * SPEED
        return cls(mean(calls for calls, _ in spent) / minutes, mean(proposals for _, proposals in spent) / minutes)


def predicted(name: str, seed: int) -> tuple[int, int]:
    """Calls and proposals of a forecast."""
    told, profiles = CONFIGURATIONS[name], {"task": PROFILE, "reflection": PROFILE}
    simulation = Simulation("gepa", profiles, told.schedule, told.settings, SECONDS / 60, seed, told.limit)
    found = run_virtually(partial(forecast, simulation, settle, Scene.of_world(WORLD)), "asyncio")
    return found.calls, found.proposals


def make(seed: int) -> SimServer:
    return SimServer(SimModel(PROFILE, WORLD.answer, seed))


def measured(name: str, seed: int) -> tuple[int, int]:
    """Those of a run on the wall clock, as a user would start it."""
    told = CONFIGURATIONS[name]
    with serving(partial(make, seed)) as url:
        model = f"vllm:{url}#sim?limit={told.limit}"
        spent = fg.run(
            "gepa",
            WORLD.task(),
            models={"task": model, "reflection": model},
            schedule=told.schedule,
            settings=expanded(load_graph("gepa").spec, told.settings),
            budget=fg.Budget(seconds=SECONDS),
            seed=seed,
        ).spent
    return spent.calls, spent.proposals


def compared() -> dict[str, tuple[Rates, Rates]]:
    """Forecast and measurement of each configuration.  The real runs, which mostly wait, go on side by side."""
    spawn = get_context("spawn")
    asked = [(name, seed) for name, told in CONFIGURATIONS.items() for seed in range(told.seeds)]
    names, seeds = zip(*asked, strict=True)
    with ProcessPoolExecutor(len(asked), spawn) as pool:
        real = dict(zip(asked, pool.map(measured, names, seeds), strict=True))
    with ProcessPoolExecutor(os.cpu_count(), spawn) as pool:
        ours = dict(zip(asked, pool.map(predicted, names, seeds), strict=True))
    return {
        name: (
            Rates.mean([ours[name, seed] for seed in range(told.seeds)]),
            Rates.mean([real[name, seed] for seed in range(told.seeds)]),
        )
        for name, told in CONFIGURATIONS.items()
    }


def table(found: Mapping[str, tuple[Rates, Rates]]) -> str:
    lines = ["| | calls/min: forecast | real | off by | proposals/min: forecast | real | off by |", "| --- " * 7 + "|"]
    for name, (ours, real) in found.items():
        lines.append(
            f"| {name} | {ours.calls:.0f} | {real.calls:.0f} | {ours.calls / real.calls - 1:+.1%} | "
            f"{ours.proposals:.1f} | {real.proposals:.1f} | {ours.proposals / real.proposals - 1:+.1%} |"
        )
    return "\n".join(lines)


@pytest.mark.slow
def test_forecasts_are_within_a_tenth_of_real_runs() -> None:
    """In calls a minute, for seven configurations."""
    found = compared()
    assert all(ours.calls == pytest.approx(real.calls, rel=0.1) for ours, real in found.values()), table(found)


if __name__ == "__main__":
    print(table(compared()))
