"""`make bench`: time to score, quality and throughput beside the peer implementation, in one run.

    python -m tests.benchmarks.peers [--worlds 5] [--seeds 3] [--minutes 20] [--profile vllm] [-o curves.svg]

Same simulated server, same worlds, same seeds.  Scores are true ones of the held-out split.  Everything is in simulated
time, so the figures depend on the seeds alone and not on the machine.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from statistics import mean, median

import click

from .measure import Measured, measure
from .peer import PEERS, measure_peer

SCHEDULES = ("lockstep", "pipelined", "throughput")
MOMENTS = (0.1, 0.25, 0.5, 0.75, 1.0)
"""Of a run's minutes, where the table says the score."""


def one(variant: str, world: int, seed: int, minutes: float, profile: str) -> Measured:
    if variant in PEERS:
        return measure_peer(world, PEERS[variant], minutes=minutes, profile=profile, seed=seed)
    return measure(world, variant, minutes=minutes, profile=profile, seed=seed)


def summary(name: str, runs: Sequence[Measured]) -> str:
    """A variant's line: means over worlds and seeds, and medians of scores."""
    minutes = runs[0].minutes
    cells = [
        f"{mean(r.proposals for r in runs) / minutes:.1f}",
        f"{mean(r.accepted for r in runs) / minutes:.2f}",
        f"{mean(r.sweeps for r in runs) / minutes:.2f}",
        f"{mean(r.use for r in runs):.0%}",
        *(f"{median(r.score_at(minutes * 60 * share) for r in runs):.2f}" for share in MOMENTS),
        f"{mean(r.curve[-1].tokens for r in runs) / 1e6:.2f}",
    ]
    return f"| {name} | " + " | ".join(cells) + " |"


def races(runs: Mapping[str, Sequence[Measured]], ours: str, worlds: int, seeds: int) -> list[str]:
    """World by world, medians over seeds: when the better peer has its final score, when we have it, at what tokens,
    and whether we are ahead from then on."""
    lines, times, costs = [], list[float](), list[float]()
    for world in range(worlds):
        found = []
        for seed in range(seeds):
            place = world * seeds + seed
            mine = runs[ours][place]
            name = max(PEERS, key=lambda n: runs[n][place].final)
            best = runs[name][place]
            goal = best.reached(best.final)
            assert goal is not None
            point = mine.reached(best.final)
            total = best.minutes * 60
            later = [p.at for p in (*best.curve, *mine.curve) if point is not None and p.at >= point.at]
            ahead = mean(mine.score_at(at) >= best.score_at(at) for at in later) if later else 0.0
            found.append(
                (
                    best.final,
                    goal.at / 60,
                    (point.at if point else total) / 60,
                    (point.at if point else total) / goal.at,
                    (point.tokens if point else mine.curve[-1].tokens) / goal.tokens,
                    mine.final,
                    ahead,
                )
            )
        final, theirs, took, ratio, tokens, last, ahead = (median(column) for column in zip(*found, strict=True))
        times.append(ratio)
        costs.append(tokens)
        cells = [f"{final:.2f}", f"{theirs:.1f}", f"{took:.1f}", f"{ratio:.2f}", f"{tokens:.2f}", f"{last:.2f}"]
        lines.append(f"| {world} | {' | '.join(cells)} | {ahead:.0%} |")
    return [*lines, f"| median | | | | **{median(times):.2f}** | **{median(costs):.2f}** | | |"]


def equal_calls(runs: Mapping[str, Sequence[Measured]]) -> list[str]:
    """Scores when each has made as many calls as lockstep makes in all: quality at equal work."""
    base = runs["lockstep"]
    lines = []
    for name in (*SCHEDULES, *PEERS):
        calls = [min(a.calls, b.calls) for a, b in zip(runs[name], base, strict=True)]
        scores = [r.score_after(c) for r, c in zip(runs[name], calls, strict=True)]
        reached = [
            next((p.at for p in r.curve if p.calls >= c), r.minutes * 60)
            for r, c in zip(runs[name], calls, strict=True)
        ]
        lines.append(f"| {name} | {median(scores):.2f} | {mean(scores):.3f} | {median(reached) / 60:.1f} |")
    return lines


def plot(runs: Mapping[str, Sequence[Measured]], path: Path) -> None:
    """Median score over time, of each variant."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(7, 4))
    for name, found in runs.items():
        seconds = [found[0].minutes * 60 * step / 200 for step in range(201)]
        line = [median(r.score_at(at) for r in found) for at in seconds]
        axes.plot([at / 60 for at in seconds], line, label=name, linestyle="--" if name in PEERS else "-")
    axes.set_xlabel("simulated minutes")
    axes.set_ylabel("true held-out score (median)")
    axes.legend(fontsize=7)
    figure.tight_layout()
    figure.savefig(path)


@click.command()
@click.option("--worlds", default=5, show_default=True, help="Worlds.")
@click.option("--seeds", default=3, show_default=True, help="Seeds for each world.")
@click.option("--minutes", default=20.0, show_default=True, help="Simulated minutes of each run.")
@click.option("--profile", default="vllm", show_default=True, help="The simulated server.")
@click.option("-o", "--output", type=click.Path(path_type=Path), help="Draw the scores over time into this file.")
def main(worlds: int, seeds: int, minutes: float, profile: str, output: Path | None) -> None:
    """Measure every variant on every world and seed, and print the tables."""
    names = [*PEERS, *SCHEDULES]
    with ProcessPoolExecutor(os.cpu_count()) as pool:
        futures = {
            name: [pool.submit(one, name, w, s, minutes, profile) for w in range(worlds) for s in range(seeds)]
            for name in names
        }
        runs = {name: [future.result() for future in waiting] for name, waiting in futures.items()}
    click.echo(f"{worlds} worlds, {seeds} seeds each, {minutes:g} simulated minutes, profile {profile}\n")
    moments = " | ".join(f"score at {minutes * share:g} min" for share in MOMENTS)
    click.echo(f"| variant | proposals/min | accepted/min | sweeps/min | server use | {moments} | million tokens |")
    click.echo("| --- " * (6 + len(MOMENTS)) + "|")
    for name, found in runs.items():
        click.echo(summary(name, found))
    click.echo("\nThe better peer's final score, and when `pipelined` has it (medians over seeds):\n")
    click.echo(
        "| world | the peer's final score | reached by it after (min) | by pipelined (min) | ratio of times | ratio of "
        "tokens | pipelined's final score | ahead of it since |"
    )
    click.echo("| --- " * 8 + "|")
    click.echo("\n".join(races(runs, "pipelined", worlds, seeds)))
    click.echo("\nAt as many calls as lockstep makes in all:\n")
    click.echo("| variant | median score | mean score | after (min) |\n| --- | --- | --- | --- |")
    click.echo("\n".join(equal_calls(runs)))
    if output is not None:
        plot(runs, output)


if __name__ == "__main__":
    main()
