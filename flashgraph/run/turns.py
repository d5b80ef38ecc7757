"""Turns: the driver's input to the machine at one moment, as values that a journal can keep and replay.

A machine is a pure function of its turns.  A replay of the turns on a fresh machine of the same plan gives the same
machine, which makes a run resumable.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

import attrs

from flashgraph.llm.protocol import Load, Message, Quota, Reply
from flashgraph.run.cause import End
from flashgraph.run.goal import Goal
from flashgraph.run.jobs import Command, Outcome
from flashgraph.run.machine import Machine
from flashgraph.run.plan import Capacity
from flashgraph.run.static_frozen import statically_frozen

__all__ = ["Answered", "Asked", "Completed", "Measured", "Turn", "apply", "taken"]

T = TypeVar("T")


@statically_frozen
class Asked:
    """Job number ``job`` wants to call a role's model, with a prompt of about ``size`` tokens."""

    job: int
    role: str
    amounts: Mapping[str, float]
    size: float = 0.0


@attrs.frozen
class Answered:
    """The end of call number ``call``, and the amounts that it spent.

    ``request`` and ``reply`` are for readers of the run, and for a resumed job that makes the request again.  ``reply``
    is None unless the call succeeded.
    """

    call: int
    job: int
    how: str
    spent: Mapping[str, float]
    usage: tuple[int, int] = (0, 0)
    usd: float | None = None
    finish: str = ""
    request: str = ""
    """The key of the request; see `flashgraph.run.paid_replies.request_key`."""
    messages: Sequence[Message] = ()
    reply: Reply | None = None
    pause: float | None = None
    """Seconds to wait before the next try, if the answer named them."""
    estimated: bool = False
    """Whether ``usage`` is an estimate: a cancelled request has no count, and some servers never count."""
    outage: str = ""
    """Why the endpoint counts as down from now on; empty if it does not."""
    quotas: tuple[Quota, ...] = ()
    """The endpoint's own account of its rates."""


@statically_frozen
class Completed:
    """The end of job number ``job``; ``cursor`` and ``stream`` are a source's state after its draw."""

    job: int
    outcome: Outcome
    source: str = ""
    cursor: Any = None
    stream: Any = None


@attrs.frozen
class Measured:
    """An endpoint's account of its load; None if it gave none."""

    endpoint: str
    load: Load | None


@statically_frozen
class Turn:
    """One moment: readings, answers, outcomes and requests, applied to the machine in this order, and then a step.

    ``reopen`` are the limits of a session that resumes a run, and ``capacity`` its workers and endpoints.  ``tested``
    are the amounts that held-out tests have spent since the last session.  ``drain`` ends a run that is being drained.
    In a ``halted`` turn, of a run that is being stopped, answers are applied and nothing is decided.  ``goal`` is the
    run's goal from now on; the first turn of a session has one.
    """

    at: float
    answered: tuple[Answered, ...] = ()
    completed: tuple[Completed, ...] = ()
    asked: tuple[Asked, ...] = ()
    drain: End | None = None
    reopen: Mapping[str, float] | None = None
    halted: bool = False
    capacity: Capacity | None = None
    tested: Mapping[str, float] = attrs.field(factory=dict)
    measured: tuple[Measured, ...] = ()
    goal: Goal | None = None


def apply(turn: Turn, machine: Machine) -> list[Command]:
    """Apply a turn to a machine and return its commands."""
    machine.now = turn.at
    if turn.reopen is not None:
        machine.ledger.charge(turn.tested)
        machine.reopen(turn.reopen)
    if turn.capacity is not None:
        machine.resize(turn.capacity)
    if turn.goal is not None:
        machine.aim(turn.goal)
    for measured in turn.measured:
        machine.calls.measured(measured.endpoint, measured.load)
    for answer in turn.answered:
        machine.calls.answered(
            machine.calls.open[answer.call], answer.spent, answer.usage, answer.usd, answer.how, answer.finish,
            pause=answer.pause, outage=answer.outage, estimated=answer.estimated, quotas=answer.quotas,
        )  # fmt: skip
    for done in turn.completed:
        machine.completed(machine.jobs[done.job], done.outcome)
    for asked in turn.asked:
        machine.calls.request(machine.jobs[asked.job], asked.role, asked.amounts, asked.size)
    if turn.drain is not None:
        machine.drain(turn.drain)
    happened = turn.measured or turn.answered or turn.completed or turn.asked
    return [] if turn.halted else machine.step(quiet=not happened)


def taken(entries: list[T], place: Callable[[T], Any]) -> tuple[T, ...]:
    """Return the entries of a list, ordered by ``place``, and empty the list."""
    if not entries:
        return ()
    found = tuple(sorted(entries, key=place))
    entries.clear()
    return found
