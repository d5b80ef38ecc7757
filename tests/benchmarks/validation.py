"""Forecasts compared with real runs: the simulated server behind HTTP, on the wall clock.

    nice -n -15 python -m tests.benchmarks.validation [--seconds 600] [--speed 1]

Prints the table of docs/how-to/forecast.md. The real runs mostly wait, so they run side by side, each with a server in
its own process. The forecasts need the processor, so they come afterwards.
"""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from multiprocessing.synchronize import Barrier
from statistics import mean

import attrs
import click

import flashgraph as fg
from flashgraph.graph.loading import load_graph
from flashgraph.sim.clock import run_virtually, settle
from flashgraph.sim.forecast import Simulation, expanded, forecast
from flashgraph.sim.model import SimModel
from flashgraph.sim.profiles import PROFILES
from flashgraph.sim.scene import Scene
from flashgraph.sim.server import SimServer
from flashgraph.sim.world import World
from tests.sim.serving import serving

WORLD = World(seed=0, val=20)
"""A small validation, so that the run has enough proposals to count."""


@attrs.frozen
class Configuration:
    """A schedule with several ``seeds``, because the accepted candidates change the figures by up to a tenth.

    A schedule with few calls has more seeds.
    """

    schedule: str = "pipelined"
    limit: int = 128
    settings: Mapping[str, str] = attrs.field(factory=dict)
    seeds: int = 2


CONFIGURATIONS: Mapping[str, Configuration] = {
    "lockstep": Configuration("lockstep", seeds=4),
    "window 2": Configuration(settings={"window": "2"}, seeds=3),
    "window 4": Configuration(settings={"window": "4"}),
    "window 8 (defaults)": Configuration(),
    "window 8, alpha 1": Configuration(settings={"alpha": "1"}),
    "window 8, 16 slots": Configuration(limit=16),
    "window 16, 32 slots": Configuration(limit=32, settings={"window": "16"}),
}


@attrs.frozen
class Measurement:
    """One run: a configuration, its seed, seconds on the wall clock, and the server's speed relative to the profile."""

    name: str
    seed: int
    seconds: float
    speed: float

    @property
    def configuration(self) -> Configuration:
        return CONFIGURATIONS[self.name]


@attrs.frozen
class Counts:
    calls: float
    proposals: float

    @classmethod
    def mean(cls, found: Sequence[Counts]) -> Counts:
        return cls(mean(c.calls for c in found), mean(c.proposals for c in found))


def predicted(plan: Measurement) -> Counts:
    """Return the counts of the forecast."""
    configuration, profile = plan.configuration, PROFILES["vllm"].faster(plan.speed)
    profiles = {"task": profile, "reflection": profile}
    simulation = Simulation(
        "gepa", profiles, configuration.schedule, configuration.settings, plan.seconds / 60, plan.seed,
        configuration.limit,
    )  # fmt: skip
    found = run_virtually(partial(forecast, simulation, settle, Scene.of_world(WORLD)), "asyncio")
    return Counts(found.calls, found.proposals)


def server(plan: Measurement) -> SimServer:
    return SimServer(SimModel(PROFILES["vllm"].faster(plan.speed), WORLD.answer, plan.seed))


def measured(plan: Measurement) -> Counts:
    """Return the counts of a run on the wall clock, started as a user would start it."""
    with serving(partial(server, plan)) as url:
        model = f"vllm:{url}#sim?limit={plan.configuration.limit}"
        _all_there.wait()
        spent = fg.run(
            "gepa",
            WORLD.task(),
            models={"task": model, "reflection": model},
            schedule=plan.configuration.schedule,
            settings=expanded(load_graph("gepa").spec, plan.configuration.settings),
            budget=fg.Budget(seconds=plan.seconds),
            seed=plan.seed,
        ).spent
    return Counts(spent.calls, spent.proposals)


_all_there: Barrier
"""In the process of a real run: all runs wait here until the last server is up."""


def _join(barrier: Barrier) -> None:
    global _all_there
    _all_there = barrier


def compared(seconds: float, speed: float) -> dict[str, tuple[Counts, Counts]]:
    """Return the forecast and measurement of each configuration, means over its seeds."""
    spawn = get_context("spawn")
    every = {
        name: [Measurement(name, seed, seconds, speed) for seed in range(configuration.seeds)]
        for name, configuration in CONFIGURATIONS.items()
    }  # fmt: skip
    plans = [one for some in every.values() for one in some]
    with ProcessPoolExecutor(len(plans), spawn, _join, (spawn.Barrier(len(plans)),)) as pool:
        real = dict(zip(plans, pool.map(measured, plans), strict=True))
    with ProcessPoolExecutor(os.cpu_count(), spawn) as pool:
        ours = dict(zip(plans, pool.map(predicted, plans), strict=True))
    return {
        name: (Counts.mean([ours[one] for one in some]), Counts.mean([real[one] for one in some]))
        for name, some in every.items()
    }


def table(found: Mapping[str, tuple[Counts, Counts]], minutes: float) -> str:
    """Return the table of both, a minute of the profile's time."""
    lines = [
        "| | calls/min: forecast | real | off by | proposals/min: forecast | real | off by |",
        "| --- " * 7 + "|",
    ]  # fmt: skip
    for name, (ours, real) in found.items():
        lines.append(
            f"| {name} | {ours.calls / minutes:.0f} | {real.calls / minutes:.0f} | {ours.calls / real.calls - 1:+.1%} "
            f"| {ours.proposals / minutes:.1f} | {real.proposals / minutes:.1f} "
            f"| {ours.proposals / real.proposals - 1:+.1%} |"
        )
    return "\n".join(lines)


def _load() -> str:
    return f"{os.getloadavg()[0]:.1f}"


@click.command()
@click.option("--seconds", default=600.0, show_default=True, help="Seconds of each real run, all side by side.")
@click.option("--speed", default=1.0, show_default=True, help="How much faster than the profile the server is.")
def main(seconds: float, speed: float) -> None:
    before = _load()
    found = compared(seconds, speed)
    click.echo(
        f"{platform.machine()}, {os.cpu_count()} cores, load {before} before and {_load()} after, nice {os.nice(0)}; "
        f"{seconds:g} s of real time, {speed:g} times the profile's speed\n"
    )
    click.echo(table(found, seconds / 60 * speed))


if __name__ == "__main__":
    main()
