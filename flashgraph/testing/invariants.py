"""The invariants I1 to I10 of a run, checked on its event log and its plan alone.

Each check is a function of `Log`; `check_invariants` runs them all.  They recount everything from single events and
trust none of the scheduler's own counters.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Sequence

import attrs

from flashgraph.policies.release import Count, Fraction
from flashgraph.run import events as ev
from flashgraph.run.budget import Budget
from flashgraph.run.plan import Plan

__all__ = ["INVARIANTS", "InvariantViolation", "Log", "check_invariants"]


class InvariantViolation(AssertionError):
    """An invariant does not hold; the text names it, the event and what was expected."""


@attrs.frozen
class Log:
    """A run's events with what they are held against."""

    events: Sequence[ev.Event]
    plan: Plan
    budget: Budget

    def of(self, kind: type[ev.Event]) -> list[tuple[int, ev.Event]]:
        return [(i, e) for i, e in enumerate(self.events) if isinstance(e, kind)]

    def expect(self, holds: bool, name: str, position: int, message: str) -> None:
        if holds:
            return
        around = "\n".join(
            f"  {'>' if i == position else ' '} {i}: {e}"
            for i, e in list(enumerate(self.events))[max(0, position - 6) : position + 3]
        )
        raise InvariantViolation(f"{name}: {message}\n{around}")


def conservation(log: Log) -> None:
    """I1: every item emitted ends exactly once, or is open at the end."""
    open_items: set[int] = set()
    ended: set[int] = set()
    for i, event in enumerate(log.events):
        if isinstance(event, ev.Created):
            log.expect(event.item not in open_items | ended, "I1", i, f"item {event.item} was created twice")
            open_items.add(event.item)
        elif isinstance(event, ev.Ended):
            log.expect(event.item in open_items, "I1", i, f"item {event.item} ended, but was not open")
            open_items.discard(event.item)
            ended.add(event.item)
        elif isinstance(event, ev.RunEnded):
            log.expect(
                len(open_items) == event.open_items,
                "I1",
                i,
                f"{len(open_items)} items are open at the end, the run counts {event.open_items}",
            )
            if event.status in ("completed", "budget") and "seconds" not in event.reason:
                log.expect(not open_items, "I1", i, f"items {sorted(open_items)} are open after a run that finished")


def capacities(log: Log) -> None:
    """I2: no queue exceeds its capacity (a scattering edge counts groups until their last member is taken up)."""
    edge_of: dict[int, str] = {}
    group_of: dict[int, tuple[str, int]] = {}
    whole: Counter[str] = Counter()
    waiting: dict[tuple[str, int], set[int]] = defaultdict(set)
    state: dict[int, str] = {}
    for i, event in enumerate(log.events):
        if isinstance(event, ev.Created):
            edge_of[event.item] = event.edge
            # A member made by this edge's own scatter has the whole item, of the same edge, as its parent.
            if event.group is not None and any(edge_of.get(p) == event.edge for p in event.parents):
                group_of[event.item] = (event.edge, event.group)
                waiting[event.edge, event.group].add(event.item)
                state[event.item] = "member"
        elif isinstance(event, ev.Queued):
            whole[event.edge] += 1
            state[event.item] = "queued"
        elif isinstance(event, ev.Dequeued):
            whole[event.edge] -= 1
            state[event.item] = "taken"
        elif isinstance(event, ev.JobStarted) and event.item in group_of:
            waiting[group_of[event.item]].discard(event.item)
            state[event.item] = "taken"
        elif isinstance(event, ev.Ended):
            if state.get(event.item) == "queued":
                whole[edge_of[event.item]] -= 1
            if event.item in group_of:
                waiting[group_of[event.item]].discard(event.item)
        else:
            continue
        for edge in (edge_of[event.item],) if event.item is not None else ():
            capacity = log.plan.edges[edge].capacity
            groups = sum(bool(members) for (name, _), members in waiting.items() if name == edge)
            log.expect(whole[edge] + groups <= capacity, "I2", i, f"edge {edge} holds more than {capacity}")


def workers(log: Log) -> None:
    """I3: no stage runs more jobs than it has workers."""
    running: dict[str, set[int]] = defaultdict(set)
    for i, event in enumerate(log.events):
        if isinstance(event, ev.JobStarted) and event.stage in log.plan.stages:
            running[event.stage].add(event.job)
            most = log.plan.stages[event.stage].workers
            log.expect(len(running[event.stage]) <= most, "I3", i, f"stage {event.stage} runs more than {most} jobs")
            log.expect(event.workers <= most, "I3", i, f"stage {event.stage} counts {event.workers} of {most} workers")
        elif isinstance(event, ev.JobEnded):
            log.expect(
                event.stage not in log.plan.stages or event.job in running[event.stage],
                "I3",
                i,
                f"job {event.job} ended, but was not running",
            )
            running[event.stage].discard(event.job)


def windows(log: Log) -> None:
    """I4: no source has more rounds open than its window (late members do not count), no endpoint more requests
    in flight than its limit."""
    source_of: dict[int, str] = {}
    item_round: dict[int, int] = {}
    holding: dict[int, set[int]] = defaultdict(set)
    flying: Counter[str] = Counter()
    where: dict[int, str] = {}
    window = log.plan.schedule.window
    for i, event in enumerate(log.events):
        if isinstance(event, ev.Emitted):
            source_of[event.round] = event.source
            mine = [r for r, held in holding.items() if held and source_of[r] == event.source]
            log.expect(len(mine) < window, "I4", i, f"source {event.source} has {len(mine)} rounds open already")
        elif isinstance(event, ev.Created):
            item_round[event.item] = event.round
            if not event.late:
                holding[event.round].add(event.item)
        elif isinstance(event, ev.Late | ev.Ended):
            holding[item_round[event.item]].discard(event.item)
        elif isinstance(event, ev.CallStarted):
            flying[event.endpoint] += 1
            where[event.call] = event.endpoint
            limit = log.plan.limits[event.endpoint]
            log.expect(
                flying[event.endpoint] <= limit, "I4", i, f"{event.endpoint} has over {limit} requests in flight"
            )
        elif isinstance(event, ev.CallEnded):
            flying[where[event.call]] -= 1


def versions(log: Log) -> None:
    """I5: each state-changing admission raises the pool's version by exactly one."""
    version: Counter[str] = Counter()
    for i, event in enumerate(log.events):
        if isinstance(event, ev.Admitted | ev.Confirmed | ev.Retracted):
            version[event.pool] += 1
            log.expect(
                event.version == version[event.pool],
                "I5",
                i,
                f"pool {event.pool} went to version {event.version}, expected {version[event.pool]}",
            )


def stamps(log: Log) -> None:
    """I6: a stamp never exceeds the pool's version, and a source's is the version that it read."""
    version: Counter[str] = Counter()
    for i, event in enumerate(log.events):
        if isinstance(event, ev.Admitted | ev.Confirmed | ev.Retracted):
            version[event.pool] += 1
        elif isinstance(event, ev.Created):
            for pool, stamp in event.stamps.items():
                log.expect(stamp <= version[pool], "I6", i, f"item {event.item} is stamped {pool}@{stamp}")
        elif isinstance(event, ev.Emitted) and event.version is not None:
            pool = log.plan.sources[event.source].reads or ""
            log.expect(event.version <= version[pool], "I6", i, f"{event.source} read {pool}@{event.version}")


def staleness(log: Log) -> None:
    """I7: nothing is admitted that the staleness rule of its edge excludes at that moment."""
    edge_of: dict[int, str] = {}
    repairs: Counter[int] = Counter()
    for i, event in enumerate(log.events):
        if isinstance(event, ev.Created):
            edge_of[event.item] = event.edge
        elif isinstance(event, ev.Repaired):
            repairs[event.item] += 1
        elif isinstance(event, ev.Admitted):
            rule = log.plan.edges[edge_of[event.item]].stale
            decision = rule.decide(event.lag, repairs[event.item]).kind
            log.expect(decision in ("accept", "refresh"), "I7", i, f"{rule} says {decision} at lag {event.lag}")


def releases(log: Log) -> None:
    """I8: a group is released once, with as many members as its rule asks for, and amended at most once; what
    descends from a retracted artifact does not go on."""
    released: set[tuple[int, str]] = set()
    amended: set[tuple[int, str]] = set()
    lineage: dict[int, frozenset[tuple[str, int]]] = {}
    edge_of: dict[int, str] = {}
    orphans: set[int] = set()
    for i, event in enumerate(log.events):
        if isinstance(event, ev.Created):
            lineage[event.item] = event.lineage
            edge_of[event.item] = event.edge
        elif isinstance(event, ev.Released):
            key = (event.group, event.edge)
            if event.amendment:
                log.expect(key in released, "I8", i, f"group {key} was amended before it was released")
                log.expect(key not in amended, "I8", i, f"group {key} was amended twice")
                amended.add(key)
            else:
                log.expect(key not in released, "I8", i, f"group {key} was released twice")
                released.add(key)
                _enough(log, i, event)
        elif isinstance(event, ev.Ended):
            lineage.pop(event.item, None)
            orphans.discard(event.item)
        elif isinstance(event, ev.Retracted):
            gone = (event.pool, event.artifact)
            orphans |= {
                item for item, of in lineage.items() if gone in of and not log.plan.edges[edge_of[item]].keeps_orphans
            }
        elif isinstance(event, ev.JobStarted | ev.Admitted) and event.item is not None:
            log.expect(event.item not in orphans, "I8", i, f"item {event.item} descends from a retracted artifact")


def _enough(log: Log, position: int, event: ev.Released) -> None:
    """A group smaller than its rule asks for may only go on when every member has ended, so that no more can come."""
    rule = log.plan.edges[event.edge].release
    asked = {Fraction: getattr(rule, "share", 1.0) * event.size, Count: min(getattr(rule, "members", 1), event.size)}
    needed = asked.get(type(rule), event.size if type(rule).__name__ == "All" else 0)
    if event.arrived >= needed - 1e-9:
        return
    created = [e for e in log.events[:position] if isinstance(e, ev.Created)]
    ended = {e.item for e in log.events[:position] if isinstance(e, ev.Ended)}
    arrived = set(next(e.parents for e in created if e.item == event.item))
    open_places = {e.index for e in created if e.group == event.group and e.item not in ended | arrived}
    open_places -= {e.index for e in created if e.item in arrived}
    log.expect(not open_places, "I8", position, f"released with {event.arrived} of {event.size} members")


def budgets(log: Log) -> None:
    """I10: no limit is exceeded by what was started."""
    calls = tokens = 0
    started: Counter[str] = Counter()
    for i, event in enumerate(log.events):
        if isinstance(event, ev.CallStarted):
            calls += 1
            log.expect(log.budget.calls is None or calls <= log.budget.calls, "I10", i, f"request number {calls}")
        elif isinstance(event, ev.CallEnded):
            tokens += event.prompt_tokens + event.completion_tokens
            log.expect(log.budget.tokens is None or tokens <= log.budget.tokens, "I10", i, f"{tokens} tokens")
        elif isinstance(event, ev.JobStarted) and event.stage in log.plan.stages:
            for name in log.plan.stages[event.stage].spec.spends:
                started[name] += 1
                limit = getattr(log.budget, name)
                log.expect(limit is None or started[name] <= limit, "I10", i, f"{started[name]} {name}")


def progress(log: Log) -> None:
    """I9: the run came to an end that is one of its own, not a stall; a graph that finished left nothing undone."""
    ends = log.of(ev.RunEnded)
    log.expect(len(ends) == 1, "I9", len(log.events) - 1, f"the run has {len(ends)} ends")


INVARIANTS: dict[str, Callable[[Log], None]] = {
    "I1": conservation,
    "I2": capacities,
    "I3": workers,
    "I4": windows,
    "I5": versions,
    "I6": stamps,
    "I7": staleness,
    "I8": releases,
    "I9": progress,
    "I10": budgets,
}


def check_invariants(events: Sequence[ev.Event], plan: Plan, budget: Budget | None = None) -> None:
    """Check I1 to I10 on a finished run.  Raises `InvariantViolation` for the first that does not hold."""
    log = Log(events, plan, budget or Budget())
    for check in INVARIANTS.values():
        check(log)
