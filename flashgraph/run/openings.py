"""When sources open rounds: not past the run's goal or its reserve, and after what else happens at that moment."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import attrs

from flashgraph.graph.ports import Artifact
from flashgraph.run import events as ev
from flashgraph.run.budget import Ledger
from flashgraph.run.cause import Cause, End
from flashgraph.run.flow import Flow
from flashgraph.run.goal import NO_GOAL, Goal, Goals
from flashgraph.run.job_table import JobTable
from flashgraph.run.jobs import Start
from flashgraph.run.plan import Plan
from flashgraph.run.pools import PoolState
from flashgraph.run.reserve import Reserve
from flashgraph.run.sources import Sources, SourceState

__all__ = ["SETTLING", "Openings"]

SETTLING = 0.05
"""Seconds for which a round that could be opened waits at most until nothing else happens."""


@attrs.define(eq=False)
class Openings:
    """Opens the rounds of one run."""

    plan: Plan
    ledger: Ledger
    flow: Flow
    pools: Mapping[str, PoolState]
    sources: Sources
    goals: Goals
    reserve: Reserve
    work: JobTable
    emit: Callable[[ev.Event], None]
    waiting_since: float | None = attrs.field(default=None, init=False)
    """Since when a round could be opened that waits until nothing else happens; None if none could."""

    @property
    def champion(self) -> tuple[PoolState, Artifact] | None:
        """The artifact that the run would hand out now, with its pool (`GraphSpec.results`)."""
        pools = (self.pools[name] for name in self.plan.graph.results)
        return next(((pool, pool.best) for pool in pools if pool.best is not None), None)

    def aim(self, goal: Goal) -> None:
        """Give the run another goal."""
        self.goals.aim(goal)
        self.sources.closed = ()

    def look_at_goal(self) -> End | None:
        """Close the sources that the reserve and the goal close; return how the run ends if it has reached its goal."""
        self.sources.closed = self.reserve.closes if self._reserved() else ()
        if self.goals.goal == NO_GOAL:
            return None
        proposals = self.ledger.settled["proposals"]
        pool, champion = self.champion or (None, None)
        end = self.goals.look(pool.value if pool is not None else None, champion, proposals)
        self.sources.closed = {*self.sources.closed, *self.goals.closed(proposals)}
        return end

    def silence(self) -> End:
        """Return how the run ends when no source opens another round, and no limit is used up."""
        if self._reserved():
            said = "the rest of the budget was set aside for evidence, and no contender lacks any"
            return End("budget", Cause.RESERVE, said)
        given_up = self.goals.given_up(self.ledger.settled["proposals"])
        return given_up or End("completed", Cause.DONE, self.sources.silence)

    def _reserved(self) -> bool:
        return self.reserve.reached(self.flow.now, self.goals.goal.seconds)

    def open(self, *, quiet: bool) -> bool:
        """Start the sources that may open a round now; True if any was started."""
        opened = False
        while (source := self._next(quiet)) is not None:
            spec = self.plan.sources[source.name]
            job = self.work.begin(source.name, "source", self.flow.now, None)
            job.emission, source.drawing = source.emissions, job
            pools = [self.pools[name] for name in spec.reads]
            job.stamps = {pool.name: pool.version for pool in pools}
            views = self.sources.views(source, pools)
            self.emit(ev.JobStarted(self.flow.now, job.id, source.name, None, 1, 0))
            beside = self.flow.rounds.began_with(source.name)
            champion = pools[0].best if pools else None
            turn = self.sources.turn
            self.work.commands.append(Start(job, None, views, beside=beside, turn=turn, champion=champion))
            opened = True
        return opened

    def _next(self, quiet: bool) -> SourceState | None:
        one_at_a_time = self.plan.schedule.serial and (self.flow.places.items or self.work.jobs)
        found = None if one_at_a_time or self.ledger.exhausted() is not None else self.sources.next()
        if found is None or quiet or not self.plan.endpoints:
            self.waiting_since = None
            return found
        if self.waiting_since is None:
            self.waiting_since = self.flow.now
        return found if self.flow.now >= self.waiting_since + SETTLING else None
