"""Turns: what the driver tells the machine at one moment, as values that a journal can keep and tell again.

A machine is a pure function of its turns.  Whoever applies the same turns to a fresh machine of the same plan has the
same machine: that is what makes a run resumable.
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
    """How call number ``call`` ended, and what it spent.  ``request`` and ``reply`` are for who reads the run, and to
    serve the reply again to a job that runs again; ``reply`` is None unless it ended well."""

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
    """Seconds that the answer of a request that may be asked again asked to wait, if it named them."""
    estimated: bool = False
    """Whether ``usage`` is an estimate: nobody counts the tokens of a request that was cut off, and some servers count
    none at all."""
    outage: str = ""
    """Why the endpoint counts as down from now on."""
    quotas: tuple[Quota, ...] = ()
    """What the endpoint said of its rates."""


@statically_frozen
class Completed:
    """How job number ``job`` ended; ``cursor`` and ``stream`` are a source's state after its draw."""

    job: int
    outcome: Outcome
    source: str = ""
    cursor: Any = None
    stream: Any = None


@attrs.frozen
class Measured:
    """What an endpoint said of itself; None: it could not be asked."""

    endpoint: str
    load: Load | None


@statically_frozen
class Turn:
    """One moment: readings, answers, outcomes and requests, told to the machine in this order, and then a step.

    ``reopen`` are the limits of a session that goes on with a run, ``capacity`` is what it can do at once, and
    ``tested`` what held-out tests have spent since it was last reopened; ``drain`` is how a drained run ends.
    In a ``halted`` turn, of a run that is being stopped, answers are heard and nothing is decided.  ``goal`` is what
    the run is for from now on; the first turn of a session has one.
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
    """Tell a machine a turn; returns what it wants done."""
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
    told = turn.measured or turn.answered or turn.completed or turn.asked
    return [] if turn.halted else machine.step(quiet=not told)


def taken(told: list[T], place: Callable[[T], Any]) -> tuple[T, ...]:
    """Return all that a list holds, in the order of its places, and empty it."""
    if not told:
        return ()
    found = tuple(sorted(told, key=place))
    told.clear()
    return found
