"""Live progress of a run: counts and news kept from its events; `flashgraph.observe.frame` shows them."""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Mapping

import attrs

from flashgraph.graph.spec import GraphSpec
from flashgraph.llm.rates import rate_text
from flashgraph.observe.words import clock, score_text
from flashgraph.run import events as ev
from flashgraph.run.budget import Budget, with_role

__all__ = ["EndpointProgress", "PoolProgress", "Progress", "StageProgress"]

NEWS = 3
"""The news that are kept to show."""

RATE_SECONDS = 60.0
"""Rates are counted over this many last seconds."""


@attrs.define
class StageProgress:
    """The ``waiting`` items and ``working`` workers of a stage, its jobs by their end, and the done ones a minute.

    ``tokens`` counts those of its requests; ``lost`` are the tokens of requests and jobs that failed or were cancelled.
    """

    working: int = 0
    done: int = 0
    failed: int = 0
    cancelled: int = 0
    tokens: int = 0
    lost: int = 0
    waiting: set[int] = attrs.field(factory=set, repr=False)
    _times: deque[float] = attrs.field(factory=deque, repr=False)

    def ended(self, how: str, at: float) -> None:
        self.working -= 1
        self.done += how == "done"
        self.failed += how == "failed"
        self.cancelled += how == "cancelled"
        if how == "done":
            self._times.append(at)

    def rate(self, now: float) -> float:
        while self._times and self._times[0] < now - RATE_SECONDS:
            self._times.popleft()
        return len(self._times) * 60 / min(max(now, 1.0), RATE_SECONDS)


@attrs.define
class PoolProgress:
    """A pool's version, the scores of its artifacts, the provisional ones, the lags at admission, and the champion."""

    version: int = 0
    scores: dict[int, float | None] = attrs.field(factory=dict)
    provisional: set[int] = attrs.field(factory=set)
    lags: list[int] = attrs.field(factory=list)
    champion: ev.ChampionChanged | None = None

    @property
    def best(self) -> float | None:
        """The champion's score: its estimate if it has evidence."""
        known = self.champion
        return None if known is None else known.score if known.evidence is None else known.evidence.estimate

    @property
    def best_text(self) -> str:
        """The champion's score with its evidence."""
        return score_text(self.best, None if self.champion is None else self.champion.evidence)


@attrs.define
class EndpointProgress:
    """An endpoint's requests in flight and throttled, and whether it is down.

    ``limit`` is its concurrency limit if it is known, ``rates`` the limits that it reports (in words, by kind).
    """

    in_flight: int = 0
    limit: int | None = None
    rates: dict[str, str] = attrs.field(factory=dict)
    down: bool = False
    throttled: int = 0


class Progress:
    """Counts over a run's events.  It reads no clock: set ``now`` (seconds of the run) before you read rates.

    The hook ``on_event`` of `open_run` gets no events of earlier sessions: for a resumed run, pass `on_event` each of
    ``run.result.events`` first.
    """

    def __init__(self, graph: GraphSpec, budget: Budget) -> None:
        self.graph = graph
        self.budget = budget
        self.now = 0.0
        self.stages = {s.name: StageProgress() for s in graph.stages}
        self.pools = {p.name: PoolProgress() for p in graph.pools}
        self.rounds = 0
        totals = dict.fromkeys(("proposals", "evaluations", "calls", "tokens", "usd"), 0.0)
        self.spent: dict[str, float] = defaultdict(float, totals)
        self.in_flight = 0
        self.endpoints: dict[str, EndpointProgress] = {}
        self.truncated = 0
        """The number of replies truncated at the token limit."""
        self.reserved: Mapping[str, float] = {}
        """The amounts that work in flight may still spend, by limit; set it before you draw."""
        self.waiting = 0
        """The requests that wait for a slot; set it before you draw."""
        self.notice = ""
        """A message that stays until the end: that the run is stopping."""
        self.news: deque[str] = deque(maxlen=NEWS)
        self.gains: list[tuple[float, float]] = []
        """The changes of the best score: seconds, and the new score."""
        self.seed: tuple[str, int] | None = None
        """The pool and id of the first artifact without parents."""
        self._failures: dict[tuple[str, str], int] = defaultdict(int)
        self._jobs: dict[int, tuple[str, int]] = {}
        """By open job: its stage, and the tokens of its requests."""
        self._at: dict[int, str] = {}
        self._to = {e.name: e.dst for e in graph.edges}
        self._gathers = {e.name for e in graph.edges if e.gather}
        self._counts: Mapping[str, tuple[str, ...]] = {s.name: s.counts for s in graph.stages}
        self._waits: dict[int, str] = {}
        self._shown: tuple[int, str] | None = None
        """The champion of the last line of news, and its score."""

    @property
    def best(self) -> float | None:
        """The score of the champion that the run would hand out."""
        return None if (pool := self._home()) is None else pool.best

    @property
    def best_text(self) -> str:
        """`best` with its evidence: ``0.71 (30 of 100, 0.62 to 0.79)``."""
        return "none yet" if (pool := self._home()) is None else pool.best_text

    def _home(self) -> PoolProgress | None:
        results = (self.pools[name] for name in self.graph.results)
        return next((pool for pool in results if pool.best is not None), None)

    @property
    def accepted(self) -> int:
        """The number of artifacts in all pools."""
        return sum(len(p.scores) for p in self.pools.values())

    @property
    def seed_score(self) -> float | None:
        return None if self.seed is None else self.pools[self.seed[0]].scores.get(self.seed[1])

    def on_event(self, event: ev.Event) -> str | None:
        """Count an event; return a line of news for a new champion, for an endpoint that fails or recovers, and for
        failures: the first of each cause, the tenth, the hundredth, and so on."""
        self.now = max(self.now, event.at)
        if news := self._counted(event):
            self.news.append(news)
        return news

    def _counted(self, event: ev.Event) -> str | None:
        match event:
            case ev.Emitted():
                self.rounds += 1
            case ev.RoundEnded():
                self.rounds -= 1
            case ev.Created(item=item, edge=edge) if edge not in self._gathers:
                # Members of a group that is still being gathered wait for each other, not for a worker.
                self._wait(item, edge)
            case ev.Queued(item=item, edge=edge):
                self._wait(item, edge)
            case ev.Ended(item=item):
                self._leave(item)
            case ev.JobStarted(job=job, stage=stage, item=item):
                self._leave(item)
                if stage in self.stages:
                    self.stages[stage].working += 1
                    self._jobs[job] = stage, 0
            case ev.JobEnded(stage=stage) if stage in self.stages:
                return self._job_ended(event)
            case ev.CallStarted(call=call, endpoint=name):
                self.in_flight += 1
                self._at[call] = name
                self._endpoint(name).in_flight += 1
            case ev.CallEnded(call=call, role=role, how=how, usd=usd):
                if (sent_to := self._at.pop(call, None)) is not None:  # None if an earlier session started it
                    self.in_flight -= 1
                    endpoint = self._endpoint(sent_to)
                    endpoint.in_flight -= 1
                    endpoint.throttled += how == "throttled"
                self.truncated += event.finish == "length"
                tokens = float(event.prompt_tokens + event.completion_tokens)
                spent = {"calls": float(how != "throttled"), "tokens": tokens, "usd": usd or 0.0}
                for limit, amount in with_role(role, spent).items():
                    self.spent[limit] += amount
                self._charge(event)
            case ev.LimitChanged(endpoint=name, limit=limit_now):
                self._endpoint(name).limit = limit_now
            case ev.RateLearned(endpoint=name, of=of, limit=most, seconds=seconds):
                self._endpoint(name).rates[of] = rate_text(of, most, seconds)
            case ev.EndpointDown(at=at, endpoint=name, reason=reason):
                was, self._endpoint(name).down = self._endpoint(name).down, True
                return None if was else f"{clock(at)} {name} is down; its requests go to the other endpoints: {reason}"
            case ev.EndpointUp(at=at, endpoint=name):
                self._endpoint(name).down = False
                return f"{clock(at)} {name} has recovered"
            case _:
                return self._pooled(event)
        return None

    def _job_ended(self, event: ev.JobEnded) -> str | None:
        """Count a job that has ended; return a line of news about a cause of failures."""
        stage = self.stages[event.stage]
        stage.ended(event.how, event.at)
        for limit in self._counts[event.stage]:
            self.spent[limit] += 1
        _, tokens = self._jobs.pop(event.job, ("", 0))
        stage.lost += tokens * (event.how != "done")
        if event.how != "failed":
            return None
        cause = event.stage, event.reason.partition("\n")[0]
        self._failures[cause] += 1
        many = self._failures[cause]
        if str(many).strip("0") != "1":
            return None
        return f"{clock(event.at)} {event.stage} failed{f' {many:,} times' if many > 1 else ''}: {cause[1]}"

    def _charge(self, event: ev.CallEnded) -> None:
        """Count the tokens of a request for its stage."""
        if event.job not in self._jobs:
            return
        name, before = self._jobs[event.job]
        tokens = event.prompt_tokens + event.completion_tokens
        self.stages[name].tokens += tokens
        if event.how == "done":
            self._jobs[event.job] = name, before + tokens
        else:
            self.stages[name].lost += tokens

    def _endpoint(self, name: str) -> EndpointProgress:
        return self.endpoints.setdefault(name, EndpointProgress())

    def _wait(self, item: int, edge: str) -> None:
        stage = self._to[edge]
        if stage in self.stages:
            self._waits[item] = stage
            self.stages[stage].waiting.add(item)

    def _leave(self, item: int | None) -> None:
        if item is not None and (stage := self._waits.pop(item, None)) is not None:
            self.stages[stage].waiting.discard(item)

    def _pooled(self, event: ev.Event) -> str | None:
        match event:
            case ev.Admitted(pool=name, artifact=artifact, lag=lag, provisional=provisional, score=score):
                pool = self.pools[name]
                pool.scores[artifact] = score
                pool.lags.append(lag)
                if self.seed is None and not event.parents:
                    self.seed = name, artifact
                if provisional:
                    pool.provisional.add(artifact)
            case ev.Confirmed(pool=name, artifact=artifact, score=score):
                pool = self.pools[name]
                pool.scores[artifact] = score
                pool.provisional.discard(artifact)
            case ev.Retracted(pool=name, artifact=artifact):
                pool = self.pools[name]
                pool.scores.pop(artifact, None)
                pool.provisional.discard(artifact)
            case ev.EvidenceAdded(pool=name, artifact=artifact, score=score):
                pool = self.pools[name]
                pool.scores[artifact] = score
            case ev.ChampionChanged(pool=name):
                self.pools[name].champion = event
                if self.pools[name] is not self._home():
                    return None
                if self.best is not None and (not self.gains or self.gains[-1][1] != self.best):
                    self.gains.append((event.at, self.best))
                return self._news(event)
            case _:
                return None
        pool.version = event.version
        return None

    def _news(self, event: ev.ChampionChanged) -> str | None:
        """Return a line for a new champion that is not provisional."""
        if event.artifact is None or event.provisional or (self._shown and self._shown[0] == event.artifact):
            return None
        was, self._shown = self._shown, (event.artifact, self.best_text)
        return f"{clock(event.at)} best {self.best_text}" + (f", was {was[1]}" if was is not None else "")
