"""A run's event log under watch: what a check of an invariant is told, and how it says that one does not hold."""

from __future__ import annotations

from collections.abc import Generator

import attrs

from flashgraph.run import events as ev
from flashgraph.run.budget import Budget
from flashgraph.run.plan import Plan

__all__ = ["Check", "InvariantViolation", "Log", "Stalled", "around"]

Check = Generator[None, tuple[int, ev.Event], None]
"""A check of one invariant: it is sent each event with its position, and raises where the invariant does not hold."""


class InvariantViolation(AssertionError):
    """An invariant does not hold; the text names it, the event and what was expected."""


class Stalled(InvariantViolation):
    """I9: work is open, and nothing can happen any more."""


def around(events: list[ev.Event], position: int) -> str:
    """The log around one event, with a mark at it."""
    lines = list(enumerate(events))[max(0, position - 6) : position + 3]
    return "\n".join(f"  {'>' if i == position else ' '} {i}: {event}" for i, event in lines)


@attrs.define
class Log:
    """What was logged so far, with what it is held against."""

    plan: Plan
    budget: Budget
    events: list[ev.Event] = attrs.field(factory=list)

    def expect(self, holds: bool, name: str, position: int, message: str) -> None:
        """Raises `InvariantViolation` for invariant ``name`` at an event unless ``holds``."""
        if not holds:
            raise InvariantViolation(f"{name}: {message}\n{around(self.events, position)}")
