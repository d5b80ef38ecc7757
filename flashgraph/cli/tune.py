"""``flashgraph tune GRAPH --goal GOAL``: a schedule for a goal, found by simulations."""

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


@click.command("tune")
@simulation_options
@click.option(
    "--goal",
    type=click.Choice(["time-to-score", "throughput", "cost"]),
    default="time-to-score",
    show_default=True,
    help="What is to be best: seconds to a score, proposals a minute, or money (tokens, without prices) to a score or "
    "for each accepted artifact.",
)
@click.option("--target-score", type=float, help="The score.  [default: what the defaults reach in all the minutes]")
@click.option(
    "--seeds", type=click.IntRange(min=1), default=3, show_default=True, help="Seeds of the final comparison."
)
@click.option("--seed", default=0, show_default=True, help="The first seed; each is a world of its own.")
@json_option
def command(goal: Any, target_score: float | None, seeds: int, seed: int, as_json: bool, **options: Any) -> int | None:
    """Pick a schedule of GRAPH for a goal: window, focus, alpha and control, one after the other, by simulations; then
    the best three and the defaults on the same seeds.

    Prints --set options for `flashgraph run`, and on how many seeds they were better. What is simulated, and what is
    not: `flashgraph simulate --help`. Proposals that are fast are not proposals that are good: only the simulated world
    has scores, and yours is another.

    No model is called, but the graph file, and the task file of --task, are executed as Python: tune only files that
    you would run.
    """
    simulation = simulation_of(seed=seed, **options)
    found = _searched(simulation, goal, seeds, target_score)
    if found is None:
        from flashgraph.cli.failures import INTERRUPTED

        say("interrupted before the final comparison: there is nothing to recommend", err=True)
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
        raise DataError("tune: lockstep has nothing to choose.\nFix: leave out --schedule lockstep.")
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

    told = {**simulation.settings, **(found.best.settings if found.better else {})}
    options = expanded(load_graph(simulation.graph).spec, told)
    if as_json:
        say_json(tuned_json(found, options))
        return
    say_table(tuned_table(found))
    say()
    for line in tuned_lines(found, options):
        say(line)
