"""What each column of a journal may hold: SQLite keeps anything anywhere, and a row that was damaged is named.

A reader says of each column of its query what it expects; a value that is something else is a `JournalError`, and
never an error of whoever uses it.
"""

from __future__ import annotations

import math
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from flashgraph.run.journal.jsontext import loaded
from flashgraph.run.journal.store import JournalError, reading

__all__ = [
    "UNUSABLE", "Expected", "amounts", "anything", "blob", "count", "damaged", "json_of", "list_of", "mapping", "maybe",
    "moment", "number", "pair", "real", "select", "whole", "word",
]  # fmt: skip

Expected = Callable[[Any], Any]
"""Returns a column's value as it is used; raises ValueError with what was expected."""

UNUSABLE = (ValueError, TypeError, KeyError, IndexError, AttributeError, RecursionError, OverflowError, MemoryError)
"""What reading a value of another form may raise."""


def select(
    db: sqlite3.Connection, path: Path, table: str, expected: Sequence[Expected], sql: str, *values: Any
) -> Iterator[tuple[Any, ...]]:
    """Yield the rows of a query, each column checked.  The first column names the row of ``table``.

    Raises `JournalError` for a row that is not as expected, and where SQLite cannot read.
    """
    with reading(path, table):
        cursor = db.execute(sql, values)
        names = [column[0] for column in cursor.description]
        for row in cursor:
            yield tuple([_checked(path, table, names, expected, row, place) for place in range(len(row))])


def damaged(path: Path, table: str, row: object, said: object) -> JournalError:
    """Return the error of a row that cannot be used; ``said`` is why."""
    reason = f"{type(said).__name__}: {said}" if isinstance(said, Exception) else str(said)
    return JournalError(
        f"{path}: table {table}, row {row!r:.60}: {reason}. The journal is damaged.\n"
        "Fix: use a copy of the run's folder; `sqlite3 FILE .recover` may save parts."
    )


def _checked(
    path: Path, table: str, names: Sequence[str], expected: Sequence[Expected], row: Sequence[Any], place: int
) -> Any:
    try:
        return expected[place](row[place])
    except UNUSABLE as error:
        said = str(error) if isinstance(error, ValueError) else "a value of another form"
        reason = f"{names[place]} is {row[place]!r:.60}; expected {said}"
        raise damaged(path, table, row[0], reason) from error


def whole(value: Any) -> int:
    if type(value) is not int:
        raise ValueError("a whole number")
    return value


def count(value: Any) -> int:
    if type(value) is not int or value < 0:
        raise ValueError("a whole number from 0")
    return value


def number(value: Any) -> float:
    """Any number, infinities and NaN too."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError("a number")
    return value


def real(value: Any) -> float:
    if not math.isfinite(number(value)):
        raise ValueError("a finite number")
    return float(value)


def word(value: Any) -> str:
    if not isinstance(value, str) or any("\udc80" <= c <= "\udcff" for c in value):
        raise ValueError("a text in UTF-8")
    return value


def blob(value: Any) -> bytes:
    if not isinstance(value, bytes):
        raise ValueError("bytes")
    return value


def moment(value: Any) -> str:
    try:
        aware = datetime.fromisoformat(word(value)).tzinfo is not None
    except ValueError:
        aware = False
    if not aware:
        raise ValueError("a time (ISO 8601, with its zone)")
    return str(value)


def anything(value: Any) -> Any:
    return value


def maybe(expected: Expected) -> Expected:
    """None, or what ``expected`` takes."""
    return lambda value: None if value is None else expected(value)


def json_of(expected: Expected = anything) -> Expected:
    """A text with JSON of which ``expected`` takes the value."""

    def parse(value: Any) -> Any:
        try:
            found = loaded(word(value))
        except (ValueError, RecursionError):
            raise ValueError("JSON") from None
        return expected(found)

    return parse


def mapping(value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise ValueError("a JSON object")
    return value


def amounts(value: Any) -> dict[str, float]:
    """Amounts by limit: not one of them is less than nothing."""
    found = mapping(value)
    if any(number(amount) < 0 or amount != amount for amount in found.values()):
        raise ValueError("amounts from 0")
    return found


def list_of(expected: Expected) -> Expected:
    def parse(value: Any) -> list[Any]:
        if not isinstance(value, list):
            raise ValueError("a JSON list")
        return [expected(part) for part in value]

    return parse


def pair(first: Expected, second: Expected) -> Expected:
    def parse(value: Any) -> tuple[Any, Any]:
        if not isinstance(value, list) or len(value) != 2:
            raise ValueError("pairs")
        return first(value[0]), second(value[1])

    return parse
