"""Reference model of an endpoint and its queue: a history of requests, searched at each question.

`flashgraph.run.slots` keeps counters instead.
"""

from __future__ import annotations

import math
import random
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import attrs
import networkx as nx
from hypothesis import strategies as st

from flashgraph.llm.limits import Limits
from flashgraph.llm.protocol import Quota
from flashgraph.llm.rates import Rate
from flashgraph.run.jobs import Call, Job
from flashgraph.run.slots import Endpoint, Slots
from tests.proof.oracles.limits import KINDS, Kind, Reference, expected_rate, quotas, reference
from tests.proof.tried import Property, expect

__all__ = ["ENDPOINTS"]

Happened = Literal["take", "leave", "send", "done", "throttled", "cancelled", "down", "up"]


@attrs.frozen
class Happening:
    """A happening: ``which`` request in flight, ``after`` more seconds, with a prompt or a reply of ``size`` tokens.

    ``quotas`` is what the API reports with its reply.
    """

    what: Happened
    after: float = 0.25
    which: int = 0
    size: int = 64
    pause: float | None = None
    said: tuple[Quota, ...] = ()


@attrs.define(eq=False)
class Sent:
    """A request that was sent, its expected tokens, and the tokens of all requests sent until then."""

    call: Call
    at: float
    prompt: float
    reply: float
    among: int
    """Slots in use when it was sent."""
    ended: bool = False


@attrs.define
class Rated:
    """A rate limit: the amount per minute, and the amount left at the time ``at``."""

    per_minute: float
    there: float
    at: float

    @property
    def most(self) -> float:
        return max(1.0, self.per_minute / 60)

    def now(self, now: float) -> float:
        return min(self.most, self.there + (now - self.at) * self.per_minute / 60)

    def set(self, there: float, now: float) -> None:
        self.there, self.at = min(self.most, there), now


@attrs.define
class History:
    """The history of an endpoint."""

    limits: Limits
    limit: Reference
    taken: int = 0
    """Slots that are taken and not yet used for a request."""
    sent: list[Sent] = attrs.field(factory=list)
    replies: float = 256.0
    """Average tokens of a reply."""
    refused: int = 0
    """429s since the last outcome of another kind."""
    outages: list[float] = attrs.field(factory=list)
    """The times when it was found down, since it was last up."""
    last_down: float = -math.inf
    closed: float = -math.inf
    rates: dict[str, Rated] = attrs.field(factory=dict)
    known: dict[str, Rate] = attrs.field(factory=dict)
    reported: dict[str, float] = attrs.field(factory=dict)
    """By kind of rate, the time when the request was sent whose reply last reported it."""

    @property
    def out(self) -> list[Sent]:
        return [request for request in self.sent if not request.ended]

    @property
    def used(self) -> int:
        return self.taken + len(self.out)

    def room(self, now: float) -> int:
        """Return how many more requests it may be sent, beside those whose slots are taken."""
        if now < self.closed:
            return 0
        rooms = [self.limit.limit - self.used]
        if self.outages:
            rooms.append(1 - self.used)
        for of, rate in self.rates.items():
            there = rate.now(now)
            # Allow for rounding errors: the amount left may fall short of a whole request by the rounding of a sum.
            rooms.append(math.floor(there + 1e-9) - self.taken if of == "requests" else 10**9 * (there >= 1 - 1e-9))
        return min(rooms)

    def send(self, call: Call, size: float, now: float) -> float:
        self.sent.append(Sent(call, now, size, self.replies, self.used))
        self.taken -= 1
        self.limit.granted(self.used)
        for of, rate in self.rates.items():
            rate.set(rate.now(now) - _counts(of, 1.0, size, self.replies), now)
        return size + self.replies

    def learned(self, request: Sent, said: Sequence[Quota], now: float) -> dict[str, Rate]:
        """Return the rates that are new after the quotas of a reply."""
        new: dict[str, Rate] = {}
        for quota in said:
            known = self.known.get(quota.of)
            stated = self.limits.rpm if quota.of == "requests" else self.limits.tpm
            rate = expected_rate(known, quota)
            if stated is not None or request.at < self.reported.get(quota.of, -math.inf) or rate is None:
                continue
            self.reported[quota.of] = request.at
            later = self.sent[self.sent.index(request) + 1 :]
            since = sum(_counts(quota.of, 1.0, s.prompt, s.reply) for s in later)
            back = (now - request.at) * rate.limit / rate.seconds
            left = quota.left - max(0.0, since - back)
            pace = rate.pace(left, estimated=quota.of != "requests")
            before = self.rates.get(quota.of)
            there = max(0.0, left)
            if known is not None and before is not None:
                there = min(there, before.now(now))
            self.rates[quota.of] = Rated(pace, 0.0, now)
            self.rates[quota.of].set(there, now)
            if rate != known:
                self.known[quota.of] = new[quota.of] = rate
        return new

    def end(
        self, request: Sent, how: str, tokens: tuple[int, int], pause: float | None, said: Sequence[Quota], now: float
    ) -> dict[str, Rate]:
        new, used = self.learned(request, said, now), self.used
        if how == "done":
            self.limit.answered(used, request.at, now, tokens[1])
        elif how == "cancelled":
            self.limit.cancelled(used, request.at, now)
        for_a_rate = any(
            quota.of in self.known and quota.left < _counts(quota.of, 1.0, request.prompt, request.reply)
            for quota in said
        )
        if how == "throttled" and not for_a_rate:
            self.limit.throttled(used, request.at, now, request.among)
        if how in ("done", "throttled"):
            for of, rate in self.rates.items():
                more = _counts(of, 0.0, tokens[0] - request.prompt, tokens[1] - request.reply)
                if more:
                    rate.set(rate.now(now) - more, now)
        if how == "done":
            self.replies = 7 / 8 * self.replies + tokens[1] / 8
        request.ended = True
        self.refused = self.refused + 1 if how == "throttled" else 0
        if self.refused >= 2 and not self.out:
            self.closed = max(self.closed, now + (1.0 if pause is None else pause))
        return new

    def down(self, request: Sent, now: float) -> bool:
        if request.at <= self.last_down:
            return False
        self.outages.append(now)
        self.last_down = now
        self.closed = now + min(120, 10 * 2 ** (len(self.outages) - 1))
        return True

    def up(self, request: Sent) -> bool:
        if not self.outages or request.at <= self.last_down:
            return False
        self.outages.clear()
        return True


def _counts(of: str, requests: float, prompt: float, reply: float) -> float:
    match of:
        case "requests":
            return requests
        case "prompt_tokens":
            return prompt
        case "completion_tokens":
            return reply
    return prompt + reply


def _call(number: int, service: str = "service") -> Call:
    return Call(number, Job(number, "stage", "stage", 0.0), "role", service, {})


def keeps_to_its_limits(kind: Kind, happenings: Sequence[Happening]) -> None:
    """I4: an endpoint takes as many requests as its limit, its rates and its outages leave.

    It knows when time alone will leave more.
    """
    limits = kind.limits()
    endpoint, history, now = Endpoint("endpoint", limits), History(limits, reference(limits)), 0.0
    history.rates = {of: Rated(rate, max(1.0, rate / 60), 0.0) for of, rate in limits.stated.items()}
    for number, happening in enumerate(happenings):
        now += happening.after
        _happens(endpoint, history, happening, number, now)
        at = f"at {now}, after {happening} of {happenings}"
        expect(endpoint.level.limit == history.limit.limit, f"I4: the limit is {endpoint.level.limit} {at}")
        expect(endpoint.used == history.used, f"I4: {endpoint.used} slots are in use, expected {history.used} {at}")
        expect(endpoint.in_flight == len(history.out), f"I4: {endpoint.in_flight} requests are in flight {at}")
        expect(endpoint.up == (not history.outages), f"I4: it is {'up' if endpoint.up else 'down'} {at}")
        expect(endpoint.rates == history.known, f"I4: it knows of {endpoint.rates}, expected {history.known} {at}")
        expect(math.isclose(endpoint.reply_tokens, history.replies), f"I4: replies have {endpoint.reply_tokens} {at}")
        for later in (0.0, 0.5, 20.0, 200.0):
            room, expected = max(0, endpoint.room(now + later)), max(0, history.room(now + later))
            # Sums in another order reach a whole request a rounding error earlier or later.
            near = [max(0, history.room(now + later + error)) for error in (-1e-6, 1e-6)]
            fits = room == expected or (later > 0 and room in near)
            expect(fits, f"I4: it has room for {room} {later} s later, expected {expected} {at}")
        _expect_opening(endpoint, history, now, at)


def _expect_opening(endpoint: Endpoint, history: History, now: float, at: str) -> None:
    opens = endpoint.opens_at(now)
    if opens == math.inf:
        closed = history.room(now) > 0 or history.room(now + 1e7) <= 0
        expect(closed, f"I9: it says that time makes no room, and there will be {at}")
        return
    expect(opens > now, f"I9: it says that it opens at {opens} {at}")
    expect(endpoint.room(opens) > 0, f"I9: it says that it opens at {opens}, and does not {at}")
    for part in (0.25, 0.75, 0.999):
        early = history.room(now + part * (opens - now)) > 0
        expect(not early, f"I9: it has room before {opens}, when it says that it opens {at}")


def _happens(endpoint: Endpoint, history: History, happening: Happening, number: int, now: float) -> None:
    """Apply one happening to both, if it can happen."""
    out = history.out
    match happening.what:
        case "take" if history.room(now) > 0:
            endpoint.take()
            history.taken += 1
        case "leave" if history.taken:
            endpoint.used -= 1  # as `Calls.free_slot` does
            history.taken -= 1
        case "send" if history.taken or history.room(now) > 0:
            if not history.taken:
                endpoint.take()
                history.taken += 1
            call = _call(number)
            call.started_at, call.size = now, float(happening.size)
            expected = history.send(call, happening.size, now)
            call.tokens = endpoint.sent(happening.size, now)
            call.by_then, call.among = endpoint.total, endpoint.used
            expect(math.isclose(call.tokens, expected), f"I4: {call.tokens} tokens are expected, not {expected}")
        case "done" | "throttled" | "cancelled" if out:
            request = out[happening.which % len(out)]
            tokens = (happening.size // 2, happening.size * 3) if happening.what == "done" else (0, 0)
            said = happening.said if happening.what != "cancelled" else ()
            new = endpoint.ended(request.call, happening.what, tokens, happening.pause, now, said)
            expected_new = history.end(request, happening.what, tokens, happening.pause, said, now)
            expect(new == expected_new, f"I4: it has learned {new}, expected {expected_new}")
        case "down" | "up" if history.sent:
            request = history.sent[happening.which % len(history.sent)]
            if happening.what == "down":
                said_down, down = endpoint.failed(request.call, now), history.down(request, now)
                expect(said_down == down, f"I4: that it is down is said to be {'new' if said_down else 'known'}")
            else:
                said_up, up = endpoint.recovered(request.call), history.up(request)
                expect(said_up == up, f"I4: that it is up again is said to be {said_up}")
        case _:
            pass


def happenings(*kinds: Happened) -> st.SearchStrategy[list[Happening]]:
    """Return a strategy for histories of such happenings alone."""
    one = st.builds(
        Happening,
        st.sampled_from(kinds),
        st.sampled_from([0.0, 0.0, 0.25, 1.0, 5.0, 30.0]),
        st.integers(0, 7),
        st.sampled_from([0, 8, 64, 512]),
        st.sampled_from([None, None, 0.0, 3.0, 40.0]),
        st.lists(quotas(), max_size=2).map(tuple),
    )
    return st.lists(one, min_size=1, max_size=25)


def _sent_since(quota: Quota, size: int) -> list[Happening]:
    """Return a reply that reports what was left before another request was sent, which has taken that."""
    sent = Happening("send", 0.0, size=8)
    return [sent, sent, Happening("done", 0.0, size=size, said=(quota,))]


EVERY: Sequence[Happened] = ("take", "leave", "send", "done", "throttled", "cancelled", "down", "up")
HAPPENINGS = st.one_of(
    happenings(*EVERY, "send", "send", "done"),
    happenings("send", "send", "done"),
    happenings("send", "send", "throttled"),
    happenings("send", "send", "throttled", "throttled", "done", "cancelled"),
    happenings("send", "send", "down", "down", "up"),
)
"""All happenings mixed, and rare happenings repeated."""
NARROW = KINDS.map(lambda kind: attrs.evolve(kind, most=min(kind.most, 7)))


# ---- several endpoints, and what waits for them ---------------------------------------------------------


@attrs.frozen
class Door:
    """One of several endpoints, at one moment."""

    limit: int
    used: int
    down: bool
    rpm: float | None


DOORS = st.lists(
    st.builds(Door, st.integers(1, 3), st.integers(0, 3), st.booleans(), st.sampled_from([None, None, 6.0])),
    min_size=1,
    max_size=4,
)


def chooses(doors: Sequence[Door], members: Sequence[int], weights: Sequence[int], seed: int) -> None:
    """I4: of the endpoints with room, one that was down is tried first, else one by chance and weight.

    Services that share an endpoint, even through others, share slots.
    """
    names = [f"e{number}" for number in range(len(doors))]
    limits = {name: Kind("fixed", door.limit, rpm=door.rpm).limits() for name, door in zip(names, doors, strict=True)}
    services: dict[str, dict[str, float]] = {}
    for number, member in enumerate(members):
        chosen = [name for bit, name in enumerate(names) if member >> bit & 1] or names[:1]
        services[f"s{number}"] = {name: float(weights[(number + i) % len(weights)]) for i, name in enumerate(chosen)}
    slots = Slots(limits, services, seed)
    for name, door in zip(names, doors, strict=True):
        endpoint = slots.endpoints[name]
        endpoint.failures = int(door.down)
        for _ in range(door.used):
            endpoint.take()
        if door.rpm is not None and door.used:
            endpoint.buckets["requests"].take(1.0, 0.0)
    draws = dict.fromkeys(services, 0)
    for now in (0.0, 0.0, 4.0, 11.0):
        _choose(slots, services, draws, seed, now)
    graph: Any = nx.Graph()
    graph.add_nodes_from(services)
    graph.add_edges_from((a, b) for a in services for b in services if services[a].keys() & services[b].keys())
    together = {frozenset(found) for found in nx.connected_components(graph)}
    expect({frozenset(s) for s in slots.sharing} == together, f"I4: {services} share as {slots.sharing}")
    expect(sum(map(len, slots.sharing)) == len(services), f"I4: {services} share as {slots.sharing}")


def _choose(
    slots: Slots, services: Mapping[str, Mapping[str, float]], draws: dict[str, int], seed: int, now: float
) -> None:
    room = {name: endpoint.room(now) > 0 for name, endpoint in slots.endpoints.items()}
    for service, of in services.items():
        able = [name for name in of if room[name]]
        expect(slots.room(service, now) == bool(able), f"I4: {service} has room, or not; {able} have")
        tried = [name for name in able if not slots.endpoints[name].up]
        expected = (tried or able)[0] if able else None
        if len(able) > 1 and not tried:
            drawn = random.Random(f"{seed}/{service}/{draws[service]}")
            expected = drawn.choices(able, [of[name] for name in able])[0]
            draws[service] += 1
        found = slots.choose(service, now)
        name = found.name if found is not None else None
        expect(name == expected, f"I14: {service} is sent to {name}, expected {expected} of {able}")
        expect(slots.draws[service] == draws[service], f"I14: {service} has drawn {slots.draws[service]} times")
        for one in of:
            others = any(slots.endpoints[other].up for other in of if other != one)
            expect(slots.others_up(service, one) == others, f"I4: beside {one}, {service} has others, or not")
    openings = [at for e in slots.endpoints.values() if (at := e.opens_at(now)) < math.inf]
    soonest = min(openings) if openings else None
    expect(slots.next_opening(now) == soonest, f"I9: the next opening is {slots.next_opening(now)}, not {soonest}")
    shown = {name: (endpoint.level.limit, endpoint.in_flight) for name, endpoint in slots.endpoints.items()}
    counted = {name: (slots.limits[name], slots.in_flight[name]) for name in shown}
    expect(counted == shown, f"I4: limits and requests in flight are {counted}, expected {shown}")


def queues(history: Sequence[tuple[str, int, int]]) -> None:
    """I9: of the work that waits for a service, the first by its latest rank goes first."""
    slots = Slots({"e": Kind("fixed", 1).limits()}, {"s0": {"e": 1.0}, "s1": {"e": 1.0}}, 0)
    calls = [_call(number, f"s{number % 2}") for number in range(6)]
    ranks: dict[int, int] = {}
    for what, which, rank in history:
        call = calls[which]
        if what == "wait":
            slots.wait(call, rank)
            ranks[call.id] = rank
        else:
            slots.withdraw(call)
            ranks.pop(call.id, None)
        for service in ("s0", "s1"):
            waiting = sorted((r, n) for n, r in ranks.items() if calls[n].service == service)
            first = slots.first(service)
            said = first and (first[0], first[1].id)
            expect(said == (waiting[0] if waiting else None), f"I9: {said} goes first of {waiting}, after {history}")
        for one in calls:
            expect(slots.is_waiting(one) == (one.id in ranks), f"I9: call {one.id} waits, or not, after {history}")


ENDPOINTS: Mapping[str, Property] = {
    "model of endpoints": Property(
        ("I4", "I9"),
        keeps_to_its_limits,
        {"kind": NARROW, "happenings": HAPPENINGS},
        80,
        known=[
            {
                "kind": Kind("fixed", 7, 7, rpm=600.0),
                "happenings": [Happening("send"), Happening("send"), Happening("take")],
            },
            {"kind": Kind("adaptive", 7, 7), "happenings": _sent_since(Quota("requests", 240.0, 1.0, seconds=60.0), 8)},
            {"kind": Kind("adaptive", 7, 7), "happenings": _sent_since(Quota("requests", 240.0, 2.0, seconds=60.0), 8)},
            {
                "kind": Kind("adaptive", 7, 7),
                "happenings": _sent_since(Quota("prompt_tokens", 1e3, 7.0, seconds=60.0), 16),
            },
            {
                "kind": Kind("adaptive", 7, 7),
                "happenings": _sent_since(Quota("completion_tokens", 15e3, 9.0, seconds=60.0), 86),
            },
        ],
    ),
    "endpoints of a service": Property(
        ("I4", "I9", "I14"),
        chooses,
        {
            "doors": DOORS,
            "members": st.lists(st.integers(1, 15), min_size=1, max_size=4),
            "weights": st.lists(st.integers(1, 5), min_size=1, max_size=3),
            "seed": st.integers(0, 5),
        },
        15,
    ),
    "work that waits for a slot": Property(
        ("I9",),
        queues,
        {
            "history": st.lists(
                st.tuples(st.sampled_from(["wait", "wait", "withdraw"]), st.integers(0, 5), st.integers(0, 4)),
                min_size=1,
                max_size=20,
            )
        },
        10,
    ),
}
