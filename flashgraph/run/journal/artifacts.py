"""The artifacts of a stored run: their admission, and what became of them since, as one value each."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from typing import Any

import attrs

from flashgraph.evidence import Evidence
from flashgraph.run.journal.jsontext import loaded
from flashgraph.run.journal.plain import plain
from flashgraph.run.journal.rows import Rows
from flashgraph.run.journal.standings import evidence_of
from flashgraph.run.journal.stored import StoredArtifact

__all__ = ["Artifacts", "Key", "Standing"]

Key = tuple[str, int]
"""An artifact's pool and its number there."""


@attrs.frozen
class Standing:
    """What was last written down of an artifact; ``score`` is the estimate where there is evidence."""

    retracted: bool
    provisional: bool
    score: float | None
    evidence: Evidence | None = None


class Artifacts:
    """Reads a journal's admissions; ``pools`` are the graph's, in the order of their declaration."""

    def __init__(self, rows: Rows, pools: Sequence[str]) -> None:
        self._rows = rows
        self._pools = pools

    def read(self, where: str = "1", *values: Any) -> tuple[StoredArtifact, ...]:
        """The artifacts of which the rows fulfil a condition, in order of admission."""
        rows = self._rows(
            "SELECT pool, artifact, kind, version, at, parents, score, scores, lag, provisional, value"
            f" FROM admissions WHERE {where} ORDER BY pool, artifact, version",
            *values,
        )
        standings = self._standings()
        found = [
            self._folded(list(changes), *standings.get(key, (True, None)))
            for key, changes in groupby(rows, key=lambda row: row[:2])
        ]
        return tuple(sorted(found, key=lambda a: (a.at, a.version)))

    def standing(self) -> dict[Key, Standing]:
        """How each artifact stands, read without its value."""
        # SQLite takes the bare columns from the row that has the maximum.
        sql = "SELECT pool, artifact, kind, provisional, score, max(version) FROM admissions GROUP BY pool, artifact"
        known = self._standings()
        found = {}
        for pool, id, kind, provisional, score, _ in self._rows(sql):
            _, evidence = known.get((pool, id), (True, None))
            reported = score if evidence is None else evidence.estimate
            found[pool, id] = Standing(kind == "retract", bool(provisional), reported, evidence)
        return found

    def champions(self, pool: str) -> list[tuple[int, int, float, float, int, Evidence | None]]:
        """Each change of a pool's champion to a confirmed one, oldest first: version, turn, seconds, score, artifact,
        evidence.  A journal of schema 1 has none."""
        if not self._rows.has("champions"):
            return []
        rows = self._rows(
            "SELECT version, turn, at, score, artifact, evidence FROM champions"
            " WHERE pool = ? AND score IS NOT NULL AND NOT provisional ORDER BY version",
            pool,
        )
        return [(*row[:5], evidence_of(row[5])) for row in rows]

    def _standings(self) -> dict[Key, tuple[bool, Evidence | None]]:
        """By artifact whether its pool holds it, and its evidence; only those of which one or the other is known."""
        if not self._rows.has("standings"):
            return {}
        rows = self._rows("SELECT pool, artifact, held, evidence FROM standings")
        return {(pool, id): (bool(held), evidence_of(text)) for pool, id, held, text in rows}

    def best(self) -> Key | None:
        """See `StoredRun.best`."""
        chosen = dict(self._rows("SELECT pool, artifact FROM best"))
        return next(((pool, chosen[pool]) for pool in self._pools if chosen.get(pool) is not None), None)

    def _folded(self, rows: list[Any], held: bool, evidence: Evidence | None) -> StoredArtifact:
        pool, id, _, version, at, parents, _, _, lag, _, value = rows[0]
        _, _, kind, _, _, _, score, scores, _, provisional, _ = rows[-1]
        return StoredArtifact(
            pool=pool,
            id=id,
            version=version,
            at=at,
            parents=tuple(loaded(parents)),
            score=score if evidence is None else evidence.estimate,
            evidence=evidence,
            scores=dict(loaded(scores)),
            lag=lag or 0,
            provisional=bool(provisional) and kind != "retract",
            retracted=kind == "retract",
            evicted=not held and kind != "retract",
            value=plain(loaded(value), self._rows.text),
        )
