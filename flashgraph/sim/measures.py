"""The measures of a forecast, and how they are computed while the run is in progress."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Mapping
from typing import Any

import attrs

from flashgraph.run import events as ev
from flashgraph.run.cause import Cause, End
from flashgraph.run.machine import Machine
from flashgraph.run.queues import EdgeQueue
from flashgraph.sim.profiles import Profile

__all__ = ["Forecast", "Queue", "RunMeasures", "ScoreMoment", "Server"]

BOUND = 0.5
"""A resource that was full for this share of the time was a bound of the run."""


@attrs.frozen
class ScoreMoment:
    """The true score of the run's champion, ``seconds`` after its start and after ``tokens`` tokens."""

    seconds: float
    tokens: int
    score: float


@attrs.frozen
class Queue:
    """Items queued on an edge: the mean over time and the maximum; members of an opened group count as one."""

    mean: float
    most: int


@attrs.frozen
class Server:
    """The load of a model server.

    ``use`` is its tokens a second over its capacity with every slot busy. ``running`` and ``waiting`` are the mean
    numbers of requests at it and queued for it, and ``full`` is the share of time without a free slot.
    """

    profile: str
    limit: int
    use: float
    running: float
    most_running: int
    waiting: float
    full: float


@attrs.frozen
class Forecast:
    """A simulated run.

    ``lags`` counts admissions by lag. ``accepted`` counts artifacts that were admitted and not retracted, with the
    seed. Tokens and ``usd`` are those of received replies, without cancelled ones.
    """

    status: str
    cause: Cause
    reason: str
    seconds: float
    proposals: int
    accepted: int
    evaluations: int
    calls: int
    cancelled: int
    prompt_tokens: int
    reply_tokens: int
    usd: float
    servers: Mapping[str, Server]
    queues: Mapping[str, Queue]
    lags: Mapping[int, int]
    workers_full: Mapping[str, float]
    """The share of time in which all of a stage's workers were busy."""
    window_full: float
    """The share of time in which a source that can emit more had as many rounds open as its window allows."""
    bound: str
    curve: tuple[ScoreMoment, ...] = ()

    @property
    def nothing(self) -> bool:
        """Whether the run ended before it had evaluated or called anything."""
        return not self.evaluations and not self.calls

    def per_minute(self, name: str) -> float:
        """Return the rate of ``proposals``, ``accepted``, ``evaluations`` or ``calls``."""
        return float(getattr(self, name)) * 60 / self.seconds if self.seconds > 0 else 0.0

    @property
    def tokens(self) -> int:
        return self.prompt_tokens + self.reply_tokens

    @property
    def use(self) -> float:
        """The use of the busiest server."""
        return max((s.use for s in self.servers.values()), default=0.0)

    @property
    def score(self) -> float | None:
        """The true score at the end, if the scene has one."""
        return self.curve[-1].score if self.curve else None

    def reached(self, score: float) -> ScoreMoment | None:
        """Return when a score was first reached."""
        return next((p for p in self.curve if p.score >= score), None)

    def lag(self, share: float) -> int:
        """Return a quantile of the lag at admission."""
        left = share * sum(self.lags.values())
        for lag in sorted(self.lags):
            left -= self.lags[lag]
            if left <= 0:
                return lag
        return 0

    @property
    def mean_lag(self) -> float:
        return sum(lag * n for lag, n in self.lags.items()) / max(1, sum(self.lags.values()))


class RunMeasures:
    """Consumes a run's events and remembers sums, not events. ``truth`` scores an artifact's value."""

    def __init__(self, truth: Callable[[Any], float | None] | None = None) -> None:
        self._machine: Machine | None = None
        self._truth = truth
        self._count: Counter[str] = Counter()
        self._usd = 0.0
        self._lags: Counter[int] = Counter()
        self._depth: defaultdict[str, _Level] = defaultdict(_Level)
        self._running: defaultdict[str, _Level] = defaultdict(_Level)
        self._waiting: defaultdict[str, _Level] = defaultdict(_Level)
        self._full: defaultdict[str, _Level] = defaultdict(_Level)
        self._window = _Level()
        self._lasting: list[str] = []
        self._members: dict[str, list[EdgeQueue]] = {}
        self._curve: list[ScoreMoment] = []
        # By type, because a forecast has ten events for every call.
        self._handlers: dict[type[ev.Event], Callable[[Any], None]] = {
            ev.CallStarted: self._call_started,
            ev.CallEnded: self._call_ended,
            ev.Queued: self._queued,
            ev.Dequeued: self._queued,
            ev.JobStarted: self._job_started,
            ev.JobEnded: self._job_ended,
            ev.Admitted: self._admitted,
            ev.Retracted: self._retracted,
            ev.Confirmed: self._judge,
        }

    @property
    def machine(self) -> Machine:
        """The machine that emits the events; set before the run begins."""
        assert self._machine is not None
        return self._machine

    @machine.setter
    def machine(self, machine: Machine) -> None:
        self._machine = machine
        plan = machine.plan
        self._lasting = [name for name, spec in plan.sources.items() if spec.rounds is None]
        self._members = {endpoint: [] for endpoint in plan.limits}
        for name, queue in machine.flow.places.members.items():
            endpoint = plan.stages[plan.edges[name].dst].endpoint
            if endpoint is not None:
                self._members[endpoint].append(queue)

    def on_event(self, event: ev.Event) -> None:
        """Process one event."""
        handler = self._handlers.get(type(event))
        if handler is not None:
            handler(event)

    def _call_started(self, event: ev.CallStarted) -> None:
        self._server(event.at)

    def _call_ended(self, event: ev.CallEnded) -> None:
        count = self._count
        count[event.how] += 1
        if not event.estimated:
            count["prompt"] += event.prompt_tokens
            count["reply"] += event.completion_tokens
        self._usd += event.usd or 0.0
        self._server(event.at)

    def _queued(self, event: ev.Queued | ev.Dequeued) -> None:
        self._depth[event.edge].set(event.at, event.depth)

    def _server(self, at: float) -> None:
        """Record the requests running at and queued for each endpoint, and whether a window is full.

        Members of opened groups count as queued.
        """
        machine = self.machine
        window, rounds = machine.plan.schedule.window, machine.sources.open_rounds
        self._window.set(at, any(rounds(name) >= window for name in self._lasting))
        in_flight = machine.slots.in_flight
        unsent = _unsent(machine)
        for endpoint, queues in self._members.items():
            self._running[endpoint].set(at, in_flight[endpoint])
            self._waiting[endpoint].set(at, unsent[endpoint] + sum(queue.waiting for queue in queues))

    def _job_started(self, event: ev.JobStarted) -> None:
        self._workers(event, 0)

    def _job_ended(self, event: ev.JobEnded) -> None:
        # When a job ends, its worker still counts as busy until its result is delivered.
        self._workers(event, 1)

    def _workers(self, event: ev.JobStarted | ev.JobEnded, freed: int) -> None:
        state = self.machine.stages.get(event.stage)
        if state is not None:
            self._full[event.stage].set(event.at, state.busy - freed >= state.most)

    def _admitted(self, event: ev.Admitted) -> None:
        self._count["admitted"] += 1
        self._lags[event.lag] += 1
        self._judge(event)

    def _retracted(self, event: ev.Retracted) -> None:
        self._count["retracted"] += 1
        self._judge(event)

    def _judge(self, event: ev.Admitted | ev.Confirmed | ev.Retracted) -> None:
        machine = self.machine
        first = machine.plan.graph.results[0]
        if self._truth is None or event.pool != first:
            return
        best = machine.pools[first].value.best()
        score = self._truth(best.value) if best is not None else 0.0
        if score is not None:
            self._curve.append(ScoreMoment(event.at, self._count["prompt"] + self._count["reply"], score))

    def forecast(self, seconds: float, profiles: Mapping[str, Profile], made: Mapping[str, float]) -> Forecast:
        """Return the measures after ``seconds``; ``profiles`` and the tokens ``made`` are by endpoint."""
        machine = self.machine
        settled = machine.ledger.settled
        servers = {}
        for endpoint, limit in machine.slots.limits.items():
            running = self._running[endpoint]
            servers[endpoint] = Server(
                profile=profiles[endpoint].name,
                limit=limit,
                use=made[endpoint] / (profiles[endpoint].capacity * max(seconds, 1e-9)),
                running=running.mean(seconds),
                most_running=int(running.most),
                waiting=self._waiting[endpoint].mean(seconds),
                full=running.share(seconds, limit),
            )
        workers = {name: level.mean(seconds) for name, level in self._full.items()}
        window = self._window.mean(seconds)
        end = machine.status or End("cancelled", Cause.CALLER, "")
        return Forecast(
            status=end.status,
            cause=end.cause,
            reason=end.reason,
            seconds=seconds,
            proposals=round(settled["proposals"]),
            accepted=self._count["admitted"] - self._count["retracted"],
            evaluations=round(settled["evaluations"]),
            calls=round(settled["calls"]),
            cancelled=self._count["cancelled"],
            prompt_tokens=self._count["prompt"],
            reply_tokens=self._count["reply"],
            usd=self._usd,
            servers=servers,
            queues={name: Queue(level.mean(seconds), int(level.most)) for name, level in self._depth.items()},
            lags=dict(sorted(self._lags.items())),
            workers_full=workers,
            window_full=window,
            bound=_bound(servers, workers, window, serial=machine.plan.schedule.serial),
            curve=tuple(self._curve),
        )


def _unsent(machine: Machine) -> Mapping[str, int]:
    """Return the requests that wait for a slot, by endpoint."""
    if len(machine.slots.in_flight) == 1:
        # Read at every request: counting one by one would take a tenth of a forecast's time.
        ((endpoint, running),) = machine.slots.in_flight.items()
        return {endpoint: len(machine.calls.open) - running}
    return Counter(call.service for call in machine.calls.open.values() if call.reservation is None)


def _bound(servers: Mapping[str, Server], workers: Mapping[str, float], window: float, *, serial: bool) -> str:
    """Return what was full for most of the time, from the narrowest to the widest."""
    full = [name for name, server in servers.items() if server.full >= BOUND]
    if full:
        return f"server ({', '.join(full)})"
    if serial:
        return "schedule (one round and one stage at a time)"
    busy = [name for name, share in workers.items() if share >= BOUND]
    if busy:
        return f"workers of {', '.join(busy)}"
    return "window" if window >= BOUND else "the work: rounds wait for the slowest of their requests"


class _Level:
    """A number that changes at times: its mean over time, its maximum, and how long it had each value."""

    def __init__(self) -> None:
        self.most = 0.0
        self._now = 0.0
        self._since = 0.0
        self._time: dict[float, float] = {}

    def set(self, at: float, value: float) -> None:
        if value == self._now:
            return
        self._account(at)
        self._now = value
        self.most = max(self.most, value)

    def mean(self, seconds: float) -> float:
        return sum(value * time for value, time in self._until(seconds).items()) / max(seconds, 1e-9)

    def share(self, seconds: float, least: float) -> float:
        """Return the share of time in which it was ``least`` or more."""
        return sum(time for value, time in self._until(seconds).items() if value >= least) / max(seconds, 1e-9)

    def _until(self, seconds: float) -> Mapping[float, float]:
        self._account(max(seconds, self._since))
        return self._time

    def _account(self, at: float) -> None:
        self._time[self._now] = self._time.get(self._now, 0.0) + at - self._since
        self._since = at
