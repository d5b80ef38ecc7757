"""Remove stored runs, or shrink them.  Both hold the run's folder, so an active run is never touched."""

from __future__ import annotations

import os
import sqlite3
import stat
from collections.abc import Iterator
from contextlib import closing, contextmanager
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import filelock

from flashgraph.run.journal.columns import anything, json_of, select, word
from flashgraph.run.journal.folders import LOCK
from flashgraph.run.journal.keeper import JOURNAL, lock_error
from flashgraph.run.journal.plain import plain
from flashgraph.run.journal.private import FILE, PLAIN
from flashgraph.run.journal.store import BROKEN, JournalError, connect
from flashgraph.run.journal.tables import VACUUMED

__all__ = ["remove", "vacuum"]

FILES = (
    "result.json", "events.jsonl", "best.json", "best-*.txt", ".*.new", "journal-*.db", f"{JOURNAL}.new*",
    f"{JOURNAL}.mark", f"{JOURNAL}-wal.damaged", f"{JOURNAL}-wal", f"{JOURNAL}-shm", JOURNAL, LOCK,
)  # fmt: skip
"""A run's files in the order of their removal: the journal comes late, so that a partly removed run is still listed."""


def remove(folder: Path) -> tuple[str, ...]:
    """Delete a run's files and its folder; return the names of other files, which stay together with the folder.

    Raises `JournalError` when the run is active or a file cannot be deleted.
    """
    try:
        with _held(folder), _opened(folder) as opened:
            for pattern in FILES:
                for name in sorted(os.listdir(opened)):
                    if fnmatch(name, pattern) and not stat.S_ISDIR(os.lstat(name, dir_fd=opened).st_mode):
                        os.unlink(name, dir_fd=opened)
        left = tuple(sorted(entry.name for entry in folder.iterdir()))
        if not left:
            folder.rmdir()
    except OSError as error:
        raise JournalError(
            f"{folder}: could not be removed completely: {error.strerror}.\nFix: check its permissions."
        ) from error
    return left


def vacuum(folder: Path) -> None:
    """Drop the messages and replies of a run's calls, and all else that only resuming needs.

    Artifacts, scores, failures, and each call's cost and duration stay.  Raises `JournalError` when the run is active.
    """
    with _held(folder):
        for path in (folder / JOURNAL, *sorted(folder.glob("journal-*.db"))):
            _shrink(path)


def _shrink(path: Path) -> None:
    with closing(connect(path)) as db:
        try:
            with db:
                _drop(db, path)
            db.execute("VACUUM")
            db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        except BROKEN as error:
            raise JournalError(
                f"{path}: cannot be made smaller: {error}.\n"
                "Fix: make room on the disk (it briefly needs the journal's size again), or check the permissions."
            ) from error


def _drop(db: sqlite3.Connection, path: Path) -> None:
    sql = "SELECT turn, value FROM admissions"
    rows = select(db, path, "admissions", (anything, _payloads), sql)
    kept = {name for _, names in rows for name in names}
    db.execute("UPDATE calls SET messages = '[]', reply = NULL")
    db.execute("UPDATE tests SET reply = NULL")
    if db.execute("PRAGMA user_version").fetchone()[0] > 5:
        db.execute("UPDATE calls SET tools = NULL")
        db.execute("UPDATE tests SET tools = NULL")
    # No machine has an empty signature: a vacuumed journal can never be replayed as if it were complete.
    db.execute("UPDATE turns SET body = '{\"sign\":[]}' WHERE body NOT LIKE '{\"reopen\"%'")
    every = [name for (name,) in select(db, path, "payloads", (word,), "SELECT hash FROM payloads")]
    db.executemany("DELETE FROM payloads WHERE hash = ?", [(name,) for name in every if name not in kept])
    db.execute("INSERT OR REPLACE INTO meta VALUES (?, 'true')", (VACUUMED,))


def _payloads(value: Any) -> list[str]:
    """Return the names of the texts that a stored value refers to."""
    found: list[str] = []

    def note(name: str) -> str:
        found.append(name)
        return ""

    plain(json_of()(value), note)
    return found


@contextmanager
def _opened(folder: Path) -> Iterator[int]:
    """Open the folder itself, so that replacing its path meanwhile has no effect."""
    opened = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | PLAIN)
    try:
        yield opened
    finally:
        os.close(opened)


@contextmanager
def _held(folder: Path) -> Iterator[None]:
    if folder.is_symlink():
        raise JournalError(
            f"{folder}: it is a symbolic link.\nFix: name the folder that it leads to, {folder.resolve()}, if you mean "
            "that one; or remove the link yourself."
        )
    lock = filelock.FileLock(folder / LOCK, mode=FILE)
    try:
        lock.acquire(timeout=0)
    except filelock.Timeout:
        raise JournalError(f"{folder}: the run is active.\nFix: wait for its end, or stop it.") from None
    except OSError as error:
        raise lock_error(folder, error) from error
    try:
        yield
    finally:
        lock.release()
