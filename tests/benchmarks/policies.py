"""`make bench`: the effect of each policy on time and quality, on the simulated vLLM profile.

Each variant changes one of the defaults.

    python -m tests.benchmarks.policies [--worlds 7] [--minutes 20] [--quick]

Prints Markdown tables; docs/benchmarks/index.md holds their last output.
"""

from __future__ import annotations

import os
from concurrent.futures import ProcessPoolExecutor
from statistics import mean, median
from typing import Any

import click

from .measure import Measured, measure

EARLY = "validate->frontier"
STALE = "gate->validate.stale"
VARIANTS: dict[str, tuple[str, dict[str, Any]]] = {
    "lockstep": ("lockstep", {}),
    "pipelined (defaults)": ("pipelined", {}),
    "throughput": ("throughput", {}),
    "staleness: accept": ("pipelined", {STALE: "accept()", f"{EARLY}.stale": "accept()"}),
    "staleness: discard over 2": ("pipelined", {STALE: "discard(2)"}),
    "staleness: refresh in propose": ("pipelined", {STALE: "accept()", "rollout->propose.stale": "refresh()"}),
    "alpha 1": ("pipelined", {f"{EARLY}.release": "all"}),
    "alpha 0.75": ("pipelined", {f"{EARLY}.release": "fraction(0.75)"}),
    "alpha 0.5": ("pipelined", {f"{EARLY}.release": "fraction(0.5)"}),
    "alpha 0.2": ("pipelined", {f"{EARLY}.release": "fraction(0.2)"}),
    "alpha 0.3, amend": ("pipelined", {f"{EARLY}.late": "amend"}),
    "the gate waits for all trials": ("pipelined", {"trial->gate.release": "all"}),
    "workers: propose 1, validate 1": ("pipelined", {"propose.workers": 1, "validate.workers": 1}),
    "workers: propose 1, validate 16": ("pipelined", {"propose.workers": 1, "validate.workers": 16}),
    "workers: propose 16, validate 8": ("pipelined", {"propose.workers": 16, "validate.workers": 8}),
    "control: balanced": ("pipelined", {"control": "balanced()"}),
    "window 1": ("pipelined", {"window": 1}),
    "window 4": ("pipelined", {"window": 4}),
    "window 16": ("pipelined", {"window": 16}),
    "window 64": ("pipelined", {"window": 64}),
    "focus 0": ("pipelined", {"focus": 0}),
    "focus 0.5": ("pipelined", {"focus": 0.5}),
}
"""Variants that each change one of the defaults.

The numbers of workers are those of the paper's ablation (figure 6). Here a worker of the validation has a request, not
a sweep.
"""

CONTROLS = ("drain_first()", "shortest_first()", "balanced()")
WORKLOADS: dict[str, tuple[str, dict[str, Any]]] = {
    "128 slots, pipelined": ("pipelined", {}),
    "128 slots, throughput": ("throughput", {}),
    "32 slots, pipelined": ("pipelined", {"slots": 32}),
    "32 slots, throughput": ("throughput", {"slots": 32}),
    "API of 64, pipelined": ("pipelined", {"profile": "api"}),
}
"""Workloads in which work waits for slots rarely, often, and mostly."""


def row(name: str, runs: list[Measured], base: list[Measured]) -> str:
    """Return a line of the table: means over worlds, with scores relative to lockstep at the same time and the same
    calls."""
    minutes = runs[0].minutes
    calls = [min(a.calls, b.calls) for a, b in zip(runs, base, strict=True)]
    cells = [
        f"{mean(r.proposals for r in runs) / minutes:.1f}",
        f"{mean(r.accepted for r in runs) / minutes:.1f}",
        f"{mean(r.use for r in runs):.0%}",
        f"{mean(r.score_at(minutes * 30) for r in runs):.2f}",
        f"{mean(r.final for r in runs):.2f}",
        f"{mean(r.score_after(c) for r, c in zip(runs, calls, strict=True)):.2f}",
        f"{mean(r.wasted / max(1, r.calls) for r in runs):.0%}",
    ]
    return f"| {name} | " + " | ".join(cells) + " |"


def faster(runs: list[Measured], base: list[Measured]) -> tuple[list[str], float]:
    """Return the time to lockstep's final score, world by world, and the median ratio."""
    lines, ratios = [], []
    for world, (ours, lockstep) in enumerate(zip(runs, base, strict=True)):
        total = lockstep.minutes * 60
        reached = ours.time_to(lockstep.final)
        first = lockstep.time_to(lockstep.final) or total
        ratios.append((reached or total) / first)
        shown = "never" if reached is None else f"{reached / 60:.1f}"
        equal = min(ours.calls, lockstep.calls)
        lines.append(
            f"| {world} | {lockstep.final:.2f} | {first / 60:.1f} | {shown} | {ratios[-1]:.2f} | {ours.final:.2f} | "
            f"{lockstep.score_after(equal):.2f} / {ours.score_after(equal):.2f} | "
            f"{lockstep.proposals / lockstep.minutes:.1f} / {ours.proposals / ours.minutes:.1f} | "
            f"{lockstep.accepted / lockstep.minutes:.2f} / {ours.accepted / ours.minutes:.2f} | "
            f"{lockstep.use:.0%} / {ours.use:.0%} |"
        )
    return lines, median(ratios)


def controls(worlds: int, minutes: float, pool: ProcessPoolExecutor) -> list[str]:
    """Return the control policies on each workload: mean score over the time, score at the end, proposals a minute."""
    waiting = {
        (control, load): [
            pool.submit(measure, w, schedule, minutes=minutes, settings={"control": control}, **server)
            for w in range(worlds)
        ]
        for control in CONTROLS
        for load, (schedule, server) in WORKLOADS.items()
    }
    lines = []
    for control in CONTROLS:
        cells = []
        for load in WORKLOADS:
            runs = [future.result() for future in waiting[control, load]]
            scores = f"{mean(r.mean for r in runs):.2f} / {mean(r.final for r in runs):.2f}"
            cells.append(f"{scores} / {mean(r.proposals for r in runs) / minutes:.1f}")
        lines.append(f"| {control.removesuffix('()')} | {' | '.join(cells)} |")
    return lines


@click.command()
@click.option("--worlds", default=7, show_default=True, help="Worlds to average over.")
@click.option("--minutes", default=20.0, show_default=True, help="Simulated minutes of each run.")
@click.option("--quick", is_flag=True, help="Only lockstep against the defaults.")
def main(worlds: int, minutes: float, quick: bool) -> None:
    """Measure every variant on every world and print the tables."""
    chosen = dict(list(VARIANTS.items())[:2]) if quick else VARIANTS
    with ProcessPoolExecutor(os.cpu_count()) as pool:
        futures = {
            name: [pool.submit(measure, w, schedule, minutes=minutes, settings=dict(settings)) for w in range(worlds)]
            for name, (schedule, settings) in chosen.items()
        }
        runs = {name: [f.result() for f in waiting] for name, waiting in futures.items()}
        controlled = [] if quick else controls(worlds, minutes, pool)
    base = runs["lockstep"]
    lines, ratio = faster(runs["pipelined (defaults)"], base)
    click.echo(f"{worlds} worlds, {minutes:g} simulated minutes, profile vllm (128 slots)\n")
    click.echo(
        "| world | lockstep's final score | reached by lockstep after (min) | by pipelined (min) | ratio | "
        "pipelined's final | at equal calls | proposals/min | accepted/min | server use |"
    )
    click.echo("| --- " * 10 + "|")
    click.echo("\n".join(lines))
    click.echo(f"\nmedian ratio of times to lockstep's final score: {ratio:.2f}\n")
    click.echo(
        f"| variant | proposals/min | accepted/min | server use | score at {minutes / 2:g} min | at {minutes:g} min | "
        "at lockstep's calls | calls wasted |"
    )
    click.echo("| --- " * 8 + "|")
    for name in chosen:
        click.echo(row(name, runs[name], base))
    if controlled:
        click.echo("\nmean score over the time / score at the end / proposals a minute, by control policy:\n")
        click.echo(f"| control | {' | '.join(WORKLOADS)} |")
        click.echo("| --- " * (len(WORKLOADS) + 1) + "|")
        click.echo("\n".join(controlled))


if __name__ == "__main__":
    main()
