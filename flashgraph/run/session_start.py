"""The state that a session of a run starts from: a fresh one, or the one that the journal leads to."""

from __future__ import annotations

import random
from collections.abc import Mapping
from typing import Any, Self

import attrs

from flashgraph.run.jobs import Command
from flashgraph.run.machine import Machine
from flashgraph.run.paid_replies import PaidReplies
from flashgraph.run.plan import Capacity

__all__ = ["SessionStart"]


@attrs.frozen
class SessionStart:
    """The state of a run at the start of a session, beside its machine's."""

    at: float
    """Seconds on the run's clock."""
    stream: random.Random
    """The stream of the sources with ``stream="sequential"``."""
    cursors: Mapping[str, Any]
    """By source."""
    commands: tuple[Command, ...] = ()
    """These start the jobs that were interrupted."""
    served: PaidReplies = attrs.field(factory=PaidReplies)
    reopen: Mapping[str, float] | None = None
    """The limits under which the run continues; None in the first session."""
    capacity: Capacity | None = None
    """Its workers and endpoints from now on; None if they are as before."""
    tested: Mapping[str, float] = attrs.field(factory=dict)
    """The amounts that held-out tests have spent and the account does not have yet."""

    @classmethod
    def first(cls, machine: Machine) -> Self:
        """Return the start of a run's first session."""
        cursors = {name: source.state for name, source in machine.plan.sources.items()}
        return cls(0.0, random.Random(machine.seed), cursors)
