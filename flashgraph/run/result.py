"""The result of a run: its artifacts, its end and its costs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import attrs

from flashgraph.evidence import Evidence
from flashgraph.graph.ports import Artifact
from flashgraph.run.cause import Cause, End, RunStatus
from flashgraph.run.costs import StageCost, costs_in
from flashgraph.run.events import CallEnded, Created, EdgeFailed, Emitted, Ended, Event, JobEnded

if TYPE_CHECKING:  # `import flashgraph` takes half the time without the scheduler
    from flashgraph.run.machine import Machine
    from flashgraph.run.pools import PoolRecord

__all__ = ["Failing", "Raising", "Result", "ResultArtifact", "Spent", "failures_in", "raised_in", "texts_of"]


def texts_of(value: Any) -> dict[str, str] | None:
    """Return the component texts of an artifact's value: a mapping of texts, an object with such a ``text``, or a text.

    None for any other value.
    """
    if isinstance(value, str):
        return {"text": value}
    if isinstance(value, Mapping) and all(isinstance(t, str) for t in value.values()):
        return {str(name): text for name, text in value.items()}
    inner = getattr(value, "text", None)
    return texts_of(inner) if inner is not None else None


SEVERAL = 3
"""Failed jobs of a stage from which on their number is no accident."""


@attrs.frozen
class Failing:
    """A stage with failed jobs, and their most frequent reason."""

    stage: str
    failed: int
    jobs: int
    reason: str

    def __str__(self) -> str:
        return f"stage {self.stage!r} failed {self.failed} of {self.jobs} times, most often with: {self.reason}"


def failures_in(events: Iterable[Event]) -> list[Failing]:
    """Return the stages that failed, in the order of their first failures."""
    reasons: dict[str, Counter[str]] = {}
    ended: Counter[str] = Counter()
    for event in events:
        if isinstance(event, JobEnded):
            ended[event.stage] += 1
            if event.how == "failed":
                reasons.setdefault(event.stage, Counter())[event.reason] += 1
    return [
        Failing(stage, found.total(), ended[stage], reason)
        for stage, found in reasons.items()
        for reason, _ in found.most_common(1)
    ]


@attrs.frozen
class Raising:
    """A function on an edge that raised, and its most frequent error."""

    edge: str
    function: str
    times: int
    error: str

    def __str__(self) -> str:
        times = f"{self.times} time{'' if self.times == 1 else 's'}"
        return f"the {self.function} of edge {self.edge} raised {times}, most often with: {self.error}"


def raised_in(events: Iterable[Event]) -> list[Raising]:
    """Return the functions on edges that raised, in the order of their first errors."""
    errors: dict[tuple[str, str], Counter[str]] = {}
    for event in events:
        if isinstance(event, EdgeFailed):
            errors.setdefault((event.edge, event.function), Counter())[f"{event.error} ({event.place})"] += 1
    return [
        Raising(*where, found.total(), error) for where, found in errors.items() for error, _ in found.most_common(1)
    ]


@attrs.frozen
class ResultArtifact:
    """An admitted artifact.

    ``version`` is the pool's after its admission, ``parents`` are ids, ``scores`` are by sample, ``lag`` is that at
    admission, and ``at`` in seconds from the start.  With ``evidence``, ``score`` is its estimate; the plain mean is
    ``evidence.mean``.
    """

    pool: str
    id: int
    version: int
    value: Any
    parents: tuple[int, ...]
    score: float | None
    scores: Mapping[int, float]
    lag: int
    provisional: bool
    retracted: bool
    at: float
    evidence: Evidence | None = None

    @classmethod
    def of(cls, pool: str, record: PoolRecord, held: Mapping[int, Artifact]) -> ResultArtifact:
        # The scores of other artifacts may have changed its estimate since.
        known = held.get(record.artifact, record.last)
        return cls(
            pool, record.artifact, record.version, known.value, known.parents, known.estimate, known.scores,
            record.lag, record.provisional, record.retracted, record.at, known.evidence,
        )  # fmt: skip


@attrs.frozen
class Spent:
    """The costs of a run: ``seconds`` on its clock, the rest as the budget counts it."""

    proposals: int
    evaluations: int
    calls: int
    tokens: int
    usd: float
    seconds: float


@attrs.frozen
class Result:
    """The outcome of a run.

    ``status`` is ``"completed"`` (the sources had nothing more to emit), ``"budget"`` (a limit was reached),
    ``"failed"`` (with the artifacts up to then), ``"stopped"`` or ``"cancelled"``.  ``cause`` is the reason for code,
    ``reason`` for people.  ``best`` is the champion of the graph's result pool (`Graph.result`).  ``artifacts`` are in
    order of admission, over all pools; ``pools`` has the last value of each pool by name.

    ``prices`` are those that each endpoint's tokens were counted at: USD for a ``prompt`` token and a ``completion``
    token, None if unknown, and their ``source``.
    """

    graph: str
    task: str
    status: RunStatus
    cause: Cause
    reason: str
    artifacts: tuple[ResultArtifact, ...]
    best: ResultArtifact | None
    spent: Spent
    events: Sequence[Event] = attrs.field(repr=False)
    prices: Mapping[str, Mapping[str, Any]] = attrs.field(factory=dict, repr=False)
    pools: Mapping[str, Any] = attrs.field(factory=dict, repr=False)

    @classmethod
    def of(
        cls,
        machine: Machine,
        task: str,
        seconds: float,
        events: Sequence[Event],
        prices: Mapping[str, Mapping[str, Any]],
    ) -> Result:
        """Return the result of a machine's run, which may not have ended."""
        end = machine.status or End("cancelled", Cause.CALLER, "the run was stopped")
        artifacts = sorted(
            (
                ResultArtifact.of(name, record, pool.value.artifacts)
                for name, pool in machine.pools.items()
                for record in pool.records.values()
            ),
            key=lambda a: (a.at, a.version),
        )
        settled = machine.ledger.settled
        spent = Spent(
            proposals=round(settled["proposals"]),
            evaluations=round(settled["evaluations"]),
            calls=round(settled["calls"]),
            tokens=round(settled["tokens"]),
            usd=settled["usd"],
            seconds=seconds,
        )
        best = _best(machine, artifacts)
        return cls(
            machine.plan.graph.name, task, end.status, end.cause, end.reason, tuple(artifacts), best, spent, events,
            prices, {name: pool.value for name, pool in machine.pools.items()},
        )  # fmt: skip

    @property
    def costs(self) -> tuple[StageCost, ...]:
        """The costs of each stage's calls to the model of each role, without the held-out test."""
        return costs_in(self.events)

    @property
    def end(self) -> End:
        """How the run ended."""
        return End(self.status, self.cause, self.reason)

    def judged(self) -> Result:
        """Return this result, but as failed if the run was fruitless.

        That is: it admitted nothing, because stages or functions on edges failed, or because its sources had nothing
        more to emit before anything was admitted.  Or nothing evolved, because a role's model was never of use.
        """
        if self.status not in ("completed", "budget"):
            return self
        fruitless = self._fruitless()
        failures = [*failures_in(self.events), *raised_in(self.events)] if fruitless else self._silent()
        if failures:
            return attrs.evolve(self, status="failed", cause=Cause.FRUITLESS, reason="; ".join(map(str, failures)))
        if fruitless and self.status == "completed" and self.pools and not self.artifacts:
            return attrs.evolve(self, status="failed", cause=Cause.FRUITLESS, reason=self._nothing())
        return self

    def _nothing(self) -> str:
        """Return why a run admitted nothing although nothing failed: the most frequent ends of its items."""
        rounds = sum(isinstance(event, Emitted) for event in self.events)
        if not rounds:
            return (
                "no source ever emitted anything: each waits for a pool, and the pools stay empty. "
                "Fix: add a source that reads no pool and emits the first candidates."
            )
        edges = {event.item: event.edge for event in self.events if isinstance(event, Created)}
        ends = Counter(
            f"{event.how} at {edges.get(event.item, '?')}" + (f" ({event.reason})" if event.reason else "")
            for event in self.events
            if isinstance(event, Ended) and event.how != "consumed"
        )
        where = "; ".join(f"{count} {how}" for how, count in ends.most_common(3))
        return (
            f"no pool admitted anything in {rounds} round{'' if rounds == 1 else 's'}: {where or 'no item reached one'}"
        )

    def _silent(self) -> list[Failing]:
        """Return the stages that failed in all of several jobs, if no job of their model's role has ended well.

        If every reflection is refused, nothing can evolve, however well the first candidates were scored.  There is
        none in a run that has evolved something.
        """
        if any(artifact.parents for artifact in self.artifacts if not artifact.retracted):
            return []
        role = {event.job: event.role for event in self.events if isinstance(event, CallEnded)}
        ended = [event for event in self.events if isinstance(event, JobEnded) and event.job in role]
        well = {role[event.job] for event in ended if event.how == "done"}
        silent = {event.stage for event in ended if event.how == "failed" and role[event.job] not in well}
        return [f for f in failures_in(self.events) if f.stage in silent and f.failed == f.jobs >= SEVERAL]

    def _fruitless(self) -> bool:
        """Whether the run admitted nothing, or nothing but artifacts without a score after constant failures.

        Failures are constant if a stage failed in all of its jobs and no job with a model call was done.  An artifact
        without a score may be a playbook's beginning.
        """
        accepted = [artifact for artifact in self.artifacts if not artifact.retracted]
        if any(artifact.score is not None for artifact in accepted):
            return False
        asked = {event.job for event in self.events if isinstance(event, CallEnded)}
        done = {event.job for event in self.events if isinstance(event, JobEnded) and event.how == "done"}
        always = any(failing.failed == failing.jobs for failing in failures_in(self.events))
        return not accepted or (always and not asked & done)


def _best(machine: Machine, artifacts: list[ResultArtifact]) -> ResultArtifact | None:
    """The champion that the run hands out."""
    if machine.champion is None:
        return None
    pool, chosen = machine.champion
    return next(a for a in artifacts if a.pool == pool.name and a.id == chosen.id)
