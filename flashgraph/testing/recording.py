"""I13 on a finished run: its recorded turns, replayed on a fresh machine, make the same run."""

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
from flashgraph.testing.signatures import POOLS, whole_state

__all__ = ["FULL", "Recording", "SlowRecording", "record_pools"]

FULL = "the disk is full"


COPIED = 100
"""The number of values of a pool that are copied, and compared when the next one is made."""


def record_pools(machine: Machine) -> Mapping[str, list[PoolEvent[Any]]]:
    """Return by pool all events that it applies from now on.

    A pool whose value has changed since its `apply` returned raises `InvariantViolation` at its next event: a reader of
    the value has changed it in place.
    """
    applied: dict[str, list[PoolEvent[Any]]] = {name: [] for name in machine.pools}

    def record(pool: PoolState) -> None:
        apply_ = pool._apply
        value = copy.deepcopy(pool.value)

        def checked(event: PoolEvent[Any]) -> Any:
            nonlocal value
            if len(applied[pool.name]) <= COPIED and pool.value != value:
                raise InvariantViolation(
                    f"pool {pool.name!r}: the value of version {pool.version} was changed after apply returned it\n"
                    "    expected: an unchanged value, because nodes read it as the view of that version\n"
                    "    fix:      copy the parts of ctx.view that you change: dict(ctx.view.artifacts), list(...)"
                )
            applied[pool.name].append(event)
            after = apply_(event)
            if len(applied[pool.name]) <= COPIED:
                value = copy.deepcopy(after)
            return after

        pool._apply = checked  # type: ignore[method-assign]  # a pool has no hook that sees its values

    for pool in machine.pools.values():
        record(pool)
    return applied


def _differing(found: tuple[Any, ...], expected: tuple[Any, ...]) -> str:
    """Return the pools in which two snapshots differ, as the end of a phrase; empty for none."""
    pools = [name for (name, *one), (_, *other) in zip(found[POOLS], expected[POOLS], strict=True) if one != other]
    return f" of pool {', '.join(map(repr, pools))}" if pools else ""


class Recording:
    """Records the turns of a run in place of a journal, and replays them on a fresh machine.

    `replay` compares the log after every turn and the whole state after every ``every``-th.
    """

    def __init__(self, events: Sequence[ev.Event], every: int = 50) -> None:
        self._events = events
        self._every = every
        self._turns: list[tuple[Turn, tuple[Any, ...] | None]] = []
        self._task: Task[Any, Any] | None = None
        self._until: list[int] = []
        """The length of the log after each turn, known once the next turn is kept."""

    def keep(self, turn: Turn, machine: Machine) -> Callable[[], Awaitable[None]] | None:
        """Record a turn that the machine has applied."""
        if self._turns:
            self._until.append(len(self._events))
        self._task = machine.task
        whole = len(self._turns) % self._every == 0
        self._turns.append((turn, whole_state(machine) if whole else None))
        return None

    @property
    def turns(self) -> list[Turn]:
        """The turns so far."""
        return [turn for turn, _ in self._turns]

    def replay(self, plan: Plan, budget: Budget, seed: int) -> int:
        """Replay all turns on a fresh machine (I13); return their number.

        Raises `InvariantViolation` if the machine differs.  Then a function that routes, scatters, orders, releases or
        admits depends on more than its arguments, and a resumed run would diverge.
        """
        events = [self._events[0]]
        machine = Machine(plan, Ledger(budget), events.append, seed, self._task)
        for number, (turn, state) in enumerate(self._turns):
            before = len(events)
            why = f"I13: turn {number} of {len(self._turns)}, replayed, "
            try:
                apply(turn, machine)
            except LookupError as error:
                raise InvariantViolation(f"{why}names {error}, which the replay does not have") from error
            until = self._until[number] if number < len(self._until) else len(events)
            expected = list(self._events[before:until])
            if events[before:] != expected:
                both = zip(events[before:], expected, strict=False)
                other = before + next((i for i, (a, b) in enumerate(both) if a != b), 0)
                log = around(list(self._events), other)
                made = events[other] if other < len(events) else "nothing"
                raise InvariantViolation(
                    f"{why}makes another log:\n{log}\nThe replay has\n    {other}: {made}\n"
                    "Fix: pools, conditions, scatters, orders and release rules must depend on their arguments alone."
                )
            if state is not None and whole_state(machine) != state:
                raise InvariantViolation(
                    f"{why}makes the same log and another state{_differing(whole_state(machine), state)}.\n"
                    "Fix: make pools and items depend on arguments alone (no random, no clock, no global), and change "
                    "no value in place."
                )
        return len(self._turns)


class SlowRecording(Recording):
    """A recording on a slow disk: turn n is durable after ``seconds(n)``, or at once for 0.

    From turn number ``full`` on the disk is full.
    """

    def __init__(self, events: Sequence[ev.Event], seconds: Callable[[int], float], full: int | None = None) -> None:
        super().__init__(events)
        self._seconds = seconds
        self._full = full

    def keep(self, turn: Turn, machine: Machine) -> Callable[[], Awaitable[None]] | None:
        """Record a turn that the machine has applied."""
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
