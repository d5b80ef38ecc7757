"""The end of a journal that is missing: noticed, said, and counted.

Two things tell of it: the mark beside the journal, which says how far it was, and committed frames in its log that
SQLite passes over.
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

__all__ = ["ROLLED_BACK", "Loss", "keep_damaged_log", "noticed"]

ROLLED_BACK = "rolled back"
"""How a row of the table ``tests`` has ended that counts what missing turns have spent."""


@attrs.frozen
class Loss:
    """What of a journal is missing.  ``turns`` is where it ends; ``commits`` were passed over in its log, and ``mark``
    says how far it was: None where there is none that says more than the journal."""

    turns: int
    commits: int
    mark: Mark | None
    counted: Mapping[str, float]
    """What the journal's own account has."""

    def spent(self, known: Mapping[str, float]) -> dict[str, float]:
        """Return what the missing turns have spent at most, beside what is ``known``, by limit."""
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
            f"it ends at turn {self.turns:,} and was at turn {self.mark.turns:,}: {missing:,} turns are missing, with "
            f"what they admitted. What they have spent at most stays counted: {spent or 'nothing'}"
        )


def noticed(path: Path) -> Loss | None:
    """Return what is missing of the journal at ``path``, which no process writes to; None where nothing is.

    Raises `JournalError` when the journal cannot be read.
    """
    try:
        commits = lost_commits(path)  # first: SQLite may begin the log anew
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
    """Copy the log of a journal aside, before SQLite begins it anew: a part of it may be saved by hand.

    Raises `JournalError` where it cannot be copied.
    """
    log = path.with_name(f"{path.name}-wal")
    kept = path.with_name(f"{log.name}.damaged")
    try:
        kept.unlink(missing_ok=True)
        shutil.copy2(log, kept, follow_symlinks=False)
    except OSError as error:
        raise JournalError(
            f"{kept}: the damaged log could not be kept: {error.strerror}.\nFix: copy {log} away yourself, "
            "and make room."
        ) from error
    return kept
