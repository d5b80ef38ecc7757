"""Admission of items to pools, with the ancestry of artifacts: late evidence confirms or retracts them."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import attrs

from flashgraph.graph.contexts import Parent
from flashgraph.graph.ports import Artifact, Contender, Group
from flashgraph.policies.champion import settled
from flashgraph.run import events as ev
from flashgraph.run.cause import Cause
from flashgraph.run.flow import Flow
from flashgraph.run.items import Item, Lineage
from flashgraph.run.plan import Plan
from flashgraph.run.pools import PoolState, for_task
from flashgraph.tasks.task import Task

__all__ = ["Admission", "Ancestry"]


@attrs.frozen
class Ancestry:
    """``uses`` are an item's parents, ``lineage`` those and all their ancestors."""

    uses: tuple[tuple[str, int], ...] = ()
    lineage: Lineage = frozenset()


class Admission:
    """The pools of one run.  Admissions are serial: none starts before the last has ended."""

    def __init__(
        self, plan: Plan, flow: Flow, emit: Callable[[ev.Event], None], task: Task[Any, Any] | None = None
    ) -> None:
        rule, growing = plan.schedule.champion, {pool for s in plan.sources.values() if s.evidence for pool in s.reads}
        self.pools = {
            n: PoolState(n, for_task(p.factory(), task), rule if n in growing else settled(rule))
            for n, p in plan.pools.items()
        }
        self._shown: dict[str, Artifact | None] = {}
        """By pool, the champion of the last `ChampionChanged`."""
        self._plan = plan
        self._flow = flow
        self._emit = emit
        self._readers: dict[str, list[tuple[int, int]]] = {name: [] for name in self.pools}
        """By pool, a heap of the open rounds by the oldest version that each may read."""

    @property
    def changes(self) -> int:
        """A count that rises whenever a lag may change."""
        return sum(pool.version for pool in self.pools.values())

    def lag(self, item: Item) -> int:
        """Return the lag of an item: the greatest over the pools that it is stamped with."""
        lag = 0
        for pool, version in item.stamps.items():
            behind = self.pools[pool].version - version
            if behind > lag:
                lag = behind
        return lag

    def lags(self, item: Item) -> dict[str, int]:
        """Return the lags of an item, by pool."""
        return {pool: self.pools[pool].version - version for pool, version in item.stamps.items()}

    def most_stale(self, item: Item) -> str:
        """Return the pool with the greatest lag of the item."""
        return max(item.stamps, key=lambda p: self.pools[p].version - item.stamps[p])

    def newest(self, item: Item, pool: str = "") -> Any:
        """Return the newest value of a pool; without a name, of the one with the greatest lag of the item."""
        return self.pools[pool or self.most_stale(item)].value

    def settled(self, item: Item) -> bool:
        """Whether the staleness rule has already passed this item: it amends an admitted artifact."""
        return item.amends and item.gathered is not None and item.gathered.artifact is not None

    def admit(self, name: str, item: Item) -> None:
        """Give pool ``name`` an item that has passed its edge's rule."""
        state = item.gathered
        if item.amends and state is not None and state.artifact is not None:
            self._amend(name, state.artifact[1], item)
            return
        if isinstance(item.value, Group) and isinstance(item.value.origin, Contender):
            self._evidence(name, item.value.origin.artifact, item)
            return
        pool, now, lag = self.pools[name], self._flow.now, self.lag(item)
        parents = _parents(name, item)
        partial = self._awaits_rest(item)
        change = pool.admit(item.value, parents, item.lineage, partial, lag, now)
        if change is None:
            self._flow.end(item, "filtered", Cause.UNCHANGED, f"pool {name!r} did not change")
            return
        artifact = change.artifact
        if item.claim is not None:
            self._flow.claims.admit(item.claim, name, artifact.id)
        if partial and state is not None:
            state.artifact = (name, artifact.id)
        self._emit(ev.Admitted(now, name, change.version, artifact.id, item.id, lag, partial, parents, artifact.score))
        self._show_champion(name)
        self._flow.end(item, "consumed")

    def _awaits_rest(self, item: Item) -> bool:
        """Whether an edge that amends will still deliver the rest of the item's group."""
        group, amended = item.value, self._plan.edges[item.edge].late == "amend"
        return amended and isinstance(group, Group) and group.partial

    def _evidence(self, name: str, artifact: int, item: Item) -> None:
        change = self.pools[name].evidence(artifact, item.value, self._awaits_rest(item))
        if change is None:
            self._flow.end(item, "filtered", Cause.UNCHANGED, f"pool {name!r} did not change")
            return
        self._emit(ev.EvidenceAdded(self._flow.now, name, change.version, artifact, change.artifact.score))
        self._show_champion(name)
        self._flow.end(item, "consumed")

    def _show_champion(self, name: str) -> None:
        """Emit an event if a pool's champion, or the evidence for it, has changed."""
        pool, before = self.pools[name], self._shown.get(name)
        now = pool.best
        if _standing(now) == _standing(before):
            return
        self._shown[name] = now
        known = (None, None, None, False) if now is None else (now.id, now.score, now.evidence, now.provisional)
        self._emit(ev.ChampionChanged(self._flow.now, name, pool.version, *known))

    def _amend(self, name: str, artifact: int, item: Item) -> None:
        change = self.pools[name].amend(artifact, item.value, _parents(name, item))
        if change.kind == "confirmed":
            self._emit(ev.Confirmed(self._flow.now, name, change.version, artifact, change.artifact.score))
            self._show_champion(name)
        else:
            self._retracted(name, change.version, artifact)
        self._flow.end(item, "consumed")

    def _retracted(self, name: str, version: int, artifact: int) -> None:
        """Discard the open descendants of a retracted artifact.

        Its provisional descendants in pools are retracted too: their evidence will never be complete.
        """
        self._flow.claims.retract(name, artifact)
        self._emit(ev.Retracted(self._flow.now, name, version, artifact))
        self._show_champion(name)
        self._flow.orphan(name, artifact)
        for pool in self.pools.values():
            if any(e.keeps_orphans for e in self._plan.incoming[pool.name]):
                continue
            for record in list(pool.records.values()):
                if record.provisional and (name, artifact) in record.lineage:
                    change = pool.retract(record.artifact)
                    self._retracted(pool.name, change.version, record.artifact)

    def ancestry(
        self,
        reads: tuple[str, ...],
        stamps: Mapping[str, int],
        named: tuple[Parent, ...] | None,
        before: Ancestry = Ancestry(),
    ) -> Ancestry:
        """Return the ancestry of an item from pools at versions ``stamps`` with parents ``named``, after ``before``.

        ``named=None`` names no parents; the item may then descend from every artifact with incomplete evidence at those
        versions.  Raises LookupError for an artifact that the pool never had, or whose pool is not clear.
        """
        parents = tuple(_of_pool(parent, reads) for parent in named or ())
        if named is None:
            known = [
                r for pool in reads for r in self.pools[pool].records.values() if r.version <= stamps[pool] < r.settled
            ]
        else:
            for pool, artifact in parents:
                if artifact not in self.pools[pool].records:
                    raise LookupError(f"ctx.parents({artifact}): pool {pool!r} has no such artifact")
            known = [self.pools[pool].records[artifact] for pool, artifact in parents]
        return Ancestry(
            tuple(dict.fromkeys([*before.uses, *parents])), before.lineage.union(*(r.lineage for r in known))
        )

    def reads(self, round: int, stamps: Mapping[str, int]) -> None:
        """Note the versions that a round reads.  The first version of each pool is kept while the round is open."""
        state = self._flow.rounds.open.get(round)
        for name, version in stamps.items():
            if state is not None and name not in state.oldest:
                state.oldest[name] = version
                heapq.heappush(self._readers[name], (version, round))

    def forget_views(self, drawn: Iterable[Mapping[str, int]]) -> None:
        """Drop the pools' values that no open round can read, and none that is being ``drawn``.

        A round that has not read a pool yet will read its newest value.
        """
        drawn = list(drawn)
        for name, readers in self._readers.items():
            while readers and readers[0][1] not in self._flow.rounds.open:
                heapq.heappop(readers)
            newest = self.pools[name].version
            first = readers[0][0] if readers else newest
            self.pools[name].forget_before(min([first, *(stamps.get(name, newest) for stamps in drawn)]))


def _standing(artifact: Artifact | None) -> tuple[object, ...]:
    return () if artifact is None else (artifact.id, artifact.score, artifact.evidence, artifact.provisional)


def _of_pool(parent: Parent, reads: tuple[str, ...]) -> tuple[str, int]:
    """Return a named parent with its pool.  Raises LookupError where that is not clear."""
    if isinstance(parent, tuple):
        return parent
    if not reads:
        raise LookupError(f"ctx.parents({parent}): no pool is read here. Fix: reads=POOL on the source or stage")
    if len(reads) > 1:
        raise LookupError(
            f"ctx.parents({parent}): {' and '.join(reads)} are read here. Fix: ctx.parents({parent}, of=POOL)"
        )
    return reads[0], parent


def _parents(pool: str, item: Item) -> tuple[int, ...]:
    return tuple(dict.fromkeys(a for p, a in item.uses if p == pool))
