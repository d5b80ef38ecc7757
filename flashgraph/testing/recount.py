"""A machine held against what it was told: amounts, versions and numbers, counted beside it.

The machine's own checks (`flashgraph.testing.state`) find what does not fit together; this finds what fits together
and is wrong all the same, such as an account in which every request is settled twice.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from flashgraph.graph.ports import Group
from flashgraph.run.items import Item
from flashgraph.run.jobs import Command, Done, Job, Start
from flashgraph.run.machine import Machine
from flashgraph.run.turns import Turn
from flashgraph.testing.graphs import Ledgered, Token
from flashgraph.testing.log import InvariantViolation

__all__ = ["Recount"]


def _expect(holds: bool, name: str, message: str) -> None:
    if not holds:
        raise InvariantViolation(f"{name}: {message}")


class Recount:
    """Give it each turn before the machine is told it, and what the machine wants done after.

    Raises `InvariantViolation`.
    """

    def __init__(self) -> None:
        self._spent: Counter[str] = Counter()
        self._ended: list[Job] = []
        """Jobs that have ended and may wait, in a serial run, for those before them."""
        self._emissions: Counter[str] = Counter()
        self._drained = False
        self._lines: dict[tuple[str, int], frozenset[tuple[str, int]]] = {}
        """By artifact, what it descended from when it was admitted."""

    def told(self, turn: Turn, machine: Machine) -> None:
        """A turn that the machine is about to be told."""
        if turn.reopen is not None:
            self._drained = False
            lost = [call for call in machine.calls.open.values() if call.reservation is not None]
            for call in lost:
                self._spend({"tokens": call.size, **call.amounts})
        for answer in turn.answered:
            if machine.calls.open[answer.call].reservation is not None:
                self._spend(answer.spent)
        for done in turn.completed:
            self._ended.append(machine.jobs[done.job])
            if done.source and isinstance(done.outcome, Done) and done.outcome.value is not None:
                self._emissions[done.source] += 1
        self._drained |= turn.drain is not None

    def decided(self, commands: Sequence[Command], machine: Machine) -> None:
        """What it wants done after that turn."""
        for job in [job for job in self._ended if job.done]:
            self._ended.remove(job)
            if job.kind != "source":
                self._spend(dict.fromkeys(machine.plan.stages[job.node].spec.spends, 1.0))
        for name, amount in machine.ledger.settled.items():
            close = math.isclose(amount, self._spent[name], rel_tol=1e-9, abs_tol=1e-9)
            _expect(close, "I10", f"{amount:g} {name} are settled, {self._spent[name]:g} were spent")
        for pool in machine.pools.values():
            if isinstance(pool.value, Ledgered):
                changes = pool.value.version
                _expect(changes == pool.version, "I5", f"pool {pool.name}@{pool.version} has changed {changes} times")
                strays = pool.value.strays
                _expect(not strays, "I8", f"artifacts {strays} of {pool.name} have parents that nobody named")
            for number, record in pool.records.items():
                self._lines.setdefault((pool.name, number), record.lineage)
        for item in machine.flow.items.values():
            tokens = _tokens(item.value)
            if tokens:
                _expect_read(item, tokens)
                self._expect_line(item, tokens, machine)
        starts = [command for command in commands if isinstance(command, Start)]
        for start in starts:
            self._started(start)
        _expect(not starts or not self._drained, "I12", "the run is asked to end, and starts something new")

    def _started(self, start: Start) -> None:
        job = start.job
        for pool, view in start.views.items():
            if isinstance(view, Ledgered):
                said = f"job {job.id} is stamped {pool}@{job.stamps.get(pool)} and reads {pool}@{view.version}"
                _expect(job.stamps.get(pool) == view.version, "I6", said)
        if start.stale is not None:
            told = f"a repair at lag {start.stale.lag} is told of {len(start.stale.changes)} changes"
            _expect(len(start.stale.changes) == start.stale.lag, "I6", told)
        if isinstance(start.value, Group):
            places = [member.index for member in start.value.members]
            _expect(places == list(range(len(places))), "I8", f"the members of a group stand in the order {places}")
        if job.kind == "source":
            number = self._emissions[job.node]
            _expect(job.emission == number, "I14", f"{job.node} draws number {job.emission}, after {number} others")

    def _expect_line(self, item: Item, tokens: Sequence[Token], machine: Machine) -> None:
        """I8: an item descends from what was named on its way, or was provisional where nothing was named, and from all
        that this descends from: a retraction finds it by that alone."""
        named = frozenset().union(*(token.named for token in tokens))
        said = f"item {item.id} has the parents {sorted(item.uses)}, on its way were named {sorted(named)}"
        _expect(sorted(item.uses) == sorted(named), "I8", said)
        made_from = named.union(*(token.loose for token in tokens))
        least = made_from.union(*(machine.pools[of[0]].records[of[1]].lineage for of in made_from))
        _expect(least <= item.lineage, "I8", f"item {item.id} does not descend from {sorted(least - item.lineage)}")
        stray = sorted(item.lineage.difference(made_from, *(self._lines[of] for of in made_from)))
        _expect(not stray, "I8", f"item {item.id} descends from {stray}, which it was not made from")

    def _spend(self, amounts: Mapping[str, float]) -> None:
        for name, amount in amounts.items():
            self._spent[name] += amount  # type: ignore[assignment]  # a Counter counts anything


def _tokens(value: Any) -> Sequence[Token]:
    """What a value is made of, where that is tokens alone."""
    tokens: list[Any] = [value.origin, *value.values] if isinstance(value, Group) else [value]
    return tokens if all(isinstance(token, Token) for token in tokens) else ()


def _expect_read(item: Item, tokens: Sequence[Token]) -> None:
    """I6: what an item is stamped with is the version that its data was read from."""
    oldest = {"pool": min(token.version for token in tokens)}
    sides = [token.side for token in tokens if token.side is not None]
    if sides:
        oldest["side"] = min(sides)
    for pool, version in item.stamps.items():
        said = f"item {item.id} is stamped {pool}@{version}, its data was read from {pool}@{oldest.get(pool)}"
        _expect(version == oldest.get(pool), "I6", said)
