"""The events of a run between two turns, for the journal's table of events."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeGuard

from flashgraph.run import events as ev
from flashgraph.run.journal.happened import Account, SampleUsed, Served
from flashgraph.run.machine import Machine
from flashgraph.run.turns import Turn

__all__ = ["Collected", "is_failure"]

ACCOUNTED = 0.25
"""The least seconds between two accounts among the events."""


class Collected:
    """Collect events; `take` returns those of a turn."""

    def __init__(self) -> None:
        self._events: list[ev.Event] = []
        self._accounted = -ACCOUNTED

    def add(self, event: ev.Event) -> None:
        self._events.append(event)

    def end(self, at: float, settled: Mapping[str, float]) -> list[ev.Event]:
        """Return the events of a session's end: cancelled requests too, which the account counts.

        A resume repeats the others of the last turn, and counts such a request again, as lost.
        """
        found = [e for e in self._events if isinstance(e, ev.CallEnded | ev.RunEnded) or is_failure(e)]
        return [*found, Account(at, dict(settled), dict.fromkeys(settled, 0.0))]

    def take(self, turn: Turn, machine: Machine) -> list[ev.Event]:
        """Return all events of a turn, with the readings of servers, the samples of its jobs and the account."""
        found, self._events = self._events, []
        if turn.halted:  # a resume repeats the rest
            found = [e for e in found if isinstance(e, ev.CallEnded | ev.RunEnded) or is_failure(e)]
        for event in [e for e in found if isinstance(e, ev.JobStarted)]:
            job = machine.jobs.get(event.job)
            work = None if job is None or job.item is None else job.item.value
            split, index = getattr(work, "split", None), getattr(work, "index", None)
            if isinstance(split, str) and type(index) is int:
                found.append(SampleUsed(turn.at, event.job, split, index))
        for reading in turn.measured:
            if (load := reading.load) is not None:
                found.append(Served(turn.at, reading.endpoint, load.running, load.waiting, load.cache))
        ledger = machine.ledger
        if found and turn.at - self._accounted >= ACCOUNTED:
            self._accounted = turn.at
            found.append(Account(turn.at, dict(ledger.settled), dict(ledger.reserved)))
        return found


def is_failure(event: ev.Event) -> TypeGuard[ev.JobEnded | ev.EdgeFailed]:
    """Return whether a job or a function on an edge failed."""
    return isinstance(event, ev.EdgeFailed) or (isinstance(event, ev.JobEnded) and event.how == "failed")
