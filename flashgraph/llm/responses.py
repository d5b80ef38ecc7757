"""Replies in one SQLite file that all runs and processes of a machine share.

With WAL, others can read while one writes.  Reads run on the event loop, because finding one row takes less time than
handing it to a thread.  A thread writes, and replies that wait for it are found too.  So the cache never awaits
anything, and a virtual clock does not see it.
"""

from __future__ import annotations

import json
import logging
import os
import queue
import sqlite3
import threading
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any

import attrs
import filelock

from flashgraph.errors import DataError
from flashgraph.llm.protocol import Reply, TokenLogprob, ToolCall, Usage

__all__ = ["ResponseCache", "Tally", "default_path"]

SCHEMA = 1
APPLICATION = 0x666C6763
"""SQLite's ``application_id`` of these files, so that no other database is overwritten."""

ROW_BYTES = 200
"""Bytes of a row besides its reply: its key (twice), its place in the order of use, and unused space in pages."""

TABLES = f"""
CREATE TABLE replies (id INTEGER PRIMARY KEY, key BLOB NOT NULL UNIQUE, body BLOB NOT NULL, used INTEGER NOT NULL);
CREATE INDEX replies_by_use ON replies (used);
CREATE TABLE total (bytes INTEGER NOT NULL);
INSERT INTO total VALUES (0);
CREATE TRIGGER added AFTER INSERT ON replies
    BEGIN UPDATE total SET bytes = bytes + length(NEW.body) + {ROW_BYTES}; END;
CREATE TRIGGER removed AFTER DELETE ON replies
    BEGIN UPDATE total SET bytes = bytes - length(OLD.body) - {ROW_BYTES}; END;
"""

PATIENCE = 30.0
"""Seconds for which the writing thread, or opening the file, waits for another process that writes."""

READ_PATIENCE = 1.0
"""Seconds for a read, which blocks the event loop; a read waits only while a killed process's file is repaired."""

_log = logging.getLogger("flashgraph")


@attrs.frozen
class Tally:
    """Counts of a cache's requests since it was made.

    ``hits`` came from the file, ``shared`` from an identical request in flight; ``misses`` were sent, ``passed`` could
    not be cached.  ``saved`` is the usage that the first two avoided.
    """

    hits: int = 0
    shared: int = 0
    misses: int = 0
    passed: int = 0
    saved: Usage = attrs.field(factory=Usage)


def default_path() -> Path:
    """Return ``flashgraph/responses.db`` below the user's cache directory."""
    from flashgraph.llm.weights import cache_dir

    return cache_dir().with_name("responses.db")


def _encoded(reply: Reply) -> bytes:
    # Older versions wrote only the first five, or seven.
    kept: list[Any] = [reply.text, reply.finish, reply.model, reply.usage.prompt, reply.usage.completion]
    calls = [[call.id, call.name, call.arguments] for call in reply.tool_calls]
    tokens = [[each.token, each.logprob, dict(each.top)] for each in reply.logprobs]
    if reply.thoughts or calls or reply.more or tokens:
        kept += [reply.thoughts, calls]
    if reply.more or tokens:
        kept += [reply.more, tokens]
    return json.dumps(kept).encode()


def _decoded(body: bytes) -> Reply:
    kept: list[Any] = json.loads(body)
    absent: list[Any] = ["", (), (), ()]  # in the parts of older versions
    text, finish, model, prompt, completion, thoughts, calls, more, tokens = [*kept, *absent[len(kept) - 5 :]]
    usage, tools = Usage(prompt, completion), tuple([ToolCall(*call) for call in calls])
    logprobs = [TokenLogprob(*token) for token in tokens]
    return Reply(text, usage, 0.0, finish, model, thoughts=thoughts, tool_calls=tools, more=more, logprobs=logprobs)


def _expanded(path: str | Path) -> Path:
    return Path(path).expanduser()


@attrs.define(eq=False)
class ResponseCache:
    """The file ``path``, which any number of runs and processes of one machine can use at once.

    It is created if missing.  At ``max_bytes`` the least recently used replies are evicted.  It contains replies and
    digests of requests, never a request itself, and only its owner can read it.  Once it is open, disk faults do not
    affect a run: they are logged once, and requests are sent as without a cache.
    """

    path: Path = attrs.field(converter=_expanded)
    max_bytes: int = attrs.field(default=1 << 30, kw_only=True, validator=attrs.validators.ge(1))
    _tally: Tally = attrs.field(factory=Tally, init=False, repr=False)
    _opening: threading.Lock = attrs.field(factory=threading.Lock, init=False, repr=False)
    _users: int = attrs.field(default=0, init=False, repr=False)
    _lock: threading.Lock = attrs.field(factory=threading.Lock, init=False, repr=False)
    _reader: sqlite3.Connection | None = attrs.field(default=None, init=False, repr=False)
    _writer: threading.Thread | None = attrs.field(default=None, init=False, repr=False)
    _queue: queue.SimpleQueue[tuple[bytes, bytes | None] | None] = attrs.field(init=False, repr=False)
    _unwritten: dict[bytes, bytes] = attrs.field(factory=dict, init=False, repr=False)
    _failed: bool = attrs.field(default=False, init=False, repr=False)

    @property
    def tally(self) -> Tally:
        """Return the counts so far."""
        return self._tally

    @contextmanager
    def open(self) -> Iterator[None]:
        """Open the file; several users of this object share it.  The last one to leave waits for unwritten replies.

        Raises `DataError` for a file that cannot be created or read, or that is not a response cache.
        """
        with self._opening:
            if self._users == 0:
                self._start()
            self._users += 1
        try:
            yield
        finally:
            with self._opening:
                self._users -= 1
                if self._users == 0:
                    self._stop()

    def get(self, key: bytes) -> Reply | None:
        """Return the reply stored under ``key``, with a cost of 0; None if there is none."""
        with self._lock:
            body = self._body(key)
            if body is None:
                return None
            try:
                reply = _decoded(body)
            except (ValueError, TypeError, DataError) as error:
                self._fail(error)
                return None
            if not self._failed:
                self._queue.put((key, None))
            return reply

    def put(self, key: bytes, reply: Reply) -> None:
        """Store ``reply`` unless ``key`` has one already; a reply that is not plain data is ignored."""
        try:
            body = _encoded(reply)
        except (TypeError, ValueError):
            return
        with self._lock:
            known = self._body(key) is not None
            if not known and not self._failed and len(body) + ROW_BYTES <= self.max_bytes:
                self._unwritten[key] = body
                self._queue.put((key, body))

    def count(self, what: str, saved: Usage) -> None:
        """Add one to a field of the `tally`."""
        with self._lock:
            was = self._tally
            total = Usage(was.saved.prompt + saved.prompt, was.saved.completion + saved.completion)
            self._tally = attrs.evolve(was, saved=total, **{what: getattr(was, what) + 1})

    def _body(self, key: bytes) -> bytes | None:
        """Return the bytes under ``key``, written or not; called with the lock held."""
        if self._reader is None:
            raise RuntimeError(f"{self.path} is not open: use `with cache.open():`, or the `open` of a CachedModel")
        if key in self._unwritten or self._failed:
            return self._unwritten.get(key)
        try:
            row = self._reader.execute("SELECT body FROM replies WHERE key = ?", (key,)).fetchone()
        except sqlite3.Error as error:
            self._fail(error)
            return None
        return row[0] if row else None

    def _start(self) -> None:
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            # Two processes that create the file at once would each find it half made.
            with filelock.FileLock(f"{self.path}.lock", timeout=PATIENCE):
                self._make()
                reader, writer = self._connect(READ_PATIENCE), self._connect()
        except (OSError, sqlite3.Error) as error:
            raise self._unusable(error) from error
        self._failed, self._queue, self._reader = False, queue.SimpleQueue(), reader
        self._writer = threading.Thread(target=self._write, args=(writer,), name="flashgraph-cache", daemon=True)
        self._writer.start()

    def _stop(self) -> None:
        assert self._reader is not None
        assert self._writer is not None
        self._queue.put(None)
        self._writer.join()
        self._reader.close()
        self._reader = self._writer = None

    def _connect(self, patience: float = PATIENCE) -> sqlite3.Connection:
        db = sqlite3.connect(self.path, isolation_level=None, check_same_thread=False, timeout=patience)
        # A power cut may lose the last replies, which can be requested again; a sync for each would cost more.
        db.execute("PRAGMA synchronous = NORMAL")
        return db

    def _make(self) -> None:
        # Only if it does not exist: closing any descriptor of an open database drops SQLite's locks on it.
        with suppress(FileExistsError):
            os.close(os.open(self.path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
        with closing(self._connect()) as db:
            marks = [db.execute(f"PRAGMA {name}").fetchone()[0] for name in ("application_id", "user_version")]
            if marks == [0, 0] and not db.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]:
                db.execute("PRAGMA journal_mode = WAL")
                marks = [APPLICATION, SCHEMA]
                db.executescript(
                    f"BEGIN; {TABLES} PRAGMA application_id = {APPLICATION}; PRAGMA user_version = {SCHEMA}; COMMIT;"
                )
            if marks[0] != APPLICATION:
                raise self._refused("it is another database", "name another file")
            if marks[1] != SCHEMA:
                raise self._refused(f"it has schema {marks[1]}, expected {SCHEMA}", "delete it, or name another file")
            db.execute("SELECT bytes, (SELECT max(used) FROM replies) FROM total").fetchone()

    def _refused(self, found: str, fix: str) -> DataError:
        return DataError(f"response cache {self.path}: {found}.\nFix: {fix}.")

    def _unusable(self, error: Exception) -> DataError:
        if self.path.is_dir():
            return self._refused("it is a folder, expected a file", f"write {self.path / 'responses.db'}")
        said = str(error)
        undecodable = isinstance(error, ValueError | TypeError | DataError)
        if undecodable or any(word in said for word in ("not a database", "malformed", "no such")):
            again = "delete it with its -wal and -shm files, so that its requests are sent again"
            return self._refused(f"the file is damaged ({said})", f"{again}; or name another file")
        if "full" in said:
            return self._refused(f"the disk is full ({said})", "make room, name another file, or run without it")
        return self._refused(f"it cannot be opened ({said})", "check its permissions, or name another file")

    def _fail(self, error: Exception) -> None:
        """Stop using the file until it is opened again; called with the lock held."""
        if not self._failed:
            self._failed = True
            self._unwritten.clear()
            _log.warning("the run continues without the response cache: %s", self._unusable(error))

    def _write(self, db: sqlite3.Connection) -> None:
        with closing(db):
            ended = False
            while not ended:
                batch = [self._queue.get()]
                while not self._queue.empty():
                    batch.append(self._queue.get())
                ended = None in batch
                entries = [entry for entry in batch if entry is not None]
                if not entries or self._failed:
                    continue
                try:
                    self._commit(db, entries)
                except sqlite3.Error as error:
                    with self._lock:
                        self._fail(error)
                with self._lock:
                    for key, _ in entries:
                        self._unwritten.pop(key, None)

    def _commit(self, db: sqlite3.Connection, entries: Sequence[tuple[bytes, bytes | None]]) -> None:
        with db:
            db.execute("BEGIN IMMEDIATE")
            now = db.execute("SELECT coalesce(max(used), 0) FROM replies").fetchone()[0]
            for used, (key, body) in enumerate(entries, now + 1):
                if body is not None:
                    db.execute("INSERT OR IGNORE INTO replies (key, body, used) VALUES (?, ?, ?)", (key, body, used))
                db.execute("UPDATE replies SET used = ? WHERE key = ?", (used, key))
            excess = db.execute("SELECT bytes FROM total").fetchone()[0] - self.max_bytes
            oldest = db.execute(f"SELECT id, length(body) + {ROW_BYTES} FROM replies ORDER BY used")
            evicted = []
            for row, size in oldest:
                if excess <= 0:
                    break
                evicted.append((row,))
                excess -= size
            oldest.close()
            db.executemany("DELETE FROM replies WHERE id = ?", evicted)
