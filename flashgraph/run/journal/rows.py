"""A journal that is only read: its rows, its texts, and one moment of it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from flashgraph.run.journal.columns import Expected, select
from flashgraph.run.journal.payloads import Payloads
from flashgraph.run.journal.store import connect, fetched

__all__ = ["Rows"]


class Rows:
    """A read-only connection to a journal.  Raises `JournalError` when it cannot be opened or read."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._db = connect(path, readonly=True)
        self._payloads = Payloads(self._db, path)
        self._depth = 0

    def __call__(self, table: str, sql: str, *values: Any) -> list[Any]:
        """The rows of a query, all at once and as they are: nothing is held open."""
        return fetched(self._db, self.path, table, sql, *values)

    def has(self, table: str, column: str = "") -> bool:
        """Whether the journal has a table, or a column of it: journals of older schemas lack some."""
        if column:
            return bool(self(table, "SELECT 1 FROM pragma_table_info(?) WHERE name = ?", table, column))
        return bool(self("sqlite_master", "SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = ?", table))

    def read(self, table: str, expected: Sequence[Expected], sql: str, *values: Any) -> list[tuple[Any, ...]]:
        """The rows of a query, each column checked; the first one names the row of ``table``."""
        return list(select(self._db, self.path, table, expected, sql, *values))

    def text(self, name: str) -> str:
        """A text that was put aside under its hash."""
        if not self("payloads", "SELECT 1 FROM payloads WHERE hash = ?", name):
            return f"(text {name} is not in the journal)"
        return self._payloads(name)

    @contextmanager
    def snapshot(self) -> Iterator[None]:
        """All that is read inside is of one moment."""
        self._depth += 1
        try:
            if self._depth == 1:
                self("sqlite_master", "BEGIN")
            yield
        finally:
            self._depth -= 1
            if not self._depth:
                self._db.rollback()

    def close(self) -> None:
        self._db.close()
