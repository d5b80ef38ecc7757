"""The cost of a forecast: processor seconds of one core for half an hour of each graph on the simulated vLLM server.

    python -m tests.benchmarks.forecast [--minutes 30] [--repeat 3] [--profile]

Prints the Markdown table of docs/how-to/forecast.md. It takes the least of the repetitions, because other work on the
machine only adds time.
"""

from __future__ import annotations

import cProfile
import platform
import pstats
import time
from collections.abc import Mapping
from functools import partial
from pathlib import Path

import attrs
import click

from flashgraph.graph.loading import load_graph
from flashgraph.sim.clock import run_virtually, settle
from flashgraph.sim.forecast import Simulation, forecast
from flashgraph.sim.measures import Forecast
from flashgraph.sim.profiles import PROFILES

BEAM = str(Path(__file__).parents[2] / "examples" / "beam" / "beam.py")


@attrs.frozen
class Case:
    """A graph and its schedule."""

    graph: str
    schedule: str = "pipelined"
    settings: Mapping[str, str] = attrs.field(factory=dict)


CASES: Mapping[str, Case] = {
    "gepa": Case("gepa"),
    "gepa, lockstep": Case("gepa", "lockstep"),
    "gepa, window 32": Case("gepa", settings={"window": "32"}),
    "ace": Case("ace"),
    "combee": Case("combee"),
    "examples/beam/beam.py": Case(BEAM),
}


def simulated(case: Case, minutes: float) -> Forecast:
    roles = {s.model for s in load_graph(case.graph).spec.stages if s.model is not None}
    profiles = dict.fromkeys(roles, PROFILES["vllm"])
    simulation = Simulation(case.graph, profiles, case.schedule, case.settings, minutes)
    return run_virtually(partial(forecast, simulation, settle), "asyncio")


def measured(case: Case, minutes: float) -> tuple[float, Forecast]:
    """Return the processor seconds of this process, and the forecast."""
    before = time.process_time()
    found = simulated(case, minutes)
    return time.process_time() - before, found


@click.command()
@click.option("--minutes", default=30.0, show_default=True, help="Simulated minutes.")
@click.option("--repeat", default=3, show_default=True)
@click.option("--only", type=click.Choice(list(CASES)), help="One of the cases.")
@click.option("--profile", is_flag=True, help="Print where the time of one repetition goes.")
def main(minutes: float, repeat: int, only: str | None, profile: bool) -> None:
    cases = {only: CASES[only]} if only else CASES
    if profile:
        for case in cases.values():
            with cProfile.Profile() as found:
                simulated(case, minutes)
            pstats.Stats(found).sort_stats("tottime").print_stats(30)
        return
    click.echo(f"{platform.machine()}, Python {platform.python_version()}, {minutes:g} simulated minutes\n")
    click.echo("| | processor seconds | calls | ms a call |\n| --- | --- | --- | --- |")
    for name, case in cases.items():
        runs = [measured(case, minutes) for _ in range(repeat)]
        seconds, calls = min(spent for spent, _ in runs), runs[0][1].calls
        click.echo(f"| {name} | {seconds:.1f} | {calls:,} | {1000 * seconds / calls:.2f} |")


if __name__ == "__main__":
    main()
