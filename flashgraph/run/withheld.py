"""Work that the budget has no room for: it stays open, and a session with a larger budget continues it.

A stage starts nothing while a limit that it spends is used up: its items stay in their queues.  A job with a refused
request is parked (`Job.refused`).  Its result is not used, because a function that got "no calls left" returns another
value than one that got a reply.  The run ends when nothing else can run.  Resumed with a larger limit, it equals a run
that had that limit from the start.
"""

from __future__ import annotations

from collections.abc import Iterable

from flashgraph.run.budget import OF_REQUESTS, Ledger, with_role
from flashgraph.run.calls import Calls
from flashgraph.run.stages import Stages, StageState

__all__ = ["Withheld"]


class Withheld:
    """The stages that the budget holds back."""

    def __init__(self, ledger: Ledger, calls: Calls, stages: Stages) -> None:
        self._ledger = ledger
        self._calls = calls
        self._stages = stages

    def limit_of(self, state: StageState) -> str | None:
        """Return the limit that keeps a stage from starting another job; None if it may start one."""
        if not self._ledger.limits:
            return None
        spends, role = state.plan.spec.counts, state.plan.spec.model
        if spends and (lacking := self._ledger.lacking(dict.fromkeys(spends, 1.0))) is not None:
            return lacking
        if state.plan.endpoint is None:
            return None
        # The next request of a stage needs as much as the refused one; another stage's may need less.
        spent = with_role(role or "", dict.fromkeys(OF_REQUESTS, 0.0))
        return self._calls.refused.get(state.plan.spec.name) or self._ledger.used_up(spent)

    def limit(self, startable: Iterable[StageState]) -> str | None:
        """Return the limit that all work waits for when nothing runs; None if some work can run without more.

        ``startable`` are the stages that may start work now.
        """
        limit = self._ledger.refused
        for state in startable:
            if not self._stages.has_work(state):
                continue
            held = self.limit_of(state)
            if held is None and state.busy < state.most:
                return None  # it waits for a slot
            limit = limit or held
        return limit
