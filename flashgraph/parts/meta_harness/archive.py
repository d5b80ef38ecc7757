"""Meta-Harness's pool: every proposed program with its result, failures too."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import cached_property
from typing import Literal

import attrs

from flashgraph.evidence import Evidence, weigh
from flashgraph.graph.ports import Artifact, Group, PoolEvent
from flashgraph.parts.meta_harness.interface import identity
from flashgraph.parts.meta_harness.items import OVERALL, FailedProgram, Points, Prediction, Program, Trained
from flashgraph.parts.meta_harness.standing import HarnessScore, beaten, marks, undominated
from flashgraph.tasks.task import least_score

__all__ = ["Entry", "HarnessArchive"]

UNNUMBERED = -1
"""The number of an entry that has not been admitted."""

Status = Literal["scored", "provisional", "stopped", "failed", "duplicate"]


@attrs.frozen
class Entry(Program):
    """One archived program, and its result.

    ``status`` is ``"scored"``, ``"provisional"`` (some predictions are still open), ``"stopped"`` (partial results
    showed that it can be on no frontier), ``"failed"`` at ``step``, or ``"duplicate"`` of the entry ``same_as``.
    ``states`` holds the learned state by data set. ``identity`` is the hash of its code, "" without code.
    """

    id: int
    identity: str
    status: Status
    step: str = ""
    reason: str = ""
    same_as: int | None = None
    parents: tuple[int, ...] = ()
    lag: int = 0
    states: Mapping[str, str] = attrs.field(factory=dict)
    predictions: tuple[Prediction, ...] = ()
    size: int = 0
    """The number of predictions when none is missing."""
    evidence: Evidence | None = None
    """The evidence of its accuracy; None for a program without predictions."""

    @cached_property
    def marks(self) -> Mapping[str, HarnessScore]:
        """The scores by data set and `OVERALL`; empty for a program without predictions."""
        return marks(self.predictions)

    @property
    def accuracy(self) -> float | None:
        return self.marks[OVERALL].accuracy if self.marks and self.status != "failed" else None

    @property
    def points(self) -> Points:
        return {name: mark.point for name, mark in self.marks.items()}

    @property
    def text(self) -> dict[str, str]:
        """The texts that the held-out test runs, as in `Trained.text`."""
        return {"program": self.code, **{f"state:{name}": state for name, state in self.states.items()}}


@attrs.frozen
class HarnessArchive:
    """Keeps every program under the number of its admission; programs are identified by the hash of their code.

    A program that is admitted a second time is recorded as a duplicate, and changes no score. ``line`` is the best
    entry, in a view that was narrowed to it.
    """

    entries: Mapping[int, Entry] = attrs.field(factory=dict)
    line: int | None = None

    def apply(self, event: PoolEvent[FailedProgram | Group[Trained, Prediction]]) -> HarnessArchive:
        """Record one program, or complete the record of a provisional one."""
        rest = {i: e for i, e in self.entries.items() if i != event.artifact}
        if event.kind != "retract":
            made = _failed(event.value) if isinstance(event.value, FailedProgram) else _evaluated(event.value)
            known = HarnessArchive(rest).known(made.identity)
            if known is not None:
                # Both ran at the same time, or the second was checked before the first was evaluated.
                reason = f"the same program as #{known.id}"
                made = attrs.evolve(made, status="duplicate", step="", reason=reason, same_as=known.id)
            entry = attrs.evolve(made, id=event.artifact, parents=event.parents)
            if not isinstance(event.value, FailedProgram) and entry.predictions and entry.same_as is None:
                parents = [rest[p] for p in event.parents if p in rest]
                entry = attrs.evolve(entry, evidence=_evidence(entry, event.value.origin, parents))
            rest[event.artifact] = entry
        return HarnessArchive(dict(sorted(rest.items())))

    @cached_property
    def artifacts(self) -> Mapping[int, Artifact]:
        """The entries as artifacts; only the best one in a narrowed view."""
        shown = self.entries.values() if self.line is None else [self.entries[self.line]]
        return {
            e.id: Artifact(
                e.id,
                e,
                e.parents,
                e.accuracy if e.status != "duplicate" else None,
                {p.index: p.score for p in e.predictions},
                e.status == "provisional",
                e.evidence,
            )
            for e in shown
        }

    def known(self, program: str) -> Entry | None:
        """Return the first entry with that identity; "" matches none."""
        same = (e for e in self.entries.values() if program and e.identity == program and e.same_as is None)
        return next(same, None)

    def scored(self) -> list[Entry]:
        """Return the entries with all of their evidence."""
        return [e for e in self.entries.values() if e.status == "scored"]

    def frontier(self, dataset: str = OVERALL) -> tuple[int, ...]:
        """Return the undominated scored entries in (accuracy up, context characters down), on a data set or overall."""
        return undominated({e.id: e.points[dataset] for e in self.scored() if dataset in e.points})

    def rivals(self) -> tuple[Points, ...]:
        """Return the points of every entry on a frontier, which a new program has to beat."""
        names = dict.fromkeys(name for e in self.scored() for name in e.points)
        on_one = {i for name in names for i in self.frontier(name)}
        return tuple(e.points for e in self.scored() if e.id in on_one)

    def best(self) -> Artifact | None:
        """Return the entry with the highest overall accuracy, then the lower context cost, then the older one.

        Provisional entries count only if none is scored.
        """
        found = self._best()
        return None if found is None else self.artifacts[found.id]

    def _best(self) -> Entry | None:
        if self.line is not None:
            return self.entries[self.line]
        able = self.scored() or [e for e in self.entries.values() if e.status == "provisional" and e.marks]
        return max(able, key=lambda e: (e.points[OVERALL][0], -e.points[OVERALL][1], -e.id), default=None)

    @property
    def open_ended(self) -> bool:
        """Whether a perfect score leaves work to do: yes, because less context with the same score is better."""
        return True

    def best_line(self) -> HarnessArchive:
        """Return the view that points at the best entry."""
        found = self._best()
        return self if found is None else attrs.evolve(self, line=found.id)


def _failed(value: FailedProgram) -> Entry:
    return Entry(
        value.origin,
        value.code,
        UNNUMBERED,
        identity(value.code) if value.code else "",
        "failed",
        value.step,
        value.reason,
        lag=value.lag,
    )


def _evaluated(group: Group[Trained, Prediction]) -> Entry:
    trained, predictions = group.origin, _predictions(group)
    status, reason = _verdict(group, predictions)
    return Entry(
        trained.program.origin,
        trained.program.code,
        UNNUMBERED,
        trained.program.identity,
        status,
        "predict" if status == "failed" else "",
        reason,
        lag=trained.program.lag,
        states=trained.states,
        predictions=tuple(attrs.evolve(p, stakes=None) for p in predictions),
        size=group.size,
    )


def _evidence(entry: Entry, trained: Trained, parents: Iterable[Entry]) -> Evidence:
    """Return the evidence of an entry's predictions; every data set counts the same.

    The control is the most accurate scored program among those that the proposer read.
    """
    sizes = {name: len(indices) for name, indices in trained.samples.items() if indices}
    total = sum(sizes.values())
    places = {(q.dataset, q.index): place for place, q in enumerate(trained.questions())}

    def values(of: Entry) -> dict[int, float]:
        scaled = {(p.dataset, p.index): p.score * (total / (len(sizes) * sizes[p.dataset])) for p in of.predictions}
        return {places[key]: score for key, score in scaled.items() if key in places}

    able = [e for e in parents if e.status == "scored" and e.evidence is not None and e.size == total]
    best = max(able, key=lambda e: e.accuracy or 0.0, default=None)
    sets = {name: number for number, name in enumerate(sizes)}
    return weigh(
        values(entry), total, bounds=trained.bounds, failed=sum(bool(p.failure) for p in entry.predictions),
        control=None if best is None else values(best), parent=None if best is None else best.evidence,
        strata={place: sets[name] for (name, _), place in places.items()},
    )  # fmt: skip


def _predictions(group: Group[Trained, Prediction]) -> tuple[Prediction, ...]:
    """Return the known predictions; one whose stage failed (the model's fault) has the least score."""
    questions, least = group.origin.questions(), least_score(group.origin.bounds)
    failed = {
        m.index: Prediction(questions[m.index].dataset, questions[m.index].index, least, failure=m.reason)
        for m in group.failures
    }
    found = (m.value if m.value is not None else failed.get(m.index) for m in group.members)
    return tuple(p for p in found if p is not None)


def _verdict(group: Group[Trained, Prediction], predictions: tuple[Prediction, ...]) -> tuple[Status, str]:
    """Return the status that the predictions give a program, and the reason if it is not scored."""
    missing = group.size - len(predictions)
    if not missing and all(p.failure for p in predictions):
        return "failed", f"all {group.size} predictions failed, the first with: {predictions[0].failure}"
    if missing and beaten(predictions):
        return "stopped", f"on no frontier, whatever the other {missing} of {group.size} predictions are"
    if group.partial:
        return "provisional", f"{missing} of {group.size} predictions are still to come"
    if missing:
        return "stopped", f"{missing} of {group.size} predictions are missing"
    return "scored", ""
