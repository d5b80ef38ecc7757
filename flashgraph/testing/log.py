"""A run's event log under check: the input of an invariant check, and its errors."""

from __future__ import annotations

from collections.abc import Generator

import attrs

from flashgraph.run import events as ev
from flashgraph.run.budget import Budget
from flashgraph.run.plan import Plan

__all__ = ["Check", "InvariantViolation", "Log", "Stalled", "around"]

Check = Generator[None, tuple[int, ev.Event], None]
"""A check of one invariant: it receives each event with its position, and raises if the invariant does not hold."""


class InvariantViolation(AssertionError):
    """A violated invariant; the text names it, the event and what was expected."""


class Stalled(InvariantViolation):
    """I9: work is open, and nothing can happen any more."""


def around(events: list[ev.Event], position: int) -> str:
    """Return the log around one event, with a mark at it."""
    lines = list(enumerate(events))[max(0, position - 6) : position + 3]
    return "\n".join(f"  {'>' if i == position else ' '} {i}: {event}" for i, event in lines)


@attrs.define
class Log:
    """The events so far, with the plan and the budget of the run."""

    plan: Plan
    budget: Budget
    events: list[ev.Event] = attrs.field(factory=list)

    def expect(self, holds: bool, name: str, position: int, message: str) -> None:
        """Raise `InvariantViolation` for invariant ``name`` at an event unless ``holds``."""
        if not holds:
            raise InvariantViolation(f"{name}: {message}\n{around(self.events, position)}")
