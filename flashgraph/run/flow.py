"""Items on their way: creation, queues, groups, rounds and every item's one end.

This is the half of the scheduler that moves data; `flashgraph.run.machine` decides what runs.  An item is in one
place at a time: ``"outbox"`` (a result or a released group that has no room on its edge yet), ``"queued"``, ``"held"``
(out for repair), ``"member"`` (waiting in an opened group), ``"running"`` or ``"gathered"`` (waiting in its group to be
released).

A scattering edge queues whole items and opens one when its stage wants work: until then the item can be reordered,
repaired or discarded as one.
"""

from __future__ import annotations

import math
import random
from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from typing import Any

import attrs

from flashgraph.errors import FlashgraphError
from flashgraph.graph.ports import Member
from flashgraph.policies.order import fifo
from flashgraph.policies.release import drawn
from flashgraph.run import events as ev
from flashgraph.run.cause import Cause
from flashgraph.run.claims import Claim, Claims
from flashgraph.run.edge_functions import EdgeFunctions, FunctionRaised
from flashgraph.run.items import GatherState, GroupState, Item, RoundState
from flashgraph.run.plan import EdgePlan, Plan
from flashgraph.run.queues import EdgeQueue

__all__ = ["Flow", "Origin"]

VOIDING = (Cause.VOID, Cause.ORPHAN)
"""Causes of a member's end after which its group is never released, rather than released without the member."""


@attrs.define
class Origin:
    """What the items that a job makes inherit."""

    round: int
    parents: tuple[int, ...] = ()
    scope: tuple[tuple[int, int], ...] = ()
    stamps: Mapping[str, int] = attrs.field(factory=dict)
    uses: tuple[tuple[str, int], ...] = ()
    lineage: frozenset[tuple[str, int]] = frozenset()
    loops: Mapping[str, int] = attrs.field(factory=dict)
    path: str = ""
    late: bool = False
    claim: Claim | None = None


class Flow:
    """Queues, groups and rounds of one run."""

    def __init__(self, plan: Plan, emit: Callable[[ev.Event], None], seed: int = 0) -> None:
        self.plan = plan
        self._seed = seed
        self.now = 0.0
        self.items: dict[int, Item] = {}
        self.rounds: dict[int, RoundState] = {}
        self.groups: dict[int, GroupState] = {}
        self.queues = {e.name: EdgeQueue(e.capacity, e.order) for e in plan.edges.values()}
        self.members = {e.name: EdgeQueue(math.inf, fifo()) for e in plan.edges.values() if e.scatter}
        self.pending: list[Item] = []
        """Released groups that wait for room on their edge."""
        self.ended_rounds: Counter[str] = Counter()
        """Rounds that are over, by source."""
        self.open_rounds: Counter[str] = Counter()
        """Rounds that hold a place in their source's window, by source."""
        self.on_running_ended: Callable[[Item], None] = lambda item: None
        self.on_late: Callable[[Item], None] = lambda item: None
        self.functions = EdgeFunctions(
            {edge.name: edge.place for edge in plan.graph.edges},
            lambda *told: emit(ev.EdgeFailed(self.now, *told)),
        )
        self.claims = Claims()
        self._emit = emit
        self._where: dict[int, str] = {}
        self._inside: dict[int, dict[int, Item]] = {}
        self._timed: dict[tuple[int, str], float] = {}
        self._streaks: dict[str, dict[Any, int]] = {e.name: {} for e in plan.edges.values() if e.arrange}
        self._voided: list[int] = []
        self._retracted: set[tuple[str, int]] = set()
        self.made = 0
        """How many items there have been."""
        self.ended = 0
        """How many of them have ended."""
        self._next_group = 0
        self.opened = 0
        """How many rounds there have been."""

    # ---- making items ------------------------------------------------------------------------------------

    def open_round(self, source: str) -> RoundState:
        round_ = RoundState(self.opened, source)
        self.opened += 1
        self.rounds[round_.id] = round_
        return round_

    def route(self, node: str, results: Iterable[tuple[Any, Origin]]) -> list[Item]:
        """Make the items that the ``results`` of ``node`` become, each with what it hands on: one for each edge that
        takes it.

        Raises `FunctionRaised` with what a condition raises, and has made none then.
        """
        # The user's functions have all been called before the first is made.
        routes = [(value, *way) for value, origin in results for way in self._ways(node, value, origin)]
        return [self._make(edge, value, here) for value, edge, here in routes]

    def _ways(self, node: str, value: Any, origin: Origin) -> list[tuple[EdgePlan, Origin]]:
        """The edges that take a result, with what an item there inherits."""
        routes: list[tuple[EdgePlan, Origin]] = []
        for edge in self.plan.outgoing[node]:
            if edge.only is not None and not isinstance(value, edge.only):
                continue
            here = origin
            if edge.loop is not None:
                passes = origin.loops.get(edge.name, 0)
                if passes >= edge.loop:
                    continue
                here = attrs.evolve(origin, loops={**origin.loops, edge.name: passes + 1})
            if (edge.otherwise and routes) or (edge.when is not None and not self._takes(edge.name, edge.when, value)):
                continue
            routes.append((edge, here))
        return routes

    def _takes(self, edge: str, when: Callable[[Any], bool], value: Any) -> bool:
        return self.functions.call(edge, "when", lambda: bool(when(value)))

    def _make(self, edge: EdgePlan, value: Any, origin: Origin) -> Item:
        item = Item(
            self.made,
            value,
            edge.name,
            origin.round,
            origin.parents,
            origin.scope,
            origin.stamps,
            origin.uses,
            origin.lineage,
            origin.loops,
            f"{origin.path}>{edge.name}",
            origin.late,
        )
        if origin.claim is not None:
            item.claim = origin.claim
            item.claim.carriers += 1
        self.made += 1
        self.items[item.id] = item
        self._where[item.id] = "outbox"
        self._hold(self.rounds[item.round], item.late, 1)
        for group, index in item.scope:
            self._inside[group][item.id] = item
            state = self.groups[group]
            for gather in self.plan.reaches[state.edge][item.edge]:
                state.alive[gather][index] += 1
        place: tuple[int | None, int | None] = item.scope[-1] if item.scope else (None, None)
        self._emit(
            ev.Created(
                self.now, item.id, edge.name, item.round, item.parents, *place, item.stamps, item.lineage, item.late
            )
        )
        return item

    def _hold(self, round_: RoundState, late: bool, change: int) -> None:
        """Count an item of a round in or out; a round with any that is not late holds a place in the window."""
        if late:
            round_.late += change
            return
        before = round_.open
        round_.open += change
        if not before or not round_.open:
            self.open_rounds[round_.source] += change

    def open(self, whole: Item) -> None:
        """Scatter the head of a scattering edge: its members wait from now on in its place."""
        edge = self.plan.edges[whole.edge]
        self.take(whole)
        try:
            values = self.functions.call(edge.name, "scatter", lambda: _members(edge, whole.value))
            identities, strata, places = self.functions.call(
                edge.name, "order", lambda: self._arranged(edge, values, whole.path)
            )
        except FunctionRaised as error:
            self.end(whole, "failed", Cause.FUNCTION, str(error))
            return
        group = GroupState(
            self._next_group,
            edge.name,
            whole,
            self.now,
            len(values),
            {g: [0] * len(values) for g in self.plan.gathers[edge.name]},
            {},
            {g: GatherState(g, [Member(i) for i in range(len(values))]) for g in self.plan.gathers[edge.name]},
            identities,
            strata,
        )
        self._next_group += 1
        self.groups[group.id] = group
        self._inside[group.id] = {}
        for outer, _ in whole.scope:
            self.groups[outer].nested.append(group.id)
        sent = set(places)
        for index in range(len(values)):
            if index not in sent:
                for state in group.gathers.values():
                    state.leave_out(index)
        for index in places:
            origin = Origin(
                whole.round, (whole.id,), (*whole.scope, (group.id, index)), whole.stamps, whole.uses, whole.lineage,
                whole.loops, f"{whole.path}[{index}]", whole.late, whole.claim,
            )  # fmt: skip
            member = self._make(edge, values[index], origin)
            self._where[member.id] = "member"
            self.members[edge.name].push(member)
        group.waiting = group.sent = len(places)
        self.queues[edge.name].opened += bool(values)
        for name, state in group.gathers.items():
            wait = self.plan.edges[name].release.deadline()
            if wait is not None:
                self._timed[group.id, name] = self.now + wait
            if not values:
                self._settle(group, state)
        self.end(whole, "consumed")
        self._close_if_over(group)

    def _arranged(
        self, edge: EdgePlan, values: tuple[Any, ...], path: str
    ) -> tuple[tuple[Any, ...], tuple[int, ...], Sequence[int]]:
        """The identities and strata of a scatter's members, and the places of those that are sent out, in order."""
        identities: tuple[Any, ...] = ()
        strata: tuple[int, ...] = ()
        places: Sequence[int] = range(len(values))
        gathers = self.plan.gathers[edge.name]
        sent = max((_sends(self.plan.edges[g].release, len(values)) for g in gathers), default=len(values))
        if (arrange := edge.arrange) is not None:
            identities = tuple(arrange.identity(i, v) for i, v in enumerate(values))
            places = arrange.arrange(values, self._streaks[edge.name])
        if sent < len(values):
            named = getattr(arrange, "strata", None)
            strata = named(values, self._streaks[edge.name]) if named is not None else (0,) * len(values)
            places = drawn(strata, sent, random.Random(f"{self._seed}/sample/{path}"))
        return identities, strata, places

    def take_member(self, item: Item) -> None:
        """Take the head of an opened group's members, to run."""
        assert self.members[item.edge].pop() is item
        self._where[item.id] = "running"
        self._member_left(item)

    def _member_left(self, item: Item) -> None:
        group = self.groups[item.scope[-1][0]]
        group.waiting -= 1
        if group.waiting == 0:
            self.queues[item.edge].opened -= 1

    # ---- moving items ------------------------------------------------------------------------------------

    def put(self, item: Item) -> bool:
        """Deliver a made item to its edge; False when there is no room yet."""
        edge = self.plan.edges[item.edge]
        if edge.gather:
            self._gather(edge, item)
            return True
        queue = self.queues[edge.name]
        if queue.full:
            return False
        self._enqueue(queue, item)
        return True

    def _enqueue(self, queue: EdgeQueue, item: Item) -> None:
        if not self._is_new(item):
            return
        if self.plan.edges[item.edge].orders:
            try:
                self.functions.call(item.edge, "order", lambda: queue.push(item))
            except FunctionRaised as error:
                self.end(item, "failed", Cause.FUNCTION, str(error))
                return
        else:
            queue.push(item)
        self._where[item.id] = "queued"
        self._emit(ev.Queued(self.now, item.id, item.edge, len(queue)))

    def _is_new(self, item: Item) -> bool:
        """Whether no other item has, or had, the key that the edge makes of this one; if one has, it ends here."""
        function = self.plan.edges[item.edge].distinct
        if function is None:
            return True
        try:
            key = self.functions.call(item.edge, "distinct", lambda: _hashed(function(item.value)))
        except FunctionRaised as error:
            self.end(item, "failed", Cause.FUNCTION, str(error))
            return False
        if (claim := self.claims.take((function, key), item.claim)) is not None:
            item.claim = claim
            return True
        self.end(item, "filtered", Cause.DUPLICATE, f"{item.edge} has taken an equal one before")
        return False

    def take(self, item: Item, hold: bool = False) -> None:
        """Take a queue's head out: to run, or to be repaired while it keeps its place (``hold``)."""
        queue = self.queues[item.edge]
        assert queue.pop() is item
        if hold:
            queue.held += 1
        self._where[item.id] = "held" if hold else "running"
        self._emit(ev.Dequeued(self.now, item.id, item.edge, len(queue)))

    def give_back(self, item: Item) -> None:
        """Put a held item back into its queue."""
        queue = self.queues[item.edge]
        queue.held -= 1
        self._where[item.id] = "outbox"
        self._enqueue(queue, item)

    def share(self, item: Item) -> float:
        """What part of a whole the item is: a member of a group of four is a quarter.  Production rates of stages
        compare only when a sweep of a hundred members counts as one."""
        if not item.scope:
            return 1.0
        return 1.0 / math.prod(self.groups[g].sent for g, _ in item.scope if g in self.groups)

    def lacks(self, item: Item) -> float:
        """How many members the innermost group of ``item`` lacks until it goes on; 1 for an item that is in none, and
        infinity for one that will be scattered."""
        if self.plan.edges[item.edge].scatter is not None and self._where.get(item.id) == "queued":
            return math.inf
        group = self.groups.get(item.scope[-1][0]) if item.scope else None
        if group is None:
            return 1
        lacking = [
            self.plan.edges[name].release.needs(len(state.members)) - state.arrived
            for name, state in group.gathers.items()
            if not state.released
        ]
        return max(1, *lacking) if lacking else 1

    def is_member(self, item: Item) -> bool:
        """Whether ``item`` waits in an opened group."""
        return self._where.get(item.id) == "member"

    def is_open(self, item: Item) -> bool:
        return item.id in self.items

    # ---- ending items ------------------------------------------------------------------------------------

    def end(self, item: Item, how: ev.Fate, cause: Cause = Cause.DONE, reason: str = "") -> None:
        """Every item ends here, once; ending an item that has ended does nothing."""
        if self.items.pop(item.id, None) is None:
            return
        self.ended += 1
        where = self._where.pop(item.id)
        if where == "queued":
            self.queues[item.edge].remove(item)
        elif where == "held":
            self.queues[item.edge].held -= 1
        elif where == "member":
            self.members[item.edge].remove(item)
            self._member_left(item)
        self._emit(ev.Ended(self.now, item.id, how, cause, reason))
        if item.claim is not None:
            self.claims.drop(item.claim)
        if where in ("running", "held") and how not in ("consumed", "filtered"):
            self.on_running_ended(item)
        for depth, (group_id, index) in enumerate(reversed(item.scope)):
            # A failure is its own group's; whether it is an outer group's too is for the inner one to decide.
            self._leave(item, group_id, index, "filtered" if depth and how == "failed" else how, cause, reason)
        round_ = self.rounds[item.round]
        self._hold(round_, item.late, -1)
        round_.failed |= how == "failed" and not item.scope
        if not round_.open and not round_.late:
            del self.rounds[round_.id]
            self.ended_rounds[round_.source] += 1
            self._emit(ev.RoundEnded(self.now, round_.id, round_.failed))

    def _leave(self, item: Item, group_id: int, index: int, how: ev.Fate, cause: Cause, reason: str) -> None:
        group = self.groups[group_id]
        del self._inside[group_id][item.id]
        reached = self.plan.reaches[group.edge][item.edge]
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
        """Forget a group of which nothing is open."""
        if not self._inside.get(group.id):
            self._close(group)

    def _close(self, group: GroupState) -> None:
        self.groups.pop(group.id, None)
        self._inside.pop(group.id, None)
        for name in group.gathers:
            self._timed.pop((group.id, name), None)

    # ---- gathering ---------------------------------------------------------------------------------------

    def _gather(self, edge: EdgePlan, item: Item) -> None:
        group_id, index = item.scope[-1]
        group = self.groups[group_id]
        state = group.gathers[edge.name]
        if state.closed or group.void or state.members[index].state != "open":
            self.end(item, "filtered", Cause.LATE, "late: its group has gone on")
            return
        self._where[item.id] = "gathered"
        state.record(index, Member(index, "arrived", item.value), item)
        self._settle(group, state)

    def _settle(self, group: GroupState, state: GatherState) -> None:
        """Release, amend or fail a group if its members so far call for it."""
        edge = self.plan.edges[state.edge]
        if state.closed or group.void:
            return
        ask = self.functions.call
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
        waited = self.now - group.scattered_at
        return bool(edge.release.ready(group.gathered(state, False), state.arrived, waited))

    def _release(self, group: GroupState, state: GatherState) -> None:
        edge = self.plan.edges[state.edge]
        amendment = state.released
        origin = group.origin
        members = state.items
        item = self._make(
            edge,
            group.gathered(state, amendment),
            Origin(
                origin.round,
                tuple(m.id for m in members) or (origin.id,),
                origin.scope,
                _oldest([origin, *members]),
                tuple(dict.fromkeys(u for m in [origin, *members] for u in m.uses)),
                frozenset().union(origin.lineage, *(m.lineage for m in members)),
                origin.loops,
                f"{origin.path}{'+' * amendment}",
                # A round of which only late items were open has given its place in the window away.
                amendment or origin.late or self._gone_on(origin) or not self.rounds[origin.round].open,
                origin.claim,
            ),
        )
        item.gathered, item.amends = state, amendment
        complete = state.complete
        state.amended, state.released = complete, True
        if amendment or complete or edge.late != "amend":
            state.closed = True
        self._emit(ev.Released(self.now, group.id, edge.name, item.id, state.arrived, len(state.members), amendment))
        self._remember(group, state)
        if self.queues[edge.name].full:
            # It is made all the same: of a group whose members have all ended, nothing else would keep its round, and
            # its place in a group around it, open.
            self.pending.append(item)
        else:
            self._enqueue(self.queues[edge.name], item)
        for member in members:
            self.end(member, "consumed")
        if not amendment and not complete and all(s.released for s in group.gathers.values()):
            self._leave_behind(group, edge.late)

    def _gone_on(self, item: Item) -> bool:
        """Whether a group that the item is a member of has gone on without it."""
        outer = [self.groups[g].gathers.values() for g, _ in item.scope if g in self.groups]
        return any(gathers and all(s.released for s in gathers) for gathers in outer)

    def _leave_behind(self, group: GroupState, late: str) -> None:
        if late != "amend":
            self._void(group, itself=False)
        for item in list(self._inside.get(group.id, {}).values()):
            where = self._where.get(item.id)
            if late == "cancel" or (late == "drop" and where not in ("running", "gathered")):
                self.end(item, "cancelled", Cause.LATE, "late: its group was released without it")
            elif not item.late and item.id in self.items:
                self.mark_late(item)

    def mark_late(self, item: Item) -> None:
        """The round no longer waits for ``item``; it goes behind everything that is not late."""
        item.late = True
        self._emit(ev.Late(self.now, item.id))
        round_ = self.rounds[item.round]
        self._hold(round_, False, -1)
        self._hold(round_, True, 1)
        if self._where[item.id] == "queued":
            self.queues[item.edge].demote(item)
        elif self._where[item.id] == "member":
            self.members[item.edge].demote(item)
        self.on_late(item)

    def _fail(self, group: GroupState, state: GatherState, cause: Cause, summary: str) -> None:
        state.closed = True
        self._emit(ev.GroupFailed(self.now, group.id, state.edge, state.failed, state.sent))
        self.rounds[group.origin.round].failed |= not group.origin.scope  # else it is for the outer group to bear
        for outer, place in group.origin.scope[-1:]:
            self.groups[outer].reasons[place] = summary
        self._void(group)
        for item in list(self._inside.get(group.id, {}).values()):
            self.end(item, "failed" if item in state.items else "cancelled", cause, summary)

    def _remember(self, group: GroupState, state: GatherState) -> None:
        """Count, for a discriminative order, how often in a row each member has passed."""
        arrange = self.plan.edges[group.edge].arrange
        if arrange is None or not state.closed:
            return
        streaks = self._streaks[group.edge]
        for identity, member in zip(group.identities, state.members, strict=True):
            if member.state == "arrived":
                try:
                    passed = arrange.passed(member.value)
                except Exception:  # the order is only a hint: who cannot be judged is sent out early
                    passed = False
                streaks[identity] = streaks.get(identity, 0) + 1 if passed else 0

    def release_due(self) -> bool:
        """Release groups whose time has come, and let those in that wait for room; True if any went on."""
        went = False
        if not self._timed and not self.pending:
            return went
        for (group_id, name), at in list(self._timed.items()):
            # Settling one group can close another, with its timers.
            if at <= self.now and self._timed.pop((group_id, name), None) is not None:
                group = self.groups[group_id]
                self._settle(group, group.gathers[name])
                went = True
        waiting, self.pending = self.pending, []
        for item in waiting:
            if self.queues[item.edge].full:
                self.pending.append(item)
            elif self.is_open(item):
                self._enqueue(self.queues[item.edge], item)
                went = True
        return went

    def next_timer(self) -> float | None:
        """When a deadline rule has to be asked again."""
        return min(self._timed.values(), default=None)

    def _void(self, group: GroupState, itself: bool = True) -> None:
        """Mark a group, and the groups inside of it, as saying nothing any more."""
        inner = [self.groups[number] for number in group.nested if number in self.groups]
        for other in [*([group] if itself else []), *inner]:
            if not other.void:
                other.void = True
                self._voided.append(other.id)

    def sweep_void(self) -> bool:
        """End what waits in groups that will never be released; whether there were any such groups."""
        found = bool(self._voided)
        while self._voided:
            for item in list(self._inside.get(self._voided.pop(), {}).values()):
                if self._where.get(item.id) == "gathered":
                    self.end(item, "cancelled", Cause.VOID, "stopped: its group cannot be completed")
        return found

    def orphan(self, pool: str, artifact: int) -> None:
        """Discard every open item that descends from a retracted artifact, but for those whose edges keep them.  A
        group that was released with such a member is not amended: the amendment would descend from it too."""
        self._retracted.add((pool, artifact))
        for group in self.groups.values():
            for name, state in group.gathers.items():
                descends = any((pool, artifact) in member.lineage for member in state.items)
                state.closed |= descends and state.released and not self.plan.edges[name].keeps_orphans
        for item in list(self.items.values()):
            if (pool, artifact) in item.lineage and item.id in self.items:
                self._end_orphan(item, pool, artifact)

    def end_orphans(self, made: list[Item]) -> None:
        """Discard those of new or repaired items that descend from what has been retracted: while they were made, or
        before, where the edge of what they were made from has kept that."""
        for item in made if self._retracted else ():
            for pool, artifact in sorted(self._retracted & item.lineage)[:1]:
                self._end_orphan(item, pool, artifact)

    def _end_orphan(self, item: Item, pool: str, artifact: int) -> None:
        if not self.plan.edges[item.edge].keeps_orphans:
            self.end(item, "discarded", Cause.ORPHAN, f"orphan of {pool} artifact {artifact}, which was retracted")


def _sends(rule: Any, size: int) -> int:
    """How many members of a group are sent out; a release rule of the user's own may leave that open."""
    sends = getattr(rule, "sends", None)
    return size if sends is None else int(sends(size))


def _hashed(key: Hashable) -> Hashable:
    hash(key)
    return key


def _members(edge: EdgePlan, value: Any) -> tuple[Any, ...]:
    """What the edge scatters ``value`` into."""
    assert edge.scatter is not None
    values = tuple(edge.scatter(value))
    if edge.fanout is not None and len(values) > edge.fanout:
        raise FlashgraphError(
            f"edge {edge.name}: its scatter made {len(values)} members; it declares fanout={edge.fanout}.\n"
            "Fix: declare the true bound, or scatter fewer."
        )
    return values


def _oldest(items: list[Item]) -> dict[str, int]:
    stamps: dict[str, int] = {}
    for item in items:
        for pool, version in item.stamps.items():
            stamps[pool] = min(version, stamps.get(pool, version))
    return stamps
