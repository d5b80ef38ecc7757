"""The next item of each stage: its repairs, and the heads of its queues that pass their staleness rules."""

from __future__ import annotations

import sys

import attrs

from flashgraph.policies.staleness import Decision
from flashgraph.run.admission import Admission
from flashgraph.run.cause import Cause
from flashgraph.run.edge_functions import FunctionRaised
from flashgraph.run.flow import Flow
from flashgraph.run.items import Item
from flashgraph.run.plan import EdgePlan, Plan, StagePlan
from flashgraph.run.queues import EdgeQueue

__all__ = ["StageState", "Stages"]


@attrs.define(eq=False)
class StageState:
    """The state of one stage: ``busy`` of at most ``most`` workers, and the items that wait for it."""

    plan: StagePlan
    most: int
    busy: int = 0
    finished: float = 0.0
    failures: int = 0
    repairs: list[tuple[Item, str, str]] = attrs.field(factory=list)
    """Held items that wait for this repair stage, each with the edge whose rule sent it and the changed pool."""
    feeds: list[tuple[EdgePlan, EdgeQueue, EdgeQueue | None]] = attrs.field(factory=list)
    """The incoming edges with their queues, and for a scattering edge the members of opened groups."""
    alone: EdgeQueue | None = None
    """The queue of the only edge, if the stage has one edge."""
    judged: bool = False
    """Whether the head may depend on the pools."""
    head: tuple[Item, None] | None = None
    """The item that leaves these queues next, as of `head_at` changes."""
    head_at: int = -1


class Stages:
    """The stages of one run, and which item each takes up next."""

    def __init__(self, plan: Plan, flow: Flow, admission: Admission) -> None:
        self.states = {n: StageState(s, plan.schedule.control.start(s.workers)) for n, s in plan.stages.items()}
        for name, state in self.states.items():
            state.feeds = [
                (e, flow.places.queues[e.name], flow.places.members.get(e.name)) for e in plan.incoming[name]
            ]
            if [members for _, _, members in state.feeds] == [None]:
                state.alone = state.feeds[0][1]
            state.judged = any(e.judges for e in plan.incoming[name])
        self.by_drain = sorted(self.states.values(), key=lambda s: (s.plan.distance, -s.plan.rank))
        """The stages, nearest the pool first."""
        self.by_rank = sorted(self.states.values(), key=lambda s: s.plan.rank)
        """The stages in the order of the graph."""
        self.stirred = False
        """Whether a search for a head has discarded an item or sent one to a repair."""
        self._flow = flow
        self._admission = admission

    def resize(self, plan: Plan) -> None:
        """Change the workers."""
        for name, state in self.states.items():
            state.plan = plan.stages[name]
            state.most = plan.schedule.control.start(state.plan.workers)

    def forget(self, item: Item) -> None:
        """Remove a held item that has ended from the repairs."""
        for state in self.states.values():
            if state.repairs:
                state.repairs = [entry for entry in state.repairs if entry[0] is not item]

    def has_work(self, state: StageState) -> bool:
        """Whether an item waits for a stage, stale or not."""
        return bool(state.repairs) or any(
            queue.waiting or (members is not None and members.waiting) for _, queue, members in state.feeds
        )

    def head(self, state: StageState) -> tuple[Item, str | None] | None:
        """Return the item that a stage takes up next, and for a repair the edge that sent it; None without an item."""
        if state.repairs:
            return state.repairs[0][:2]
        # Most stages have one queue, and this is called at every change.
        if state.head_at != (self._changes(state) if state.alone is None or state.judged else state.alone.changes):
            found = self._find_head(state)
            state.head = (found, None) if found is not None else None
            state.head_at = self._changes(state)
        return state.head

    def _changes(self, state: StageState) -> int:
        """Count the changes that a stage's head depends on; no count ever falls, so an equal sum means no change."""
        changes = self._admission.changes if state.judged else 0
        if state.alone is not None:
            return changes + state.alone.changes
        for _, queue, members in state.feeds:
            changes += queue.changes
            if members is not None:
                changes += members.changes
        return changes

    def _find_head(self, state: StageState) -> Item | None:
        best: Item | None = None
        for edge, queue, members in state.feeds:
            item = self.next_item(edge, queue)
            if members is not None:
                # An opened group comes before the next whole; late members come after both.
                member = members.head()
                item = member if member is not None and not (member.late and item is not None) else item
            if item is not None and (best is None or (item.late, item.id) < (best.late, best.id)):
                best = item
        return best

    def next_item(self, edge: EdgePlan, queue: EdgeQueue) -> Item | None:
        """Return the first item of a queue that passes its edge's staleness rule; discard or repair those before."""
        while (item := queue.head()) is not None:
            if not edge.judges or self._admission.settled(item):
                return item
            decision = self._decide(edge, item, item.repairs)
            if decision is None:
                self.stirred = True
                continue
            if decision.kind in ("accept", "refresh"):
                return item
            self.stirred = True
            if decision.kind == "discard":
                said = f"stale: lag {self._admission.lag(item)} on {edge.name} ({edge.stale})"
                self._flow.end(item, "discarded", Cause.STALE, said)
                continue
            self._flow.take(item, hold=True)
            pool = decision.pool or self._admission.most_stale(item)
            self.states[decision.stage].repairs.append((item, edge.name, pool))
        return None

    def refreshes(self, edge: EdgePlan, item: Item) -> bool:
        """Whether an item that has passed the edge's rule, or its member, sees the newest view.

        If the rule raises, the item fails.
        """
        # No further repair is possible, so the rule's condition is not called: it takes the item, not a member.
        decision = self._decide(edge, item, sys.maxsize)
        return decision is not None and decision.kind == "refresh"

    def _decide(self, edge: EdgePlan, item: Item, repairs: int) -> Decision | None:
        """Return the decision of the edge's staleness rule on an item; None if it raised, and the item has failed."""
        try:
            return self._flow.functions.call(edge.name, "staleness rule", lambda: self._call_rule(edge, item, repairs))
        except FunctionRaised as error:
            self._flow.end(item, "failed", Cause.FUNCTION, str(error))
            return None

    def _call_rule(self, edge: EdgePlan, item: Item, repairs: int) -> Decision:
        decision = edge.stale.judge(
            self._admission.lags(item),
            repairs,
            lambda when, pool="": when(item.value, self._admission.newest(item, pool)),
        )
        if not isinstance(decision, Decision):  # a user's rule
            raise TypeError(
                f"the staleness rule returned {decision!r}; expected a flashgraph.policies.staleness.Decision"
            )
        return decision
