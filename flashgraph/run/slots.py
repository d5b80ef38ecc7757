"""Slots of the endpoints: requests in flight, and the waiting work that gets the next free slot.

A *service* is what a model role calls: one endpoint, or several with weights.  Work queues for a service; a slot is an
endpoint's.
"""

from __future__ import annotations

import heapq
import math
import random
from collections.abc import Collection, Mapping
from typing import Any

import attrs

from flashgraph.llm.limits import Level, Limits
from flashgraph.llm.protocol import Load, Quota
from flashgraph.llm.rates import Amount, Bucket, Rate, amount, learned, used_up
from flashgraph.run.jobs import Call

__all__ = ["Endpoint", "Slots"]

REST = 10.0
"""Seconds without requests to an endpoint that is down; doubled each time that it is still down after them."""

LONGEST_REST = 120.0

SHUT_SECONDS = 1.0
"""Seconds without requests to an endpoint that throttles one request after another, and names no pause."""

FIRST_REPLY = 256.0
"""Tokens that a reply is expected to have before the first reply of an endpoint."""


@attrs.define(eq=False)
class Endpoint:
    """One endpoint's state.  ``used`` counts requests in flight and slots that started jobs hold for their first
    request; ``taken_under`` is the limit under which the last of them was taken."""

    name: str
    limits: Limits
    level: Level = attrs.field(init=False)
    used: int = 0
    in_flight: int = 0
    taken_under: int = 0
    shut_until: float = -math.inf
    failures: int = 0
    """How often in a row it was found down; above 0 it gets one request at a time, as a trial."""
    down_at: float = -math.inf
    """When it was last found down."""
    turned_away: int = 0
    """Requests in a row that were throttled, with none answered between them."""
    reply_tokens: float = FIRST_REPLY
    """The tokens of a reply on average; recent replies count most."""
    buckets: dict[str, Bucket] = attrs.field(init=False)
    """By kind of rate, its bucket: for stated rates, and for those in its answers."""
    rates: dict[str, Rate] = attrs.field(factory=dict)
    """By kind, the rates in its answers."""
    quotas_at: dict[str, float] = attrs.field(factory=dict)
    """By kind, when the request was sent whose answer last had the rate."""
    total: Amount = (0.0, 0.0, 0.0)
    """The sum of everything that it has been sent, with the expected replies."""

    def __attrs_post_init__(self) -> None:
        self.level = self.limits.begin()
        self.buckets = {of: Bucket(rate, 1.0) for of, rate in self.limits.stated.items()}

    @property
    def up(self) -> bool:
        return self.failures == 0

    def room(self, now: float) -> int:
        """Return how many more requests it takes at this moment."""
        room = self.level.limit - self.used
        if self.failures:
            room = min(room, 1 - self.used)
        if room <= 0 or self.shut_until > now:
            return 0
        for of, bucket in self.buckets.items():
            if of == "requests":
                # A job that holds a slot will send its request soon.
                whole = math.floor(bucket.holds(now))
                room = min(room, whole + bucket.has(whole + 1.0, now) - (self.used - self.in_flight))
            elif not bucket.has(1.0, now):
                room = 0
        return room

    def opens_at(self, now: float) -> float:
        """Return when time alone will make room; infinity if it will not."""
        if self.level.limit <= self.used or (self.failures and self.used):
            return math.inf
        at = self.shut_until
        for of, bucket in self.buckets.items():
            at = max(at, bucket.due(1.0 + self.used - self.in_flight if of == "requests" else 1.0))
        return at if at > now else math.inf

    def take(self) -> None:
        self.used += 1
        self.taken_under = self.level.limit

    def sent(self, size: float, now: float) -> float:
        """Count a request of ``size`` prompt tokens as sent; return its expected tokens, with the reply."""
        self.in_flight += 1
        self.level = self.limits.granted(self.level, self.used)
        expected = (1.0, size, self.reply_tokens)
        self._take(expected, now)
        requests, prompts, replies = self.total
        self.total = (requests + 1.0, prompts + size, replies + self.reply_tokens)
        return size + self.reply_tokens

    def ended(
        self,
        call: Call,
        how: str,
        tokens: tuple[int, int],
        pause: float | None,
        now: float,
        quotas: Collection[Quota] = (),
    ) -> dict[str, Rate]:
        """Count a request as ended, with its tokens of prompt and reply and the ``quotas`` of its answer.

        Return the rates that are new.
        """
        new = self._learn(call, quotas, now)
        self.turned_away = self.turned_away + 1 if how == "throttled" else 0
        if how == "done":
            self.level = self.limits.answered(self.level, self.used, call.started_at, now, tokens[1])
            self.reply_tokens += (tokens[1] - self.reply_tokens) / 8
        elif how == "cancelled":
            self.level = self.limits.cancelled(self.level, self.used, call.started_at, now)
        elif how == "throttled" and not used_up(quotas, self.rates, (1.0, call.size, call.tokens - call.size)):
            self.level = self.limits.throttled(self.level, self.used, call.started_at, now, call.among)
        if how in ("done", "throttled"):
            self._take((0.0, tokens[0] - call.size, tokens[1] - (call.tokens - call.size)), now)
        self.used -= 1
        self.in_flight -= 1
        if self.turned_away > 1 and self.in_flight == 0:
            # It takes nothing at all: one request after another would be throttled.
            self.shut_until = max(self.shut_until, now + (SHUT_SECONDS if pause is None else pause))
        return new

    def _learn(self, call: Call, quotas: Collection[Quota], now: float) -> dict[str, Rate]:
        """Learn from the ``quotas`` in its answer to ``call``; return the rates that are new.

        A quota is the rest at the moment when it let the request in; later requests have used some.  Of two
        answers, the one to the later request counts, whichever came first.
        """
        new: dict[str, Rate] = {}
        (requests, prompts, replies), then = self.total, call.by_then
        sent = (requests - then[0], prompts - then[1], replies - then[2])
        for quota in quotas:
            known = self.rates.get(quota.of)
            if not self.limits.learns(quota.of) or call.started_at < self.quotas_at.get(quota.of, -math.inf):
                continue
            if (rate := learned(known, quota)) is None:
                continue
            self.quotas_at[quota.of] = call.started_at
            back = (now - call.started_at) * rate.per_minute / 60
            left = quota.left - max(0.0, amount(quota.of, sent) - back)
            pace = rate.pace(left, estimated=quota.of != "requests")
            if known is None:
                self.buckets[quota.of] = Bucket(pace, 1.0, at=now)
            self.buckets[quota.of].follow(pace, max(0.0, left), now)
            if rate != known:
                self.rates[quota.of] = new[quota.of] = rate
        return new

    def _take(self, spent: Amount, now: float) -> None:
        for of, bucket in self.buckets.items():
            if (part := amount(of, spent)) != 0:
                bucket.take(part, now)

    def failed(self, call: Call, now: float) -> bool:
        """Mark it as down; return False if another request in flight at the same time has already done so."""
        if call.started_at <= self.down_at:
            return False
        self.failures += 1
        self.down_at = now
        self.shut_until = now + min(REST * 2 ** (self.failures - 1), LONGEST_REST)
        return True

    def recovered(self, call: Call) -> bool:
        """Mark it as up if it answers a request that was sent after it was found down; return whether it does."""
        if self.up or call.started_at <= self.down_at:
            return False
        self.failures = 0
        return True


class Slots:
    """The endpoints by name, and the calls that wait for each service."""

    def __init__(self, limits: Mapping[str, Limits], services: Mapping[str, Mapping[str, float]], seed: int) -> None:
        self.endpoints = {name: Endpoint(name, policy) for name, policy in limits.items()}
        self.services = services
        self.draws = dict.fromkeys(services, 0)
        """By service, the number of random choices among its endpoints."""
        self.sharing = _sharing(services)
        """The services, grouped by shared endpoints."""
        self.ranks: dict[int, Any] = {}
        """By call that waits for a slot, its rank; the smallest goes first."""
        self._seed = seed
        self._members = {s: tuple(self.endpoints[e] for e in weights) for s, weights in services.items()}
        self._waiting: dict[str, list[tuple[Any, int, Call]]] = {service: [] for service in services}

    @property
    def limits(self) -> dict[str, int]:
        """The requests that may be in flight now, by endpoint."""
        return {name: endpoint.level.limit for name, endpoint in self.endpoints.items()}

    @property
    def in_flight(self) -> dict[str, int]:
        """The requests in flight, by endpoint."""
        return {name: endpoint.in_flight for name, endpoint in self.endpoints.items()}

    def room(self, service: str, now: float) -> bool:
        """Whether one of a service's endpoints takes another request now."""
        return any(endpoint.room(now) > 0 for endpoint in self._members[service])

    def choose(self, service: str, now: float) -> Endpoint | None:
        """Return an endpoint of a service that has room, drawn by weight; None if none has.

        An endpoint that was down is tried first, with a single request.
        """
        able = [endpoint for endpoint in self._members[service] if endpoint.room(now) > 0]
        if len(able) < 2:
            return able[0] if able else None
        if trial := [endpoint for endpoint in able if not endpoint.up]:
            return trial[0]
        weights = self.services[service]
        stream = random.Random(f"{self._seed}/{service}/{self.draws[service]}")
        self.draws[service] += 1
        return stream.choices(able, [weights[endpoint.name] for endpoint in able])[0]

    def serves(self, service: str, endpoint: Endpoint) -> bool:
        """Return whether an endpoint is one of a service's."""
        return endpoint in self._members[service]

    def others_up(self, service: str, endpoint: str) -> bool:
        """Whether a service has another endpoint that is up."""
        return any(other.up for other in self._members[service] if other.name != endpoint)

    def read(self, endpoint: str, load: Load | None, now: float) -> None:
        """Adjust the limit of an endpoint to its own account of its load."""
        known = self.endpoints[endpoint]
        known.level = known.limits.read(known.level, known.used, load, now)

    def next_opening(self, now: float) -> float | None:
        """Return when time alone makes room for the next request at any endpoint; None if it never does."""
        soonest = min((endpoint.opens_at(now) for endpoint in self.endpoints.values()), default=math.inf)
        return soonest if math.isfinite(soonest) else None

    # ---- waiting calls -----------------------------------------------------------------------------------

    def wait(self, call: Call, rank: Any) -> None:
        """Queue ``call`` at ``rank``, or move it there if it waits already."""
        self.ranks[call.id] = rank
        heapq.heappush(self._waiting[call.service], (rank, call.id, call))

    def withdraw(self, call: Call) -> None:
        """Remove a call that waits no longer."""
        self.ranks.pop(call.id, None)

    def is_waiting(self, call: Call) -> bool:
        return call.id in self.ranks

    def first(self, service: str) -> tuple[Any, Call] | None:
        """Return the waiting call that goes next, with its rank; None if none waits."""
        heap = self._waiting[service]
        while heap and self.ranks.get(heap[0][1]) != heap[0][0]:
            heapq.heappop(heap)
        return (heap[0][0], heap[0][2]) if heap else None


def _sharing(services: Mapping[str, Mapping[str, float]]) -> tuple[tuple[str, ...], ...]:
    groups: list[tuple[set[str], list[str]]] = []
    for service, weights in services.items():
        endpoints, names = set(weights), [service]
        for group in [g for g in groups if g[0] & endpoints]:
            groups.remove(group)
            endpoints |= group[0]
            names = [*group[1], *names]
        groups.append((endpoints, names))
    return tuple(tuple(names) for _, names in groups)
