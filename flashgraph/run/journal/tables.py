"""The tables of a journal, by schema version."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from contextlib import closing
from functools import cache

__all__ = ["MIGRATIONS", "SCHEMA", "TABLES", "VACUUMED", "columns_of"]

SCHEMA = 6
"""The version of the tables below; `MIGRATIONS` lead from each older one to the next."""

STANDINGS = """
CREATE TABLE standings (pool TEXT NOT NULL, artifact INTEGER NOT NULL, held INTEGER NOT NULL, evidence TEXT NOT NULL,
    PRIMARY KEY (pool, artifact)) WITHOUT ROWID;
CREATE TABLE champions (pool TEXT NOT NULL, version INTEGER NOT NULL, turn INTEGER NOT NULL, at REAL NOT NULL,
    artifact INTEGER, score REAL, provisional INTEGER NOT NULL, evidence TEXT NOT NULL,
    PRIMARY KEY (pool, version)) WITHOUT ROWID;
"""
"""The present state of artifacts that have evidence or were evicted; and each change of champion."""

EVENTS = """
CREATE TABLE events (first INTEGER PRIMARY KEY, count INTEGER NOT NULL, turn INTEGER NOT NULL, at REAL NOT NULL,
    data BLOB NOT NULL);
"""
"""Chunks of events; see `flashgraph.run.journal.happened`.  ``turn`` is the number of the first turn of the chunk."""

TABLES = f"""
CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE sessions (id INTEGER PRIMARY KEY, opened TEXT NOT NULL, host TEXT NOT NULL, pid INTEGER NOT NULL,
    closed TEXT, status TEXT, reason TEXT, at REAL, cause TEXT);
CREATE TABLE turns (seq INTEGER PRIMARY KEY, at REAL NOT NULL, body TEXT NOT NULL, chain TEXT);
CREATE TABLE calls (id INTEGER PRIMARY KEY, job INTEGER NOT NULL, stage TEXT NOT NULL, role TEXT NOT NULL,
    endpoint TEXT NOT NULL, request TEXT NOT NULL, messages TEXT NOT NULL, how TEXT NOT NULL, reply TEXT,
    model TEXT, prompt_tokens INTEGER NOT NULL, completion_tokens INTEGER NOT NULL, usd REAL, spent TEXT NOT NULL,
    seconds REAL NOT NULL, finish TEXT NOT NULL, turn INTEGER NOT NULL, tools TEXT);
CREATE INDEX calls_of_job ON calls (job);
CREATE TABLE admissions (turn INTEGER NOT NULL, at REAL NOT NULL, pool TEXT NOT NULL, version INTEGER NOT NULL,
    kind TEXT NOT NULL, artifact INTEGER NOT NULL, parents TEXT NOT NULL, lag INTEGER, provisional INTEGER NOT NULL,
    score REAL, scores TEXT NOT NULL, value TEXT NOT NULL, PRIMARY KEY (pool, version)) WITHOUT ROWID;
CREATE TABLE tests (id INTEGER PRIMARY KEY, work TEXT NOT NULL, request TEXT NOT NULL, how TEXT NOT NULL, reply TEXT,
    model TEXT, prompt_tokens INTEGER NOT NULL, completion_tokens INTEGER NOT NULL, usd REAL, finish TEXT NOT NULL,
    spent TEXT NOT NULL, tools TEXT);
CREATE TABLE failures (turn INTEGER NOT NULL, at REAL NOT NULL, job INTEGER NOT NULL, stage TEXT NOT NULL,
    reason TEXT NOT NULL, cause TEXT);
CREATE TABLE endpoints (turn INTEGER NOT NULL, at REAL NOT NULL, name TEXT NOT NULL, what TEXT NOT NULL, value REAL,
    reason TEXT NOT NULL);
CREATE TABLE sources (name TEXT PRIMARY KEY, cursor TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE stream (id INTEGER PRIMARY KEY CHECK (id = 0), state TEXT NOT NULL);
CREATE TABLE account (id INTEGER PRIMARY KEY CHECK (id = 0), settled TEXT NOT NULL);
CREATE TABLE best (pool TEXT PRIMARY KEY, artifact INTEGER) WITHOUT ROWID;
CREATE TABLE payloads (hash TEXT PRIMARY KEY, data BLOB NOT NULL) WITHOUT ROWID;
{STANDINGS}{EVENTS}"""

CAUSES = "ALTER TABLE sessions ADD COLUMN cause TEXT; ALTER TABLE failures ADD COLUMN cause TEXT;"
"""The columns stay empty in old rows; see `flashgraph.run.journal.causes`."""

TOOLS = "ALTER TABLE calls ADD COLUMN tools TEXT; ALTER TABLE tests ADD COLUMN tools TEXT;"
"""The columns stay empty in old rows, whose replies with calls of tools are not whole."""

MIGRATIONS: dict[int, str] = {
    1: STANDINGS,
    2: "ALTER TABLE turns ADD COLUMN chain TEXT;",
    3: CAUSES,
    4: EVENTS,
    5: TOOLS,
}
"""The statements that migrate a schema to the next version, by version."""

VACUUMED = "vacuumed"
"""The key in the ``meta`` table of a journal that can no longer be resumed, because it was vacuumed."""


@cache
def columns_of(version: int) -> Mapping[str, list[str]]:
    """Return the columns of each table of a schema version."""
    with closing(sqlite3.connect(":memory:")) as db:
        db.executescript(TABLES)
        tables = [name for (name,) in db.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        found = {table: [column for _, column, *_ in db.execute(f"PRAGMA table_info({table})")] for table in tables}
    if version < 6:
        found["calls"].remove("tools")
        found["tests"].remove("tools")
    if version < 5:
        del found["events"]
    if version < 4:
        found["sessions"].remove("cause")
        found["failures"].remove("cause")
    if version < 3:
        found["turns"].remove("chain")
    if version < 2:
        del found["standings"], found["champions"]
    return found
