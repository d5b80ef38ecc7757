"""The cost of the journal: time per item, its share at the rates of the simulated vLLM server, disk, and resuming.

    python -m tests.benchmarks.journal [--pairs 7] [--quick] [--profile]

Prints Markdown tables; docs/benchmarks/journal.md holds their last output. Runs with and without a journal alternate,
and each figure is the median over the pairs. Times are processor time of all threads, which other work on
the machine does not change. The time of `keep`, which waits for the disk, is taken from a clock.
"""

from __future__ import annotations

import cProfile
import gc
import math
import platform
import pstats
import random
import sqlite3
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import anyio
import attrs
import click

import flashgraph as fg
from flashgraph.llm.protocol import Message
from flashgraph.run.events import Event
from flashgraph.run.journal.store import Store
from flashgraph.run.journal.writer import JournalWriter
from flashgraph.sim.clock import run_virtually, settle
from flashgraph.sim.model import SimModel
from flashgraph.sim.profiles import PROFILES
from flashgraph.sim.world import World

STEMS = [a + b for a in ("re", "con", "un", "pro") for b in ("tri", "form", "pla", "sta", "mo", "gen", "ver", "lec")]
WORDS = [stem + end for end in ("", "tion", "ing", "ed", "al", "s", "ment", "ous", "ly", "er") for stem in STEMS]


def wordy(answer: Callable[[Sequence[Message]], str]) -> Callable[[Sequence[Message]], str]:
    """Return the answer in as much text as a model writes: lognormal, 699 tokens of four characters on average.

    The words have the frequencies of language, so that the texts compress like replies.
    """
    weights = [1 / (rank + 3) for rank in range(len(WORDS))]

    def answered(messages: Sequence[Message]) -> str:
        stream = random.Random(repr(messages))
        words = int(699 * 4 / 7.2 * stream.lognormvariate(-0.405, 0.9))
        return f"{' '.join(stream.choices(WORDS, weights, k=words))}\n{answer(messages)}"

    return answered


@attrs.frozen
class Run:
    """One run: processor seconds, items made, turns and calls, and the microseconds of each `keep`."""

    seconds: float
    items: int
    turns: int
    calls: int
    simulated: float
    keeps: tuple[float, ...] = ()
    bytes: int = 0


def once(
    folder: Path | None,
    proposals: int,
    *,
    schedule: str = "pipelined",
    minutes: float | None = None,
    long: bool = False,
    val: int = 100,
    resume: bool = False,
) -> Run:
    """Run GEPA on a world.

    The model answers at once in real time, or for that many minutes on the simulated vLLM server in virtual time.
    """
    world = World(seed=1, val=val)
    answer = wordy(world.answer) if long else world.answer
    model: Any = answer if minutes is None else SimModel(PROFILES["vllm"], answer, seed=1)
    budget = fg.Budget(proposals=proposals) if minutes is None else fg.Budget(seconds=minutes * 60)
    keeps: list[float] = []
    machines: list[Any] = []
    keep = JournalWriter.keep

    def timed(self: JournalWriter, *noted: Any) -> Any:
        begun = time.perf_counter()
        try:
            return keep(self, *noted)
        finally:
            keeps.append((time.perf_counter() - begun) * 1e6)

    async def go() -> fg.Result:
        options: dict[str, Any] = {"models": {"task": model, "reflection": model}, "schedule": schedule}
        if minutes is not None:
            options["settle"] = settle
        async with fg.open_run("gepa", world.task(), folder=folder, resume=resume, budget=budget, **options) as run:
            machines.append(run.machine)
            return await run.wait()

    gc.collect()
    JournalWriter.keep = timed  # type: ignore[method-assign, assignment]
    begun = time.process_time()
    try:
        result = anyio.run(go) if minutes is None else run_virtually(go, backend="asyncio")
    finally:
        JournalWriter.keep = keep  # type: ignore[method-assign]
    seconds = time.process_time() - begun
    size = sum(p.stat().st_size for p in folder.glob("journal.db*")) if folder is not None else 0
    _, calls, items = machines[0].counts()
    return Run(seconds, items, len(keeps), calls, result.spent.seconds, tuple(keeps), size)


def pairs(count: int, **options: Any) -> list[tuple[Run, Run]]:
    """Return runs with and without a journal, one after the other, in turn."""
    found = []
    for number in range(count + 1):
        with tempfile.TemporaryDirectory() as folder:
            kept, free = partial(once, Path(folder) / "run", **options), partial(once, None, **options)
            one, other = (kept(), free()) if number % 2 else tuple(reversed((free(), kept())))
            found.append((one, other))
    return found[1:]  # the first one warms up


def worst_case(count: int, proposals: int) -> None:
    """Print the worst case: the model answers at once, so that nothing hides the journal's cost."""
    click.echo("| schedule | µs per item without | with the journal | the journal | `keep` µs (median / 99 %) |")
    click.echo("| --- | --- | --- | --- | --- |")
    for schedule in ("lockstep", "pipelined"):
        runs = pairs(count, proposals=proposals, schedule=schedule)
        free = median(b.seconds / b.items for _, b in runs) * 1e6
        cost = median((a.seconds - b.seconds) / a.items for a, b in runs) * 1e6
        keeps = sorted(us for a, _ in runs for us in a.keeps)
        high = keeps[math.ceil(0.99 * len(keeps)) - 1]
        kept = median(a.seconds / a.items for a, _ in runs) * 1e6
        click.echo(f"| {schedule} | {free:.0f} | {kept:.0f} | {cost:.0f} | {median(keeps):.0f} / {high:.0f} |")


def share(count: int, minutes: float) -> None:
    """Print the journal's share of each second of the server's work, at the rates of the simulated vLLM server."""
    runs = pairs(count, proposals=0, minutes=minutes, long=True)
    kept = runs[0][0]
    cost = median(a.seconds - b.seconds for a, b in runs)
    waited = median(sum(a.keeps) for a, _ in runs) / 1e6
    click.echo("| calls a second | items a second | turns a second | time in `keep` | all that the journal takes |")
    click.echo("| --- | --- | --- | --- | --- |")
    rates = [f"{n / kept.simulated:.1f}" for n in (kept.calls, kept.items, kept.turns)]
    click.echo(f"| {' | '.join(rates)} | {waited / kept.simulated:.2%} | {cost / kept.simulated:.2%} |")


def disk(proposals: int) -> None:
    """Print the disk space of proposals, with replies as long as a model's."""
    click.echo("| schedule | proposals | calls | journal | of it: texts | turns | a proposal | a call |")
    click.echo("| --- | --- | --- | --- | --- | --- | --- | --- |")
    for schedule in ("lockstep", "pipelined"):
        with tempfile.TemporaryDirectory() as folder:
            run = once(Path(folder) / "run", proposals, long=True, schedule=schedule)
            db = sqlite3.connect(Path(folder) / "run" / "journal.db")
            (texts,) = db.execute("SELECT sum(length(data)) FROM payloads").fetchone()
            (turns,) = db.execute("SELECT sum(length(body)) FROM turns").fetchone()
            db.close()
            parts = [f"{size / 1e6:.0f} MB" for size in (run.bytes, texts, turns)]
            each = [f"{run.bytes / number / 1e3:,.1f} kB" for number in (proposals, run.calls)]
            click.echo(f"| {schedule} | {proposals:,} | {run.calls:,} | {' | '.join(parts + each)} |")


def resuming(events: Sequence[int]) -> None:
    """Print how long it takes to restore a run's state."""
    click.echo("| events | turns | journal | resumed after | µs per event |")
    click.echo("| --- | --- | --- | --- | --- |")
    for wanted in events:
        with tempfile.TemporaryDirectory() as parent:
            folder = Path(parent) / "run"
            noted: list[Event] = []
            world = World(seed=1)
            models = dict.fromkeys(("task", "reflection"), world.answer)
            options: dict[str, Any] = {"models": models, "folder": folder, "schedule": "pipelined"}

            async def fill(wanted: int = wanted, noted: list[Event] = noted, options: Any = options) -> None:
                async with fg.open_run("gepa", World(seed=1).task(), budget=fg.Budget(calls=10**6), **options) as run:
                    async for event in run:
                        noted.append(event)
                        if len(noted) >= wanted:
                            run.stop()

            anyio.run(fill)
            size = (folder / "journal.db").stat().st_size

            async def resume(options: Any = options) -> float:
                begun = time.process_time()
                budget = fg.Budget(calls=10**6)
                async with fg.open_run("gepa", World(seed=1).task(), budget=budget, resume=True, **options) as run:
                    taken = time.process_time() - begun
                    run.stop()
                    await run.wait()
                    return taken

            taken = median(anyio.run(resume) for _ in range(3))
            db = sqlite3.connect(folder / "journal.db")
            (turns,) = db.execute("SELECT count(*) FROM turns").fetchone()
            db.close()
            click.echo(
                f"| {len(noted):,} | {turns:,} | {size / 1e6:.1f} MB | {taken:.2f} s | {taken / len(noted) * 1e6:.0f} |"
            )


def profiled(proposals: int) -> None:
    """Print where the time of a run with a journal is spent; the writing thread by itself."""
    commit = Store._commit
    thread = cProfile.Profile()

    def watched(self: Store, batches: Any) -> None:
        thread.enable()
        commit(self, batches)
        thread.disable()

    with tempfile.TemporaryDirectory() as folder:
        profile = cProfile.Profile()
        profile.runcall(once, Path(folder) / "run", proposals)
        pstats.Stats(profile).sort_stats("cumulative").print_stats("journal", 25)
    with tempfile.TemporaryDirectory() as folder:
        Store._commit = watched  # type: ignore[method-assign]
        once(Path(folder) / "run", proposals)
        Store._commit = commit  # type: ignore[method-assign]
        pstats.Stats(thread).sort_stats("tottime").print_stats(12)


@click.command()
@click.option("--pairs", "count", default=7, show_default=True, help="Pairs of runs, with and without a journal.")
@click.option("--quick", is_flag=True, help="Small runs.")
@click.option("--profile", is_flag=True, help="Where the time goes, instead of the tables.")
def main(count: int, quick: bool, profile: bool) -> None:
    if profile:
        profiled(40)
        return
    click.echo(f"Python {platform.python_version()}, SQLite {sqlite3.sqlite_version}\n\n## Worst case\n")
    worst_case(count, 10 if quick else 60)
    click.echo("\n## At the rates of the simulated vLLM server\n")
    share(2 if quick else max(1, count // 2), 2 if quick else 10)
    click.echo("\n## Disk\n")
    disk(20 if quick else 1000)
    click.echo("\n## Resuming\n")
    resuming([2_000] if quick else [10_000, 100_000])


if __name__ == "__main__":
    main()
