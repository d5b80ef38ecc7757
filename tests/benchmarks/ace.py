"""ACE pipelined compared with lockstep, on the simulated vLLM profile (128 slots) under virtual time.

    python -m tests.benchmarks.ace [--worlds 3] [--seeds 2] [--train 200] [--eval-steps 50] [--quick]

Each run trains once on the same samples. It validates a snapshot at regular steps and at the end, with 100 samples
each. In lockstep the training samples run one after the other, and the samples of a validation side by side.
"""

from __future__ import annotations

import os
from concurrent.futures import ProcessPoolExecutor
from statistics import mean, median
from typing import Any

import click
from rich.console import Console
from rich.table import Table

from .ace_measure import Measured, measure

VARIANTS: dict[str, tuple[str, dict[str, Any], dict[str, Any]]] = {
    "lockstep (published)": ("lockstep", {}, {}),
    "lockstep, batch 8": ("lockstep", {}, {"batch": 8}),
    "lockstep, batch 32": ("lockstep", {}, {"batch": 32}),
    "pipelined, window 2": ("pipelined", {"window": 2}, {}),
    "pipelined, window 4": ("pipelined", {"window": 4}, {}),
    "pipelined, window 8 (default)": ("pipelined", {"window": 8}, {}),
    "pipelined, window 16": ("pipelined", {"window": 16}, {}),
    "pipelined, window 32": ("pipelined", {"window": 32}, {}),
    "pipelined, window 64": ("pipelined", {"window": 64}, {}),
    "window 32, conflicts refused": ("pipelined", {"window": 32, "curate->playbook.stale": "accept()"}, {}),
    "window 32, old views": ("pipelined", {"window": 32, "curate->playbook.stale": "accept()", **{
        f"{edge}.stale": "accept()" for edge in ("select->generate", "generate->reflect", "reflect->curate")
    }}, {}),
    "window 32, no answer after": ("pipelined", {"window": 32}, {"answer_after": False}),
}  # fmt: skip
QUICK = ("lockstep (published)", "pipelined, window 8 (default)", "pipelined, window 32")
Runs = list[Measured]


def speeds(runs: dict[str, Runs]) -> Table:
    """Return the time of the training and the server's use meanwhile: medians over worlds and seeds."""
    table = Table(title="speed", title_justify="left")
    for name in (
        "variant",
        "min",
        "speed-up",
        "samples/min",
        "calls/min",
        "server use",
        "in flight",
        "sample takes (s)",
    ):
        table.add_column(name, justify="left" if name == "variant" else "right")
    base = next(iter(runs.values()))
    for name, measured in runs.items():
        faster = median(b.seconds / m.seconds for b, m in zip(base, measured, strict=True))
        table.add_row(
            name,
            f"{median(m.seconds for m in measured) / 60:.1f}",
            f"{faster:.1f}x",
            f"{median(m.samples / m.trained_by for m in measured) * 60:.1f}",
            f"{median(m.calls / m.seconds for m in measured) * 60:.0f}",
            f"{median(m.use for m in measured):.0%}",
            f"{median(m.in_flight for m in measured):.1f}",
            f"{median(m.latency for m in measured):.0f}",
        )
    return table


def qualities(runs: dict[str, Runs]) -> Table:
    """Return the quality of the training: means over worlds and seeds of true held-out scores."""
    table = Table(title="quality", title_justify="left")
    columns = (
        "variant", "best", "at equal calls", "after 1/4", "after 1/2", "lockstep's best in (min)", "calls", "lag",
        "repairs", "refused twins", "lines",
    )  # fmt: skip
    for name in columns:
        table.add_column(name, justify="left" if name == "variant" else "right")
    base = next(iter(runs.values()))
    for name, measured in runs.items():
        pairs = list(zip(base, measured, strict=True))
        equal = [m.after_calls(min(b.calls, m.calls)) for b, m in pairs]
        reached = [m.time_to(b.final) for b, m in pairs]
        times = [at for at in reached if at is not None]
        table.add_row(
            name,
            f"{mean(m.final for m in measured):.3f}",
            f"{mean(equal):.3f}",
            f"{mean(m.after_samples(m.trained // 4) for m in measured):.3f}",
            f"{mean(m.after_samples(m.trained // 2) for m in measured):.3f}",
            f"{median(times) / 60:.1f} ({len(times)}/{len(reached)})" if times else "never",
            f"{mean(m.calls for m in measured):.0f}",
            f"{mean(m.lag for m in measured):.1f}",
            f"{mean(m.repairs for m in measured):.1f}",
            f"{mean(m.duplicates for m in measured):.1f}",
            f"{mean(m.lines for m in measured):.0f}",
        )
    return table


def bounds(runs: dict[str, Runs]) -> list[str]:
    """Return the bound of each run: the samples' own length while the server has room, or the server."""
    lines = []
    for name, measured in runs.items():
        use = median(m.use for m in measured)
        tail = median(m.seconds - m.trained_by for m in measured)
        slower = median(m.latency for m in measured) / median(m.latency for m in next(iter(runs.values()))) - 1
        who = "the server" if use > 0.8 else "the workload: a sample's calls come one after the other"
        last = f"a sample takes {slower:+.0%}, the last validation adds {tail:.0f} s"
        lines.append(f"{name}: {who}; {use:.0%} of the server, {last}")
    return lines


@click.command()
@click.option("--worlds", default=3, show_default=True, help="Worlds to average over.")
@click.option("--seeds", default=2, show_default=True, help="Draws of the latencies in each world.")
@click.option("--train", default=200, show_default=True, help="Training samples.")
@click.option("--eval-steps", default=50, show_default=True, help="Samples between validations.")
@click.option("--quick", is_flag=True, help="Only lockstep, the defaults and window 32.")
def main(worlds: int, seeds: int, train: int, eval_steps: int, quick: bool) -> None:
    """Measure every variant on every world and print the tables."""
    chosen = {name: v for name, v in VARIANTS.items() if not quick or name in QUICK}
    with ProcessPoolExecutor(os.cpu_count()) as pool:
        waiting = {
            name: [
                pool.submit(
                    measure,
                    world,
                    schedule,
                    seed=seed,
                    train=train,
                    settings=settings,
                    params={"eval_steps": eval_steps, **params},
                )
                for world in range(worlds)
                for seed in range(seeds)
            ]
            for name, (schedule, settings, params) in chosen.items()
        }
        runs = {name: [future.result() for future in futures] for name, futures in waiting.items()}
    console = Console(width=160)
    console.print(
        f"{worlds} worlds, {seeds} draws of latencies each, {train} samples, validated each {eval_steps}, "
        "profile vllm (128 slots)\n"
    )
    console.print(speeds(runs))
    console.print(qualities(runs))
    console.print("what bound it", *bounds(runs), sep="\n  ")


if __name__ == "__main__":
    main()
