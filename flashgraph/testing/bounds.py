"""I1 to I4 and I10 on an event log: items are conserved, and nothing exceeds its bound."""

from __future__ import annotations

import math
from collections import Counter, defaultdict

from flashgraph.run import events as ev
from flashgraph.testing.log import Check, Log

__all__ = ["budgets", "capacities", "conservation", "numbers", "outages", "times", "windows", "workers"]


def conservation(log: Log) -> Check:
    """I1: every emitted item ends exactly once, or is open at the end; sources count their emissions."""
    open_items: set[int] = set()
    ended: set[int] = set()
    emissions: Counter[str] = Counter()
    while True:
        i, event = yield
        if isinstance(event, ev.Emitted):
            message = f"source {event.source} emits number {event.emission}, after {emissions[event.source]} others"
            log.expect(event.emission == emissions[event.source], "I1", i, message)
            emissions[event.source] += 1
        elif isinstance(event, ev.Created):
            log.expect(event.item not in open_items | ended, "I1", i, f"item {event.item} was created twice")
            open_items.add(event.item)
        elif isinstance(event, ev.Ended):
            log.expect(event.item in open_items, "I1", i, f"item {event.item} ended, but was not open")
            open_items.discard(event.item)
            ended.add(event.item)
        elif isinstance(event, ev.RunEnded):
            count = f"{len(open_items)} items are open at the end, the run counts {event.open_items}"
            log.expect(len(open_items) == event.open_items, "I1", i, count)
            if event.status == "completed":
                log.expect(not open_items, "I1", i, f"items {sorted(open_items)} are open after a run that finished")


def capacities(log: Log) -> Check:
    """I2: no queue exceeds its capacity, and the run reports its depth correctly.

    A scattering edge counts a group until its last member is taken up.  Items under repair count.
    """
    edge_of: dict[int, str] = {}
    group_of: dict[int, int] = {}
    depth: Counter[str] = Counter()
    waiting: dict[int, set[int]] = defaultdict(set)
    queued: set[int] = set()
    held: set[int] = set()

    def taken(item: int) -> None:
        group = group_of.pop(item, None)
        if group is not None:
            waiting[group].discard(item)
            depth[edge_of[item]] -= not waiting[group]

    while True:
        i, event = yield
        if isinstance(event, ev.Created):
            edge_of[event.item] = event.edge
            # The parent of a member made by this edge's own scatter is the whole item, on the same edge.
            scatters = log.plan.edges[event.edge].scatter is not None
            if scatters and event.group is not None and any(edge_of.get(p) == event.edge for p in event.parents):
                depth[event.edge] += not waiting[event.group]
                waiting[event.group].add(event.item)
                group_of[event.item] = event.group
        elif isinstance(event, ev.Queued):
            depth[event.edge] += event.item not in held
            held.discard(event.item)
            queued.add(event.item)
        elif isinstance(event, ev.Dequeued):
            # An item under repair keeps its place.
            repairs = event.depth == depth[event.edge] and bool(log.plan.edges[event.edge].stale.repairers())
            (held.add if repairs else held.discard)(event.item)
            depth[event.edge] -= not repairs
            queued.discard(event.item)
        elif isinstance(event, ev.JobStarted) and event.item is not None:
            taken(event.item)
        elif isinstance(event, ev.Ended):
            depth[edge_of[event.item]] -= event.item in queued or event.item in held
            queued.discard(event.item)
            held.discard(event.item)
            taken(event.item)
        if isinstance(event, ev.Queued | ev.Dequeued):
            message = f"edge {event.edge} holds {depth[event.edge]}, the run says {event.depth}"
            log.expect(event.depth == depth[event.edge], "I2", i, message)
        if isinstance(event, ev.Created | ev.Queued):
            capacity = log.plan.edges[event.edge].capacity
            log.expect(depth[event.edge] <= capacity, "I2", i, f"edge {event.edge} holds more than {capacity}")


def workers(log: Log) -> Check:
    """I3: no stage runs more jobs than it has workers, nor starts one beyond the workers of the control policy."""
    running: dict[str, set[int]] = defaultdict(set)
    given: dict[str, int] = {}
    while True:
        i, event = yield
        if isinstance(event, ev.JobStarted) and event.stage in log.plan.stages:
            running[event.stage].add(event.job)
            most = log.plan.stages[event.stage].workers
            log.expect(len(running[event.stage]) <= most, "I3", i, f"stage {event.stage} runs more than {most} jobs")
            most = min(most, given.get(event.stage, most))
            log.expect(event.workers <= most, "I3", i, f"stage {event.stage} counts {event.workers} of {most} workers")
        elif isinstance(event, ev.Resized):
            given[event.stage] = event.workers
        elif isinstance(event, ev.Reopened):
            given.clear()  # of another session, which may have other workers
        elif isinstance(event, ev.JobEnded) and event.stage in log.plan.stages:
            known = event.job in running[event.stage]
            log.expect(known, "I3", i, f"job {event.job} ended, but was not running")
            running[event.stage].discard(event.job)


def windows(log: Log) -> Check:
    """I4: no source exceeds its window, and no endpoint its limit.

    Late members do not count for the window.  The limit is the one at the moment when a request is sent.
    """
    source_of: dict[int, str] = {}
    round_of: dict[int, int] = {}
    holding: dict[int, set[int]] = defaultdict(set)
    flying: Counter[str] = Counter()
    where: dict[int, str] = {}
    windows = {name: log.plan.window_of(spec) for name, spec in log.plan.sources.items()}
    limits = {name: policy.begin().limit for name, policy in log.plan.limits.items()}
    while True:
        i, event = yield
        if isinstance(event, ev.Emitted):
            source_of[event.round] = event.source
            mine = [r for r, held in holding.items() if held and source_of[r] == event.source]
            said = f"source {event.source} has {len(mine)} rounds open already"
            log.expect(len(mine) < windows[event.source], "I4", i, said)
        elif isinstance(event, ev.Created):
            round_of[event.item] = event.round
            if not event.late:
                holding[event.round].add(event.item)
        elif isinstance(event, ev.Late | ev.Ended):
            held = holding[round_of[event.item]]
            held.discard(event.item)
            if not held:
                del holding[round_of[event.item]]
        elif isinstance(event, ev.CallStarted):
            flying[event.endpoint] += 1
            where[event.call] = event.endpoint
            limit = limits[event.endpoint]
            over = f"{event.endpoint} has over {limit} requests in flight"
            log.expect(flying[event.endpoint] <= limit, "I4", i, over)
            message = (
                f"{flying[event.endpoint]} requests are in flight at {event.endpoint}, the run says {event.in_flight}"
            )
            log.expect(event.in_flight == flying[event.endpoint], "I4", i, message)
        elif isinstance(event, ev.LimitChanged):
            log.expect(
                event.limit >= 1, "I4", i, f"{event.endpoint} has the limit {event.limit}, which stops it forever"
            )
            limits[event.endpoint] = event.limit
        elif isinstance(event, ev.CallEnded):
            log.expect(event.call in where, "I4", i, f"call {event.call} ended, but was not in flight")
            flying[where.pop(event.call)] -= 1


def outages(log: Log) -> Check:
    """I4: a failed endpoint rests for ten seconds, then twice as long after each failed probe, up to two
    minutes.

    Nothing is sent to it meanwhile, and only its own reply ends the outage.
    """
    sent_to: dict[int, str] = {}
    answered = ""  # the endpoint of the last call that was answered
    times: Counter[str] = Counter()
    until: dict[str, float] = {}
    unsure: set[str] = (
        set()
    )  # these were down in an earlier session, and the next session may have other endpoints of their names
    while True:
        i, event = yield
        if isinstance(event, ev.EndpointDown) and event.endpoint not in unsure:
            expected = min(10.0 * 2 ** times[event.endpoint], 120.0)
            times[event.endpoint] += 1
            message = f"{event.endpoint} is down for {event.seconds} s, expected {expected}"
            log.expect(math.isclose(event.seconds, expected), "I4", i, message)
            until[event.endpoint] = event.at + expected
        elif isinstance(event, ev.CallEnded):
            answered = sent_to[event.call] if event.how == "done" else ""
        elif isinstance(event, ev.EndpointUp):
            silent = f"{event.endpoint} has recovered without a reply"
            log.expect(answered == event.endpoint, "I4", i, silent)
            down = times[event.endpoint] > 0 or event.endpoint in unsure
            log.expect(down, "I4", i, f"{event.endpoint} has recovered, but was not down")
            times[event.endpoint] = 0
            unsure.discard(event.endpoint)
        elif isinstance(event, ev.CallStarted):
            sent_to[event.call] = event.endpoint
            rest = until.get(event.endpoint, 0.0)
            early = event.at < rest - 1e-6
            log.expect(not early, "I4", i, f"call {event.call} goes to {event.endpoint}, which rests until {rest} s")
        elif isinstance(event, ev.Reopened):
            unsure |= {name for name, number in times.items() if number}
            times.clear()
            until.clear()


def numbers(log: Log) -> Check:
    """I1: items, jobs, rounds, groups and artifacts have numbers that count from 0."""
    next_: Counter[str] = Counter()
    scattered = 0
    edge_of: dict[int, str] = {}

    def counts(i: int, what: str, number: int) -> None:
        log.expect(number == next_[what], "I1", i, f"{what} {number} comes after {next_[what]} others")
        next_[what] += 1

    while True:
        i, event = yield
        if isinstance(event, ev.Created):
            counts(i, "item", event.item)
            edge_of[event.item] = event.edge
            # A group is opened before its whole ends; an empty group appears only here.
            known = event.group is None or 0 <= event.group <= scattered
            log.expect(known, "I1", i, f"group {event.group} comes after {scattered} others")
        elif isinstance(event, ev.Ended) and event.how == "consumed":
            scattered += log.plan.edges[edge_of[event.item]].scatter is not None
        elif isinstance(event, ev.JobStarted):
            counts(i, "job", event.job)
        elif isinstance(event, ev.Emitted):
            counts(i, "round", event.round)
        elif isinstance(event, ev.Admitted):
            counts(i, f"artifact of {event.pool}", event.artifact)


def budgets(log: Log) -> Check:
    """I10: what was started exceeds no limit."""
    spent: defaultdict[str, float] = defaultdict(float)
    started: Counter[str] = Counter()
    limits = log.budget.limits

    def spends(i: int, role: str, **amounts: float) -> None:
        """Count a request for the run and for its role."""
        for name, amount in [(f"{of}{name}", a) for name, a in amounts.items() for of in ("", f"{role}.")]:
            spent[name] += amount
            within = spent[name] <= limits.get(name, math.inf) * (1 + 1e-9)
            log.expect(within or amount <= 0, "I10", i, f"{spent[name]:g} {name}")

    while True:
        i, event = yield
        if isinstance(event, ev.CallStarted):
            spends(i, event.role, calls=1)
        elif isinstance(event, ev.CallEnded):
            # A call that was cancelled at the moment of its grant was never sent, and used nothing.
            unsent = event.how == "cancelled" and not (event.estimated or event.prompt_tokens)
            tokens = event.prompt_tokens + event.completion_tokens
            back = -1 if event.how == "throttled" or unsent else 0
            spends(i, event.role, calls=back, tokens=tokens, usd=event.usd or 0.0)
        elif isinstance(event, ev.JobStarted) and event.stage in log.plan.stages:
            for name in log.plan.stages[event.stage].spec.counts:
                started[name] += 1
                log.expect(started[name] <= limits.get(name, math.inf), "I10", i, f"{started[name]} {name}")


def times(log: Log) -> Check:
    """I14: time does not go back, and each duration equals the time between its two events."""
    began: dict[tuple[str, int], float] = {}
    now = 0.0
    while True:
        i, event = yield
        log.expect(event.at >= now, "I14", i, f"it is {event.at}, and was {now} before")
        now = event.at
        if isinstance(event, ev.JobStarted):
            began["job", event.job] = now
        elif isinstance(event, ev.CallStarted):
            began["call", event.call] = now
        elif isinstance(event, ev.JobEnded | ev.CallEnded):
            key = ("job", event.job) if isinstance(event, ev.JobEnded) else ("call", event.call)
            took = now - began.pop(key, math.nan)
            log.expect(event.seconds == took, "I14", i, f"{' '.join(map(str, key))} took {took} s, not {event.seconds}")
