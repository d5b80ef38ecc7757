"""`make bench-family`: every kind of world compared with the peer, with reported and true scores.

    python -m tests.benchmarks.family [--seeds 5] [--minutes 20] [--profile vllm] [--held-out] [--kinds a,b]

Time is simulated, so the figures depend only on the seeds. Scores are true ones of a run's champion. The peer is the
best of its modes by hindsight, for each world and seed.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from statistics import fmean, median
from typing import Any

import attrs
import click

from .measure import Measured, measure
from .peer import PEERS, measure_peer
from .worlds import FAMILY, HELD_OUT, KindWorld

__all__ = ["Row", "compared", "main", "one"]

SCHEDULES = ("lockstep", "pipelined", "throughput")
KINDS = {**FAMILY, **HELD_OUT}


def one(variant: str, kind: str, seed: int, minutes: float, profile: str, options: Mapping[str, Any]) -> Measured:
    """Run a variant: a mode of the peer, or a schedule with ``options`` of `measure`."""
    world = KindWorld(KINDS[kind], seed, kind)
    if variant in PEERS:
        return measure_peer(world, PEERS[variant], minutes=minutes, profile=profile, seed=seed)
    return measure(world, variant, minutes=minutes, profile=profile, seed=seed, **options)


@attrs.frozen
class Row:
    """One run compared with the peer's best and lockstep on the same world and seed."""

    time: float
    """The time to the peer's best final true score, over the peer's; infinite if never reached."""
    tokens: float
    """The tokens at that moment, over the peer's."""
    ahead: float
    """The true score at the end, minus the peer's."""
    area: float
    """The area under the true score's curve, over the peer's."""
    fall: float
    bias: float
    """The reported minus the true score at the end."""
    covered: bool
    calls: float
    """The true score after as many calls as lockstep makes in all, minus lockstep's at that moment."""
    equal_tokens: float
    gain: float
    """The gain over the seed at lockstep's calls, over lockstep's gain."""
    final: float


def compared(mine: Measured, peers: Sequence[Measured], lockstep: Measured) -> Row:
    best = max(peers, key=lambda run: (run.final, -(run.time_to(run.final) or 0.0)))
    goal, point = best.reached(best.final), mine.reached(best.final)
    assert goal is not None
    calls = min(mine.calls, lockstep.calls)
    tokens = min(mine.curve[-1].tokens, lockstep.curve[-1].tokens)
    start = lockstep.curve[0].score
    gained = lockstep.score_after(calls) - start
    return Row(
        time=point.at / goal.at if point else float("inf"),
        tokens=point.tokens / goal.tokens if point else float("inf"),
        ahead=mine.final - best.final,
        area=mine.mean / max(peer.mean for peer in peers),
        fall=mine.fall,
        bias=mine.reported - mine.last,
        covered=mine.interval[0] <= mine.last <= mine.interval[1],
        calls=mine.score_after(calls) - lockstep.score_after(calls),
        equal_tokens=mine.score_with(tokens) - lockstep.score_with(tokens),
        gain=(mine.score_after(calls) - start) / gained if gained > 0.02 else 1.0,
        final=mine.final,
    )


HEADER = (
    "kind", "variant", "true at 2 / 5 / 10 / 20 min", "time", "tokens", "ahead", "area", "fall (worst)",
    "bias", "error", "covered", "equal calls", "equal tokens", "gain", "M tokens",
)  # fmt: skip


def line(kind: str, name: str, rows: Sequence[Row], runs: Sequence[Measured]) -> str:
    minutes = runs[0].minutes
    scores = " / ".join(f"{median(r.score_at(minutes * 60 * s) for r in runs):.2f}" for s in (0.1, 0.25, 0.5, 1))
    cells = [
        kind,
        name,
        scores,
        f"{median(r.time for r in rows):.2f}",
        f"{median(r.tokens for r in rows):.2f}",
        f"{median(r.ahead for r in rows):+.2f}",
        f"{median(r.area for r in rows):.2f}",
        f"{median(r.fall for r in rows):.2f} ({max(r.fall for r in rows):.2f})",
        f"{fmean(r.bias for r in rows):+.3f}",
        f"{fmean(abs(r.bias) for r in rows):.3f}",
        f"{fmean(r.covered for r in rows):.0%}",
        f"{fmean(r.calls for r in rows):+.3f}",
        f"{fmean(r.equal_tokens for r in rows):+.3f}",
        f"{median(r.gain for r in rows):.2f}",
        f"{fmean(r.curve[-1].tokens for r in runs) / 1e6:.2f}",
    ]
    return "| " + " | ".join(cells) + " |"


@click.command()
@click.option("--seeds", default=3, show_default=True, help="Seeds of each kind.")
@click.option("--first", default=0, show_default=True, help="The first seed.")
@click.option("--minutes", default=20.0, show_default=True, help="Simulated minutes of each run.")
@click.option("--profile", default="vllm", show_default=True, help="The simulated server.")
@click.option("--held-out", is_flag=True, help="The kinds that no default was chosen on.")
@click.option("--kinds", default="", help="Only these, separated by commas.")
@click.option("--variant", multiple=True, help="More of our own: SCHEDULE, or SCHEDULE?SETTING=VALUE&...")
def main(
    seeds: int, first: int, minutes: float, profile: str, held_out: bool, kinds: str, variant: tuple[str, ...]
) -> None:
    """Measure every kind of world, and print a line for each kind and variant, and one for all kinds."""
    chosen = [k.strip() for k in kinds.split(",") if k.strip()] or list(HELD_OUT if held_out else FAMILY)
    ours: dict[str, tuple[str, dict[str, Any]]] = {}
    for name in variant or SCHEDULES[1:]:
        schedule, _, query = name.partition("?")
        pairs = [pair.split("=", 1) for pair in query.split("&") if pair]
        ours[name] = schedule, {"settings": dict(pairs)} if pairs else {}
    variants = {**{p: (p, {}) for p in PEERS}, "lockstep": ("lockstep", {}), **ours}
    with ProcessPoolExecutor(os.cpu_count()) as pool:
        waiting = {
            (name, kind): [pool.submit(one, v, kind, s, minutes, profile, o) for s in range(first, first + seeds)]
            for kind in chosen
            for name, (v, o) in variants.items()
        }
        found = {key: [future.result() for future in futures] for key, futures in waiting.items()}
    click.echo(f"{seeds} seeds from {first}, {minutes:g} simulated minutes, profile {profile}\n")
    click.echo("| " + " | ".join(HEADER) + " |\n" + "| --- " * len(HEADER) + "|")
    totals: dict[str, list[list[Row]]] = {}
    for kind in chosen:
        for name in ("lockstep", *ours):
            runs = found[name, kind]
            rows = [
                compared(runs[i], [found[p, kind][i] for p in PEERS], found["lockstep", kind][i]) for i in range(seeds)
            ]
            totals.setdefault(name, []).append(rows)
            click.echo(line(kind, name, rows, runs))
    for name, kinds_of in totals.items():
        click.echo(f"\n{name}: {summary(kinds_of)}")


def summary(rows: Sequence[Sequence[Row]]) -> str:
    """Return medians over seeds by kind, then the median and the worst of the kinds."""
    times = [median(r.time for r in kind) for kind in rows]
    tokens = [median(r.tokens for r in kind) for kind in rows]
    ahead = [median(r.ahead for r in kind) for kind in rows]
    area = [median(r.area for r in kind) for kind in rows]
    every = [r for kind in rows for r in kind]
    return (
        f"time {median(times):.2f} (worst {max(times):.2f}), tokens {median(tokens):.2f} (worst {max(tokens):.2f}), "
        f"ahead {median(ahead):+.2f} (worst {min(ahead):+.2f}), area {median(area):.2f} (worst {min(area):.2f}), "
        f"fall {median(r.fall for r in every):.3f} (worst {max(r.fall for r in every):.2f}), "
        f"bias {fmean(r.bias for r in every):+.3f}, error {fmean(abs(r.bias) for r in every):.3f}, "
        f"covered {fmean(r.covered for r in every):.0%}, at equal calls {fmean(r.calls for r in every):+.3f}, "
        f"at equal tokens {fmean(r.equal_tokens for r in every):+.3f}, gain {median(r.gain for r in every):.2f}"
    )


if __name__ == "__main__":
    main()
