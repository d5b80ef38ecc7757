"""The jobs that have started, and the commands that the driver has not taken yet."""

from __future__ import annotations

from typing import Literal

from flashgraph.run.items import Item
from flashgraph.run.jobs import Cancel, Command, Job, Outcome

__all__ = ["JobTable"]


class JobTable:
    """The jobs of one run that are not over."""

    def __init__(self) -> None:
        self.jobs: dict[int, Job] = {}
        """By number, in the order in which they were started."""
        self.begun = 0
        """How many jobs there have been."""
        self.uncommitted: list[tuple[Job, Outcome]] = []
        """Jobs of a serial run that have ended and wait for those that started before them."""
        self.delivering: dict[int, Job] = {}
        """Jobs that are done and hold their worker until their results are delivered."""
        self.commands: list[Command] = []
        self._on: dict[int, Job] = {}
        """By item, the job that works on it."""

    @property
    def running(self) -> list[Job]:
        """The jobs that have started and not ended."""
        return [job for job in self.jobs.values() if not job.done]

    @property
    def idle(self) -> bool:
        """Whether no job runs."""
        return len(self.jobs) == len(self.delivering)

    def begin(self, node: str, kind: Literal["source", "stage", "repair"], at: float, item: Item | None) -> Job:
        """Make the next job, on ``item`` if it is not a source's."""
        job = Job(self.begun, node, kind, at, item)
        self.begun += 1
        self.jobs[job.id] = job
        if item is not None:
            self._on[item.id] = job
        return job

    def on(self, item: Item) -> Job | None:
        """Return the job that works on ``item``, if one does."""
        return self._on.get(item.id)

    def done(self, job: Job) -> None:
        """Take a job as done; it stays until its results are delivered."""
        job.done = True
        self.delivering[job.id] = job
        if job.item is not None:
            del self._on[job.item.id]

    def retire(self, job: Job) -> None:
        """Remove a job whose results are delivered."""
        del self.jobs[job.id], self.delivering[job.id]

    def cancel(self, job: Job) -> None:
        """Have a running job cancelled; one that is done stays as it is."""
        if not job.done and not job.cancelled:
            job.cancelled = True
            self.commands.append(Cancel(job))

    def cancel_all(self) -> None:
        """Have all running jobs cancelled."""
        for job in self.jobs.values():
            self.cancel(job)

    def take_commands(self) -> list[Command]:
        """Return the commands since the last call."""
        commands = list(self.commands)
        self.commands.clear()
        return commands
