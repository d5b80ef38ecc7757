"""Work that the budget has no room for: it stays open, and a session with a larger budget goes on with it.

A stage starts nothing while a limit that it draws on is used up: its items stay in their queues.  A job of which a
request was refused is parked (`Job.refused`): whatever its function says after that is not used, because a function
that has heard "no calls left" says something else than one that was answered.  The run ends when nothing else can go
on, and a run that is resumed with a larger limit equals one that had it from the start.
"""

from __future__ import annotations

from collections.abc import Iterable

from flashgraph.run.budget import Ledger
from flashgraph.run.calls import Calls
from flashgraph.run.stages import Stages, StageState

__all__ = ["Withheld"]

OF_REQUESTS = ("calls", "tokens", "usd")
"""The limits that a model request draws on."""


class Withheld:
    """Which stages the budget holds back."""

    def __init__(self, ledger: Ledger, calls: Calls, stages: Stages) -> None:
        self._ledger = ledger
        self._calls = calls
        self._stages = stages

    def limit_of(self, state: StageState) -> str | None:
        """The limit that keeps a stage from starting another execution; None where none does."""
        if not self._ledger.limits:
            return None
        spends = state.plan.spec.spends
        if spends and (lacking := self._ledger.lacking(dict.fromkeys(spends, 1.0))) is not None:
            return lacking
        if state.plan.endpoint is None:
            return None
        # Of a stage whose request was refused the next one needs as much; another stage's may need less.
        return self._calls.refused.get(state.plan.spec.name) or self._ledger.used_up(OF_REQUESTS)

    def limit(self, startable: Iterable[StageState]) -> str | None:
        """The limit that all work waits for, where nothing runs; None if something may go on without more of it.

        ``startable`` are the stages whose turn it is.
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
