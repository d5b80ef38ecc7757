"""The sessions of a stored run: the processes that worked on it."""

from __future__ import annotations

from typing import Any, get_args

import attrs

from flashgraph.run.journal.causes import cause, cause_of_session
from flashgraph.run.journal.columns import maybe, moment, real, whole, word
from flashgraph.run.journal.rows import Rows
from flashgraph.run.journal.stored import Session, Status

__all__ = ["read_sessions"]


def read_sessions(rows: Rows) -> tuple[Session, ...]:
    """Return the sessions, oldest first."""
    known = "cause" if rows.has("sessions", "cause") else "NULL AS cause"
    sql = f"SELECT id, opened, host, pid, closed, status, reason, at, {known} FROM sessions ORDER BY id"
    expected = (whole, moment, word, whole, maybe(moment), maybe(_status), maybe(word), maybe(real), maybe(cause))
    found = [Session(*row) for row in rows.read("sessions", expected, sql)]
    return tuple([_with_cause(session) for session in found])


def _with_cause(session: Session) -> Session:
    """Return a session with its cause, which schemas up to 3 did not store."""
    if session.cause is not None or session.status is None:
        return session
    return attrs.evolve(session, cause=cause_of_session(session.status, session.reason or ""))


def _status(value: Any) -> str:
    if value not in get_args(Status):
        raise ValueError(f"one of {', '.join(get_args(Status))}")
    return str(value)
