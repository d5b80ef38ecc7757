"""Commits of the outcomes of jobs: each settles the account, ends the job's item and makes those of its result."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import attrs

from flashgraph.errors import described
from flashgraph.llm.secrets import without_secrets
from flashgraph.run import events as ev
from flashgraph.run.budget import Ledger
from flashgraph.run.cause import Cause, End, cause_of
from flashgraph.run.edge_functions import FAILURES_IN_A_ROW
from flashgraph.run.ending import RunEnding
from flashgraph.run.flow import Flow
from flashgraph.run.job_table import JobTable
from flashgraph.run.jobs import Done, Job, JobFailure, Outcome
from flashgraph.run.plan import Plan
from flashgraph.run.products import Products
from flashgraph.run.sources import Sources
from flashgraph.run.stages import Stages

__all__ = ["Commits"]


@attrs.frozen(eq=False)
class Commits:
    """Commits the outcomes of jobs and delivers their results."""

    plan: Plan
    ledger: Ledger
    flow: Flow
    stages: Stages
    sources: Sources
    work: JobTable
    products: Products
    ending: RunEnding
    emit: Callable[[ev.Event], None]

    def take(self, job: Job, outcome: Outcome) -> None:
        """Commit the outcome of a job that has ended.

        A serial schedule commits outcomes in the order in which their jobs started, and delivers each result before the
        next.  Groups are then released in the order of a synchronous loop.
        """
        if not self.plan.schedule.serial:
            self._commit(job, outcome)
            return
        waiting = self.work.uncommitted
        waiting.append((job, outcome))
        waiting.sort(key=lambda entry: entry[0].id)
        # Jobs are kept in the order of their numbers.
        while waiting and waiting[0][0] is next(j for j in self.work.jobs.values() if not j.done):
            self._commit(*waiting.pop(0))
            self.deliver()

    def _commit(self, job: Job, outcome: Outcome) -> None:
        self.work.done(job)
        state = self.stages.states[job.node] if job.item is not None else None
        if job.reservation is not None and state is not None:
            # A parked job that the end of the run cancels is the same execution when it runs again.
            spends = () if job.refused and self.ending.stopping is not None else state.plan.spec.counts
            self.ledger.settle(job.reservation, dict.fromkeys(spends, 1.0))
        gone = job.item is not None and not self.flow.is_open(job.item)
        # Before the item and its group end; only where a control policy compares rates, for it looks at all groups.
        compared = job.item is not None and self.plan.schedule.control.interval is not None
        share = self.flow.groups.share(job.item) if job.item is not None and compared else 0.0
        if isinstance(outcome, Done) and not gone:
            try:
                self.products.make(job, outcome)
                # A stage that found nothing to ask its model has not shown that the model's replies can be used.
                if state is not None and (job.asked or state.plan.endpoint is None):
                    state.failures = 0
            except Exception as error:  # the result itself is wrong
                outcome = JobFailure(cause_of(error), without_secrets(described(error)))
        if isinstance(outcome, JobFailure) and not gone:
            self._failed(job, outcome)
        self.emit(ev.JobEnded(self.flow.now, job.id, job.node, *_end_of(outcome, gone, self.flow.now - job.started_at)))
        if state is not None:
            state.finished += share

    def _failed(self, job: Job, outcome: JobFailure) -> None:
        if job.item is None:
            self.ending.stop(End("failed", Cause.SOURCE, f"source {job.node!r} failed: {outcome.reason}"))
            return
        if self.ending.stopping is not None and outcome.how == "cancelled":
            return  # the item stays open: the run was stopped, not its work
        if outcome.how == "failed" and self.products.take_failure(job, outcome.reason):
            # The graph expects failures of the function.  Twenty requests in a row that fail are still no success.
            if outcome.cause is not Cause.MODEL:
                return
        else:
            self.flow.end(job.item, outcome.how, outcome.cause, outcome.reason)
        if outcome.how != "failed":
            return
        state = self.stages.states[job.node]
        state.failures += 1
        if state.failures >= FAILURES_IN_A_ROW:
            said = f"stage {job.node!r} failed {state.failures} times in a row, the last time with: {outcome.reason}"
            self.ending.stop(End("failed", Cause.STREAK, said))

    def deliver(self) -> bool:
        """Hand results on where there is room; True if any moved.

        A worker is free again when all of its results are delivered.
        """
        moved = False
        for job in list(self.work.delivering.values()) if self.work.delivering else ():
            before, full = job.outbox, set[str]()
            job.outbox = []
            for item in before:
                if not self.flow.is_open(item):
                    continue
                if item.edge in full or not self.flow.put(item):
                    full.add(item.edge)
                    job.outbox.append(item)
            if not job.outbox:
                self._retire(job)
                moved = True
            elif len(job.outbox) < len(before):
                moved = True
        return moved

    def _retire(self, job: Job) -> None:
        self.work.retire(job)
        if job.kind == "source":
            self.sources.states[job.node].drawing = None
        else:
            self.stages.states[job.node].busy -= 1


def _end_of(
    outcome: Outcome, gone: bool, seconds: float
) -> tuple[Literal["done", "failed", "cancelled"], float, Cause, str]:
    """Return how a job ended, after how many seconds, and why; its item may be ``gone``."""
    if isinstance(outcome, Done):
        return ("cancelled", seconds, Cause.CANCELLED, "") if gone else ("done", seconds, Cause.DONE, "")
    cause = Cause.CANCELLED if gone and outcome.how != "cancelled" else outcome.cause
    return "cancelled" if gone else outcome.how, seconds, cause, outcome.reason
