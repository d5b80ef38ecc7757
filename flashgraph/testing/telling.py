"""I13 on a run that has been: its turns, told again to a fresh machine, make the same run."""

from __future__ import annotations

import copy
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from typing import Any

import anyio

from flashgraph.errors import FlashgraphError
from flashgraph.graph.ports import PoolEvent
from flashgraph.run import events as ev
from flashgraph.run.budget import Budget, Ledger
from flashgraph.run.machine import Machine
from flashgraph.run.plan import Plan
from flashgraph.run.pools import PoolState
from flashgraph.run.turns import Turn, apply
from flashgraph.tasks.task import Task
from flashgraph.testing.log import InvariantViolation, around
from flashgraph.testing.snapshot import POOLS, snapshot

__all__ = ["FULL", "SlowlyTold", "Told", "listened"]

FULL = "the disk is full"


COPIED = 100
"""A pool's values up to this number are copied, and compared when the next one comes."""


def listened(machine: Machine) -> Mapping[str, list[PoolEvent[Any]]]:
    """By pool, everything that it is told from now on.

    A pool whose value is another than its `apply` returned raises `InvariantViolation` the next time it is told
    something: whoever reads the value has changed it.
    """
    heard: dict[str, list[PoolEvent[Any]]] = {name: [] for name in machine.pools}

    def listen(pool: PoolState) -> None:
        apply_ = pool._apply
        value = copy.deepcopy(pool.value)

        def noted(event: PoolEvent[Any]) -> Any:
            nonlocal value
            if len(heard[pool.name]) <= COPIED and pool.value != value:
                raise InvariantViolation(
                    f"pool {pool.name!r}: the value of version {pool.version} was changed after apply returned it\n"
                    "    expected: it stays as it is: it is the view that sources and stages read at that version\n"
                    "    fix:      copy what you change of at.view: dict(at.view.artifacts), list(...)"
                )
            heard[pool.name].append(event)
            after = apply_(event)
            if len(heard[pool.name]) <= COPIED:
                value = copy.deepcopy(after)
            return after

        pool._apply = noted  # type: ignore[method-assign]

    for pool in machine.pools.values():
        listen(pool)
    return heard


def _differing(found: tuple[Any, ...], expected: tuple[Any, ...]) -> str:
    """Which of two snapshots' pools differ, as the end of a phrase; empty where none does."""
    pools = [name for (name, *one), (_, *other) in zip(found[POOLS], expected[POOLS], strict=True) if one != other]
    return f" of pool {', '.join(map(repr, pools))}" if pools else ""


class Told:
    """Keeps what a run's machine was told, in the place of a journal; `again` tells it to a fresh one.

    After every turn the log must be as far as it was and the same; after every ``every``-th the whole state must be.
    """

    def __init__(self, events: Sequence[ev.Event], every: int = 50) -> None:
        self._events = events
        self._every = every
        self._turns: list[tuple[Turn, tuple[Any, ...] | None]] = []
        self._task: Task[Any, Any] | None = None
        self._until: list[int] = []
        """How long the log was after each turn; it shows what a turn has made when the next one is kept."""

    def keep(self, turn: Turn, machine: Machine) -> Callable[[], Awaitable[None]] | None:
        """Take a turn that has been applied."""
        if self._turns:
            self._until.append(len(self._events))
        self._task = machine.task
        whole = len(self._turns) % self._every == 0
        self._turns.append((turn, snapshot(machine) if whole else None))
        return None

    @property
    def turns(self) -> list[Turn]:
        """What was told so far."""
        return [turn for turn, _ in self._turns]

    def again(self, plan: Plan, budget: Budget, seed: int) -> int:
        """I13: tell it all to a fresh machine; returns the number of turns.

        Raises `InvariantViolation` where the machine becomes another: then a function that routes, scatters, orders,
        releases or admits decides by something else than what it is given, and a run that is resumed goes astray.
        """
        events = [self._events[0]]
        machine = Machine(plan, Ledger(budget), events.append, seed, self._task)
        for number, (turn, state) in enumerate(self._turns):
            before = len(events)
            why = f"I13: turn {number} of {len(self._turns)}, told again, "
            try:
                apply(turn, machine)
            except LookupError as error:
                raise InvariantViolation(f"{why}names {error}, which is not there this time") from error
            until = self._until[number] if number < len(self._until) else len(events)
            expected = list(self._events[before:until])
            if events[before:] != expected:
                both = zip(events[before:], expected, strict=False)
                other = before + next((i for i, (a, b) in enumerate(both) if a != b), 0)
                log = around(list(self._events), other)
                made = events[other] if other < len(events) else "nothing"
                raise InvariantViolation(
                    f"{why}makes another log:\n{log}\nThis time it is\n    {other}: {made}\n"
                    "Fix: pools, conditions, scatters, orders and release rules must depend on their arguments alone."
                )
            if state is not None and snapshot(machine) != state:
                raise InvariantViolation(
                    f"{why}makes the same log and another state{_differing(snapshot(machine), state)}.\n"
                    "Fix: what a pool or an item becomes must depend on arguments alone (no random, no clock, nothing "
                    "outside), and nothing of it may be changed in place."
                )
        return len(self._turns)


class SlowlyTold(Told):
    """Keeps them on a disk that takes its time: turn number n is durable after ``seconds(n)``, 0 for at once.  Turn
    number ``full`` and all after it find no room."""

    def __init__(self, events: Sequence[ev.Event], seconds: Callable[[int], float], full: int | None = None) -> None:
        super().__init__(events)
        self._seconds = seconds
        self._full = full

    def keep(self, turn: Turn, machine: Machine) -> Callable[[], Awaitable[None]] | None:
        """Take a turn that has been applied."""
        number = len(self._turns)
        super().keep(turn, machine)
        seconds = self._seconds(number)
        if self._full is not None and number >= self._full:
            if not seconds:
                raise FlashgraphError(FULL)
            return partial(self._filled, seconds)
        return partial(anyio.sleep, seconds) if seconds else None

    async def _filled(self, seconds: float) -> None:
        await anyio.sleep(seconds)
        raise FlashgraphError(FULL)
