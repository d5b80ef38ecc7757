"""Why an item, a job or a run has ended: a cause for code, and beside it a reason for people.

Code compares causes and never reads a reason.  The values are stored in journals, so none may change.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Literal

import attrs

from flashgraph.errors import ModelError
from flashgraph.run.budget import unit

__all__ = ["LIMITS", "Cause", "End", "RunStatus", "cause_of"]

RunStatus = Literal["completed", "budget", "failed", "stopped", "cancelled"]


class Cause(StrEnum):
    """The causes of an end."""

    DONE = "done"
    """It ended as it should: an item was consumed, a job returned, or a run's sources emit no more."""
    NOTHING = "nothing"
    """An item: its stage returned None."""
    UNROUTED = "unrouted"
    """An item: no edge took the result of its stage."""
    SPENT = "spent"
    """An item: it had passed a loop edge as often as it may, and no other edge took it."""

    DUPLICATE = "duplicate"
    """An item: its edge had taken an equal one before (``distinct``)."""
    UNCHANGED = "unchanged"
    """An item: its pool did not admit it."""
    LATE = "late"
    """An item: its group was released without it."""
    GROUP = "group"
    """An item: more members of its group failed than the edge's failure rule allows."""
    VOID = "void"
    """An item: its group can never be released."""
    STALE = "stale"
    """An item: its edge's staleness rule discarded it."""
    ORPHAN = "orphan"
    """An item: it descends from an artifact that was retracted."""
    REPAIR = "repair"
    """An item: a repair stage judged it not worth keeping."""
    FUNCTION = "function"
    """An item or a run: a function on an edge raised; a run ends when one raises many times in a row."""

    RAISED = "raised"
    """A job and its item: the function raised, or returned what cannot be used."""
    MODEL = "model"
    """A job and its item: a model request failed.  A run: no request can succeed, or one cost more than its bound."""
    CANCELLED = "cancelled"
    """A job and its item: it was cancelled, because its item had ended or its run was ending."""
    ABANDONED = "abandoned"
    """A job and its item: it did not end in time after it was cancelled."""

    PROPOSALS = "proposals"
    """A run: no proposals are left in the budget."""
    EVALUATIONS = "evaluations"
    """A run: no evaluations are left in the budget."""
    CALLS = "calls"
    """A run: no calls are left in the budget."""
    TOKENS = "tokens"
    """A run: no tokens are left in the budget."""
    USD = "usd"
    """A run: no money is left in the budget."""
    SECONDS = "seconds"
    """A run: its time is over."""
    RESERVE = "reserve"
    """A run: the rest of the budget is reserved for evidence, and no artifact lacks any."""
    TARGET = "target"
    """A run: its champion has the target score."""
    PERFECT = "perfect"
    """A run: its champion has the greatest score on all of the validation."""
    PATIENCE = "patience"
    """A run: too many proposals in a row were no improvement."""
    IDLE = "idle"
    """A run: its rounds use nothing of the budget, which would never end it."""
    CALLER = "caller"
    """A run: the caller or a signal stopped it."""
    SOURCE = "source"
    """A run: a source failed."""
    STREAK = "streak"
    """A run: a stage failed many times in a row."""
    FRUITLESS = "fruitless"
    """A run: nothing was admitted, because stages or functions on edges failed."""
    JOURNAL = "journal"
    """A run: its journal takes no more."""
    ERROR = "error"
    """A run: an exception ended it, such as one of a pool's own."""

    def __repr__(self) -> str:
        return f"Cause.{self.name}"


LIMITS = frozenset({Cause.PROPOSALS, Cause.EVALUATIONS, Cause.CALLS, Cause.TOKENS, Cause.USD, Cause.SECONDS})
"""The limits of a budget, by the name of each."""


@attrs.frozen
class End:
    """How a run ends."""

    status: RunStatus
    cause: Cause
    reason: str

    @classmethod
    def spent(cls, limit: str) -> End:
        """Return the end of a run whose budget has nothing left of ``limit``."""
        return cls("budget", Cause(unit(limit)), f"no {limit} left")


def cause_of(error: Exception) -> Cause:
    """Return the cause of a job's failure with ``error``."""
    return Cause.MODEL if isinstance(error, ModelError) else Cause.RAISED
