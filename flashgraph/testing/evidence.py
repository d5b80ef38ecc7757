"""I16 on an event log: champions, and the evidence of their estimates."""

from __future__ import annotations

from collections import Counter

from flashgraph.run import events as ev
from flashgraph.testing.log import Check, Log

__all__ = ["champions", "estimates"]


def champions(log: Log) -> Check:
    """I16: a champion is in its pool and not retracted.

    Under a rule that asks for evidence, only an event that changes the pool changes the champion.  Each change has one
    event.
    """
    held: dict[str, set[int]] = {}
    last: dict[str, ev.ChampionChanged] = {}
    version: Counter[str] = Counter()
    while True:
        i, event = yield
        if isinstance(event, ev.Admitted | ev.Confirmed | ev.EvidenceAdded | ev.Retracted):
            version[event.pool] += 1
        if isinstance(event, ev.Admitted):
            held.setdefault(event.pool, set()).add(event.artifact)
        elif isinstance(event, ev.Retracted):
            held[event.pool].discard(event.artifact)
        elif isinstance(event, ev.EvidenceAdded):
            known = event.artifact in held.get(event.pool, ())
            log.expect(known, "I16", i, f"evidence for artifact {event.artifact}, which {event.pool} lacks")
        elif isinstance(event, ev.ChampionChanged):
            there = event.artifact is None or event.artifact in held.get(event.pool, ())
            log.expect(there, "I16", i, f"artifact {event.artifact} is the champion, but {event.pool} lacks it")
            at = version[event.pool]
            log.expect(event.version == at, "I16", i, f"champion at {event.pool}@{event.version}, expected {at}")
            before = last.get(event.pool)
            same = before is not None and (before.artifact, before.score, before.evidence, before.provisional) == (
                event.artifact, event.score, event.evidence, event.provisional,
            )  # fmt: skip
            log.expect(not same, "I16", i, f"ChampionChanged for {event.pool}, but nothing has changed")
            last[event.pool] = event


def estimates(log: Log) -> Check:
    """I16: an estimate rests on evaluations that took place.

    No champion was tried on more samples than members have arrived in the groups that its pool took for it.  Groups
    that passed a stage on their way are not counted.
    """
    arrived: Counter[int] = Counter()
    """By item that is a gathered group."""
    taken: dict[str, int] = {}
    """By pool, the item that it is taking."""
    tried: Counter[tuple[str, int]] = Counter()
    uncounted: set[tuple[str, int]] = set()
    while True:
        i, event = yield
        if isinstance(event, ev.Released):
            arrived[event.item] = event.arrived
        elif isinstance(event, ev.Dequeued):
            taken[log.plan.edges[event.edge].dst] = event.item
        elif isinstance(event, ev.Admitted | ev.Confirmed | ev.EvidenceAdded):
            tried[event.pool, event.artifact] += arrived[taken[event.pool]]
            if taken[event.pool] not in arrived:
                uncounted.add((event.pool, event.artifact))
        elif isinstance(event, ev.ChampionChanged) and event.evidence is not None and event.artifact is not None:
            known, most = event.evidence, tried[event.pool, event.artifact]
            if (event.pool, event.artifact) in uncounted:
                continue
            log.expect(known.tried <= known.of, "I16", i, f"{event.artifact} was tried on {known.tried} of {known.of}")
            least = known.tried - known.failed
            log.expect(least <= most, "I16", i, f"{event.artifact} has {least} scores, {most} members arrived for it")
