"""The artifacts of a stored run, each as one value: its admission and its present state."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from typing import Any

import attrs

from flashgraph.evidence import Evidence
from flashgraph.run.journal.columns import (
    UNUSABLE,
    count,
    damaged,
    json_of,
    list_of,
    maybe,
    number,
    pair,
    real,
    whole,
    word,
)  # fmt: skip
from flashgraph.run.journal.plain import plain
from flashgraph.run.journal.rows import Rows
from flashgraph.run.journal.standings import evidence_of
from flashgraph.run.journal.stored import StoredArtifact, StoredChange

__all__ = ["ArtifactRecord", "Artifacts", "Key"]

Key = tuple[str, int]
"""An artifact's pool and its number there."""


@attrs.frozen
class ArtifactRecord:
    """The last stored state of an artifact; ``score`` is the estimate where there is evidence."""

    retracted: bool
    provisional: bool
    score: float | None
    evidence: Evidence | None = None


class Artifacts:
    """Read a journal's admissions; ``pools`` are the graph's, in the order of their declaration."""

    def __init__(self, rows: Rows, pools: Sequence[str]) -> None:
        self._rows = rows
        self._pools = pools

    def read(self, where: str = "1", *values: Any) -> tuple[StoredArtifact, ...]:
        """Return the artifacts whose rows satisfy an SQL condition, in order of admission."""
        rows = self._rows.read(
            "admissions",
            (whole, word, whole, _kind, count, real, PARENTS, maybe(number), SCORES, maybe(whole), whole, json_of()),
            "SELECT turn, pool, artifact, kind, version, at, parents, score, scores, lag, provisional, value FROM"
            f" admissions WHERE {where} ORDER BY pool, artifact, version",
            *values,
        )
        standings = self._standings()
        found = [
            self._fold(list(changes), *standings.get((key[0], key[1]), (True, None)))
            for key, changes in groupby(rows, key=lambda row: row[1:3])
        ]
        return tuple(sorted(found, key=lambda a: (a.at, a.version)))

    def changes(self, pool: str, since: int) -> tuple[StoredChange, ...]:
        """Return the changes of a pool after a version, in order."""
        rows = self._rows.read(
            "admissions",
            (count, real, _kind, whole, PARENTS, maybe(whole), whole, maybe(number), SCORES),
            "SELECT version, at, kind, artifact, parents, lag, provisional, score, scores FROM admissions"
            " WHERE pool = ? AND version > ? ORDER BY version",
            pool,
            since,
        )
        return tuple(
            StoredChange(version, at, kind, id, tuple(parents), lag or 0, bool(provisional), score, dict(scores))
            for version, at, kind, id, parents, lag, provisional, score, scores in rows
        )

    def standing(self) -> dict[Key, ArtifactRecord]:
        """Return the state of each artifact without reading its value."""
        # SQLite takes the bare columns from the row with the maximum.
        what = "turn, pool, artifact, kind, provisional, score, max(version)"
        sql = f"SELECT {what} FROM admissions GROUP BY pool, artifact"
        expected = (whole, word, whole, _kind, whole, maybe(number), count)
        known = self._standings()
        found = {}
        for _, pool, id, kind, provisional, score, _ in self._rows.read("admissions", expected, sql):
            _, evidence = known.get((pool, id), (True, None))
            reported = score if evidence is None else evidence.estimate
            found[pool, id] = ArtifactRecord(kind == "retract", bool(provisional), reported, evidence)
        return found

    def champions(self, pool: str) -> list[tuple[int, int, float, float, int, Evidence | None]]:
        """Return each change of a pool's champion to a confirmed one, oldest first.

        Each is (version, turn, seconds, score, artifact, evidence).  A journal of schema 1 has none.
        """
        if not self._rows.has("champions"):
            return []
        rows = self._rows.read(
            "champions",
            (count, whole, real, number, whole, _evidence),
            "SELECT version, turn, at, score, artifact, evidence FROM champions"
            " WHERE pool = ? AND score IS NOT NULL AND NOT provisional ORDER BY version",
            pool,
        )
        return [(version, turn, at, score, id, evidence) for version, turn, at, score, id, evidence in rows]

    def _standings(self) -> dict[Key, tuple[bool, Evidence | None]]:
        """Return by artifact whether its pool holds it, and its evidence; artifacts without a row are left out."""
        if not self._rows.has("standings"):
            return {}
        sql = "SELECT pool, artifact, held, evidence FROM standings"
        rows = self._rows.read("standings", (word, whole, whole, _evidence), sql)
        return {(pool, id): (bool(held), evidence) for pool, id, held, evidence in rows}

    def best(self) -> Key | None:
        """Return the artifact that `StoredRun.best` describes."""
        chosen = dict(self._rows.read("best", (word, maybe(whole)), "SELECT pool, artifact FROM best"))
        found = next(((pool, chosen[pool]) for pool in self._pools if chosen.get(pool) is not None), None)
        sql = "SELECT 1 FROM admissions WHERE pool = ? AND artifact = ?"
        if found is not None and not self._rows("admissions", sql, *found):
            raise damaged(self._rows.path, "best", found[0], f"there is no artifact {found[1]}")
        return found

    def _fold(self, rows: list[Any], held: bool, evidence: Evidence | None) -> StoredArtifact:
        turn, pool, id, _, version, at, parents, _, _, lag, _, value = rows[0]
        _, _, _, kind, _, _, _, score, scores, _, provisional, _ = rows[-1]
        try:
            shown = plain(value, self._rows.text)
        except UNUSABLE as error:
            raise damaged(self._rows.path, "admissions", turn, error) from error
        return StoredArtifact(
            pool=pool,
            id=id,
            version=version,
            at=at,
            parents=tuple(parents),
            score=score if evidence is None else evidence.estimate,
            evidence=evidence,
            scores=dict(scores),
            lag=lag or 0,
            provisional=bool(provisional) and kind != "retract",
            retracted=kind == "retract",
            evicted=not held and kind != "retract",
            value=shown,
        )


KINDS = ("admit", "confirm", "evidence", "retract")


def _kind(value: Any) -> str:
    if value not in KINDS:
        raise ValueError(", ".join(KINDS))
    return str(value)


def _evidence(value: Any) -> Evidence | None:
    return evidence_of(maybe(word)(value))


PARENTS = json_of(list_of(whole))
SCORES = json_of(list_of(pair(whole, number)))
