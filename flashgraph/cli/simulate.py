"""``flashgraph simulate GRAPH``: predict a run under a schedule, without a model."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from flashgraph.cli.failures import FAILED
from flashgraph.cli.forecasts import interruptible, processes, simulated, simulation_of, simulation_options
from flashgraph.cli.stored import json_option, say_json
from flashgraph.text.terminal import is_live, progress_bar, say, say_error, say_table

if TYPE_CHECKING:
    from flashgraph.sim.forecast import Simulation
    from flashgraph.sim.measures import Forecast
    from flashgraph.sim.sweep import Combination

__all__ = ["command"]

PLOTS = (".svg", ".png")


@click.command("simulate", short_help="Predict a run of GRAPH in virtual time, without a model.")
@simulation_options
@click.option(
    "--sweep",
    "sweeps",
    multiple=True,
    metavar="NAME=V,V",
    help="Compare all combinations of these values. NAME is window, focus, alpha, workers, control, limit, schedule "
    "or any name of --set. Repeatable; further NAME=V,V may follow.",
)
@click.argument("further", nargs=-1, metavar="[NAME=V,V]...")
@click.option(
    "--seeds", type=click.IntRange(min=1), default=1, show_default=True, help="Number of seeds for each combination."
)
@click.option("--seed", default=0, show_default=True, help="The first seed; each seed is another simulated world.")
@click.option("--target-score", type=float, help="Report when the run reaches this true score.")
@click.option(
    "-o",
    "--output",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Plot the comparison to a .svg or .png file; needs pip install 'flashgraph[draw]'.",
)
@json_option
def command(
    sweeps: tuple[str, ...],
    further: tuple[str, ...],
    seeds: int,
    seed: int,
    target_score: float | None,
    output: Path | None,
    as_json: bool,
    **options: Any,
) -> int | None:
    """Predict a run of GRAPH under a schedule. The real scheduler runs in virtual time, on servers that follow latency
    profiles.

    \b
    flashgraph simulate gepa --profile vllm --set window=16
    flashgraph simulate gepa --profile task=vllm --profile reflection=gpt-4o-mini
    flashgraph simulate gepa --profile runs/mine --sweep window=2,4,8,16 alpha=0.25,1 --seeds 3 -o plot.png

    The name alpha sets the release fraction of the edges to a pool that have one. The name workers sets the number of
    workers of every stage that calls a model.

    Only the lengths of replies are simulated. Graphs that evolve prompts run on a simulated world, in which better
    prompts score better. Other graphs, and every graph with --task, get hashes as answers, which pass at --pass-rate.

    Failures and retries, rate limits, prefix caches and other users of the server are not simulated. Graphs that run
    code in a sandbox (islands, meta_harness) cannot be simulated.

    This calls no model, but executes the graph file and the file of --task: simulate only files that you trust.
    """
    if output is not None:
        _check_plot(output)
        output = output.absolute()  # before the user's code runs, because it may change the working directory
    if further and not sweeps:
        raise click.UsageError(f"found {further[0]!r} after GRAPH, expected an option, e.g. --sweep {further[0]}")
    lists = sweep_of((*sweeps, *further))
    simulation = simulation_of(seed=seed, **options)
    if not lists and seeds == 1 and output is None:
        return _one(simulation, target_score, as_json)
    return _many(simulation, lists, range(seed, seed + seeds), target_score, output, as_json)


def sweep_of(texts: Iterable[str]) -> dict[str, tuple[str, ...]]:
    """Return the values by name of ``NAME=V,V`` texts; a comma inside parentheses belongs to the value."""
    found: dict[str, tuple[str, ...]] = {}
    for text in texts:
        name, equals, values = text.partition("=")
        listed = tuple(v.strip() for v in _parts(values) if v.strip())
        if not equals or not name or not listed:
            raise click.BadParameter(f"found {text!r}, expected NAME=V,V, e.g. window=4,8,16", param_hint="'--sweep'")
        if name in found:
            raise click.BadParameter(
                f"found {name} twice, expected all of its values in one list, e.g. "
                f"{name}={','.join((*found[name], *listed))}",
                param_hint="'--sweep'",
            )
        found[name] = listed
    return found


def _check_plot(output: Path) -> None:
    """Raise before the simulations what the plot would raise after them."""
    from flashgraph.observe.forecast import check_plotting

    if output.suffix not in PLOTS:
        raise click.BadParameter(
            f"found {output.name!r}, expected a name that ends in {' or '.join(PLOTS)}", param_hint="'-o'"
        )
    if not output.parent.is_dir():
        raise click.BadParameter(f"there is no folder {str(output.parent)!r}", param_hint="'-o'")
    check_plotting()


def _parts(text: str) -> list[str]:
    parts, depth = [""], 0
    for character in text:
        depth += {"(": 1, ")": -1}.get(character, 0)
        if character == "," and not depth:
            parts.append("")
        else:
            parts[-1] += character
    return parts


def _one(simulation: Simulation, target: float | None, as_json: bool) -> int:
    from flashgraph.observe.forecast import forecast_json, forecast_lines, queues_table

    found = _shown(simulation)
    if as_json:
        say_json(forecast_json(found, target))
        return FAILED if found.nothing else 0
    for line in forecast_lines(found, target):
        say(line)
    say()
    say_table(queues_table(found))
    if found.nothing:
        say_error(
            f"error: the simulated run did nothing: {found.reason}.\n"
            "Fix: if the graph needs more than the simulated world has (a component, a field of a sample), give a task "
            "of your own: --task FILE"
        )
        return FAILED
    return 0


def _shown(simulation: Simulation) -> Forecast:
    """Run one simulation, with a progress bar on a terminal."""
    if not is_live():
        with interruptible():
            return simulated(simulation)
    # Steps of 1 %: an update for each event would take longer than the simulation.
    with interruptible(), progress_bar(100, "simulating") as bar:

        def progress(seconds: float) -> None:
            more = int(seconds / (simulation.minutes * 60) * 100) - bar.pos
            if more > 0:
                bar.update(more)

        return simulated(simulation, progress)


def _many(
    simulation: Simulation,
    lists: Mapping[str, Sequence[str]],
    seeds: Sequence[int],
    target: float | None,
    output: Path | None,
    as_json: bool,
) -> int | None:
    from flashgraph.observe.forecast import combination_json, figure, sweep_table
    from flashgraph.sim.forecast import check
    from flashgraph.sim.sweep import combinations

    settings = combinations(lists)
    for one in settings:
        # Otherwise a wrong value in the last combination would show only after all others are simulated.
        check(simulation.with_settings(one))
    found, whole = _carried_out(simulation, settings, seeds)
    if as_json:
        say_json([combination_json(c, target) for c in found])
    elif found:
        say_table(sweep_table(found, target))
    if output is not None and found:
        _write(output, figure(found, "svg" if output.suffix == ".svg" else "png"))
        say(f"drawn: {output}", err=True)
    if not whole:
        from flashgraph.cli.failures import INTERRUPTED

        say(f"interrupted; {'the table holds what was finished' if found else 'nothing was finished'}", err=True)
        return INTERRUPTED
    return None


def _carried_out(
    simulation: Simulation, settings: Sequence[Mapping[str, str]], seeds: Sequence[int]
) -> tuple[list[Combination], bool]:
    """Return the combinations simulated, and whether these are all; Ctrl-C ends it early."""
    from flashgraph.sim.sweep import swept

    found: list[Combination] = []
    planned = len(settings) * len(seeds)
    try:
        with processes() as run, progress_bar(planned, "simulating") as bar:
            for so_far in swept(simulation, settings, seeds, run):
                found = so_far
                bar.update(1)
    except KeyboardInterrupt:
        return found, False
    return found, True


def _write(path: Path, content: bytes) -> None:
    from flashgraph.observe.words import unwritable

    try:
        path.write_bytes(content)
    except OSError as error:
        raise unwritable(path, error) from error
