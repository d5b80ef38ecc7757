"""The events of a stored run, also of runs of older versions, as far as their journals tell."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from flashgraph.run.journal.columns import blob, count, maybe, number, real, whole, word
from flashgraph.run.journal.happened import FIELDS, StoredEvent, unpacked
from flashgraph.run.journal.rows import Rows

__all__ = ["StoredEvents"]

PAGE = 64
"""The chunks in one read."""


def _events(value: Any) -> list[list[Any]]:
    return unpacked(blob(value))


class StoredEvents:
    """Read a journal's events by their numbers, from 0.

    Journals up to schema 4 have no events: the events of their turns are derived from calls, admissions and failures.
    """

    def __init__(self, rows: Rows) -> None:
        self._rows = rows
        self._derived: tuple[int | None, list[list[Any]]] = (None, [])

    def since(self, first: int = 0) -> Iterator[StoredEvent]:
        """Yield the events from number ``first`` on, page by page."""
        for start, rows in self.pages(first):
            for place, row in enumerate(rows):
                yield StoredEvent.of(start + place, row)

    def pages(self, first: int = 0) -> Iterator[tuple[int, list[list[Any]]]]:
        """Yield the events from number ``first`` on as lists, each page with the number of its first event."""
        older = self._older()
        if first < len(older):
            yield first, older[first:]
            first = len(older)
        if not self._rows.has("events"):
            return
        own = first - len(older)  # the number within the table
        sql = (
            "SELECT first, count, data FROM events WHERE first >= coalesce((SELECT max(first) FROM events WHERE"
            f" first <= ?1), 0) AND first + count > ?1 ORDER BY first LIMIT {PAGE}"
        )
        while page := self._rows.read("events", (count, count, _events), sql, own):
            found = [row for start, _, rows in page for row in rows[max(0, own - start) :]]
            yield own + len(older), found
            own = page[-1][0] + page[-1][1]

    def _older(self) -> list[list[Any]]:
        """Return the events of the turns before the first chunk, derived from other tables."""
        until: int | None = None
        if self._rows.has("events"):
            ((until,),) = self._rows.read(
                "events", (maybe(whole),), "SELECT turn FROM events ORDER BY first LIMIT 1"
            ) or [(None,)]
        known, found = self._derived
        if until == 0:
            return []
        if until is None or known != until:
            found = self._derive(1 << 62 if until is None else until)
            self._derived = (until, found)
        return found

    def _derive(self, until: int) -> list[list[Any]]:
        rows: list[list[Any]] = []
        sql = (
            "SELECT id, job, stage, role, endpoint, how, prompt_tokens, completion_tokens, usd, seconds, finish, at"
            " FROM calls JOIN turns ON turns.seq = calls.turn WHERE turn < ?"
        )
        kinds = (whole, whole, word, word, word, word, whole, whole, maybe(number), number, word, real)
        for id, job, stage, role, endpoint, how, prompt, done, usd, seconds, finish, at in self._rows.read(
            "calls", kinds, sql, until
        ):
            began = max(0.0, at - seconds)
            rows.append(_row("JobStarted", began, job=job, stage=stage, workers=0, lag=0))
            rows.append(_row("CallStarted", began, call=id, job=job, role=role, endpoint=endpoint, in_flight=0))
            rows.append(
                _row(
                    "CallEnded", at, call=id, job=job, role=role, how=how, prompt_tokens=prompt,
                    completion_tokens=done, usd=usd, seconds=seconds, finish=finish, estimated=False,
                )
            )  # fmt: skip
        names = {"admit": "Admitted", "confirm": "Confirmed", "evidence": "EvidenceAdded", "retract": "Retracted"}
        sql = (
            "SELECT turn, at, pool, version, kind, artifact, lag, provisional, score FROM admissions WHERE turn < ?"
            " ORDER BY pool, version"
        )
        expected = (whole, real, word, count, word, whole, maybe(whole), whole, maybe(number))
        for _, at, pool, version, kind, artifact, lag, provisional, score in self._rows.read(
            "admissions", expected, sql, until
        ):
            if kind in names:
                fields = {"pool": pool, "version": version, "artifact": artifact, "score": score}
                rows.append(
                    _row(names[kind], at, **fields, lag=lag or 0, provisional=bool(provisional), parents=[], item=-1)
                )
        sql = "SELECT turn, at, name, value, reason FROM endpoints WHERE what = 'limit' AND turn < ?"
        limits = (whole, real, word, number, word)
        rows += [
            _row("LimitChanged", at, endpoint=name, limit=limit, reason=reason)
            for _, at, name, limit, reason in self._rows.read("endpoints", limits, sql, until)
        ]
        rows.sort(key=lambda row: row[1])
        return rows


def _row(kind: str, at: float, **fields: Any) -> list[Any]:
    return [kind, at, *(fields.get(name) for name in FIELDS[kind])]
