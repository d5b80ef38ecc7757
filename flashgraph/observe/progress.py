"""Live progress of a run: counts kept from its events, and the table that shows them on a terminal."""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Mapping
from typing import TYPE_CHECKING

import attrs

from flashgraph.graph.spec import GraphSpec
from flashgraph.llm.rates import rate_text
from flashgraph.observe.words import clock, counted, score_text
from flashgraph.run import events as ev
from flashgraph.run.budget import Budget, unit, with_role
from flashgraph.text.terminal import above, grid

if TYPE_CHECKING:
    from rich.console import RenderableType

__all__ = ["EndpointProgress", "PoolProgress", "Progress", "StageProgress", "table"]

RATE_SECONDS = 60.0
"""Rates are counted over this many last seconds."""


@attrs.define
class StageProgress:
    """The ``waiting`` items and ``working`` workers of a stage, its jobs ``done`` and ``failed``, and jobs done per
    minute (``rate``)."""

    working: int = 0
    done: int = 0
    failed: int = 0
    waiting: set[int] = attrs.field(factory=set, repr=False)
    _times: deque[float] = attrs.field(factory=deque, repr=False)

    def ended(self, how: str, at: float) -> None:
        self.working -= 1
        self.done += how == "done"
        self.failed += how == "failed"
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

    ``limit`` is its concurrency limit once that has changed, ``rates`` the limits that it reports (in words, by kind).
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

    def on_event(self, event: ev.Event) -> str | None:
        """Count an event; return a line of news for a new champion and for an endpoint that fails or recovers."""
        self.now = max(self.now, event.at)
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
            case ev.JobStarted(stage=stage, item=item):
                self._leave(item)
                if stage in self.stages:
                    self.stages[stage].working += 1
            case ev.JobEnded(at=at, stage=stage, how=how) if stage in self.stages:
                self.stages[stage].ended(how, at)
                for limit in self._counts[stage]:
                    self.spent[limit] += 1
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
                return self._news(event) if self.pools[name] is self._home() else None
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


def table(progress: Progress) -> RenderableType:
    """Return a `rich` table of the stages, with lines for the pools, the endpoints and what was spent."""
    headings = ("waiting", "working", "done", "per min", "failed")
    rows = [
        (
            name,
            str(len(stage.waiting)),
            (str(stage.working), "bold green" if stage.working else ""),
            str(stage.done),
            f"{stage.rate(progress.now):.1f}",
            (str(stage.failed), "red" if stage.failed else ""),
        )
        for name, stage in progress.stages.items()
    ]
    return above(grid(("stage", *headings), rows, headings, least=7), _lines(progress))


def _lines(progress: Progress) -> list[str]:
    pools = [f"{name} {_state(pool)}" for name, pool in progress.pools.items()]
    seconds, limits = progress.budget.seconds, progress.budget.limits
    left = f", {clock(max(seconds - progress.now, 0))} left" if seconds is not None else ""
    shown = ["proposals", "evaluations", "calls", "tokens", *[name for name in limits if "." in name]]
    if progress.spent["usd"] or "usd" in limits:
        shown.insert(4, "usd")
    spent = [_of(progress.spent[name], name, limits.get(name)) for name in shown]
    return [
        "; ".join(pools),
        f"best {progress.best_text}, {progress.accepted} accepted, {counted(progress.rounds, 'round')} open, "
        f"{counted(progress.in_flight, 'request')} in flight",
        *_endpoints(progress),
        ", ".join(spent),
        f"{clock(progress.now)}{left}",
    ]


def _endpoints(progress: Progress) -> list[str]:
    """Return a line about the endpoints if there are several, or if one has a limit, a rate, a failure or a 429."""
    found = []
    for name, endpoint in progress.endpoints.items():
        limit = "" if endpoint.limit is None else f" of {endpoint.limit}"
        rates = "".join(f", {rate}" for rate in endpoint.rates.values())
        throttled = f", {endpoint.throttled:,} throttled" if endpoint.throttled else ""
        if limit or rates or throttled or endpoint.down or len(progress.endpoints) > 1:
            down = "down, " if endpoint.down else ""
            found.append(f"{name} {down}{endpoint.in_flight}{limit} in flight{rates}{throttled}")
    if progress.truncated:
        found.append(f"replies truncated at the token limit: {progress.truncated:,}")
    return ["; ".join(found)] if found else []


def _state(pool: PoolProgress) -> str:
    mean = sum(pool.lags) / max(len(pool.lags), 1)
    held = f"{counted(len(pool.scores), 'artifact')} ({len(pool.provisional)} provisional)"
    return f"version {pool.version}, {held}, mean lag {mean:.1f}, largest {max(pool.lags, default=0)}"


def _of(amount: float, name: str, limit: float | None) -> str:
    if unit(name) == "usd":
        return f"${amount:.4f}" + (f" of ${limit:g}" if limit is not None else "") + (f" {name}" if "." in name else "")
    return f"{amount:,.0f}" + (f" of {limit:,}" if limit is not None else "") + f" {name}"
