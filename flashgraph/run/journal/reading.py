"""Read a stored run as values, also while another process continues it, and after it was killed.

Reading never blocks the run.  The connection is read-only, the journal is in WAL mode, and only
`StoredRun.snapshot` keeps a read open.  Reading needs no graph and imports nothing of the run's code.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from itertools import pairwise
from pathlib import Path
from types import TracebackType
from typing import Any, cast

from flashgraph.errors import DataError
from flashgraph.evidence import Evidence
from flashgraph.run.cause import Cause
from flashgraph.run.costs import StageCost
from flashgraph.run.journal.artifacts import ArtifactRecord, Artifacts
from flashgraph.run.journal.causes import cause, cause_of_failure
from flashgraph.run.journal.columns import (
    amounts,
    json_of,
    maybe,
    number,
    real,
    whole,
    word,
)  # fmt: skip
from flashgraph.run.journal.folders import find_journal, is_held
from flashgraph.run.journal.happened import StoredEvent
from flashgraph.run.journal.header import BUDGET, Header
from flashgraph.run.journal.keeper import JOURNAL, read_header
from flashgraph.run.journal.losses import ROLLED_BACK, Loss, find_loss
from flashgraph.run.journal.rows import Rows
from flashgraph.run.journal.sessions import read_sessions
from flashgraph.run.journal.stored import (
    ChampionMoment,
    Failures,
    LineageStep,
    Session,
    Spend,
    Status,
    StoredArtifact,
    StoredCall,
    StoredChange,
    StoredEndpoint,
    text_diff,
)
from flashgraph.run.journal.stored_calls import StoredCalls
from flashgraph.run.journal.stored_events import StoredEvents

__all__ = ["StoredRun"]


class StoredRun:
    """A run in its folder.  Each method reads the journal as it is at that moment, and returns frozen values.

    >>> with fg.StoredRun.open("runs/gepa-tickets-20260801-120000") as run:
    ...     print(run.status, run.spend().calls, run.best().score)
    """

    def __init__(self, folder: Path, header: Header, rows: Rows) -> None:
        self.folder = folder
        self.header = header
        """The settings that started the run."""
        self._rows = rows
        self._artifacts = Artifacts(rows, self.pools)
        self._calls = StoredCalls(rows)
        self._events = StoredEvents(rows)

    @classmethod
    def open(cls, run: str | Path) -> StoredRun:
        """Open a run by its folder or its name below ``runs/``.

        The file ``journal-1.db`` of a run that was restarted can be opened too.  Raises `DataError` if there is no such
        run.  Raises `JournalError` if its journal cannot be read, or was never begun.
        """
        path = find_journal(run)
        return cls(path.parent, read_header(path.parent, path.name), Rows(path))

    def close(self) -> None:
        """Close the file; no method works afterwards."""
        self._rows.close()

    def __enter__(self) -> StoredRun:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @contextmanager
    def snapshot(self) -> Iterator[StoredRun]:
        """Let all reads inside the block see the journal of one moment.

        The run continues meanwhile.  Until the block ends, SQLite cannot shorten the journal's log.
        """
        with self._rows.snapshot():
            yield self

    # ---- the run -----------------------------------------------------------------------------------------

    @property
    def name(self) -> str:
        return self.folder.resolve().name

    @property
    def status(self) -> Status:
        """How the last session ended.

        It is ``"running"`` while a process holds the run, and ``"killed"`` if the last process recorded no end.
        """
        last = self._last_session()
        if last is None or last.status is None:
            if self._rows.path.name == JOURNAL and is_held(self.folder):
                return "running"
            # It may have ended between the two reads, which a snapshot does not show.
            with closing(Rows(self._rows.path)) as now:
                last = next(reversed(read_sessions(now)), None)
        return cast(Status, last.status) if last is not None and last.status is not None else "killed"

    @property
    def loss(self) -> Loss | None:
        """The missing end of the journal; None if nothing is missing, and while the run is active."""
        return None if self.status == "running" else find_loss(self._rows.path)

    def lost(self) -> tuple[str, ...]:
        """Return descriptions of the turns that were missing when earlier sessions resumed the run."""
        sql = "SELECT id, finish FROM tests WHERE how = ? ORDER BY id"
        return tuple([said for _, said in self._rows.read("tests", (whole, word), sql, ROLLED_BACK)])

    @property
    def reason(self) -> str:
        """Why the run has ended, or the process that holds it."""
        last = self._last_session()
        if last is None:
            return ""
        where = f"process {last.pid} on {last.host}"
        return last.reason if last.reason is not None else f"{where}, since {last.opened}"

    @property
    def cause(self) -> Cause | None:
        """Why the run has ended; None while it is active, and if it was killed."""
        last = self._last_session()
        return None if last is None else last.cause

    def sessions(self) -> tuple[Session, ...]:
        """Return the processes that have worked on the run, oldest first."""
        return read_sessions(self._rows)

    def limits(self) -> Mapping[str, float]:
        """Return the budget's limits of the last resume that gave some, or else of the start."""
        sql = "SELECT key, value FROM meta WHERE key = ?"
        found = self._rows.read("meta", (word, json_of(amounts)), sql, BUDGET)
        return cast(Mapping[str, float], found[0][1]) if found else self.header.limits

    def account(self) -> Mapping[str, float]:
        """Return the settled amounts by limit; those of a role are ``"judge.usd"``."""
        rows = self._rows.read("account", (whole, json_of(amounts)), "SELECT id, settled FROM account")
        return cast(Mapping[str, float], rows[0][1]) if rows else {}

    def spend(self) -> Spend:
        """Return the amounts that the run has used so far."""
        prompt, completion, failed, lost = self._calls.totals()
        account = self.account()
        return Spend(
            proposals=round(account.get("proposals", 0)),
            evaluations=round(account.get("evaluations", 0)),
            calls=round(account.get("calls", 0)),
            tokens=round(account.get("tokens", 0)),
            usd=account.get("usd", 0.0),
            prompt_tokens=prompt,
            completion_tokens=completion,
            failed=failed,
            lost=lost,
            unanswered=self._calls.unanswered(),
            seconds=self.seconds(),
        )

    def seconds(self) -> float:
        """Return the run's clock at the last entry of its journal."""
        ((turn,),) = self._rows.read("turns", (real,), "SELECT coalesce(max(at), 0.0) FROM turns")
        last = self._last_session()
        return max(float(turn), last.at or 0.0) if last is not None else float(turn)

    def _last_session(self) -> Session | None:
        return next(reversed(self.sessions()), None)

    # ---- artifacts ---------------------------------------------------------------------------------------

    @property
    def pools(self) -> tuple[str, ...]:
        """The graph's pools, in the order of their declaration."""
        return tuple(name for name, kind in self.header.topology.items() if kind.split(maxsplit=1)[0] == "pool")

    def artifacts(self, pool: str | None = None) -> tuple[StoredArtifact, ...]:
        """Return all artifacts, or those of one pool, in order of admission, in their current state."""
        return self._artifacts.read("?1 IS NULL OR pool = ?1", pool)

    def changes(self, pool: str, *, since: int = 0) -> tuple[StoredChange, ...]:
        """Return the changes of a pool after version ``since``, in order."""
        return self._artifacts.changes(pool, since)

    def artifact(self, id: int, pool: str | None = None) -> StoredArtifact:
        """Return one artifact; without ``pool``, of the pool of `best`.  Raises `DataError` if there is none."""
        pool = pool if pool is not None else self._home()
        if pool not in self.pools:
            raise DataError(f"run {self.name}: no pool {pool!r}; it has {', '.join(self.pools)}.")
        found = self._artifacts.read("pool = ? AND artifact = ?", pool, id)
        if not found:
            sql = "SELECT max(artifact) FROM admissions WHERE pool = ?"
            ((most,),) = self._rows.read("admissions", (maybe(whole),), sql, pool)
            there = "none has been admitted" if most is None else f"they are numbered 0 to {most}"
            raise DataError(f"run {self.name}: pool {pool!r} has no artifact {id}; {there}.")
        return found[0]

    def best(self) -> StoredArtifact | None:
        """Return the champion: the artifact that the run hands out (`Graph.result`); None if there is none yet."""
        key = self._artifacts.best()
        return None if key is None else self.artifact(key[1], key[0])

    def best_score(self) -> float | None:
        """Return the score of `best` without reading its texts."""
        return None if (held := self._champion()) is None else held.score

    def best_evidence(self) -> Evidence | None:
        """Return the evidence of `best` without reading its texts; None if its pool weighs no evidence."""
        return None if (held := self._champion()) is None else held.evidence

    def _champion(self) -> ArtifactRecord | None:
        key = self._artifacts.best()
        return None if key is None else self._artifacts.standing()[key]

    def accepted(self) -> int:
        """Return the number of artifacts with a score that were admitted and not retracted."""
        return sum(not held.retracted and held.score is not None for held in self._artifacts.standing().values())

    def lineage(self, artifact: StoredArtifact) -> tuple[LineageStep, ...]:
        """Return the line of descent of an artifact from its root, with the changes of each step.

        An artifact with several parents is traced through the parent with the best score.
        """
        known = {a.id: a for a in self.artifacts(artifact.pool)}
        line = [artifact]
        # A parent is admitted before its child; a damaged journal could otherwise lead in a circle.
        while parents := [known[id] for id in line[-1].parents if id in known and id < line[-1].id]:
            line.append(max(parents, key=lambda a: (a.score if a.score is not None else -math.inf, -a.id)))
        line.reverse()
        steps = [LineageStep(line[0], None, ())]
        for parent, child in pairwise(line):
            diff = text_diff(parent.texts, child.texts, (f"artifact {parent.id}", f"artifact {child.id}"))
            steps.append(LineageStep(child, parent, diff))
        return tuple(steps)

    def curve(self) -> tuple[ChampionMoment, ...]:
        """Return the moments at which the champion of `best`'s pool or its evidence changed.

        A provisional champion gives no moment.  For parts of a run that an older flashgraph wrote, these are the
        moments at which the best confirmed score rose.
        """
        home = self._home()
        changes = self._artifacts.champions(home)
        known = math.inf if not changes else changes[0][0]
        counts = self._rows.read(
            "calls",
            (whole, whole),
            "SELECT turn, count(*) FROM calls WHERE how != 'throttled' GROUP BY turn ORDER BY turn DESC",
        )
        points: list[ChampionMoment] = []
        calls = 0
        for turn, at, score, artifact, evidence in [
            *self._rises(home, known),
            *(change[1:] for change in changes),
        ]:
            while counts and counts[-1][0] <= turn:
                calls += counts.pop()[1]
            if points and points[-1].at == at:  # several changes of one turn
                points.pop()
            points.append(ChampionMoment(at, calls, score, artifact, evidence))
        return tuple(points)

    def _rises(self, pool: str, until: float) -> Iterator[tuple[int, float, float, None, None]]:
        """Turn, seconds and score of each new best confirmed score before a version of a pool."""
        rows = self._rows.read(
            "admissions",
            (whole, real, number),
            "SELECT turn, at, score FROM admissions WHERE pool = ? AND kind != 'retract' AND NOT provisional"
            " AND score IS NOT NULL AND version < ? ORDER BY version",
            pool,
            until,
        )
        best = -math.inf
        for turn, at, score in rows:
            if score > best:
                best = score
                yield turn, at, score, None, None

    def _home(self) -> str:
        """The pool of `best`, or the first one."""
        best = self._artifacts.best()
        return best[0] if best is not None else next(iter(self.pools), "")

    # ---- calls and failures ------------------------------------------------------------------------------

    def costs(self) -> tuple[StageCost, ...]:
        """The costs of each stage's calls to the model of each role, without the held-out test."""
        return self._calls.costs()

    def calls(self, *, last: int | None = None) -> Iterator[StoredCall]:
        """The model calls that have ended, in the order of their numbers; with ``last`` only the newest that many.

        They are read page by page, so that a long look at a live run holds nothing up.
        """
        return self._calls.ended(last)

    def call(self, id: int) -> StoredCall | None:
        """Return one model call; None while it has not ended."""
        return self._calls.one(id)

    def endpoints(self) -> tuple[StoredEndpoint, ...]:
        """The endpoints that answered, by name, each with its last limit where it has moved and whether it is up."""
        return self._calls.endpoints()

    def failures(self) -> tuple[Failures, ...]:
        """Failed jobs by stage and reason, and what functions on edges raised by edge, the most frequent first."""
        known = self._rows.has("failures", "cause")
        sql = (
            f"SELECT stage, reason, count(*), max(at), max(job), {'cause' if known else 'NULL'} AS cause FROM failures"
            " GROUP BY stage, reason, cause ORDER BY 3 DESC, 1, 2"
        )
        rows = self._rows.read("failures", (word, word, whole, real, whole, maybe(cause)), sql)
        return tuple(
            Failures(stage, reason, count, last, known or cause_of_failure(job, reason))
            for stage, reason, count, last, job, known in rows
        )

    # ---- what happened -----------------------------------------------------------------------------------

    def events(self, *, since: int = 0) -> Iterator[StoredEvent]:
        """Yield the events from number ``since`` on, as far as they are stored.

        Runs of flashgraph 0.1 stored no events: theirs are derived from calls and admissions.
        """
        return self._events.since(since)

    def event_lists(self, *, since: int = 0) -> Iterator[tuple[int, list[list[Any]]]]:
        """Yield pages of events as JSON lists, each with the number of its first: class, time, then `FIELDS`."""
        return self._events.pages(since)

    def changed(self) -> int:
        """Return a number that differs from the last call's if a process has written to the journal meanwhile."""
        ((version,),) = self._rows("sqlite_master", "PRAGMA data_version")
        return int(version)

    def follow(self, *, since: int = 0, poll: float = 0.25) -> Iterator[tuple[StoredEvent, ...]]:
        """Yield new events as they are stored, until no process holds the run any more.

        It looks every ``poll`` seconds, and opens no read transaction while nothing is new.  The last tuple may be
        empty.
        """
        last: int | None = None
        while True:
            running, now = self.status == "running", self.changed()
            found = tuple(self.events(since=since)) if now != last else ()
            last, since = now, since + len(found)
            if found or not running:
                yield found
            if not running:
                return
            time.sleep(poll)

    # ---- the file ----------------------------------------------------------------------------------------

    def size(self) -> int:
        """Bytes of the run's folder."""
        found = 0
        for entry in self.folder.rglob("*"):
            with suppress(FileNotFoundError):  # SQLite's own files go when the run ends
                found += entry.stat().st_size if entry.is_file() else 0
        return found
