"""Invariants of a machine's state between two turns: its counts, recounted, and no work left undone.

An event log shows what a scheduler did; only its state shows what it failed to do.
"""

from __future__ import annotations

import math
from collections import Counter

from flashgraph.run.machine import Machine
from flashgraph.run.snapshot import MachineSnapshot
from flashgraph.testing.log import InvariantViolation

__all__ = ["check_state", "held_back"]


def _expect(holds: bool, name: str, message: str) -> None:
    if not holds:
        raise InvariantViolation(f"{name}: {message}")


def check_state(machine: Machine) -> None:
    """Check a machine after a step.  Raises `InvariantViolation`, which names the invariant."""
    seen = machine.snapshot()
    if not machine.stopping:  # else an item keeps its place, even when its job has ended
        _places(machine, seen)
    else:
        left = [job.id for job in machine.running if not job.cancelled]
        _expect(not left, "I12", f"the run is stopped, and its jobs {left} are left running")
    _rounds_and_groups(machine)
    _bounds(machine)
    _account(machine)
    if machine.status is None and not machine.stopping:
        _nothing_stands(machine, seen)


def _places(machine: Machine, seen: MachineSnapshot) -> None:
    """I1: every open item is in one place, where it says it is."""
    flow = machine.flow
    found: list[tuple[int, str]] = []
    for name, queue in flow.places.queues.items():
        found += [(number, "queued") for number in seen.queued[name]]
        held = sum(place == "held" and flow.places.items[i].edge == name for i, place in seen.places.items())
        _expect(queue.held == held, "I2", f"edge {name} counts {queue.held} items under repair, found {held}")
    for members in seen.members.values():
        found += [(number, "member") for number in members]
    for job in machine.jobs.values():
        found += [(i.id, "outbox") for i in job.outbox if flow.is_open(i)]
        if job.item is not None and not job.done and flow.is_open(job.item):
            found.append((job.item.id, "held" if job.kind == "repair" else "running"))
    found += [(number, "outbox") for number in seen.pending if number in seen.places]
    for state in machine.stages.values():
        found += [(item.id, "held") for item, *_ in state.repairs]
    for group in flow.groups.open.values():
        for gather in group.gathers.values():
            found += [(i.id, "gathered") for i in gather.items if flow.is_open(i)]
    expected, counted = Counter[tuple[int, str]](seen.places.items()), Counter(found)
    _expect(set(seen.places) == set(flow.places.items), "I1", "an open item has no place, or an ended item has one")
    _expect(counted == expected, "I1", f"found {counted - expected} in unexpected places, "
            f"and did not find {expected - counted}")  # fmt: skip


def _rounds_and_groups(machine: Machine) -> None:
    """I4, I8: recount the open items of rounds and of members."""
    flow = machine.flow
    held = Counter((i.round, i.late) for i in flow.places.items.values())
    for round_ in flow.rounds.open.values():
        counts = (held[round_.id, False], held[round_.id, True])
        recorded = (round_.open, round_.late)
        _expect(recorded == counts, "I4", f"round {round_.id} counts {recorded} items (open, late), found {counts}")
    for source, spec in machine.plan.sources.items():
        mine = sum(held[r.id, False] > 0 for r in flow.rounds.open.values() if r.source == source)
        _expect(mine <= machine.plan.window_of(spec), "I4", f"source {source} has {mine} rounds open")
    if machine.plan.schedule.serial:
        drawn = sum(job.kind == "source" for job in machine.running)
        _expect(
            len(flow.rounds.open) + drawn <= 1,
            "I11",
            f"lockstep has {len(flow.rounds.open)} rounds open and draws {drawn}",
        )
    reaches = machine.plan.reaches
    carried = Counter(
        (group, gather, index)
        for item in flow.places.items.values()
        for group, index in item.scope
        for gather in reaches[flow.groups.open[group].edge][item.edge]
    )
    for group in flow.groups.open.values():
        alive = {g: [carried[group.id, g, index] for index in range(group.size)] for g in group.gathers}
        _expect(group.alive == alive, "I8", f"group {group.id} counts {group.alive} by member, found {alive}")


def _bounds(machine: Machine) -> None:
    """I2, I3, I4: queues, workers and slots."""
    for name, queue in machine.flow.places.queues.items():
        _expect(len(queue) <= queue.capacity, "I2", f"edge {name} holds {len(queue)} of {queue.capacity}")
        opened = sum(g.waiting > 0 and g.edge == name for g in machine.flow.groups.open.values())
        _expect(queue.opened == opened, "I2", f"edge {name} counts {queue.opened} opened groups, found {opened}")
    busy = Counter(job.node for job in machine.jobs.values() if job.kind != "source")
    for name, state in machine.stages.items():
        _expect(state.busy == busy[name], "I3", f"stage {name} counts {state.busy} workers, {busy[name]} are busy")
        _expect(busy[name] <= state.plan.workers, "I3", f"stage {name} runs {busy[name]} of {state.plan.workers}")
        within = 1 <= state.most <= state.plan.workers
        _expect(within, "I3", f"stage {name} is given {state.most} workers, of 1 to {state.plan.workers}")
    flying = Counter(c.endpoint for c in machine.calls.open.values() if c.reservation is not None)
    holding = Counter(job.slot for job in machine.jobs.values() if job.slot is not None)
    for name, endpoint in machine.slots.endpoints.items():
        recorded = (endpoint.in_flight, endpoint.used)
        counts = (flying[name], flying[name] + holding[name])
        _expect(recorded == counts, "I4", f"endpoint {name} counts {recorded} (in flight, used), found {counts}")
        # A limit that falls takes no slot back, but no slot is given above it.
        most = endpoint.taken_under
        _expect(counts[1] <= most, "I4", f"endpoint {name} has {counts[1]} slots in use, taken under a limit of {most}")
        within = 1 <= endpoint.level.limit <= endpoint.limits.most
        _expect(within, "I4", f"endpoint {name} has the limit {endpoint.level.limit}, of 1 to {endpoint.limits.most}")


def _account(machine: Machine) -> None:
    """I10: reservations equal those of jobs and calls, and with settled amounts they stay within the limits."""
    ledger = machine.ledger
    reserved: Counter[str] = Counter()
    for call in machine.calls.open.values():
        if call.reservation is not None:
            reserved.update(call.amounts)
    for job in machine.jobs.values():
        if job.reservation is not None and not job.done:
            reserved.update(dict.fromkeys(machine.plan.stages[job.node].spec.counts, 1))
    for name, amount in ledger.reserved.items():
        close = math.isclose(amount, reserved[name], abs_tol=1e-9)
        _expect(close, "I10", f"{amount:g} {name} are reserved, jobs and calls need {reserved[name]:g}")
        limit = ledger.limits.get(name, math.inf) * (1 + 1e-9)
        spent = ledger.settled[name] + amount
        _expect(spent <= limit, "I10", f"{spent:g} {name} are settled or reserved, the limit is {limit:g}")


def _nothing_stands(machine: Machine, seen: MachineSnapshot) -> None:
    """I9: nothing that is possible at this moment was left undone; a lost wake-up would leave it forever."""
    flow, plan = machine.flow, machine.plan
    for pool in plan.pools:
        for edge in plan.incoming[pool]:
            _expect(
                not flow.places.queues[edge.name].waiting,
                "I9",
                f"an item waits for pool {pool}, which admits every item",
            )
    for job in machine.jobs.values():
        for item in job.outbox:
            stuck = flow.is_open(item) and (plan.edges[item.edge].gather or not flow.places.queues[item.edge].full)
            _expect(not stuck, "I9", f"item {item.id} was not passed to {item.edge}, which has room")
        gone = job.item is not None and not job.done and not flow.is_open(job.item)
        _expect(not gone or job.cancelled, "I12", f"job {job.id} works on an item that has ended, and is not cancelled")
    timer = machine.next_timer()
    for (overdue, name), at in seen.timers.items():
        _expect(timer is not None and timer <= at, "I9", f"group {overdue} has a deadline at {at:g}, no timer is set")
        _expect(at > machine.now, "I9", f"the deadline of group {overdue} on {name} has passed unnoticed")
    for group_ in flow.groups.open.values():
        for name, state in group_.gathers.items():
            wait = plan.edges[name].release.deadline()
            when = machine.now if wait is None else group_.scattered_at + wait
            timed = when <= machine.now or seen.timers.get((group_.id, name)) == when
            _expect(timed, "I8", f"group {group_.id} is due on {name} at {when:g}, without a timer")
            due = state.complete and not (state.released or state.closed or group_.void)
            _expect(not due, "I9", f"group {group_.id} is complete on {name}, and is not released")
    for item in flow.groups.pending:
        stuck = flow.is_open(item) and not flow.places.queues[item.edge].full
        _expect(not stuck, "I9", f"group item {item.id} waits for room on {item.edge}, which has room")
    for service in machine.slots.services:
        first = machine.slots.first(service)
        if machine.slots.room(service, machine.now) and first is not None:
            lacking = machine.ledger.lacking(first[1].amounts)
            waits = lacking is not None and machine.ledger.reserved[lacking] > 0
            _expect(waits, "I9", f"call {first[1].id} waits for a slot of {service}, which has one free")
    if seen.draining is None and not plan.schedule.serial:
        _no_worker_idle(machine)


def held_back(machine: Machine, name: str) -> bool:
    """Return whether the budget keeps a stage from starting.

    It does if no execution fits, or if a request of the stage does not: one was refused, or a limit is used up.
    """
    state, ledger = machine.stages[name], machine.ledger
    taken = {of: ledger.settled[of] + ledger.reserved[of] for of in ledger.limits}
    if any(of in taken and taken[of] + 1 > ledger.limits[of] for of in state.plan.spec.counts):
        return True
    spends = [f"{role}{of}" for of in ("calls", "tokens", "usd") for role in ("", f"{state.plan.spec.model}.")]
    used_up = [of for of in spends if of in taken and taken[of] >= ledger.limits[of] * (1 - 1e-9)]
    return state.plan.endpoint is not None and (bool(used_up) or name in machine.calls.refused)


def _no_worker_idle(machine: Machine) -> None:
    """I9: no stage has work, a worker, a slot and room in the budget at once, and no source has room in its window."""
    for name, state in machine.stages.items():
        waits = bool(state.repairs) or any(
            machine.flow.places.queues[e.name].waiting or (e.scatter and machine.flow.places.members[e.name].waiting)
            for e in machine.plan.incoming[name]
        )
        service = state.plan.endpoint
        # A call that waits for reserved amounts holds back the calls that rank after it.
        room = service is not None and machine.slots.room(service, machine.now)
        served = service is None or (room and machine.slots.first(service) is None)
        able = state.busy < state.most and served and not held_back(machine, name)
        _expect(not (waits and able), "I9", f"stage {name} has work and a worker, and does not start")
    if machine.ledger.exhausted() is None:
        source = machine.sources.next()
        _expect(source is None, "I9", f"source {source and source.name} could emit, and does not start")
