"""Detect, report and count a missing end of a journal.

Two signs show it: the mark beside the journal, which records its length, and committed frames in its log that SQLite
skips.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path

import attrs

from flashgraph.run.journal.columns import amounts, anything, json_of, maybe, select, whole, word
from flashgraph.run.journal.mark import Mark, read_mark
from flashgraph.run.journal.store import JournalError, connect
from flashgraph.run.journal.wal import lost_commits
from flashgraph.run.journal.writer import ID

__all__ = ["ROLLED_BACK", "Loss", "find_loss", "keep_damaged_log"]

ROLLED_BACK = "rolled back"
"""The ``how`` of a row in the table ``tests`` that counts what missing turns spent."""


@attrs.frozen
class Loss:
    """The missing end of a journal.

    The journal ends at ``turns``, and SQLite skips ``commits`` of its log.  ``mark`` records its earlier length, and is
    None unless it exceeds the journal's.
    """

    turns: int
    commits: int
    mark: Mark | None
    counted: Mapping[str, float]
    """The journal's own account."""

    def spent(self, known: Mapping[str, float]) -> dict[str, float]:
        """Return the most that the missing turns can have spent beyond what is ``known``, by limit."""
        if self.mark is None:
            return {}
        rest = {name: amount - known.get(name, 0.0) for name, amount in self.mark.spent.items()}
        return {name: amount for name, amount in rest.items() if amount > 0}

    def __str__(self) -> str:
        if self.mark is None:
            return f"its log is damaged: at least {self.commits:,} commits after turn {self.turns:,} are missing"
        spent = ", ".join(f"{amount:,.6g} {name}" for name, amount in self.spent(self.counted).items())
        missing = max(0, self.mark.turns - self.turns)
        return (
            f"it ends at turn {self.turns:,} and was at turn {self.mark.turns:,}: {missing:,} turns and their "
            f"admissions are missing. The most that they can have spent stays counted: {spent or 'nothing'}"
        )


def find_loss(path: Path) -> Loss | None:
    """Return what is missing from the journal at ``path``, or None.  No process may be writing to it.

    Raises `JournalError` when the journal cannot be read.
    """
    try:
        commits = lost_commits(path)  # before SQLite opens the journal, because it may restart the log
    except OSError as error:
        raise JournalError(f"{path}: its log cannot be read: {error}.\nFix: give permission to read.") from error
    mark = read_mark(path)
    if mark is None and not commits:
        return None
    with closing(connect(path, readonly=True)) as db:
        sql = "SELECT key, value FROM meta WHERE key = ?"
        own = next((name for _, name in select(db, path, "meta", (word, json_of(word)), sql, ID)), None)
        ((turns,),) = select(db, path, "turns", (whole,), "SELECT count(*) FROM turns")
        ((tests,),) = select(db, path, "tests", (maybe(whole),), "SELECT max(id) FROM tests")
        account = select(db, path, "account", (anything, json_of(amounts)), "SELECT id, settled FROM account")
        counted: Mapping[str, float] = next((settled for _, settled in account), {})
    if mark is not None and (mark.id != own or (mark.turns <= turns and mark.tests <= (tests or 0))):
        mark = None
    return Loss(turns, commits, mark, counted) if mark is not None or commits else None


def keep_damaged_log(path: Path) -> Path:
    """Copy a journal's log before SQLite restarts it, so that parts can be recovered by hand.

    Raises `JournalError` when it cannot be copied.
    """
    log = path.with_name(f"{path.name}-wal")
    kept = path.with_name(f"{log.name}.damaged")
    try:
        kept.unlink(missing_ok=True)
        shutil.copy2(log, kept, follow_symlinks=False)
    except OSError as error:
        raise JournalError(
            f"{kept}: the damaged log could not be kept: {error.strerror}.\nFix: make room on the disk, and copy {log} "
            "to another place yourself."
        ) from error
    return kept
