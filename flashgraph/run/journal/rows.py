"""A journal that is only read: its rows, its texts, and one moment of it."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from flashgraph.run.journal.columns import Expected, select
from flashgraph.run.journal.payloads import Payloads
from flashgraph.run.journal.store import JournalError, connect

__all__ = ["Rows"]


class Rows:
    """A read-only connection to a journal.  Raises `JournalError` when it cannot be opened or read."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._db = connect(path, readonly=True)
        self._payloads = Payloads(self._db, path)
        self._depth = 0

    def __call__(self, sql: str, *values: Any) -> list[Any]:
        """The rows of a query, all at once and as they are: nothing is held open."""
        try:
            return self._db.execute(sql, values).fetchall()
        except sqlite3.Error as error:
            raise JournalError(
                f"{self.path}: the journal could not be read: {error}.\n"
                "Fix: use a copy of the run's folder; `sqlite3 FILE .recover` may save parts."
            ) from error

    def has(self, table: str) -> bool:
        """Whether the journal has a table: journals of older schemas lack some."""
        return bool(self("SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = ?", table))

    def read(self, table: str, expected: Sequence[Expected], sql: str, *values: Any) -> list[tuple[Any, ...]]:
        """The rows of a query, each column checked; the first one names the row of ``table``."""
        return list(select(self._db, self.path, table, expected, sql, *values))

    def text(self, name: str) -> str:
        """A text that was put aside under its hash."""
        if not self("SELECT 1 FROM payloads WHERE hash = ?", name):
            return f"(text {name} is not in the journal)"
        return self._payloads(name)

    @contextmanager
    def snapshot(self) -> Iterator[None]:
        """All that is read inside is of one moment."""
        self._depth += 1
        try:
            if self._depth == 1:
                self("BEGIN")
            yield
        finally:
            self._depth -= 1
            if not self._depth:
                self._db.rollback()

    def close(self) -> None:
        self._db.close()
