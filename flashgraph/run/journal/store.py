"""The journal's file: opening it, the one thread that writes it, and clear errors for disk faults.

The settings: with ``journal_mode=WAL``, others can read while the run writes.  With ``synchronous=NORMAL``, commits
survive the death of the process at any moment; a power cut can lose the last ones, and never damages earlier ones.
With ``busy_timeout``, a write waits for a reader's checkpoint and does not fail.  Rows that arrive during a commit go
into the next commit together.
"""

from __future__ import annotations

import os
import queue
import sqlite3
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any

import attrs

from flashgraph.errors import FlashgraphError
from flashgraph.run.events import Event
from flashgraph.run.journal.happened import packed
from flashgraph.run.journal.mark import Mark, MarkFile
from flashgraph.run.journal.private import advice, create, regular
from flashgraph.run.journal.tables import MIGRATIONS, SCHEMA, TABLES, columns_of
from flashgraph.run.journal.watched import Watched

__all__ = [
    "BROKEN", "JournalError", "Statement", "Store", "connect", "explained", "fetched", "reading",
]  # fmt: skip

PATIENCE = 0.005
"""Seconds for which the event loop itself waits for a commit; after that, other tasks run meanwhile."""


BROKEN = (sqlite3.Error, UnicodeError, OverflowError, MemoryError)
"""Errors that SQLite's module may raise for a damaged file.  Its messages quote the file, whose bytes may be invalid
UTF-8."""

LARGEST = 8 << 30
"""Bytes of a journal at which its run stops: candidates write what they like into prompts."""

LARGEST_VARIABLE = "FLASHGRAPH_JOURNAL_BYTES"


class JournalError(FlashgraphError):
    """The journal cannot be written or read; earlier commits are intact."""


def _largest() -> int:
    """Return the maximum size of a journal in bytes.  Raises `JournalError` unless the variable is a number over 0."""
    said = os.environ.get(LARGEST_VARIABLE, str(LARGEST))
    if not said.isascii() or not said.isdigit() or not int(said):
        raise JournalError(
            f"{LARGEST_VARIABLE}={said!r}; expected a whole number of bytes over 0.\n"
            f"Fix: {LARGEST_VARIABLE}={LARGEST}, which is the default, or leave it out."
        )
    return int(said)


def _full(path: Path) -> bool:
    """Return whether a journal has reached its maximum size; otherwise it is the disk that is full."""
    files = [path, path.with_name(f"{path.name}-wal")]
    return sum(file.stat().st_size for file in files if file.exists()) >= 0.9 * _largest()


DAMAGED = ("the file is damaged", "use a copy of the run's folder; `sqlite3 FILE .recover` may save parts")


def explained(path: Path, doing: str, error: BaseException, part: str = "the journal") -> JournalError:
    """Return an error that explains what SQLite said about a journal, with a fix."""
    said = str(error)
    if "disk is full" in said and _full(path):
        return JournalError(
            f"{path}: the journal could not be {doing}: it has reached its maximum size of {_largest()} bytes.\n"
            f"Fix: see with `flashgraph show` what fills it; to continue, set {LARGEST_VARIABLE}={2 * _largest()} and "
            "resume."
        )
    found = {
        "disk is full": ("the disk is full", "make room, then resume the run"),
        "readonly": ("the file or its folder is read-only", "give write permission, or copy the run's folder"),
        "unable to open": ("the file cannot be opened", "check the path and its permissions"),
        "is locked": ("another process writes to it", "wait for that run to end, or stop it"),
        "not a database": ("it is not an SQLite file", "name the folder of a run"),
        "malformed": DAMAGED,
        "codec can't": DAMAGED,
        "disk I/O": ("the disk failed", "see the system's log; copy the run's folder to another disk"),
        "no such table": ("it is not a journal of flashgraph", "name the folder of a run"),
        "no such column": DAMAGED,
    }
    unknown = DAMAGED if doing == "read" else (said, "see SQLite's message")
    what, fix = next((f for word, f in found.items() if word in said), unknown)
    return JournalError(f"{path}: {part} could not be {doing}: {what} ({said}).\nFix: {fix}.")


@contextmanager
def reading(path: Path, table: str) -> Iterator[None]:
    """Turn every error of SQLite's module into a `JournalError` that names the table."""
    try:
        yield
    except BROKEN as error:
        raise explained(path, "read", error, f"table {table}") from error


def fetched(db: sqlite3.Connection, path: Path, table: str, sql: str, *values: Any) -> list[Any]:
    """Return the rows of a query unchecked, so that no read transaction stays open.  Raises `JournalError`."""
    with reading(path, table):
        return db.execute(sql, values).fetchall()


def _text(data: bytes) -> str:
    return data.decode(errors="surrogateescape")


def _odd_schema(db: sqlite3.Connection, path: Path) -> str:
    """Return what a file has beside plain tables and indexes, such as a view, which may compute without end."""
    tables = []
    for kind, name, sql in fetched(db, path, "sqlite_master", "SELECT type, name, sql FROM sqlite_master"):
        if kind not in ("table", "index"):
            return f"a {kind} {name!r}"
        if kind == "table" and not str(sql).upper().startswith("CREATE TABLE"):
            return f"a virtual table {name!r}"
        tables += [name] if kind == "table" else []
    for name in tables:
        if any(hidden for *_, hidden in fetched(db, path, name, "SELECT * FROM pragma_table_xinfo(?)", name)):
            return f"a computed column in {name!r}"
    return ""


def _require_plain(path: Path) -> None:
    """Raise `JournalError` unless a journal's files are regular files, because SQLite would follow a link."""
    try:
        files = [path.with_name(f"{path.name}{end}") for end in ("", "-wal", "-shm")]
        odd = [(file, found) for file in files if (found := regular(file))]
    except OSError as error:  # a folder above it may not be searched
        raise JournalError(f"{path}: the journal cannot be opened: {error}.\nFix: give permission to read.") from error
    if odd:
        file, found = odd[0]
        raise JournalError(
            f"{file}: it is {found}; expected a plain file.\nFix: copy the file itself to this path, if you trust it."
        )


def connect(path: Path, *, readonly: bool = False) -> sqlite3.Connection:
    """Open an existing journal and check that its schema is ours.  Raises `JournalError`."""
    _require_plain(path)
    there = path.exists()
    if not there:
        raise JournalError(f"{path}: no such journal.\nFix: name the folder of a run, which holds journal.db.")
    try:
        db = sqlite3.connect(
            f"{path.resolve().as_uri()}?mode={'ro' if readonly else 'rw'}", uri=True, check_same_thread=False
        )
        try:
            _require_ours(db, path)
            if not readonly:
                _require_columns(db, path)
        except BaseException:
            db.close()
            raise
        return db
    except BROKEN as error:
        raise explained(path, "opened", error) from error


def _require_ours(db: sqlite3.Connection, path: Path) -> None:
    """Set up a connection.  Raises `JournalError` unless the file is a journal of a known schema."""
    # Invalid UTF-8 is read too, so that the reader of the row can name it.
    db.text_factory = _text
    db.execute("PRAGMA busy_timeout = 5000")
    db.execute("PRAGMA trusted_schema = OFF")
    version = db.execute("PRAGMA user_version").fetchone()[0]
    if version > SCHEMA:
        raise JournalError(
            f"{path}: the journal has schema {version}; this flashgraph knows schemas up to {SCHEMA}.\n"
            "Fix: upgrade flashgraph."
        )
    if version <= 0:
        raise JournalError(f"{path}: not a journal of flashgraph.\nFix: name the folder of a run.")
    if odd := _odd_schema(db, path):
        raise JournalError(
            f"{path}: it has {odd}, which journals of flashgraph do not have: another program made it.\n"
            "Fix: name the folder of a run."
        )


def _require_columns(db: sqlite3.Connection, path: Path) -> None:
    """Raise `JournalError` if a table or column is missing, before the run spends what it could not store."""
    ((version,),) = fetched(db, path, "sqlite_master", "PRAGMA user_version")
    for table, expected in columns_of(version).items():
        there = {column for _, column, *_ in fetched(db, path, table, f"PRAGMA table_info({table})")}
        missing = [column for column in expected if column not in there]
        if missing:
            found = f"has no column {missing[0]!r}" if there else "is missing"
            raise JournalError(f"{path}: table {table} {found}: {DAMAGED[0]}.\nFix: {DAMAGED[1]}.")


Statement = tuple[str, Sequence[Any]]


@attrs.define(eq=False)
class _Batch:
    statements: list[Statement]
    mark: Mark | None
    events: tuple[int, Sequence[Event]] | None = None
    done: Future[None] = attrs.field(factory=Future)


class Store:
    """An open journal; `put` hands rows to the writing thread.

    Raises `JournalError` when the file cannot be created, opened or written.  After a failed write every later write
    fails too, so that a journal never has a gap.
    """

    def __init__(self, path: Path, *, create: bool) -> None:
        self.path = path
        self._queue: queue.SimpleQueue[_Batch | None] = queue.SimpleQueue()
        self._failed: JournalError | None = None
        self.commits = 0
        self.on_commit: Callable[[int], None] = lambda count: None
        """Called in the writing thread after each commit, with the number of commits so far; tests use it."""
        if create:
            self._create()
        else:
            self._migrate()
        self.db = connect(path)
        self.db.execute("PRAGMA synchronous = NORMAL")
        (page,) = self.db.execute("PRAGMA page_size").fetchone()
        self.db.execute(f"PRAGMA max_page_count = {max(1, _largest() // page)}")
        sql = "SELECT coalesce(max(first + count), 0) FROM events"
        self._events: int = fetched(self.db, path, "events", sql)[0][0]
        """The number of the next event."""
        self._marks = MarkFile(path)
        self._marked: Mark | None = None
        self._watched = Watched(path, self._readable)
        self._watched.wrong()  # remember which files they are
        self._thread = threading.Thread(target=self._write, name="flashgraph-journal", daemon=True)
        self._thread.start()

    def _create(self) -> None:
        _require_plain(self.path)
        try:
            create(self.path)
            db = sqlite3.connect(self.path)
            try:
                empty = not fetched(db, self.path, "sqlite_master", "SELECT 1 FROM sqlite_master LIMIT 1")
                # A process that was killed before it stored its settings has left no run.
                if not empty and fetched(db, self.path, "meta", "SELECT 1 FROM meta LIMIT 1"):
                    raise JournalError(
                        f"{self.path}: a journal exists already.\nFix: resume that run, or give another --out."
                    )
                if empty:
                    db.execute("PRAGMA journal_mode = WAL")
                    db.executescript(f"BEGIN; {TABLES} PRAGMA user_version = {SCHEMA}; COMMIT;")
            finally:
                db.close()
        except BROKEN as error:
            raise explained(self.path, "made", error) from error
        except OSError as error:
            folder = self.path.parent
            raise JournalError(
                f"{self.path}: the journal could not be made: {error.strerror}.\nFix: {advice(error, folder)}."
            ) from error

    def _migrate(self) -> None:
        db = connect(self.path)
        try:
            version = db.execute("PRAGMA user_version").fetchone()[0]
            while version < SCHEMA:
                db.executescript(f"BEGIN; {MIGRATIONS[version]} PRAGMA user_version = {version + 1}; COMMIT;")
                version += 1
        except BROKEN as error:
            raise explained(self.path, "migrated", error) from error
        finally:
            db.close()

    def put(
        self,
        statements: list[Statement],
        mark: Mark | None = None,
        events: tuple[int, Sequence[Event]] | None = None,
    ) -> Future[None]:
        """Commit statements together with all that is waiting; the future ends when they are durable.

        ``mark`` records the journal's length after them; ``events`` are a turn's number and the events in it.
        """
        batch = _Batch(statements, mark, events)
        if self._failed is not None:
            batch.done.set_exception(self._failed)
        else:
            self._queue.put(batch)
        return batch.done

    def settle(self) -> None:
        """Copy commits from the log into the journal itself, where a damaged log cannot harm them.

        Call it while no write is waiting.  While a reader prevents the copy, nothing happens.
        """
        with suppress(sqlite3.Error):
            self.db.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()

    def _write(self) -> None:
        while True:
            first = self._queue.get()
            batches = [] if first is None else [first]
            while first is not None and not self._queue.empty():
                more = self._queue.get()
                if more is None:
                    first = None
                else:
                    batches.append(more)
            if batches:
                self._commit(batches)
            if first is None:
                return

    def _commit(self, batches: list[_Batch]) -> None:
        try:
            if self._failed is None:
                self._require_files()
                with self.db:
                    for batch in batches:
                        for sql, values in batch.statements:
                            self.db.execute(sql, values)
                    self._add_events([batch.events for batch in batches if batch.events is not None])
                self.commits += 1
                if marks := [batch.mark for batch in batches if batch.mark is not None]:
                    self._marked = marks[-1]
                    self._marks.write(marks[-1])
        except JournalError as error:
            self._failed = error
        except Exception as error:  # whatever it is, the tasks that wait for the commit must receive it
            self._failed = explained(self.path, "written", error)
        for batch in batches:
            if self._failed is None:
                batch.done.set_result(None)
            else:
                batch.done.set_exception(self._failed)
        if self._failed is None:
            self.on_commit(self.commits)

    def _add_events(self, turns: list[tuple[int, Sequence[Event]]]) -> None:
        """Write the events of turns as one chunk."""
        if events := [event for _, of in turns for event in of]:
            row = (self._events, len(events), turns[0][0], events[0].at, packed(events))
            self.db.execute("INSERT INTO events VALUES (?, ?, ?, ?, ?)", row)
            self._events += len(events)

    def _require_files(self) -> None:
        """Raise `JournalError` if the journal's files were taken away, so that the run stops spending."""
        if wrong := self._watched.wrong():
            raise JournalError(
                f"{self.path}: the journal was lost during the run: {wrong}. The run stops, because its results "
                "could not be stored; it cannot be resumed.\n"
                "Fix: start a new run; the result files of this one hold what it has reached."
            )
        if self._watched.unlocked():
            raise JournalError(
                f"{self.path.parent}: the file lock was deleted or replaced during the run, so that another process "
                f"could write to the run too. The run stops.\nFix: flashgraph resume {self.path.parent}"
            )

    def _readable(self) -> bool:
        """Return whether the last turn can be read from the files, and not only from this connection's cache."""
        if self._marked is None:
            return True
        try:
            with closing(connect(self.path, readonly=True)) as db:
                sql = "SELECT seq + 1, chain FROM turns ORDER BY seq DESC LIMIT 1"
                found = fetched(db, self.path, "turns", sql)
        except JournalError:
            return False
        return found == [(self._marked.turns, self._marked.chain)]

    def close(self) -> None:
        """Write all that is waiting and close the file."""
        self._queue.put(None)
        self._thread.join()
        self.db.close()
        self._marks.close()
