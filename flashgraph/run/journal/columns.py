"""Check each column of a journal's rows, because SQLite stores any value in any column.

A reader states what it expects of each column of its query.  Another value raises a `JournalError` that names the row.
"""

from __future__ import annotations

import math
import re
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
"""Return a column's value in the form that is used; raise ValueError, whose text names what was expected."""

UNUSABLE = (ValueError, TypeError, KeyError, IndexError, AttributeError, RecursionError, OverflowError, MemoryError)
"""Errors that reading a malformed value may raise."""


def select(
    db: sqlite3.Connection, path: Path, table: str, expected: Sequence[Expected], sql: str, *values: Any
) -> Iterator[tuple[Any, ...]]:
    """Yield the rows of a query, with each column checked.  The first column identifies the row of ``table``.

    Raises `JournalError` for a row that is not as expected, and when SQLite cannot read.
    """
    with reading(path, table):
        cursor = db.execute(sql, values)
        names = [column[0] for column in cursor.description]
        for row in cursor:
            yield tuple([_checked(path, table, names, expected, row, place) for place in range(len(row))])


def damaged(path: Path, table: str, row: object, said: object) -> JournalError:
    """Return the error for a row that cannot be used; ``said`` is the reason, or the exception."""
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
    """Return any number; infinities and NaN are allowed."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError("a number")
    return value


def real(value: Any) -> float:
    if not math.isfinite(number(value)):
        raise ValueError("a finite number")
    return float(value)


UNDECODED = re.compile("[\udc80-\udcff]")
"""Bytes of a text that are not UTF-8, as Python reads them."""


def word(value: Any) -> str:
    if not isinstance(value, str) or not (value.isascii() or UNDECODED.search(value) is None):
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
    """Allow None beside what ``expected`` allows."""
    return lambda value: None if value is None else expected(value)


def json_of(expected: Expected = anything) -> Expected:
    """Parse a JSON text, then check its value with ``expected``."""

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
    """Return amounts by limit, each at least 0."""
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
