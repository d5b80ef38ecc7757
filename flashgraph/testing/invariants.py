"""The invariants of a run that show in its event log: I1 to I10, and I14 to I16.

Each check is a function of `Log` that receives one event after another.  `check_invariants` runs all checks over a
finished run, `Watch` during one.  They recount everything from single events and do not trust the scheduler's counters.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from flashgraph.run import events as ev
from flashgraph.run.budget import Budget
from flashgraph.run.plan import Plan
from flashgraph.testing import bounds, evidence, versions
from flashgraph.testing.log import Check, InvariantViolation, Log

__all__ = ["INVARIANTS", "InvariantViolation", "Log", "Watch", "check_invariants"]


def progress(log: Log) -> Check:
    """I9: a run ends once, and again after each resume; nothing happens after its end."""
    over = False
    while True:
        i, event = yield
        log.expect(not over or isinstance(event, ev.Reopened), "I9", i, "the run has ended, and this came after")
        over = isinstance(event, ev.RunEnded)


INVARIANTS: Mapping[str, Sequence[Callable[[Log], Check]]] = {
    "I1": [bounds.conservation, bounds.numbers],
    "I2": [bounds.capacities],
    "I3": [bounds.workers],
    "I4": [bounds.windows, bounds.outages],
    "I5": [versions.versions],
    "I6": [versions.stamps],
    "I7": [versions.staleness],
    "I8": [versions.releases, versions.evidence, versions.orphans],
    "I9": [progress],
    "I10": [bounds.budgets],
    "I14": [bounds.times],
    "I15": [versions.failures],
    "I16": [evidence.champions, evidence.estimates],
}


class Watch:
    """Checks a run against the invariants as it runs: pass each event to `see`, then call `ended`.

    Both raise `InvariantViolation`, with the events around the first violation.
    """

    def __init__(self, plan: Plan, budget: Budget | None = None) -> None:
        self.log = Log(plan, budget or Budget())
        self._checks = [check(self.log) for checks in INVARIANTS.values() for check in checks]
        for check in self._checks:
            next(check)

    def see(self, event: ev.Event) -> None:
        self.log.events.append(event)
        sent = (len(self.log.events) - 1, event)
        for check in self._checks:
            check.send(sent)

    def ended(self) -> None:
        """Check that the run came to a proper end, not a stall (I9)."""
        last = len(self.log.events) - 1
        over = last >= 0 and isinstance(self.log.events[last], ev.RunEnded)
        self.log.expect(over, "I9", last, "the log breaks off without an end")


def check_invariants(events: Sequence[ev.Event], plan: Plan, budget: Budget | None = None) -> None:
    """Check I1 to I10, and I14 to I16, on the log of a finished run.

    Raises `InvariantViolation` for the first violation, with the events around it.
    """
    watch = Watch(plan, budget)
    for event in events:
        watch.see(event)
    watch.ended()
