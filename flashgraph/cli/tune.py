"""``flashgraph tune GRAPH --goal GOAL``: search for the schedule that serves a goal best, by simulations."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from flashgraph.cli.forecasts import processes, simulation_of, simulation_options
from flashgraph.cli.stored import json_option, say_json
from flashgraph.text.terminal import progress_bar, say, say_table

if TYPE_CHECKING:
    from flashgraph.sim.forecast import Simulation
    from flashgraph.sim.tune import Tuned

__all__ = ["command"]


@click.command("tune", short_help="Search for a good schedule of GRAPH by simulations.")
@simulation_options
@click.option(
    "--goal",
    type=click.Choice(["time-to-score", "throughput", "cost"]),
    default="time-to-score",
    show_default=True,
    help="The measure to optimise: seconds to the target score, proposals per minute, or cost to the target score or "
    "per accepted artifact. Cost is in US dollars, or in tokens without prices.",
)
@click.option(
    "--target-score", type=float, help="The target score.  [default: what the default settings reach in --minutes]"
)
@click.option(
    "--seeds",
    type=click.IntRange(min=1),
    default=3,
    show_default=True,
    help="Number of seeds of the final comparison.",
)
@click.option("--seed", default=0, show_default=True, help="The first seed; each seed is another simulated world.")
@json_option
def command(goal: Any, target_score: float | None, seeds: int, seed: int, as_json: bool, **options: Any) -> int | None:
    """Search for the best settings of GRAPH for a goal. Simulations choose window, focus, alpha and control in turn.
    Then they compare the best three settings with the defaults on the same seeds.

    The command prints --set options for `flashgraph run`, and on how many seeds they were better than the defaults.
    `flashgraph simulate --help` says what is simulated and what is not. Fast proposals need not be good ones: scores
    come from the simulated world, not from your task.

    This calls no model, but executes the graph file and the file of --task: tune only files that you trust.
    """
    simulation = simulation_of(seed=seed, **options)
    found = _searched(simulation, goal, seeds, target_score)
    if found is None:
        from flashgraph.cli.failures import INTERRUPTED

        say("interrupted before the final comparison: no recommendation", err=True)
        return INTERRUPTED
    _report(simulation, found, as_json)
    return None


def _searched(simulation: Simulation, goal: Any, seeds: int, target: float | None) -> Tuned | None:
    from flashgraph.errors import DataError
    from flashgraph.graph.loading import load_graph
    from flashgraph.sim.forecast import early_edges
    from flashgraph.sim.tune import CHOICES, SearchProgress, tuned

    spec = load_graph(simulation.graph).spec
    released = [f"{name}.release" for name in early_edges(spec)]
    fixed = {*simulation.settings, *spec.params}
    if not released or fixed.intersection(released):
        fixed.add("alpha")
    names = [name for name in CHOICES if name not in fixed]
    if simulation.schedule == "lockstep":
        raise DataError("tune: lockstep has no settings to tune.\nFix: leave out --schedule lockstep.")
    try:
        with (
            processes() as run,
            progress_bar(1, "simulating") as bar,
        ):
            for step in tuned(simulation, goal, names, seeds, run, target):
                if not isinstance(step, SearchProgress):
                    return step
                bar.length = step.planned
                bar.update(1)
    except KeyboardInterrupt:
        return None
    raise AssertionError("a search ends with its outcome")


def _report(simulation: Simulation, found: Tuned, as_json: bool) -> None:
    from flashgraph.graph.loading import load_graph
    from flashgraph.observe.forecast import tuned_json, tuned_lines, tuned_table
    from flashgraph.sim.forecast import expanded

    chosen = {**simulation.settings, **(found.best.settings if found.better else {})}
    options = expanded(load_graph(simulation.graph).spec, chosen)
    if as_json:
        say_json(tuned_json(found, options))
        return
    say_table(tuned_table(found))
    say()
    for line in tuned_lines(found, options):
        say(line)
