"""Groups: the members that an edge scatters, and their release over the gathering edges.

A group is open while any of its items is.  Each gathering edge releases it once, early or complete, and may amend it
once (invariant I8).  An item that ends can release a group, whose release makes and ends items.  So `Groups` and the
flow of items (`Carrier`) call each other.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any, Protocol

from flashgraph.graph.ports import Member
from flashgraph.run import events as ev
from flashgraph.run.cause import Cause
from flashgraph.run.edge_functions import EdgeFunctions, FunctionRaised
from flashgraph.run.items import GatherState, GroupState, Item, Origin
from flashgraph.run.places import ItemPlaces
from flashgraph.run.plan import EdgePlan, Plan
from flashgraph.run.rounds import Rounds
from flashgraph.run.scattering import Scattered, Scattering

__all__ = ["Carrier", "Groups"]

VOIDING = (Cause.VOID, Cause.ORPHAN)
"""Causes of a member's end after which its group is never released, rather than released without the member."""


class Carrier(Protocol):
    """The part of the flow of items that groups use."""

    now: float

    def make(self, edge: EdgePlan, value: Any, origin: Origin) -> Item: ...

    def enqueue(self, item: Item) -> None: ...

    def end(self, item: Item, how: ev.Fate, cause: Cause = ..., reason: str = ...) -> None: ...


class Groups:
    """The groups of one run."""

    def __init__(
        self,
        plan: Plan,
        flow: Carrier,
        places: ItemPlaces,
        rounds: Rounds,
        functions: EdgeFunctions,
        emit: Callable[[ev.Event], None],
        seed: int,
    ) -> None:
        self.open: dict[int, GroupState] = {}
        """By number, the groups with an open item."""
        self.pending: list[Item] = []
        """Released groups that wait for room on their edge."""
        self.timers: dict[tuple[int, str], float] = {}
        """By group and gathering edge, when a deadline rule has to be asked again."""
        self.scattering = Scattering(plan, functions, seed)
        self.on_late: Callable[[Item], None] = lambda item: None
        self._plan = plan
        self._flow = flow
        self._places = places
        self._rounds = rounds
        self._functions = functions
        self._emit = emit
        self._voided: list[GroupState] = []
        self._begun = 0

    # ---- members -----------------------------------------------------------------------------------------

    def scatter(self, whole: Item) -> None:
        """Open ``whole`` into its members, which wait in its place; it ends."""
        edge = self._plan.edges[whole.edge]
        try:
            scattered = self.scattering.scattered(edge, whole)
        except FunctionRaised as error:
            self._flow.end(whole, "failed", Cause.FUNCTION, str(error))
            return
        group = self._begin(edge, whole, scattered)
        for index in scattered.places:
            origin = Origin(
                whole.round, (whole.id,), (*whole.scope, (group.id, index)), whole.stamps, whole.uses, whole.lineage,
                whole.loops, f"{whole.path}[{index}]", whole.late, whole.claim,
            )  # fmt: skip
            self._places.wait_as_member(self._flow.make(edge, scattered.values[index], origin))
        group.waiting = group.sent = len(scattered.places)
        self._places.queues[edge.name].opened += bool(scattered.values)
        for name, state in group.gathers.items():
            wait = self._plan.edges[name].release.deadline()
            if wait is not None:
                self.timers[group.id, name] = self._flow.now + wait
            if not scattered.values:
                self._settle(group, state)
        self._flow.end(whole, "consumed")
        self._close_if_over(group)

    def _begin(self, edge: EdgePlan, whole: Item, scattered: Scattered) -> GroupState:
        size, gathers = len(scattered.values), self._plan.gathers[edge.name]
        group = GroupState(
            self._begun,
            edge.name,
            whole,
            self._flow.now,
            size,
            {gather: [0] * size for gather in gathers},
            {},
            {gather: GatherState(gather, [Member(i) for i in range(size)]) for gather in gathers},
            scattered.identities,
            scattered.strata,
        )
        self._begun += 1
        self.open[group.id] = group
        for outer, _ in whole.scope:
            self.open[outer].nested.append(group.id)
        sent = set(scattered.places)
        for index in range(size):
            if index not in sent:
                for state in group.gathers.values():
                    state.leave_out(index)
        return group

    def join(self, item: Item) -> None:
        """Count a new item in at every group that it is in."""
        for number, index in item.scope:
            group = self.open[number]
            group.inside[item.id] = item
            for gather in self._plan.reaches[group.edge][item.edge]:
                group.alive[gather][index] += 1

    def take_member(self, item: Item) -> None:
        """Take the head of the waiting members out, to run."""
        self._places.take_member(item)
        self.member_left(item)

    def member_left(self, item: Item) -> None:
        """Count out a member that no longer waits for a worker."""
        group = self.open[item.scope[-1][0]]
        group.waiting -= 1
        if group.waiting == 0:
            self._places.queues[item.edge].opened -= 1

    def leave(self, item: Item, how: ev.Fate, cause: Cause, reason: str) -> None:
        """Count an item that has ended out of every group that it is in, and settle what that decides."""
        for depth, (number, index) in enumerate(reversed(item.scope)):
            # A failure is its own group's; the inner group decides whether it is an outer group's too.
            self._leave(item, number, index, "filtered" if depth and how == "failed" else how, cause, reason)

    def _leave(self, item: Item, number: int, index: int, how: ev.Fate, cause: Cause, reason: str) -> None:
        group = self.open[number]
        del group.inside[item.id]
        reached = self._plan.reaches[group.edge][item.edge]
        for gather in reached:
            group.alive[gather][index] -= 1
        if how == "failed":
            group.reasons[index] = reason
        if cause in VOIDING:
            self._void(group)
        for gather in reached:
            state = group.gathers[gather]
            if not group.alive[gather][index] and not state.closed and state.members[index].state == "open":
                failed = index in group.reasons
                member: Member[Any] = Member(
                    index, "failed" if failed else "missing", None, group.reasons.get(index, reason)
                )
                state.record(index, member, None)
                self._settle(group, state)
        self._close_if_over(group)

    def _close_if_over(self, group: GroupState) -> None:
        """Remove a group without open items."""
        if group.inside:
            return
        self.open.pop(group.id, None)
        for name in group.gathers:
            self.timers.pop((group.id, name), None)

    # ---- what groups say of items ------------------------------------------------------------------------

    def share(self, item: Item) -> float:
        """Return what part of a whole the item is: a member of a group of four is a quarter.

        Production rates of stages compare only when a sweep of a hundred members counts as one.
        """
        return 1.0 / math.prod(self.open[number].sent for number, _ in item.scope if number in self.open)

    def lacks(self, item: Item) -> float:
        """Return how many members the innermost group of ``item`` lacks until it is released.

        1 for an item that is in no group, and infinity for one that will be scattered.
        """
        if self._plan.edges[item.edge].scatter is not None and self._places.of.get(item.id) == "queued":
            return math.inf
        group = self.open.get(item.scope[-1][0]) if item.scope else None
        if group is None:
            return 1
        lacking = [
            self._plan.edges[name].release.needs(len(state.members)) - state.arrived
            for name, state in group.gathers.items()
            if not state.released
        ]
        return max(1, *lacking) if lacking else 1

    # ---- gathering ---------------------------------------------------------------------------------------

    def gather(self, edge: EdgePlan, item: Item) -> None:
        """Let an item arrive at a gathering edge."""
        number, index = item.scope[-1]
        group = self.open[number]
        state = group.gathers[edge.name]
        if state.closed or group.void or state.members[index].state != "open":
            self._flow.end(item, "filtered", Cause.LATE, "late: its group has gone on")
            return
        self._places.gather(item)
        state.record(index, Member(index, "arrived", item.value), item)
        self._settle(group, state)

    def _settle(self, group: GroupState, state: GatherState) -> None:
        """Release, amend or fail a group if its members so far call for it."""
        edge = self._plan.edges[state.edge]
        if state.closed or group.void:
            return
        ask = self._functions.call
        try:
            if not state.released and ask(edge.name, "failure rule", lambda: self._fails(edge, state)):
                reason = next(m.reason for m in state.members if m.state == "failed")
                summary = f"{state.failed} of {state.sent} members failed, the first with: {reason}"
                self._fail(group, state, Cause.GROUP, summary)
                return
            due = state.complete or ask(edge.name, "release", lambda: self._is_due(edge, group, state))
        except FunctionRaised as error:
            self._fail(group, state, Cause.FUNCTION, str(error))
            return
        if (not state.released and due) or (state.released and state.complete and not state.amended):
            self._release(group, state)

    def _fails(self, edge: EdgePlan, state: GatherState) -> bool:
        return bool(edge.on_failure.fails(state.failed, state.sent))

    def _is_due(self, edge: EdgePlan, group: GroupState, state: GatherState) -> bool:
        waited = self._flow.now - group.scattered_at
        return bool(edge.release.ready(group.gathered(state, False), state.arrived, waited))

    def _release(self, group: GroupState, state: GatherState) -> None:
        edge = self._plan.edges[state.edge]
        amendment, complete = state.released, state.complete
        members = state.items
        item = self._flow.make(edge, group.gathered(state, amendment), self._released_from(group, state))
        item.gathered, item.amends = state, amendment
        state.amended, state.released = complete, True
        if amendment or complete or edge.late != "amend":
            state.closed = True
        self._emit(
            ev.Released(self._flow.now, group.id, edge.name, item.id, state.arrived, len(state.members), amendment)
        )
        if state.closed:
            self.scattering.remember(group.edge, group.identities, state.members)
        if self._places.queues[edge.name].full:
            # It is made all the same: if all members have ended, nothing else keeps its round and its outer group open.
            self.pending.append(item)
        else:
            self._flow.enqueue(item)
        for member in members:
            self._flow.end(member, "consumed")
        if not amendment and not complete and all(s.released for s in group.gathers.values()):
            self._leave_behind(group, edge.late)

    def _released_from(self, group: GroupState, state: GatherState) -> Origin:
        """Return what the item that a release makes inherits from the whole and the members that arrived."""
        whole, members, amendment = group.origin, state.items, state.released
        return Origin(
            whole.round,
            tuple(m.id for m in members) or (whole.id,),
            whole.scope,
            _oldest([whole, *members]),
            tuple(dict.fromkeys(u for m in [whole, *members] for u in m.uses)),
            frozenset().union(whole.lineage, *(m.lineage for m in members)),
            whole.loops,
            f"{whole.path}{'+' * amendment}",
            # A round whose open items are all late has already given its place in the window away.
            amendment or whole.late or self._gone_on(whole) or not self._rounds.open[whole.round].open,
            whole.claim,
        )

    def _gone_on(self, item: Item) -> bool:
        """Return whether a group that the item is a member of was released without it."""
        outer = [self.open[g].gathers.values() for g, _ in item.scope if g in self.open]
        return any(gathers and all(s.released for s in gathers) for gathers in outer)

    def _leave_behind(self, group: GroupState, late: str) -> None:
        """Cancel, drop or mark as late the members of a group that was released without them."""
        if late != "amend":
            self._void(group, itself=False)
        for item in list(group.inside.values()):
            place = self._places.of.get(item.id)
            if late == "cancel" or (late == "drop" and place not in ("running", "gathered")):
                self._flow.end(item, "cancelled", Cause.LATE, "late: its group was released without it")
            elif not item.late and item.id in self._places.items:
                self._mark_late(item)

    def _mark_late(self, item: Item) -> None:
        """Let the round no longer wait for ``item``, which goes behind everything that is not late."""
        item.late = True
        self._emit(ev.Late(self._flow.now, item.id))
        self._rounds.count(item.round, False, -1)
        self._rounds.count(item.round, True, 1)
        self._places.demote(item)
        self.on_late(item)

    def _fail(self, group: GroupState, state: GatherState, cause: Cause, summary: str) -> None:
        state.closed = True
        self._emit(ev.GroupFailed(self._flow.now, group.id, state.edge, state.failed, state.sent))
        # The failure of a nested group is its outer group's to judge.
        self._rounds.open[group.origin.round].failed |= not group.origin.scope
        for outer, index in group.origin.scope[-1:]:
            self.open[outer].reasons[index] = summary
        self._void(group)
        for item in list(group.inside.values()):
            self._flow.end(item, "failed" if item in state.items else "cancelled", cause, summary)

    # ---- time, room and groups that go nowhere -----------------------------------------------------------

    def release_due(self) -> bool:
        """Release groups at their deadlines, and queue released ones where there is room now; True if any moved."""
        moved = False
        if not self.timers and not self.pending:
            return moved
        for (number, name), at in list(self.timers.items()):
            # Settling one group can close another, with its timers.
            if at <= self._flow.now and self.timers.pop((number, name), None) is not None:
                group = self.open[number]
                self._settle(group, group.gathers[name])
                moved = True
        waiting, self.pending = self.pending, []
        for item in waiting:
            if self._places.queues[item.edge].full:
                self.pending.append(item)
            elif item.id in self._places.items:
                self._flow.enqueue(item)
                moved = True
        return moved

    def next_timer(self) -> float | None:
        """Return when a deadline rule has to be asked again; None if there is none."""
        return min(self.timers.values(), default=None)

    def _void(self, group: GroupState, itself: bool = True) -> None:
        """Mark the groups inside of a group, and the group ``itself``, as never to be released."""
        inner = [self.open[number] for number in group.nested if number in self.open]
        for other in [*([group] if itself else []), *inner]:
            if not other.void:
                other.void = True
                self._voided.append(other)

    def sweep_void(self) -> bool:
        """End what waits in groups that will never be released; True if there were such groups."""
        found = bool(self._voided)
        while self._voided:
            for item in list(self._voided.pop().inside.values()):
                if self._places.of.get(item.id) == "gathered":
                    self._flow.end(item, "cancelled", Cause.VOID, "stopped: its group cannot be completed")
        return found

    def retract(self, pool: str, artifact: int) -> None:
        """Close released groups with a member that descends from a retracted artifact: their amendments would too."""
        for group in self.open.values():
            for name, state in group.gathers.items():
                descends = any((pool, artifact) in member.lineage for member in state.items)
                state.closed |= descends and state.released and not self._plan.edges[name].keeps_orphans


def _oldest(items: Iterable[Item]) -> dict[str, int]:
    """Return the oldest version of each pool that one of the items is stamped with."""
    stamps: dict[str, int] = {}
    for item in items:
        for pool, version in item.stamps.items():
            stamps[pool] = min(version, stamps.get(pool, version))
    return stamps
