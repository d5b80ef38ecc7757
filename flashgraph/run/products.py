"""The items that a job's result becomes, and their ancestry."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import attrs

from flashgraph.errors import FlashgraphError
from flashgraph.graph.ports import Failed, Several
from flashgraph.run import events as ev
from flashgraph.run.admission import Admission, Ancestry
from flashgraph.run.cause import Cause
from flashgraph.run.edge_functions import FunctionRaised
from flashgraph.run.flow import Flow
from flashgraph.run.items import Item, Origin
from flashgraph.run.jobs import Done, Job
from flashgraph.run.plan import Plan
from flashgraph.run.sources import Sources

__all__ = ["Products"]


class Products:
    """Makes the items.  An error in a result is raised: its job has then failed."""

    def __init__(
        self, plan: Plan, flow: Flow, admission: Admission, sources: Sources, emit: Callable[[ev.Event], None]
    ) -> None:
        self._plan = plan
        self._flow = flow
        self._admission = admission
        self._sources = sources
        self._emit = emit
        self._make = {"source": self._emitted, "stage": self._produced, "repair": self._repaired}

    def make(self, job: Job, outcome: Done) -> None:
        """Make the items of a result; they wait in the job's outbox."""
        self._make[job.kind](job, outcome)

    def _emitted(self, job: Job, outcome: Done) -> None:
        source, spec = self._sources.states[job.node], self._plan.sources[job.node]
        if outcome.value is None:
            self._sources.had_nothing(source, job.stamps)
            return
        ancestry = self._admission.ancestry(spec.reads, job.stamps, outcome.uses)
        round_ = self._flow.rounds.begin(job.node, outcome.value)
        self._admission.reads(round_.id, job.stamps)
        version = job.stamps[spec.reads[0]] if spec.reads else None
        self._emit(ev.Emitted(self._flow.now, job.node, round_.id, source.emissions, version))
        path = f"{job.node}/{source.emissions}"
        origin = Origin(round_.id, stamps=job.stamps, uses=ancestry.uses, lineage=ancestry.lineage, path=path)
        try:
            made = self._flow.route(job.node, [(outcome.value, origin)])
        except FunctionRaised:
            made, round_.failed = [], True
        job.outbox = made
        self._sources.emitted(source, job.stamps, routed=bool(made))
        if not made:
            self._flow.rounds.drop(round_)
            self._emit(ev.RoundEnded(self._flow.now, round_.id, round_.failed))
        drawing = (s.drawing for s in self._sources.states.values())
        self._admission.forget_views(j.stamps for j in drawing if j is not None)

    def take_failure(self, job: Job, reason: str) -> bool:
        """Make the items of a failure; False if no edge of the stage takes it."""
        item = job.item
        if item is None or job.kind != "stage" or not any(e.takes_failures for e in self._plan.outgoing[job.node]):
            return False
        # Whatever the stage has read, the item is as it was.
        failure = Failed(item.value, reason), attrs.evolve(_origin(item, job), stamps=item.stamps)
        try:
            made = self._flow.route(job.node, [failure])
        except FunctionRaised:
            return False
        self._hand_on(job, item, made)
        return bool(made)

    def _produced(self, job: Job, outcome: Done) -> None:
        item, spec = job.item, self._plan.stages[job.node].spec
        assert item is not None
        uses, lineage = item.uses, item.lineage
        if outcome.uses is not None or job.stamps != item.stamps:
            ancestry = self._admission.ancestry(spec.reads, job.stamps, outcome.uses, Ancestry(uses, lineage))
            uses, lineage = ancestry.uses, ancestry.lineage
        origin = attrs.evolve(_origin(item, job), uses=uses, lineage=lineage)
        values = outcome.value.items if isinstance(outcome.value, Several) else (outcome.value,)
        if spec.fanout is not None and len(values) > spec.fanout:
            # Room in cycles is made for that many (docs/explanation/deadlock.md).
            raise FlashgraphError(
                f"stage {spec.name}: it returned Several of {len(values)}; it declares fanout={spec.fanout}.\n"
                "Fix: declare the true bound, or return fewer."
            )
        results = (
            [(values[0], origin)]
            if len(values) == 1
            else [(value, attrs.evolve(origin, path=f"{item.path}.{place}")) for place, value in enumerate(values)]
        )
        self._route(job, item, [result for result in results if result[0] is not None])

    def _route(self, job: Job, item: Item, results: list[tuple[Any, Origin]]) -> None:
        """Make the items of a stage's results and end the one that they come from."""
        try:
            made = self._flow.route(job.node, results)
        except FunctionRaised as error:
            self._flow.end(item, "failed", Cause.FUNCTION, str(error))
            return
        self._hand_on(job, item, made)
        if not made and results:
            self._flow.end(item, "filtered", *self._flow.why_none(job.node, *results[0]))
        elif not made:
            self._flow.end(item, "filtered", Cause.NOTHING)

    def _hand_on(self, job: Job, item: Item, made: list[Item]) -> None:
        """Let the items of a result follow the one that they come from, which ends."""
        job.outbox = made
        self._flow.end_orphans(made)
        if made:
            self._flow.end(item, "consumed")

    def _repaired(self, job: Job, outcome: Done) -> None:
        item, verdict = job.item, outcome.value
        assert item is not None
        self._emit(ev.Repaired(self._flow.now, item.id, job.node, verdict.kind, job.lag))
        if verdict.kind == "discard":
            said = f"repair: {verdict.reason or 'not worth keeping'}"
            self._flow.end(item, "discarded", Cause.REPAIR, said)
            return
        item.stamps = {**item.stamps, **job.stamps}
        item.repairs += 1
        if verdict.kind == "patch":
            item.value = verdict.value
        reads = self._plan.stages[job.node].spec.reads
        if outcome.uses is not None or (reads and verdict.kind == "patch"):
            ancestry = self._admission.ancestry(reads, job.stamps, outcome.uses, Ancestry(item.uses, item.lineage))
            item.uses, item.lineage = ancestry.uses, ancestry.lineage
            self._flow.end_orphans([item])
        if self._flow.is_open(item):
            self._flow.give_back(item)


def _origin(item: Item, job: Job) -> Origin:
    """Return what the results of a job inherit from its item."""
    return Origin(
        item.round, (item.id,), item.scope, job.stamps, item.uses, item.lineage, item.loops, item.path, item.late,
        item.claim,
    )  # fmt: skip
