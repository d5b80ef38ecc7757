"""MAP-Elites islands: several grids of the best programs of each kind, with migration around a ring.

A kind of program is a cell: one bin for each feature. The cells of an island follow from its admissions
(`Islands.grid`). So late evidence that lowers a score gives the cell back to the program that was better all along.
"""

from __future__ import annotations

import math
import random
import re
from collections.abc import Mapping
from functools import cached_property
from typing import Any

import attrs

from flashgraph.graph.ports import Artifact, Group, PoolEvent
from flashgraph.parts.evaluation import Attempt, Work
from flashgraph.parts.islands.programs import component
from flashgraph.parts.weighing import anywhere, weighed
from flashgraph.tasks.task import Task

__all__ = ["Cell", "Elite", "Entrant", "Islands", "ProposalFailure", "Settings"]

Cell = tuple[int, ...]
SAMPLED = 10
"""From this many checks on, they count as a sample of the program's cases."""
WORD = re.compile(r"\w+|[^\w\s]")


@attrs.frozen
class Settings:
    """The number of islands, and the shape of their grids; they come with the seed.

    ``features`` are ``"complexity"`` (the length relative to the seed's), ``"diversity"`` (the distance from the seed)
    and names of the scores' objectives in [0, 1]; each has ``bins`` bins. After every ``migration`` admissions to an
    island, copies of its best ``migrants`` go to the next one. The last ``failures`` of each island are kept.
    """

    islands: int = attrs.field(default=4, validator=attrs.validators.ge(1))
    features: tuple[str, ...] = ("complexity", "diversity")
    bins: int = attrs.field(default=10, validator=attrs.validators.ge(1))
    migration: int = attrs.field(default=10, validator=attrs.validators.ge(1))
    migrants: int = attrs.field(default=1, validator=attrs.validators.ge(0))
    failures: int = attrs.field(default=3, validator=attrs.validators.ge(0))


@attrs.frozen
class Entrant:
    """A program that passed the cheap checks, before its ``size`` costly ones; the seed also carries the ``settings``.

    A check that fails scores ``least``.
    """

    text: Mapping[str, str]
    island: int
    size: int
    settings: Settings | None = None
    least: float = 0.0

    def work(self) -> list[Work]:
        """Return one piece of work for each costly check."""
        return [Work(self.text, "val", index) for index in range(self.size)]


@attrs.frozen
class ProposalFailure:
    """A failed proposal: its stage, the reason, and what it had changed."""

    island: int
    stage: str
    reason: str
    change: str = ""


@attrs.frozen
class Elite:
    """The value of this pool's artifacts: a program, the island that it was born on, its cell, and its attempts."""

    text: Mapping[str, str]
    island: int
    cell: Cell
    attempts: tuple[Attempt, ...] = ()


@attrs.frozen
class Islands:
    """MAP-Elites islands (OpenEvolve; grids as in Mouret and Clune, arXiv 1504.04909).

    A program enters an empty cell of its island. It replaces a cell's confirmed holder if its score is strictly higher.
    Every admitted program stays in ``artifacts``, the archive; only holders of cells are drawn. ``places`` lists
    arrivals as (artifact, island), in order. On an island that is not its own, an artifact is a copy, and never
    migrates again. ``admitted`` counts by island, from the founding on. A ``narrowed`` view draws the best of each
    island.
    """

    settings: Settings = Settings()
    reference: str = ""
    artifacts: Mapping[int, Artifact] = attrs.field(factory=dict)
    places: tuple[tuple[int, int], ...] = ()
    admitted: tuple[int, ...] = ()
    failures: tuple[ProposalFailure, ...] = ()
    narrowed: bool = False
    bounds: tuple[float, float] = anywhere

    def for_task(self, task: Task[Any, Any]) -> Islands:
        """Return the empty islands of a task."""
        return attrs.evolve(self, bounds=task.bounds)

    # ---- what changes it ---------------------------------------------------------------------------------

    def apply(self, event: PoolEvent[Group[Entrant, Attempt] | ProposalFailure]) -> Islands:
        """Admit, complete or remove one program, or record a failure."""
        if event.kind == "retract":
            return self._without(event.artifact)
        if isinstance(event.value, ProposalFailure):
            return self._failed(event.value)
        group = event.value
        if not group.values:
            # No check could be carried out, so the program has no evidence to stay on.
            return self
        if not self.admitted:
            return self._founded(event, group)
        new = self._artifact(event, group)
        if event.kind == "amend":
            return attrs.evolve(self, artifacts={**self.artifacts, event.artifact: new})
        return self._entered(new.value.island, new)

    def _founded(self, event: PoolEvent[Any], group: Group[Entrant, Attempt]) -> Islands:
        """Start every island with the first program, which is the seed."""
        origin = group.origin
        settings = origin.settings or self.settings
        begun = attrs.evolve(self, settings=settings, reference=origin.text[component(origin.text)])
        seed = begun._artifact(event, group)
        return attrs.evolve(
            begun,
            artifacts={seed.id: seed},
            places=tuple((seed.id, island) for island in range(settings.islands)),
            admitted=(0,) * settings.islands,
        )

    def _entered(self, island: int, new: Artifact) -> Islands:
        held = [a for a in self._living(island) if a.value.cell == new.value.cell and not a.provisional]
        if any(_score(a) >= _score(new) for a in held):
            return self
        admitted = tuple(n + (i == island) for i, n in enumerate(self.admitted))
        artifacts, places = {**self.artifacts, new.id: new}, (*self.places, (new.id, island))
        grown = attrs.evolve(self, artifacts=artifacts, places=places, admitted=admitted)
        return grown._migrated(island) if admitted[island] % self.settings.migration == 0 else grown

    def _migrated(self, island: int) -> Islands:
        """Copy the island's own best programs to the next one."""
        target = (island + 1) % self.settings.islands
        own = [a.id for a in self.ranked(island) if a.value.island == island][: self.settings.migrants]
        return attrs.evolve(self, places=tuple(dict.fromkeys((*self.places, *((a, target) for a in own)))))

    def _failed(self, failure: ProposalFailure) -> Islands:
        mine = [f for f in (*self.failures, failure) if f.island == failure.island]
        kept = mine[len(mine) - min(len(mine), self.settings.failures) :]
        return attrs.evolve(self, failures=(*(f for f in self.failures if f.island != failure.island), *kept))

    def _without(self, artifact: int) -> Islands:
        return attrs.evolve(
            self,
            artifacts={i: a for i, a in self.artifacts.items() if i != artifact},
            places=tuple((a, island) for a, island in self.places if a != artifact),
        )

    def _artifact(self, event: PoolEvent[Any], group: Group[Entrant, Attempt]) -> Artifact:
        """Return an artifact with the evidence of its checks; a failed check has the least score."""
        origin = group.origin
        scores = {
            m.index: origin.least if m.value is None else m.value.score for m in group.members if m.state != "open"
        }
        known = weighed(
            scores, group, parents=map(self.artifacts.get, event.parents), bounds=self.bounds,
            failed=len(scores) - len(group.values), exact=group.size < SAMPLED,
        )  # fmt: skip
        cell, home = self.cell(origin.text, group.values), origin.island % self.settings.islands
        elite = Elite(origin.text, home, cell, group.values)
        return Artifact(event.artifact, elite, event.parents, known.mean, scores, event.partial, known)

    # ---- what it shows -----------------------------------------------------------------------------------

    def cell(self, text: Mapping[str, str], attempts: tuple[Attempt, ...] = ()) -> Cell:
        """Return the bins of a program. They are fixed, so that a program never changes its cell."""
        program, bins = text[component(text)], self.settings.bins

        def share(feature: str) -> float:
            if feature == "complexity":
                # A quarter to four times the seed's length.
                return (math.log2(max(1, len(program)) / max(1, len(self.reference))) + 2) / 4
            if feature == "diversity":
                # The root spreads small distances, because most edits are small.
                return math.sqrt(distance(program, self.reference))
            mean = sum(a.objectives.get(feature, 0.0) for a in attempts) / max(1, len(attempts))
            # A task takes objectives from a program's result, which may be anything.
            return mean if math.isfinite(mean) else 0.0

        return tuple(min(bins - 1, max(0, int(share(feature) * bins))) for feature in self.settings.features)

    def _living(self, island: int) -> list[Artifact]:
        return [self.artifacts[a] for a, where in self.places if where == island]

    @cached_property
    def grids(self) -> tuple[Mapping[Cell, Artifact], ...]:
        """For each island, the holder of each cell: the highest score, the first to arrive among equals."""
        found = []
        for island in range(len(self.admitted)):
            grid: dict[Cell, Artifact] = {}
            for artifact in self._living(island):
                holder = grid.get(artifact.value.cell)
                if holder is None or _score(artifact) > _score(holder):
                    grid[artifact.value.cell] = artifact
            found.append(grid)
        return tuple(found)

    def grid(self, island: int) -> Mapping[Cell, Artifact]:
        """Return the holder of each cell of an island."""
        return self.grids[island] if island < len(self.grids) else {}

    def ranked(self, island: int) -> list[Artifact]:
        """Return the holders of an island's cells, best first, the oldest among equals."""
        return sorted(self.grid(island).values(), key=lambda a: (-_score(a), a.id))

    def draw(
        self, island: int, stream: random.Random, exploration: float, exploitation: float, elites: int
    ) -> Artifact | None:
        """Draw a parent; None while the island is empty.

        With probability ``exploration`` it is any holder of a cell, with ``exploitation`` one of the ``elites`` best,
        and otherwise any holder in proportion to its score. A narrowed view returns the best.
        """
        ranked = self.ranked(island)
        if not ranked or self.narrowed:
            return ranked[0] if ranked else None
        way = stream.random()
        if way < exploration:
            return stream.choice(ranked)
        if way < exploration + exploitation:
            return stream.choice(ranked[: max(1, elites)])
        # Slightly above 0, so that an island whose scores are all 0 can be drawn from.
        return stream.choices(ranked, [max(0.0, _score(a)) + 1e-6 for a in ranked])[0]

    def inspirations(
        self, island: int, parent: Artifact, stream: random.Random, top: int, diverse: int
    ) -> tuple[Artifact, ...]:
        """Return others of the island: its ``top`` best, then ``diverse`` ones drawn from its other cells."""
        others = [a for a in self.ranked(island) if a.id != parent.id]
        rest = others[top:]
        return (*others[:top], *stream.sample(rest, min(diverse, len(rest))))

    def best(self) -> Artifact | None:
        """Return the artifact with the highest score, the oldest among equals; a confirmed one beats any provisional
        one."""
        confirmed = [a for a in self.artifacts.values() if not a.provisional]
        return max(confirmed or self.artifacts.values(), key=_score, default=None)

    @property
    def own_champion(self) -> bool:
        """Whether the highest score is the best: a few checks are the objective itself, not a sample."""
        return all(a.evidence is None or a.evidence.of < SAMPLED for a in self.artifacts.values())

    def best_line(self) -> Islands:
        """Return a view in which each island gives its best as a parent. A single focus for all islands would merge
        them."""
        return attrs.evolve(self, narrowed=True)


def distance(one: str, other: str) -> float:
    """Return the difference of two programs: 1 minus the share of words and signs in common (Jaccard)."""
    a, b = set(WORD.findall(one)), set(WORD.findall(other))
    return 1 - len(a & b) / len(a | b) if a | b else 0.0


def _score(artifact: Artifact) -> float:
    return artifact.score or 0.0
