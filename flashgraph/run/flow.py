"""Items on their way: how each is made, which queue it enters, and its one end.

This is the half of the scheduler that moves data; `flashgraph.run.machine` decides what runs.  The state is kept by
`ItemPlaces`, `Rounds`, `Groups` and `Claims`.

A scattering edge queues whole items and opens one when its stage wants work.  Until then the item can be reordered,
repaired or discarded as one.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable
from typing import Any

from flashgraph.run import events as ev
from flashgraph.run.cause import Cause
from flashgraph.run.claims import Claims
from flashgraph.run.edge_functions import EdgeFunctions, FunctionRaised
from flashgraph.run.groups import Groups
from flashgraph.run.items import Item, Origin
from flashgraph.run.places import ItemPlaces
from flashgraph.run.plan import EdgePlan, Plan
from flashgraph.run.rounds import Rounds
from flashgraph.run.routes import Routes

__all__ = ["Flow"]


class Flow:
    """The items of one run."""

    def __init__(self, plan: Plan, emit: Callable[[ev.Event], None], seed: int = 0) -> None:
        self.now = 0.0
        """Seconds on the run's clock."""
        self.places = ItemPlaces(plan.edges.values())
        self.rounds = Rounds()
        self.claims = Claims()
        self.functions = EdgeFunctions(
            {edge.name: edge.place for edge in plan.graph.edges},
            lambda *told: emit(ev.EdgeFailed(self.now, *told)),
        )
        self.groups = Groups(plan, self, self.places, self.rounds, self.functions, emit, seed)
        self.made = 0
        """How many items there have been."""
        self.ended = 0
        """How many of them have ended."""
        self.on_running_ended: Callable[[Item], None] = lambda item: None
        self._plan = plan
        self._emit = emit
        self._routes = Routes(plan, self.functions)
        self._retracted: set[tuple[str, int]] = set()

    # ---- making items ------------------------------------------------------------------------------------

    def route(self, node: str, results: Iterable[tuple[Any, Origin]]) -> list[Item]:
        """Make an item of each of the ``results`` of ``node`` for each edge that takes it.

        Raises `FunctionRaised` if a condition raises; no item is made then.
        """
        # The user's functions have all been called before the first item is made.
        routes = [(value, *way) for value, origin in results for way in self._routes.of(node, value, origin)]
        return [self.make(edge, value, here) for value, edge, here in routes]

    def why_none(self, node: str, value: Any, origin: Origin) -> tuple[Cause, str]:
        """Return why no edge takes a result of ``node``."""
        return self._routes.why_none(node, value, origin)

    def make(self, edge: EdgePlan, value: Any, origin: Origin) -> Item:
        """Make an item for ``edge``."""
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
        self.places.add(item)
        self.rounds.count(item.round, item.late, 1)
        self.groups.join(item)
        place: tuple[int | None, int | None] = item.scope[-1] if item.scope else (None, None)
        self._emit(
            ev.Created(
                self.now, item.id, edge.name, item.round, item.parents, *place, item.stamps, item.lineage, item.late
            )
        )
        return item

    # ---- moving items ------------------------------------------------------------------------------------

    def put(self, item: Item) -> bool:
        """Deliver a made item to its edge; False when there is no room yet."""
        edge = self._plan.edges[item.edge]
        if edge.gather:
            self.groups.gather(edge, item)
            return True
        if self.places.queues[edge.name].full:
            return False
        self.enqueue(item)
        return True

    def enqueue(self, item: Item) -> None:
        """Put an item into its queue, which has room; it ends here if it is no new one, or if its order raises."""
        if not self._is_new(item):
            return
        if self._plan.edges[item.edge].orders:
            try:
                length = self.functions.call(item.edge, "order", lambda: self.places.queue(item))
            except FunctionRaised as error:
                self.end(item, "failed", Cause.FUNCTION, str(error))
                return
        else:
            length = self.places.queue(item)
        self._emit(ev.Queued(self.now, item.id, item.edge, length))

    def _is_new(self, item: Item) -> bool:
        """Whether no other item holds the key that the edge makes of this one; if one does, this one ends."""
        function = self._plan.edges[item.edge].distinct
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
        """Take a queue's head out: to run, or with ``hold`` to be repaired while it keeps its room."""
        length = self.places.take(item, hold)
        self._emit(ev.Dequeued(self.now, item.id, item.edge, length))

    def take_up(self, item: Item) -> None:
        """Take what a stage starts on: a queue's head, or a member of an opened group."""
        if self.is_member(item):
            self.groups.take_member(item)
        else:
            self.take(item)

    def open(self, whole: Item) -> None:
        """Scatter the head of a scattering edge: its members wait from now on in its place."""
        self.take(whole)
        self.groups.scatter(whole)

    def give_back(self, item: Item) -> None:
        """Put a held item back into its queue."""
        self.places.give_back(item)
        self.enqueue(item)

    def is_member(self, item: Item) -> bool:
        """Whether ``item`` waits in an opened group."""
        return self.places.of.get(item.id) == "member"

    def is_open(self, item: Item) -> bool:
        """Whether ``item`` has not ended."""
        return item.id in self.places.items

    # ---- ending items ------------------------------------------------------------------------------------

    def end(self, item: Item, how: ev.Fate, cause: Cause = Cause.DONE, reason: str = "") -> None:
        """End an item.  Every item ends here, once; ending an item that has ended does nothing."""
        place = self.places.remove(item)
        if place is None:
            return
        self.ended += 1
        if place == "member":
            self.groups.member_left(item)
        self._emit(ev.Ended(self.now, item.id, how, cause, reason))
        if item.claim is not None:
            self.claims.drop(item.claim)
        if place in ("running", "held") and how not in ("consumed", "filtered"):
            self.on_running_ended(item)
        self.groups.leave(item, how, cause, reason)
        self.rounds.count(item.round, item.late, -1)
        self.rounds.open[item.round].failed |= how == "failed" and not item.scope
        if (over := self.rounds.end_if_over(item.round)) is not None:
            self._emit(ev.RoundEnded(self.now, over.id, over.failed))

    def orphan(self, pool: str, artifact: int) -> None:
        """Discard every open item that descends from a retracted artifact, except where its edge keeps orphans."""
        self._retracted.add((pool, artifact))
        self.groups.retract(pool, artifact)
        for item in list(self.places.items.values()):
            if (pool, artifact) in item.lineage and self.is_open(item):
                self._end_orphan(item, pool, artifact)

    def end_orphans(self, made: list[Item]) -> None:
        """Discard those of new or repaired items that descend from a retracted artifact.

        It was retracted while they were made; or before, if the edge of their parent keeps orphans.
        """
        for item in made if self._retracted else ():
            for pool, artifact in sorted(self._retracted & item.lineage)[:1]:
                self._end_orphan(item, pool, artifact)

    def _end_orphan(self, item: Item, pool: str, artifact: int) -> None:
        if not self._plan.edges[item.edge].keeps_orphans:
            self.end(item, "discarded", Cause.ORPHAN, f"orphan of {pool} artifact {artifact}, which was retracted")


def _hashed(key: Hashable) -> Hashable:
    hash(key)
    return key
