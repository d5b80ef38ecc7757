"""A journal opened for reading: its rows, its texts and consistent snapshots."""

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
        """Return the rows of a query unchecked, all at once, so that no read transaction stays open."""
        return fetched(self._db, self.path, table, sql, *values)

    def has(self, table: str, column: str = "") -> bool:
        """Return whether the journal has a table, or one of its columns: older schemas lack some."""
        if column:
            return bool(self(table, "SELECT 1 FROM pragma_table_info(?) WHERE name = ?", table, column))
        return bool(self("sqlite_master", "SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = ?", table))

    def read(self, table: str, expected: Sequence[Expected], sql: str, *values: Any) -> list[tuple[Any, ...]]:
        """Return the rows of a query with each column checked; the first column identifies the row of ``table``."""
        return list(select(self._db, self.path, table, expected, sql, *values))

    def text(self, name: str) -> str:
        """Return a text that is stored under its hash."""
        if not self("payloads", "SELECT 1 FROM payloads WHERE hash = ?", name):
            return f"(text {name} is not in the journal)"
        return self._payloads(name)

    @contextmanager
    def snapshot(self) -> Iterator[None]:
        """Make all reads inside see one state of the journal."""
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
