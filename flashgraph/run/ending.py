"""How a run ends: stopped, drained, or because no work is left that could start."""

from __future__ import annotations

from collections.abc import Callable

from flashgraph.errors import FlashgraphError
from flashgraph.run import events as ev
from flashgraph.run.budget import Ledger
from flashgraph.run.calls import Calls
from flashgraph.run.cause import End
from flashgraph.run.flow import Flow
from flashgraph.run.job_table import JobTable
from flashgraph.run.openings import Openings
from flashgraph.run.starts import Starts

__all__ = ["RunEnding", "SchedulerStalled"]


class SchedulerStalled(FlashgraphError):
    """Work is open, nothing runs and nothing can: a defect of flashgraph (invariant I9), never of a graph."""


class RunEnding:
    """The end of one run."""

    def __init__(
        self,
        ledger: Ledger,
        flow: Flow,
        calls: Calls,
        work: JobTable,
        starts: Starts,
        openings: Openings,
        emit: Callable[[ev.Event], None],
    ) -> None:
        self.status: End | None = None
        """How the run ended, once it is over."""
        self.stopping: End | None = None
        """How the run ends when all that runs is cancelled."""
        self.draining: End | None = None
        """How the run ends when all that runs has ended; nothing new starts."""
        self._ledger = ledger
        self._flow = flow
        self._calls = calls
        self._work = work
        self._starts = starts
        self._openings = openings
        self._emit = emit

    def stop(self, end: End) -> None:
        """End the run: nothing starts any more, what runs is cancelled, what is open stays open."""
        if self.stopping is None:
            self.stopping = end
            self._work.cancel_all()

    def drain(self, end: End) -> None:
        """Start nothing new; the run ends when what runs has ended, and its other open work stays open."""
        self.draining = self.draining or end

    def reopen(self) -> None:
        """Let a run that ended, or was killed, continue."""
        self.status = self.stopping = self.draining = None

    def finish(self, *, quiet: bool) -> None:
        """Set `status` if the run is over."""
        if self.status is not None or self._work.commands:
            return
        running = not self._work.idle
        if running and (self.stopping is not None or not self._all_parked()):
            return
        end = self._end()
        if end is None:
            return
        if running:
            # In a turn of its own: the journal keeps the inputs of this turn, and not those of a stopped run.
            if quiet:
                self.stop(end)
            return
        self.status = end
        self._emit(ev.RunEnded(self._flow.now, end.status, end.cause, end.reason, len(self._flow.places.items)))

    def _all_parked(self) -> bool:
        """Whether all jobs that have not ended wait for a larger budget."""
        if self._ledger.refused is None:
            return False
        ended = {job.id for job, _ in self._work.uncommitted}
        return all(job.done or job.id in ended or (job.refused and not job.calls) for job in self._work.jobs.values())

    def _end(self) -> End | None:
        """Return how the run ends now that nothing runs but parked jobs; None if it continues."""
        if self.stopping is not None:
            return self.stopping
        if self.draining is not None:
            return self.draining
        if self._openings.waiting_since is not None:
            return None  # it opens a round when it is quiet
        if not self._flow.places.items and not self._work.jobs:
            limit = self._ledger.exhausted()
            return End.spent(limit) if limit is not None else self._openings.silence()
        if (limit := self._starts.held_back()) is not None:
            # Also while a group has a deadline: with a larger budget its members would have come before that.
            return End.spent(limit)
        if self._flow.groups.next_timer() is None and self._calls.slots.next_opening(self._flow.now) is None:
            raise SchedulerStalled(
                f"{len(self._flow.places.items)} items are open and nothing can run; this is a defect of flashgraph"
            )
        return None
