"""Islands in lockstep have the prompts, runs, programs, cells, migrations and failures of the published loop.

`Published` is that loop as a sequential program, written from the description of OpenEvolve-like search. It selects a
parent and inspirations from an island, proposes, evaluates in a cascade, admits to the island's grid, and migrates in a
ring.
"""

from __future__ import annotations

import math
import random
import re
from collections.abc import Sequence
from typing import Any

import anyio
import attrs
import pytest

import flashgraph as fg
from flashgraph.parts.islands.pool import Islands
from flashgraph.sandbox import CandidateFailed
from tests.algorithms.islands_world import REASONS, SEED, Shown, StandIn, World, carried_out, digest, shown, tokens

Evaluation = tuple[str, str, tuple[int, ...]]


@attrs.define(eq=False)
class Member:
    """A program in the published loop."""

    code: str
    parent: str | None
    scores: list[float]
    feedback: tuple[str, ...]
    cell: tuple[int, ...]
    age: int = 0

    @property
    def score(self) -> float:
        return sum(self.scores) / len(self.scores)


@attrs.frozen
class Trace:
    """The parts of a run that must be equal: prompts and evaluations in order, admissions, holders of cells,
    failures."""

    prompts: list[Shown]
    evaluations: list[Evaluation]
    admitted: list[tuple[str, str | None, tuple[float, ...]]]
    grids: list[dict[tuple[int, ...], str]]
    failures: list[list[tuple[str, tuple[str, ...], tuple[str, ...]]]]


class Published:
    """The loop, one step after the other, on mutable grids."""

    def __init__(self, world: World, seed: int) -> None:
        self.world, self.seed, self.p = world, seed, world.params
        n = self.p["islands"]
        self.grids: list[dict[tuple[int, ...], Member]] = [{} for _ in range(n)]
        self.migrants: list[list[Member]] = [[] for _ in range(n)]
        self.since = [0] * n
        self.failures: list[list[tuple[str, tuple[str, ...], tuple[str, ...]]]] = [[] for _ in range(n)]
        self.prompts: list[Shown] = []
        self.evaluations: list[Evaluation] = []
        self.admitted: list[Member] = []

    def run(self, proposals: int) -> Trace:
        self.evaluate(SEED, "train")
        first = self.member(SEED, None)
        self.admitted.append(first)
        for island, grid in enumerate(self.grids):
            grid[first.cell] = first
            if island:
                self.migrants[island].append(first)
        for iteration in range(proposals):
            self.iterate(iteration % len(self.grids), random.Random(f"{self.seed}/select/{iteration}"))
        return Trace(
            self.prompts,
            self.evaluations,
            [(m.code, m.parent, tuple(m.scores)) for m in self.admitted],
            [{cell: m.code for cell, m in grid.items()} for grid in self.grids],
            self.failures,
        )

    def iterate(self, island: int, stream: random.Random) -> None:
        ranked = self.ranked(island)
        parent = self.parent(ranked, stream)
        others = [m for m in ranked if m is not parent]
        rest = others[self.p["top"] :]
        inspirations = others[: self.p["top"]] + stream.sample(rest, min(self.p["diverse"], len(rest)))
        seen = Shown(
            parent.code,
            f"{parent.score:.4g}",
            parent.feedback,
            tuple((m.code, f"{m.score:.4g}") for m in inspirations),
            tuple(self.failures[island]),
        )
        self.prompts.append(seen)
        move = self.world.move(seen, len(self.prompts))
        if move.kind != "replace":
            self.fail(island, (move.kind, (), ()))
            return
        child = carried_out(parent.code, move)
        shares, notes = self.evaluate(child, "train")
        if sum(shares) / len(shares) < self.p["threshold"]:
            self.fail(island, ("below", notes, tuple(added(parent.code, child))))
            return
        self.admit(island, self.member(child, parent.code))

    def ranked(self, island: int) -> list[Member]:
        return sorted(self.grids[island].values(), key=lambda m: (-m.score, m.age))

    def parent(self, ranked: list[Member], stream: random.Random) -> Member:
        way = stream.random()
        if way < self.p["exploration"]:
            return stream.choice(ranked)
        if way < self.p["exploration"] + self.p["exploitation"]:
            return stream.choice(ranked[: self.p["elites"]])
        return stream.choices(ranked, [m.score + 1e-6 for m in ranked])[0]

    def evaluate(self, code: str, split: str) -> tuple[list[float], tuple[str, ...]]:
        size = len(self.world.needs[split])
        self.evaluations.append((code, split, tuple(range(size))))
        scores: list[float] = []
        notes: list[str] = []
        for i in range(size):
            try:
                value = self.world.ran(code, split, i)
            except CandidateFailed as failure:
                scores.append(0.0)
                notes += tokens(str(failure))
                continue
            scores.append(0.0 if value == "junk" else value["share"])
            notes += [] if value == "junk" else [f"fb-{g}" for g in value["missing"]]
        return scores, tuple(sorted(notes))

    def member(self, code: str, parent: str | None) -> Member:
        scores, notes = self.evaluate(code, "val")
        bins, cell = self.p["bins"], []
        words, origin = (set(re.findall(r"\w+|[^\w\s]", text)) for text in (code, SEED))
        for feature in self.p["features"]:
            if feature == "complexity":
                share = (math.log2(len(code) / len(SEED)) + 2) / 4
            elif feature == "diversity":
                share = (1 - len(words & origin) / len(words | origin)) ** 0.5
            else:
                share = sum(self.speed(code, i) for i in range(len(scores))) / len(scores)
            cell.append(max(0, min(bins - 1, int(share * bins))))
        return Member(code, parent, scores, notes, tuple(cell))

    def speed(self, code: str, index: int) -> float:
        try:
            value = self.world.ran(code, "val", index)
        except CandidateFailed:
            return 0.0
        return 0.0 if value == "junk" else float(value["speed"])

    def admit(self, island: int, new: Member) -> None:
        holder = self.grids[island].get(new.cell)
        if holder is not None and holder.score >= new.score:
            return
        new.age = len(self.admitted)
        self.admitted.append(new)
        self.grids[island][new.cell] = new
        self.since[island] += 1
        if self.since[island] % self.p["migration"] == 0:
            self.migrate(island, (island + 1) % len(self.grids))

    def migrate(self, island: int, target: int) -> None:
        own = [m for m in self.ranked(island) if m not in self.migrants[island]]
        for member in own[: self.p["migrants"]]:
            there = self.grids[target].get(member.cell)
            if target != island and member not in self.migrants[target]:
                self.migrants[target].append(member)
                if there is None or member.score > there.score:
                    self.grids[target][member.cell] = member

    def fail(self, island: int, failure: tuple[str, tuple[str, ...], tuple[str, ...]]) -> None:
        self.failures[island].append(failure)
        del self.failures[island][: max(0, len(self.failures[island]) - self.p["failures"])]


def added(before: str, after: str) -> list[str]:
    """Return the lines that a move inserted, between the common head and the common tail."""
    old, new = before.splitlines(), after.splitlines()
    while old and new and old[0] == new[0]:
        old, new = old[1:], new[1:]
    while old and new and old[-1] == new[-1]:
        old, new = old[:-1], new[:-1]
    return new


def ours(world: World, seed: int, proposals: int, backend: str) -> Trace:
    """Run the graph file, and read its requests, sandbox and pool."""
    prompts: list[Shown] = []
    box = StandIn(world)

    def model(messages: Sequence[fg.Message]) -> str:
        prompts.append(shown(messages[-1]["content"]))
        return world.reply(prompts[-1], len(prompts))

    async def main() -> tuple[fg.Result, Islands]:
        async with fg.open_run(
            "islands",
            world.task(),
            models={"proposer": model},
            schedule="lockstep",
            seed=seed,
            params={**world.params, "rewrite": world.rewrite},
            budget=fg.Budget(proposals=proposals),
            resources={"sandbox": box},
        ) as run:
            result = await run.wait()
            return result, run.machine.pools["islands"].value

    result, pool = anyio.run(main, backend=backend)
    assert result.status == "budget", result.reason
    scored = [a for a in result.artifacts if a.score is not None]
    code = {a.id: a.value.text["program"] for a in scored}
    failures = [[_read(f) for f in pool.failures if f.island == i] for i in range(world.params["islands"])]
    return Trace(
        prompts,
        _grouped(box.runs),
        [(code[a.id], code[a.parents[0]] if a.parents else None, tuple(a.scores.values())) for a in scored],
        [{cell: a.value.text["program"] for cell, a in grid.items()} for grid in pool.grids],
        failures,
    )


def _read(failure: Any) -> tuple[str, tuple[str, ...], tuple[str, ...]]:
    word = next(w for sign, w in REASONS.items() if sign in failure.reason)
    plus = tuple(x[1:] for x in failure.change.splitlines() if x.startswith("+"))
    return word, tokens(failure.reason), plus


def _grouped(runs: list[tuple[str, str, int]]) -> list[Evaluation]:
    """Return single runs regrouped: those of one program on one split run side by side."""
    found: list[tuple[str, str, list[int]]] = []
    for code, split, index in runs:
        if not found or found[-1][:2] != (code, split) or index in found[-1][2]:
            found.append((code, split, []))
        found[-1][2].append(index)
    return [(code, split, tuple(sorted(indices))) for code, split, indices in found]


@pytest.mark.parametrize("number", range(60))
def test_lockstep_is_the_published_loop(number: int) -> None:
    """Prompts, evaluations, admissions, cells and failures equal the published loop's, in order."""
    world, seed = World.make(number), digest(number, "seed") % 1000
    assert ours(world, seed, 40, ("asyncio", "trio")[number % 2]) == Published(world, seed).run(40)


def test_the_worlds_tell_loops_apart() -> None:
    """The comparison can fail: runs admit, refuse, fail in every way, migrate, and depend on the seed."""
    runs = [Published(World.make(n), digest(n, "seed") % 1000) for n in range(60)]
    traces = [run.run(40) for run in runs]
    assert sum(len(t.admitted) for t in traces) > 400
    assert {f[0] for t in traces for island in t.failures for f in island} == set(REASONS.values())
    assert sum(len(m) > 0 for run in runs for m in run.migrants) > 60
    assert any(len(t.prompts[-1].inspirations) > 2 for t in traces)
    assert sum(Published(World.make(n), 7).run(40) != Published(World.make(n), 8).run(40) for n in range(20)) > 8
