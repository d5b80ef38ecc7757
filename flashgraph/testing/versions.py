"""I5 to I8 and I15 on an event log: versions, staleness, releases, retractions and what a failure may do."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import attrs

from flashgraph.policies.release import Count, Fraction, Sampled
from flashgraph.run import events as ev
from flashgraph.run.cause import Cause
from flashgraph.run.plan import Plan
from flashgraph.testing.log import Check, Log

__all__ = ["evidence", "failures", "orphans", "releases", "staleness", "stamps", "versions"]

Scope = tuple[tuple[int, int], ...]

CHANGES = (ev.Admitted, ev.Confirmed, ev.EvidenceAdded, ev.Retracted)
"""Events that raise their pool's version by one."""


def versions(log: Log) -> Check:
    """I5: each state-changing admission raises the pool's version by exactly one."""
    version: Counter[str] = Counter()
    while True:
        i, event = yield
        if isinstance(event, CHANGES):
            version[event.pool] += 1
            expected = f"pool {event.pool} went to version {event.version}, expected {version[event.pool]}"
            log.expect(event.version == version[event.pool], "I5", i, expected)
        if isinstance(event, ev.Admitted):
            known = all(parent < event.artifact for parent in event.parents)
            log.expect(known, "I6", i, f"artifact {event.artifact} of {event.pool} has parents that came after it")


def stamps(log: Log) -> Check:
    """I6: stamps are true.

    A stamp never exceeds the pool's version, and a source's stamp is the version that it read.  A group's stamp is not
    newer than any of its members'.  An item's lag is the number of changes of its pools since it was made.
    """
    version: Counter[str] = Counter()
    made: dict[int, ev.Created] = {}
    while True:
        i, event = yield
        if isinstance(event, ev.JobStarted | ev.Admitted) and event.item in made:
            lag = max((version[pool] - stamp for pool, stamp in made[event.item].stamps.items()), default=0)
            log.expect(event.lag == lag, "I6", i, f"item {event.item} lags by {lag}, the run says {event.lag}")
        if isinstance(event, CHANGES):
            version[event.pool] += 1
        elif isinstance(event, ev.Released):
            group = made[event.item]
            for member in (made[parent] for parent in group.parents if parent in made):
                newer = [p for p, stamp in member.stamps.items() if group.stamps.get(p, stamp + 1) > stamp]
                log.expect(not newer, "I6", i, f"group {group.item} is stamped newer than member {member.item}")
        elif isinstance(event, ev.Repaired):
            made.pop(event.item, None)  # it gets a new stamp, which the log does not hold
        elif isinstance(event, ev.JobStarted) and event.item is None:
            log.expect(event.lag == 0 and not event.late, "I6", i, f"source {event.stage} draws at lag {event.lag}")
        elif isinstance(event, ev.Created):
            made[event.item] = event
            for pool, stamp in event.stamps.items():
                log.expect(stamp <= version[pool], "I6", i, f"item {event.item} is stamped {pool}@{stamp}")
        elif isinstance(event, ev.Emitted) and event.version is not None:
            pool = log.plan.sources[event.source].reads[0]
            log.expect(event.version <= version[pool], "I6", i, f"{event.source} read {pool}@{event.version}")


def staleness(log: Log) -> Check:
    """I7: nothing is taken up or admitted that its edge's staleness rule excludes at that moment.

    For a group the rule applies to the whole.  Nothing is discarded as stale that the rule accepts.
    """
    edge_of: dict[int, str] = {}
    repairs: Counter[int] = Counter()
    version: Counter[str] = Counter()
    stamps: dict[int, dict[str, int]] = {}
    restamped: dict[int, dict[str, int]] = {}
    """By item under repair, its stamps after the repair."""
    while True:
        i, event = yield
        if isinstance(event, CHANGES):
            version[event.pool] += 1
        if isinstance(event, ev.JobStarted) and event.item is not None and log.plan.stages[event.stage].repairs:
            before = stamps[event.item]
            stale = max(before, key=lambda pool: version[pool] - before[pool])
            read = {stale, *log.plan.stages[event.stage].spec.reads}
            restamped[event.item] = {**before, **{pool: version[pool] for pool in read}}
        if isinstance(event, ev.Created):
            edge_of[event.item] = event.edge
            stamps[event.item] = dict(event.stamps)
        elif isinstance(event, ev.Repaired):
            repairs[event.item] += 1
            stamps[event.item] = restamped.pop(event.item)
        elif isinstance(event, ev.Ended) and event.cause is Cause.STALE:
            log.expect(event.how == "discarded", "I7", i, f"item {event.item} is stale, and {event.how}")
            rule, mine = log.plan.edges[edge_of[event.item]].stale, stamps[event.item]
            lags = {pool: version[pool] - stamp for pool, stamp in mine.items()}
            kinds = {rule.judge(lags, repairs[event.item], partial(_said, touched)).kind for touched in (True, False)}
            log.expect("discard" in kinds, "I7", i, f"item {event.item} is discarded, {rule} says {kinds} at {lags}")
        elif isinstance(event, ev.Admitted) or (isinstance(event, ev.JobStarted) and event.item is not None):
            item = event.item or 0
            edge = log.plan.edges[edge_of[item]]
            if isinstance(event, ev.JobStarted) and (edge.scatter is not None or event.stage != edge.dst):
                continue
            rule = edge.stale
            # The log does not hold conditions on values; a rule with a condition may have let the item pass.
            lags = {pool: version[pool] - stamp for pool, stamp in stamps[item].items()}
            if isinstance(event, ev.Admitted):  # its own version is counted already
                lags[event.pool] = lags.get(event.pool, 1) - 1
            decision = rule.judge(lags, repairs[item], lambda when: False).kind
            log.expect(decision in ("accept", "refresh"), "I7", i, f"{rule} says {decision} at {lags}")


def _said(touched: bool, when: Callable[[Any, Any], bool]) -> bool:
    return touched


@attrs.define
class Places:
    """The groups around every open item, recounted from `Created` and `Ended` events."""

    scope_of: dict[int, Scope] = attrs.field(factory=dict)
    edge_of: dict[int, str] = attrs.field(factory=dict)
    scatter_of: dict[int, str] = attrs.field(factory=dict)
    """By group, the edge that opened it."""
    _outer: dict[int, Scope] = attrs.field(factory=dict)
    _open: dict[int, dict[int, set[int]]] = attrs.field(factory=lambda: defaultdict(lambda: defaultdict(set)))

    def see(self, event: ev.Event) -> None:
        if isinstance(event, ev.Created):
            self.edge_of[event.item] = event.edge
            scope: Scope = ()
            if event.group is not None and event.index is not None:
                # The first item of a group is a member made by its scatter; its parent is the whole.
                if event.group not in self._outer:
                    self.scatter_of[event.group] = event.edge
                    self._outer[event.group] = self.scope_of[event.parents[0]]
                scope = (*self._outer[event.group], (event.group, event.index))
            self.scope_of[event.item] = scope
            for group, index in scope:
                self._open[group][index].add(event.item)
        elif isinstance(event, ev.Ended):
            for group, index in self.scope_of[event.item]:
                self._open[group][index].discard(event.item)

    def ahead_of(self, plan: Plan, group: int, gather: str) -> Iterator[int]:
        """Yield each member of a group that has an open item at ``gather`` or on the way to it."""
        for index, items in self._open[group].items():
            reaches = plan.reaches[self.scatter_of[group]]
            if any(gather in reaches[self.edge_of[item]] for item in items):
                yield index


def releases(log: Log) -> Check:
    """I8: a group is released once and amended at most once.

    It is released with as many members as its rule asks for, and not before its time.  Late members end only if their
    edge says so; with "drop" they may finish their jobs.
    """
    released: set[tuple[int, str]] = set()
    amended: set[tuple[int, str]] = set()
    parents: dict[int, tuple[int, ...]] = {}
    scattered: dict[int, float] = {}
    running: set[int] = set()
    item_of: dict[int, int] = {}
    places = Places()
    came: Counter[tuple[int, int, str]] = Counter()
    sent: dict[int, set[int]] = defaultdict(set)
    undisturbed = True  # no event so far explains a group with missing members
    while True:
        i, event = yield
        places.see(event)
        if isinstance(event, ev.Retracted | ev.EdgeFailed) or (
            isinstance(event, ev.Ended) and event.cause not in (Cause.DONE, Cause.LATE)
        ):
            undisturbed = False
        if isinstance(event, ev.Created):
            parents[event.item] = event.parents
            came.update([(*member, event.edge) for member in places.scope_of[event.item][-1:]])
            if event.group is not None:
                scattered.setdefault(event.group, event.at)
                if event.edge == places.scatter_of[event.group]:
                    sent[event.group].add(event.index or 0)
                    most = _most_sent(log, event.edge)
                    log.expect(len(sent[event.group]) <= most, "I8", i, f"group {event.group} sends out over {most}")
        elif isinstance(event, ev.JobStarted) and event.item is not None:
            if not log.plan.stages[event.stage].repairs:  # an item under repair still waits for its stage
                running.add(event.item)
                item_of[event.job] = event.item
        elif isinstance(event, ev.JobEnded):
            running.discard(item_of.pop(event.job, -1))
        elif isinstance(event, ev.Ended) and event.cause is Cause.LATE and event.how == "filtered":
            edge, (*_, (group, index)) = places.edge_of[event.item], places.scope_of[event.item]
            around = [log.plan.edges[g] for g in (edge, *_gathers_around(log, places, event.item))]
            waits = all(g.late == "amend" or type(g.release).__name__ == "All" for g in around)
            if waits and undisturbed and came[group, index, edge] == 1:
                log.expect((group, edge) in amended, "I8", i, f"item {event.item} is late, and does not amend")
        elif isinstance(event, ev.Ended) and event.cause is Cause.LATE:
            ways = [log.plan.edges[g].late for g in _gathers_around(log, places, event.item)]
            log.expect("cancel" in ways or "drop" in ways, "I8", i, f"item {event.item} is late, and may amend")
            dropped = "cancel" not in ways and event.item in running
            log.expect(not dropped, "I8", i, f"item {event.item} is late, and its job is not left to end")
        elif isinstance(event, ev.Released):
            key = (event.group, event.edge)
            # A group smaller than its rule asks for is released only when no more members can come.
            arrived = {index for p in parents[event.item] for group, index in places.scope_of[p][-1:]}
            missing = set(places.ahead_of(log.plan, event.group, event.edge)) - arrived
            if event.amendment:
                log.expect(key in released, "I8", i, f"group {key} was amended before it was released")
                log.expect(key not in amended, "I8", i, f"group {key} was amended twice")
                log.expect(not missing, "I8", i, f"group {key} was amended while its members {missing} were open")
                amended.add(key)
            else:
                log.expect(key not in released, "I8", i, f"group {key} was released twice")
                enough = event.arrived >= _asked(log, event) or not missing
                log.expect(enough, "I8", i, f"released with {event.arrived} of {event.size} members")
                waited = event.at - scattered.get(event.group, event.at)
                timely = waited >= (log.plan.edges[event.edge].release.deadline() or 0.0) - 1e-9 or not missing
                log.expect(timely, "I8", i, f"released after {waited} s with {event.arrived} of {event.size} members")
                released.add(key)


def _gathers_around(log: Log, places: Places, item: int) -> Iterator[str]:
    """Return the edges that gather the groups around an item."""
    for group, _ in places.scope_of[item]:
        yield from log.plan.gathers[places.scatter_of[group]]


def _most_sent(log: Log, scatter: str) -> float:
    """Return how many members of a group are sent at most, the largest number over its gathers."""
    rules = [log.plan.edges[gather].release for gather in log.plan.gathers[scatter]]
    return max((r.members if isinstance(r, Sampled) else math.inf for r in rules), default=math.inf)


def _asked(log: Log, event: ev.Released) -> float:
    """Return how many members a release rule asks for at least; 0 if that depends on time or values."""
    rule = log.plan.edges[event.edge].release
    if isinstance(rule, Fraction):
        return rule.share * event.size - 1e-9
    if isinstance(rule, Count):
        return min(rule.members, event.size)
    if isinstance(rule, Sampled):
        return rule.share * min(rule.members, event.size) - 1e-9
    return event.size if type(rule).__name__ == "All" else 0


def orphans(log: Log) -> Check:
    """I8: descendants of a retracted artifact end, and nothing else is discarded for it."""
    lineage: dict[int, frozenset[tuple[str, int]]] = {}
    repaired: set[int] = set()
    edge_of: dict[int, str] = {}
    gone: set[int] = set()
    retracted: set[tuple[str, int]] = set()
    while True:
        i, event = yield
        if isinstance(event, ev.Created):
            lineage[event.item] = event.lineage
            edge_of[event.item] = event.edge
            if event.lineage & retracted and not log.plan.edges[event.edge].keeps_orphans:
                gone.add(event.item)
        elif isinstance(event, ev.Repaired):
            repaired.add(event.item)  # the log does not hold what it descends from now
        elif isinstance(event, ev.Ended):
            if event.cause is Cause.ORPHAN:
                descends = bool(retracted) if event.item in repaired else bool(lineage[event.item] & retracted)
                log.expect(descends, "I8", i, f"item {event.item} is no orphan")
                log.expect(event.how == "discarded", "I8", i, f"item {event.item} is an orphan, and {event.how}")
                keeps = log.plan.edges[edge_of[event.item]].keeps_orphans
                log.expect(not keeps, "I8", i, f"edge {edge_of[event.item]} keeps its orphans, and loses {event.item}")
            lineage.pop(event.item, None)
            gone.discard(event.item)
        elif isinstance(event, ev.Retracted):
            what = (event.pool, event.artifact)
            retracted.add(what)
            gone |= {n for n, of in lineage.items() if what in of and not log.plan.edges[edge_of[n]].keeps_orphans}
        elif isinstance(event, ev.JobStarted | ev.Admitted) and event.item is not None:
            log.expect(event.item not in gone, "I8", i, f"item {event.item} descends from a retracted artifact")


def evidence(log: Log) -> Check:
    """I8: confirmations, retractions and amendments are due.

    Only what was admitted on incomplete evidence is confirmed or retracted, once, and a retraction includes what was
    made from it.  An amendment ends if its group was discarded on its way and the amendment is at least as stale.
    """
    provisional: set[tuple[str, int]] = set()
    group_of: dict[int, tuple[int, str]] = {}
    dropped: set[tuple[int, str]] = set()
    amends: set[int] = set()
    lineage: dict[int, frozenset[tuple[str, int]]] = {}
    made_from: dict[tuple[str, int], frozenset[tuple[str, int]]] = {}
    due: set[tuple[str, int]] = set()
    while True:
        i, event = yield
        if isinstance(event, ev.JobStarted | ev.Admitted | ev.RunEnded):
            log.expect(not due, "I8", i, f"{sorted(due)} are made from what was retracted, and stay in their pools")
        if isinstance(event, ev.JobStarted | ev.Admitted) and event.item in amends:
            stray = group_of[event.item] in dropped
            log.expect(not stray, "I8", i, f"item {event.item} amends a group that was discarded, and goes on")
        if isinstance(event, ev.Created):
            lineage[event.item] = event.lineage
        elif isinstance(event, ev.Released):
            group_of[event.item] = (event.group, event.edge)
            if event.amendment:
                amends.add(event.item)
        elif isinstance(event, ev.Ended) and event.item in group_of:
            group = group_of.pop(event.item)
            if event.how == "discarded":
                dropped.add(group)
        elif isinstance(event, ev.Admitted):
            if event.provisional:
                provisional.add((event.pool, event.artifact))
                made_from[event.pool, event.artifact] = lineage[event.item]
        elif isinstance(event, ev.Confirmed | ev.Retracted):
            known = (event.pool, event.artifact) in provisional
            log.expect(known, "I8", i, f"artifact {event.artifact} of {event.pool} is not provisional (any more)")
            provisional.discard((event.pool, event.artifact))
            due.discard((event.pool, event.artifact))
            if isinstance(event, ev.Retracted):
                what = (event.pool, event.artifact)
                keeps = {e.dst for e in log.plan.edges.values() if e.keeps_orphans}
                due |= {child for child in provisional if what in made_from[child] and child[0] not in keeps}


def failures(log: Log) -> Check:
    """I15: a failure affects only what the failure rule says.

    An item fails by its own job, by a function of the graph that raised for it, or with its group.  A group fails when
    more members failed than its rule allows.  A failed job fails its own item.  A round fails if one of its items fails
    outside of all groups.  Otherwise it fails only with an item, or with a function on the edges of its source.
    """
    item_of: dict[int, int] = {}
    round_of: dict[int, int] = {}
    alone: set[int] = set()
    """Items outside of all groups."""
    hurt: set[int] = set()
    failed_alone: set[int] = set()
    raised = False
    broken: set[int] = set()
    """Groups that have failed."""
    places = Places()
    running: dict[int, str] = {}
    failed: dict[int, int] = {}
    while True:
        i, event = yield
        places.see(event)
        if isinstance(event, ev.Created):
            round_of[event.item] = event.round
            if event.group is None:
                alone.add(event.item)
        elif isinstance(event, ev.EdgeFailed):
            raised = True
        elif isinstance(event, ev.GroupFailed):
            broken.add(event.group)
            fails = raised or log.plan.edges[event.edge].on_failure.fails(event.failed, event.size)
            message = f"a group failed with {event.failed} of {event.size}, which its rule allows"
            log.expect(fails, "I15", i, message)
        elif isinstance(event, ev.RoundEnded):
            message = f"round {event.round} is reported to have {'failed' if event.failed else 'not failed'}"
            log.expect(event.failed or event.round not in failed_alone, "I15", i, message)
            log.expect(not event.failed or raised or event.round in hurt, "I15", i, message)
        elif isinstance(event, ev.JobStarted) and event.item is not None:
            item_of[event.job] = event.item
            running[event.item] = event.stage
        elif isinstance(event, ev.Ended) and event.how == "failed":
            hurt.add(round_of[event.item])
            if event.item in alone:
                failed_alone.add(round_of[event.item])
            if event.cause is Cause.GROUP:
                group = places.scope_of[event.item][-1][0]
                log.expect(group in broken, "I15", i, f"item {event.item} fails with group {group}, which has not")
            elif event.cause is Cause.FUNCTION:
                log.expect(raised, "I15", i, f"item {event.item} failed of a function, and none has raised")
            else:
                log.expect(event.item in running, "I15", i, f"item {event.item} failed, and no job of its did")
            failed[event.item] = i
        elif isinstance(event, ev.JobEnded) and event.job in item_of:
            item = item_of.pop(event.job)
            running.pop(item, None)
            taken = any(e.takes_failures for e in log.plan.outgoing[event.stage])
            if event.how == "failed" and not taken:
                log.expect(item in failed, "I15", i, f"job {event.job} failed, and its item {item} did not")
