"""A simulated model server that drives one endpoint in virtual time, with a heap of events and no event loop.

As in `flashgraph.sim.engine`, every running request gets one token a step, and a step takes longer with more of them.
There is always more work.
"""

from __future__ import annotations

import heapq
import math
import random

import attrs

from flashgraph.llm.limits import Limits
from flashgraph.run.jobs import Call, Job
from flashgraph.run.slots import Endpoint

__all__ = ["Served", "Work", "served"]

REFUSED_AFTER = 0.05
"""Seconds until a 429 arrives."""


@attrs.frozen
class Work:
    """A server of ``slots``, and the requests that it gets.

    A decoding step takes 8 ms and ``slowdown`` seconds for each running request.  A server with ``queues`` lets
    requests wait; without it the server answers 429.  Replies have ``mean`` tokens, lognormal with shape ``sigma``.
    Each reply is slower or faster than its length suggests, by up to the share ``noise``.

    The share ``cancelled`` of the requests is cancelled.  Each is cancelled by itself before an empty server would
    answer it, or in groups of ``group`` once the others of the group have ended.
    """

    slots: int
    queues: bool = True
    cancelled: float = 0.5
    group: int = 1
    slowdown: float = 5e-5
    mean: float = 500.0
    sigma: float = 0.9
    noise: float = 0.0
    seed: int = 0

    def step(self, running: int) -> float:
        """Return the seconds of a step with that many requests running."""
        return 0.008 + self.slowdown * running


@attrs.frozen
class Served:
    """A server's throughput.

    ``use`` is its share of the throughput with every slot busy.  ``limits`` are those of each second.  ``sent`` and
    ``refused`` count requests; ``cancelled`` is a share of those that were not refused.
    """

    use: float
    limits: list[int]
    sent: int
    refused: int
    cancelled: float


@attrs.define(eq=False)
class _Request:
    number: int
    tokens: int
    steps: float
    group: list[_Request]
    call: Call
    end: float | None = None
    gone: bool = False


class _Simulation:
    def __init__(self, limits: Limits, work: Work) -> None:
        self.endpoint = Endpoint("one", limits)
        self.work = work
        self.random = random.Random(work.seed)
        self.now = self.steps = self.made = 0.0
        self.running = self.waiting = self.sent = self.refused = self.answered = 0
        self.limits: list[int] = []
        self._batch: list[tuple[float, int, _Request]] = []
        self._queue: list[_Request] = []
        self._timers: list[tuple[float, int, str, _Request]] = []
        self._group: list[_Request] = []
        self._job = Job(0, "stage", "stage", 0.0)

    def run(self, until: float) -> None:
        """Advance time, with as many requests in flight as the endpoint allows."""
        while self.now < until:
            while self.endpoint.room(self.now) > 0:
                self._send()
            self._pass(min(until, self._due(), self._timers[0][0] if self._timers else math.inf))
            while self._batch and (self._batch[0][2].gone or self._batch[0][0] <= self.steps + 1e-6):
                if not (request := heapq.heappop(self._batch)[2]).gone:
                    self._answer(request)
            while self._timers and self._timers[0][0] <= self.now:
                _, _, what, request = heapq.heappop(self._timers)
                if not request.gone:
                    self._end(request, what)
            self._fill()

    def _due(self) -> float:
        while self._batch and self._batch[0][2].gone:
            heapq.heappop(self._batch)
        if not self._batch:
            return math.inf
        return self.now + max(0.0, self._batch[0][0] - self.steps) * self.work.step(self.running)

    def _pass(self, to: float) -> None:
        steps = (to - self.now) / self.work.step(self.running)
        self.steps, self.made = self.steps + steps, self.made + steps * self.running
        self.limits += [self.endpoint.level.limit] * (int(to) - int(self.now))
        self.now = to

    def _send(self) -> None:
        work = self.work
        tokens = max(1, round(self.random.lognormvariate(math.log(work.mean) - work.sigma**2 / 2, work.sigma)))
        steps = tokens * (1 + work.noise * (2 * self.random.random() - 1))
        if len(self._group) == work.group:
            self._group = []
        call = Call(self.sent, self._job, "role", "service", {}, started_at=self.now, size=10.0)
        request = _Request(self.sent, tokens, steps, self._group, call)
        self._group.append(request)
        self.endpoint.take()
        call.tokens, call.by_then = self.endpoint.sent(call.size, self.now), self.endpoint.total
        call.among = self.endpoint.used
        self.sent += 1
        if not work.queues and self.running + self.waiting >= work.slots:
            heapq.heappush(self._timers, (self.now + REFUSED_AFTER, self.sent, "throttled", request))
            return
        self.waiting += 1
        self._queue.append(request)
        self._fill()
        if work.group == 1 and self.random.random() < work.cancelled:
            after = self.random.random() * steps * work.step(min(self.running, work.slots))
            heapq.heappush(self._timers, (self.now + after, self.sent, "cancelled", request))

    def _fill(self) -> None:
        while self._queue and self.running < self.work.slots:
            request = self._queue.pop(0)
            if not request.gone:
                request.end = self.steps + request.steps
                heapq.heappush(self._batch, (request.end, request.number, request))
                self.running, self.waiting = self.running + 1, self.waiting - 1

    def _answer(self, request: _Request) -> None:
        self._end(request, "done")
        self.answered += 1
        ended = sum(other.gone for other in request.group)
        if request.group is not self._group and ended >= (1 - self.work.cancelled) * len(request.group) > 1:
            for other in request.group:
                if not other.gone:
                    self._end(other, "cancelled")

    def _end(self, request: _Request, how: str) -> None:
        request.gone = True
        if how == "throttled":
            self.refused += 1
        elif request.end is None:
            self.waiting -= 1
        else:
            self.running -= 1
        tokens = (10, request.tokens) if how == "done" else (0, 0)
        self.endpoint.ended(request.call, how, tokens, 1.0 if how == "throttled" else None, self.now)


def served(limits: Limits, work: Work, *, warm: float = 120.0, until: float = 300.0) -> Served:
    """Return a server's throughput under such a limit, from second ``warm`` on."""
    simulation = _Simulation(limits, work)
    simulation.run(warm)
    made, sent, refused, answered = simulation.made, simulation.sent, simulation.refused, simulation.answered
    simulation.run(until)
    sent, refused = simulation.sent - sent, simulation.refused - refused
    return Served(
        (simulation.made - made) / (until - warm) / (work.slots / work.step(work.slots)),
        simulation.limits[int(warm) :],
        sent,
        refused,
        1 - (simulation.answered - answered) / max(1, sent - refused),
    )
