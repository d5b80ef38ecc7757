"""A machine's whole state as one value: machines with equal snapshots decide alike from then on."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import attrs

from flashgraph.run.goal import NO_GOAL
from flashgraph.run.items import GatherState, Item
from flashgraph.run.jobs import Call
from flashgraph.run.machine import Machine
from flashgraph.run.slots import Endpoint
from flashgraph.run.snapshot import MachineSnapshot

__all__ = ["signature", "whole_state"]

Name = Callable[[str, int], int]
"""The name of an item, job, call, round or group, from its kind and its number."""


POOLS = 4
"""The index of the pools in `whole_state`; each is its name and its state."""


def whole_state(machine: Machine) -> tuple[Any, ...]:
    """Return everything that the machine's decisions depend on, with its numbers and its clock."""
    return (machine.now, machine.counts(), *_state(machine, lambda kind, number: number, 0.0, history=True))


def signature(machine: Machine) -> tuple[Any, ...]:
    """Return `whole_state` without what no longer matters: the count of past items, their parents, and the time while
    nothing waits for a moment.

    Open things are named by their order, which is all that decisions see of their numbers.  A stage that draws from
    ``ctx.random`` sees more, because its stream is keyed by the item.
    """
    known = {
        "item": sorted(machine.flow.places.items),
        "job": sorted(machine.jobs),
        "call": sorted(machine.calls.open),
        "round": sorted(machine.flow.rounds.open),
        "group": sorted(machine.flow.groups.open),
    }
    names = {kind: {number: place for place, number in enumerate(numbers)} for kind, numbers in known.items()}
    return _state(machine, lambda kind, number: names[kind].get(number, -1), machine.now, history=False)


def _state(machine: Machine, name: Name, zero: float, *, history: bool) -> tuple[Any, ...]:
    seen = machine.snapshot()
    return (
        _flow(machine, seen, name, zero, history=history),
        _work(machine, seen, name, zero),
        _pools(machine),
        seen.status,
        machine.stopping,
        seen.draining,
        seen.claims,
        repr(machine.goals) if machine.goals.goal != NO_GOAL else None,
        seen.phase,
        None if seen.adjust_at is None else seen.adjust_at - zero,
        None if seen.opening_since is None else seen.opening_since - zero,
    )


def _flow(machine: Machine, seen: MachineSnapshot, name: Name, zero: float, *, history: bool) -> tuple[Any, ...]:
    flow = machine.flow

    def ids(items: Iterable[Item]) -> tuple[int, ...]:
        return tuple(name("item", item.id) for item in items)

    def gathered(state: GatherState) -> tuple[Any, ...]:
        flags = (state.released, state.amended, state.closed)
        counts = (state.arrived, state.ended, state.failed)
        return (state.edge, tuple(map(repr, state.members)), ids(state.items), counts, flags, state.artifact)

    items = tuple(
        (
            name("item", i.id), seen.places[i.id], repr(i.value), i.edge, name("round", i.round),
            i.parents if history else (), tuple((name("group", g), place) for g, place in i.scope),
            tuple(sorted(i.stamps.items())), i.uses, tuple(sorted(i.lineage)), tuple(sorted(i.loops.items())),
            i.late, i.repairs, i.gathered and gathered(i.gathered), i.amends,
        )
        for i in flow.places.items.values()
    )  # fmt: skip
    groups = tuple(
        (
            name("group", g.id), g.edge, name("item", g.origin.id), repr(g.origin.value),
            tuple(map(tuple, g.alive.values())),
            tuple(sorted(g.reasons.items())), tuple(map(gathered, g.gathers.values())), g.identities, g.strata,
            g.waiting, g.sent, g.void,
        )
        for g in flow.groups.open.values()
    )  # fmt: skip
    rounds = tuple((name("round", r.id), r.source, r.open, r.late, r.failed) for r in flow.rounds.open.values())
    queues = tuple((n, ids(q.items()), q.held, q.opened) for n, q in flow.places.queues.items())
    members = tuple((n, ids(q.items())) for n, q in flow.places.members.items())
    timers = tuple(sorted((name("group", g), edge, at - zero) for (g, edge), at in seen.timers.items()))
    pending = tuple(name("item", number) for number in seen.pending if number in seen.places)
    streaks = tuple((edge, tuple(sorted(found.items(), key=repr))) for edge, found in seen.streaks.items())
    ended = tuple(sorted(flow.rounds.ended.items()))
    return (tuple(sorted(items)), groups, rounds, queues, members, timers, pending, streaks, ended)


def _endpoint(endpoint: Endpoint, zero: float) -> tuple[Any, ...]:
    was = endpoint.level
    level = attrs.evolve(
        was,
        cut_at=was.cut_at - zero,
        quiet_until=was.quiet_until - zero,
        full_at=was.full_at - zero,
        sample=attrs.evolve(was.sample, since=was.sample.since - zero),
        known=was.known and attrs.evolve(was.known, since=0.0),
        reason="",
    )
    filled = tuple((of, b.per_minute, b.filled, b.at - zero) for of, b in endpoint.buckets.items())
    away = min(endpoint.turned_away, 2)
    counts = (
        endpoint.used,
        endpoint.in_flight,
        endpoint.failures,
        endpoint.down_at - zero,
        away,
        # Counted everywhere, but it matters only where a rate counts tokens.
        endpoint.reply_tokens if endpoint.buckets else 0.0,
    )
    rates = tuple((of, rate, endpoint.quotas_at[of] - zero) for of, rate in endpoint.rates.items())
    return (endpoint.name, repr(level), endpoint.shut_until - zero, filled, rates, *counts)


def _expected(call: Call, machine: Machine) -> tuple[float, ...]:
    """Return what a call is expected to use and what was sent since; nothing if its endpoint has no rates."""
    endpoint = machine.slots.endpoints.get(call.endpoint)
    if endpoint is None or not endpoint.buckets:
        return ()
    return (call.tokens, *(after - before for after, before in zip(endpoint.total, call.by_then, strict=True)))


def _work(machine: Machine, seen: MachineSnapshot, name: Name, zero: float) -> tuple[Any, ...]:
    jobs = tuple(
        (
            name("job", j.id), j.node, j.kind, j.item and name("item", j.item.id), tuple(sorted(j.stamps.items())),
            j.slot, j.reservation is not None, j.lag, j.cancelled, j.refused, j.done, j.asked,
            tuple(name("item", i.id) for i in j.outbox), j.emission,
        )
        for j in machine.jobs.values()
    )  # fmt: skip
    calls = tuple(
        (
            name("call", c.id), name("job", c.job.id), c.service, c.endpoint, c.size, _expected(c, machine),
            tuple(sorted(c.amounts.items())),
            c.reservation is not None, c.id in seen.ranks, seen.ranks.get(c.id) and "ranked",
        )
        for c in machine.calls.open.values()
    )  # fmt: skip
    stages = tuple(
        (n, s.most, s.busy, s.finished, s.failures, tuple((name("item", i.id), *sent) for i, *sent in s.repairs))
        for n, s in machine.stages.items()
    )
    sources = tuple(
        (
            s.name,
            s.emissions,
            s.drawing is not None,
            s.exhausted,
            s.waits_past and (tuple(s.waits_past[0].items()), s.waits_past[1]),
            s.narrowed,
            s.widen,
            s.unrouted,
        )
        for s in machine.sources.states.values()
    )
    slots = (tuple(_endpoint(e, zero) for e in machine.slots.endpoints.values()), tuple(machine.slots.draws.items()))
    account = machine.ledger
    ledger = (tuple(sorted(account.settled.items())), tuple(sorted(account.reserved.items())), account.refused)
    refused = tuple(sorted(machine.calls.refused.items()))
    commits = tuple(name("job", number) for number in seen.uncommitted)
    delivering = tuple(name("job", number) for number in seen.delivering)
    return (jobs, delivering, calls, stages, sources, slots, ledger, refused, commits)


def _pools(machine: Machine) -> tuple[Any, ...]:
    return tuple(
        (
            n, pool.version, repr(pool.value), pool.best and pool.best.id, repr(pool.title),
            tuple(
                (r.artifact, r.version, r.provisional, r.retracted, tuple(sorted(r.lineage)), r.settled)
                for r in pool.records.values()
            ),
        )
        for n, pool in machine.pools.items()
    )  # fmt: skip
