"""Events in chunks: the form in which a journal keeps all that happened in a run.

A chunk holds the events of one commit, compressed.  The writing thread makes it, so that no turn waits for it.  In JSON
an event is a list: its class, its time, and its fields in the order of `FIELDS`.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Mapping, Sequence
from enum import Enum
from typing import Any

import attrs

from flashgraph.evidence import Evidence
from flashgraph.run import events as ev
from flashgraph.run.journal.jsontext import dumped, loaded
from flashgraph.run.static_frozen import statically_frozen

__all__ = ["FIELDS", "Account", "SampleUsed", "Served", "StoredEvent", "packed", "unpacked"]

LARGEST = 1 << 26
"""The most bytes of a chunk's JSON; a damaged or hostile file must not fill the memory."""


@statically_frozen
class Account(ev.Event):
    """The amounts that the run had ``used``, and those that it had ``reserved`` for work in flight, by limit."""

    used: Mapping[str, float]
    reserved: Mapping[str, float]


@statically_frozen
class Served(ev.Event):
    """A server's report: ``running`` and ``waiting`` requests, and the share of its ``cache`` in use (0 to 1)."""

    endpoint: str
    running: int
    waiting: int
    cache: float


@statically_frozen
class SampleUsed(ev.Event):
    """A job works on the sample with this ``index`` within ``split``."""

    job: int
    split: str
    index: int


OWN = (Account, Served, SampleUsed)

FIELDS: Mapping[str, tuple[str, ...]] = {
    kind.__name__: tuple([field.name for field in attrs.fields(kind) if field.name != "at"])
    for kind in (*(getattr(ev, name) for name in ev.__all__ if name != "Event"), *OWN)
}
"""The fields of each class of event; new fields are added at the end only."""


@attrs.frozen
class StoredEvent:
    """Event ``number`` of a run, ``at`` seconds on its clock.

    ``kind`` is the name of its class in `flashgraph.run.events`; ``fields`` are its other fields, as JSON has them.
    The ``lineage`` of a `Created` holds only the newest ancestor of each pool.
    """

    number: int
    at: float
    kind: str
    fields: Mapping[str, Any]

    @classmethod
    def of(cls, number: int, row: Sequence[Any]) -> StoredEvent:
        """Return an event from its list.  Raises KeyError or ValueError for a malformed one."""
        kind, at, *values = row
        return cls(number, float(at), kind, dict(zip(FIELDS[kind], values, strict=False)))


def packed(events: Iterable[ev.Event]) -> bytes:
    """Return events as one chunk."""
    return zlib.compress(dumped([_row(event) for event in events]).encode(errors="backslashreplace"), 6)


def unpacked(data: bytes) -> list[list[Any]]:
    """Return the events of a chunk as lists.  Raises ValueError for a malformed chunk."""
    decoder = zlib.decompressobj()
    try:
        text = decoder.decompress(data, LARGEST)
    except zlib.error as error:
        raise ValueError("a compressed chunk of events") from error
    if not decoder.eof:
        raise ValueError(f"a chunk of at most {LARGEST} bytes")
    rows = loaded(text.decode())
    known = isinstance(rows, list) and all(isinstance(row, list) and row and row[0] in FIELDS for row in rows)
    if not known or not all(len(row) > 1 and type(row[1]) in (int, float) for row in rows):
        raise ValueError("events")
    return list(rows)


def _row(event: ev.Event) -> list[Any]:
    kind = type(event).__name__
    values = [getattr(event, name) for name in FIELDS[kind]]
    return [kind, round(event.at, 6), *map(_plain, values)]


def _plain(value: Any) -> Any:
    match value:
        case frozenset():
            newest: dict[str, int] = {}
            for pool, artifact in value:
                newest[pool] = max(artifact, newest.get(pool, -1))
            return sorted(newest.items())
        case Evidence():
            return attrs.asdict(value)
        case Enum():
            return value.value
        case float():
            return round(value, 6) if value == value else value
        case Mapping():
            return {key: _plain(of) for key, of in value.items()}
    return value
