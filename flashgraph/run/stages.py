"""What each stage takes up next: its repairs, and the heads of its queues that their staleness rules have let pass."""

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
    plan: StagePlan
    most: int
    busy: int = 0
    finished: float = 0.0
    failures: int = 0
    repairs: list[tuple[Item, str]] = attrs.field(factory=list)
    """Held items that wait for this repair stage, with the name of the edge whose rule sent them."""
    feeds: list[tuple[EdgePlan, EdgeQueue, EdgeQueue | None]] = attrs.field(factory=list)
    """The edges that end here, with their queues, and for a scattering edge the members of opened groups."""
    alone: EdgeQueue | None = None
    """The queue of the only edge."""
    judged: bool = False
    """Whether the head may depend on what the pools are now."""
    head: tuple[Item, None] | None = None
    """What leaves these queues next, found when `changes` was `head_at`."""
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
        """Nearest the pool first."""
        self.by_rank = sorted(self.states.values(), key=lambda s: s.plan.rank)
        """In the order of the graph."""
        self.stirred = False
        """Whether looking for a head has discarded an item or sent one to be repaired."""
        self._flow = flow
        self._admission = admission

    def resize(self, plan: Plan) -> None:
        """Go on with other workers."""
        for name, state in self.states.items():
            state.plan = plan.stages[name]
            state.most = plan.schedule.control.start(state.plan.workers)

    def forget(self, item: Item) -> None:
        """A held item has ended: nobody repairs it."""
        for state in self.states.values():
            if state.repairs:
                state.repairs = [entry for entry in state.repairs if entry[0] is not item]

    def has_work(self, state: StageState) -> bool:
        """Whether anything waits for a stage, be it stale or not."""
        return bool(state.repairs) or any(
            queue.waiting or (members is not None and members.waiting) for _, queue, members in state.feeds
        )

    def head(self, state: StageState) -> tuple[Item, str | None] | None:
        """The item a stage takes up next, and for a repair the edge that sent it."""
        if state.repairs:
            return state.repairs[0]
        # Most stages have one queue, and are asked each time that anything happens.
        if state.head_at != (self._changes(state) if state.alone is None or state.judged else state.alone.changes):
            found = self._find_head(state)
            state.head = (found, None) if found is not None else None
            state.head_at = self._changes(state)
        return state.head

    def _changes(self, state: StageState) -> int:
        """Counts what a stage's head depends on; no count ever falls, so an equal sum means that nothing changed."""
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
                # A group that was opened is worked off before the next is; what is late waits for both.
                member = members.head()
                item = member if member is not None and not (member.late and item is not None) else item
            if item is not None and (best is None or (item.late, item.id) < (best.late, best.id)):
                best = item
        return best

    def next_item(self, edge: EdgePlan, queue: EdgeQueue) -> Item | None:
        """The head of an edge's queue once its staleness rule has let it pass; others are dealt with on the way."""
        while (item := queue.head()) is not None:
            if not edge.judges or self._admission.settled(item):
                return item
            lag = self._admission.lag(item)
            decision = self._decide(edge, item, item.repairs)
            if decision is None:
                self.stirred = True
                continue
            if decision.kind in ("accept", "refresh"):
                return item
            self.stirred = True
            if decision.kind == "discard":
                said = f"stale: lag {lag} on {edge.name} ({edge.stale})"
                self._flow.end(item, "discarded", Cause.STALE, said)
                continue
            self._flow.take(item, hold=True)
            self.states[decision.stage].repairs.append((item, edge.name))
        return None

    def refreshes(self, edge: EdgePlan, item: Item) -> bool:
        """Whether an item that the edge's rule has let pass, or a member of such a one, sees the newest view.  If the
        rule raises the item has failed."""
        # It is not repaired any more, so no condition is asked: that was asked of the item, and knows no members.
        decision = self._decide(edge, item, sys.maxsize)
        return decision is not None and decision.kind == "refresh"

    def _decide(self, edge: EdgePlan, item: Item, repairs: int) -> Decision | None:
        """What the edge's staleness rule says of an item now; None if it raised, and the item has failed."""
        try:
            return self._flow.functions.call(edge.name, "staleness rule", lambda: self._asked(edge, item, repairs))
        except FunctionRaised as error:
            self._flow.end(item, "failed", Cause.FUNCTION, str(error))
            return None

    def _asked(self, edge: EdgePlan, item: Item, repairs: int) -> Decision:
        decision = edge.stale.decide(
            self._admission.lag(item),
            repairs,
            lambda when: when(item.value, self._admission.pools[self._admission.most_stale(item)].value),
        )
        if not isinstance(decision, Decision):  # a rule of the user's own
            raise TypeError(
                f"the staleness rule returned {decision!r}; expected a flashgraph.policies.staleness.Decision"
            )
        return decision
