"""Reference model of a pool in a run: the list of its events, applied to a fresh value at each question."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Literal

import attrs
from hypothesis import strategies as st

from flashgraph.graph.ports import Artifact, PoolEvent
from flashgraph.policies.champion import Best, ChampionRule, Proven
from flashgraph.run.pools import PoolState
from tests.proof.oracles.champions import Throne
from tests.proof.tried import Property, expect

__all__ = ["POOLS"]

Lineage = frozenset[tuple[str, int]]


@attrs.frozen
class Kept:
    """A pool of numbers that keeps the ``most`` greatest; a number under 3 changes nothing.

    A multiple of 5 is kept without a score, as a step.  With ``copies`` an unchanged pool is an equal new object.  An
    artifact has scores on as many samples as its value says, and one more for each piece of evidence.  Not all samples
    are common to all artifacts.  From 8 on an artifact scores far better.
    """

    most: int = 3
    copies: bool = False
    artifacts: Mapping[int, Artifact] = attrs.field(factory=dict)

    def apply(self, event: PoolEvent[int]) -> Kept:
        if event.kind == "evidence":
            before = self.artifacts.get(event.artifact)
            if before is None or event.value < 3:
                return self
            more = {**before.scores, event.value: event.value % 4 / 3}
            return attrs.evolve(self, artifacts={**self.artifacts, before.id: attrs.evolve(before, scores=more)})
        rest = {number: artifact for number, artifact in self.artifacts.items() if number != event.artifact}
        if event.value < 3 and event.kind == "admit":
            return attrs.evolve(self, artifacts=dict(self.artifacts)) if self.copies else self
        if event.value >= 3 and event.kind != "retract":
            score = None if event.value % 5 == 0 else float(event.value)
            first = 0 if score is None else event.value % 3 * 2
            samples = range(first, first + event.value) if score is not None else ()
            scores = {s: 0.75 * (event.value >= 8) + event.value * (s + 3) % 5 / 16 for s in samples}
            made = Artifact(event.artifact, event.value, event.parents, score, scores, event.partial)
            rest[event.artifact] = made
        kept = sorted(rest.values(), key=lambda a: -a.value)[: self.most]
        return attrs.evolve(self, artifacts={a.id: a for a in sorted(kept, key=lambda a: a.id)})

    def best(self) -> Artifact | None:
        return max(self.artifacts.values(), key=lambda a: a.value, default=None)

    def best_line(self) -> Kept:
        return self


@attrs.frozen
class Happening:
    """A happening; ``which`` provisional artifact, or which versions to forget."""

    what: Literal["admit", "amend", "evidence", "retract", "forget"]
    value: int = 7
    which: int = 0
    partial: bool = False
    parents: tuple[int, ...] = ()
    lineage: Lineage = frozenset()


RULES: Mapping[str, ChampionRule] = {
    "best": Best(), "patient": Proven(0.5, 6), "proven": Proven(0.75, 4), "strict": Proven(0.9, 2)
}  # fmt: skip


def changes(most: int, copies: bool, rule: str, history: Sequence[Happening]) -> None:
    """I5, I8, I16: at each version a pool is what its value makes of the events until then.

    It records what changed and when, and what is provisional, retracted or complete.  Another artifact becomes the
    champion when the rule says so.
    """
    pool, throne, champion = PoolState("pool", Kept(most, copies), RULES[rule]), Throne(RULES[rule]), None
    values = [Kept(most, copies)]
    kinds: list[tuple[str, int]] = []
    records: dict[int, dict[str, object]] = {}
    forgotten = 0
    dropped: set[int] = set()
    """Steps that an admission has removed; nothing can see their values any more."""
    for at, happening in enumerate(history):
        open_ = [number for number, record in records.items() if record["provisional"]]
        which = open_[happening.which % len(open_)] if open_ else None
        number, told = len(records), len(kinds)
        match happening.what:
            case "admit":
                parents = tuple(parent % number for parent in happening.parents) if number else ()
                event = PoolEvent("admit", number, happening.value, parents, happening.partial)
                after = values[-1].apply(event)
                change = pool.admit(happening.value, parents, happening.lineage, happening.partial, at % 3, float(at))
                expect((change is None) == (after == values[-1]), f"I5: {event} has changed the pool, or not")
                if after != values[-1]:
                    before = values[-1].artifacts
                    dropped |= {n for n, a in before.items() if a.score is None and n not in after.artifacts}
                    values.append(after)
                    kinds.append(("admitted", number))
                    descends = happening.lineage if happening.partial else frozenset()
                    records[number] = {
                        "artifact": number, "version": len(kinds), "lag": at % 3, "provisional": happening.partial,
                        "retracted": False, "lineage": descends | {("pool", number)}, "at": float(at),
                        "settled": math.inf if happening.partial else len(kinds),
                        "value": happening.value if happening.partial else None,
                    }  # fmt: skip
            case "amend" if which is not None:
                after = values[-1].apply(PoolEvent("amend", which, happening.value, ()))
                pool.amend(which, happening.value, ())
                stays = which in after.artifacts
                values.append(after)
                kinds.append(("confirmed" if stays else "retracted", which))
                records[which] |= {"provisional": False, "retracted": not stays, "settled": len(kinds), "value": None}
                if stays:
                    dropped.discard(which)
                    records[which]["lineage"] = frozenset({("pool", which)})
            case "evidence" if records:
                number = happening.which % len(records)
                after = values[-1].apply(PoolEvent("evidence", number, happening.value, ()))
                change = pool.evidence(number, happening.value)
                expect((change is None) == (after == values[-1]), f"I16: evidence for {number} is {change}")
                if after != values[-1]:
                    values.append(after)
                    kinds.append(("evidence", number))
            case "retract" if which is not None:
                values.append(values[-1].apply(PoolEvent("retract", which, records[which]["value"], ())))  # type: ignore[arg-type]
                pool.retract(which)
                kinds.append(("retracted", which))
                records[which] |= {"provisional": False, "retracted": True, "settled": len(kinds)}
            case "forget":
                pool.forget_before(happening.which)
                forgotten = max(forgotten, min(happening.which, len(kinds)))
            case _:
                pass
        if len(kinds) > told:
            champion = throne.after(values[-1].artifacts, values[-1].best(), kinds[-1][1])
        best = None if champion is None else values[-1].artifacts[champion]
        _expect_pool(pool, values, kinds, records, forgotten, dropped, f"after {happening} of {history}")
        expect(pool.best == best, f"I16: {pool.best} is handed out, expected {best} after {happening} of {history}")


def _expect_pool(
    pool: PoolState,
    values: Sequence[Kept],
    kinds: Sequence[tuple[str, int]],
    records: Mapping[int, Mapping[str, object]],
    forgotten: int,
    dropped: set[int],
    after: str,
) -> None:
    expect(pool.version == len(kinds), f"I5: the pool is at version {pool.version}, expected {len(kinds)} {after}")
    expect(pool.value == values[-1], f"I5: the pool is {pool.value}, expected {values[-1]} {after}")
    for version in range(forgotten, len(values)):
        expect(pool.view(version) == values[version], f"I6: at {version} the pool was another {after}")
        told = [(change.kind, change.artifact.id, change.version) for change in pool.changes(version)]
        expected = [(kind, number, i + 1) for i, (kind, number) in enumerate(kinds) if i >= version]
        expect(told == expected, f"I5: since {version} has happened {told}, expected {expected} {after}")
    for version in range(forgotten):
        try:
            pool.view(version)
        except KeyError:
            continue
        expect(False, f"I6: version {version} was to be forgotten {after}")
    found = {number: attrs.asdict(record, recurse=False) for number, record in pool.records.items()}
    for record in found.values():
        del record["last"]
    expect(found == {n: dict(r) for n, r in records.items()}, f"I8: records {found}, expected {records} {after}")
    for number, known in pool.records.items():
        shown = [value.artifacts[number] for value in values if number in value.artifacts]
        value, gone = known.last.value, number in dropped
        expect(not shown or value == (None if gone else shown[-1].value), f"I5: {number} was last {value} {after}")


HAPPENINGS = st.lists(
    st.builds(
        Happening,
        st.sampled_from(["admit", "admit", "admit", "amend", "evidence", "evidence", "retract", "forget"]),
        st.integers(0, 12),
        st.integers(0, 5),
        st.booleans(),
        st.lists(st.integers(0, 9), max_size=2).map(tuple),
        st.frozensets(st.tuples(st.sampled_from(["pool", "side"]), st.integers(0, 3)), max_size=2),
    ),
    min_size=1,
    max_size=12,
)

POOLS: Mapping[str, Property] = {
    "model of pools": Property(
        ("I5", "I6", "I8", "I16"),
        changes,
        {
            "most": st.integers(1, 4),
            "copies": st.booleans(),
            "rule": st.sampled_from(sorted(RULES)),
            "history": HAPPENINGS,
        },
        15,
    )
}
