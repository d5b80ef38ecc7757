"""Rows for the present state of artifacts and for each change of champion, written after each turn."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import attrs

from flashgraph.evidence import Evidence
from flashgraph.run import events as ev
from flashgraph.run.journal.columns import Expected, count, json_of, mapping, maybe, number, pair
from flashgraph.run.journal.jsontext import dumped
from flashgraph.run.journal.store import Statement
from flashgraph.run.pools import PoolState

__all__ = ["STANDING", "Standings", "evidence_of"]

STANDING = "INSERT OR REPLACE INTO standings VALUES (?, ?, ?, ?)"


def evidence_of(text: str | None) -> Evidence | None:
    """Return the evidence in a row's text; None if it has none.

    Raises ValueError, which names what was expected, or another error of `UNUSABLE` for a malformed text.
    """
    if not text or (fields := json_of()(text)) is None:
        return None
    return Evidence(**{name: FIELDS[name](value) for name, value in mapping(fields).items()})


FIELDS: Mapping[str, Expected] = {
    "tried": count, "of": count, "mean": number, "estimate": number, "variance": number,
    "interval": pair(number, number), "failed": count, "prior": maybe(pair(number, number)), "level": number,
    "unit": number,
}  # fmt: skip
"""The check of each field of `Evidence`."""


class Standings:
    """Write the states of artifacts that changed since the last call.

    More evidence for one artifact may change the estimates of others, which get no event of their own.
    """

    def __init__(self) -> None:
        self._written: dict[str, Mapping[int, Evidence | None]] = {}

    def rows(self, name: str, pool: PoolState) -> Iterator[Statement]:
        """Yield rows for a pool's artifacts that changed; the first call includes all that it has evicted."""
        held: Mapping[int, Evidence | None] = {i: a.evidence for i, a in pool.value.artifacts.items()}
        before = self._written.get(name)
        gone = [i for i in (pool.records if before is None else before) if i not in held]
        before, self._written[name] = before or {}, held
        for artifact, evidence in held.items():
            was = before.get(artifact)
            if evidence is not None and evidence is not was and evidence != was:
                yield STANDING, (name, artifact, 1, _text(evidence))
        for artifact in gone:
            if artifact in pool.records and not pool.records[artifact].retracted:
                yield STANDING, (name, artifact, 0, _text(pool.records[artifact].last.evidence))

    @staticmethod
    def champion(event: ev.ChampionChanged, turn: int) -> Statement:
        """Return the row for a change of champion."""
        evidence = event.evidence
        row = (
            event.pool, event.version, turn, event.at, event.artifact,
            event.score if evidence is None else evidence.estimate, int(event.provisional), _text(evidence),
        )  # fmt: skip
        return f"INSERT OR REPLACE INTO champions VALUES ({', '.join('?' * 8)})", row


def _text(evidence: Evidence | None) -> str:
    fields: dict[str, Any] | None = None if evidence is None else attrs.asdict(evidence)
    return dumped(fields)
