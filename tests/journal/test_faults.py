"""Faults below the journal: failing and partial writes, full disks, files that others lock, and clocks that jump.

The run fails with the journal's message, what it stored is intact, and it resumes when the cause is gone.
"""

from __future__ import annotations

import json
import os
import random
import resource
import signal
import sqlite3
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import anyio
import pytest

import flashgraph as fg
from flashgraph.run.journal import JournalError, writer
from flashgraph.run.journal.store import Store
from tests.journal.forks import in_child
from tests.journal.kit import SCENARIOS, Finished, admitted, answers, here, proven, rows, session, sound

SCHEDULES = pytest.mark.parametrize("schedule", ["lockstep", "pipelined"])
CYCLIC = SCENARIOS["cyclic"]


@pytest.fixture
def fresh(tmp_path: Path) -> Path:
    """A path for a run, inside an empty folder."""
    return tmp_path / "one" / "run"


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Finished:
    """The undisturbed run in lockstep."""
    return here(CYCLIC, tmp_path_factory.mktemp("alone") / "one" / "run", schedule="lockstep")


class Faulty:
    """A connection whose statements fail from some number on."""

    def __init__(self, real: sqlite3.Connection, good: int, error: Exception) -> None:
        self._real, self._good, self._error = real, good, error

    def __enter__(self) -> Any:
        return self._real.__enter__()

    def __exit__(self, *error: Any) -> Any:
        return self._real.__exit__(*error)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._real, name)

    def execute(self, *words: Any) -> Any:
        self._good -= 1
        if self._good < 0:
            raise self._error
        return self._real.execute(*words)


def failing(good: int, error: Exception) -> Callable[[Store], None]:
    """Make a store's statements fail after ``good`` ones."""

    def on_store(store: Store) -> None:
        store.db = Faulty(store.db, good, error)  # type: ignore[assignment]

    return on_store


def stops_and_goes_on(first: Finished, said: str, folder: Path, schedule: str, alone: Finished) -> None:
    """Check that the run failed with this message, damaged nothing, and resumes to the undisturbed result."""
    assert first.status == "failed", first.reason
    assert said in first.reason
    assert "Fix: " in first.reason
    sound(folder)
    kept = admitted(folder)
    then = here(CYCLIC, folder, schedule=schedule)
    assert then.status == "completed"
    assert admitted(folder)[: len(kept)] == kept
    if schedule == "lockstep":
        assert then.pools == alone.pools
    sound(folder)
    proven(folder)


@SCHEDULES
@pytest.mark.parametrize("good", [40, 41, 42, 43, 150])
@pytest.mark.parametrize(
    ("error", "said"),
    [
        (sqlite3.OperationalError("database or disk is full"), "the disk is full"),
        (sqlite3.OperationalError("disk I/O error"), "the disk failed"),
        (sqlite3.OperationalError("attempt to write a readonly database"), "read-only"),
        (sqlite3.DatabaseError("database disk image is malformed"), "damaged"),
    ],
    ids=["full", "failed", "read-only", "damaged"],
)
def test_writes_that_fail(schedule: str, good: int, error: Exception, said: str, fresh: Path, alone: Finished) -> None:
    """Every write fails from some statement on."""
    first = here(CYCLIC, fresh, on_store=failing(good, error), schedule=schedule)
    stops_and_goes_on(first, said, fresh, schedule, alone)


def test_the_first_write_fails(fresh: Path, alone: Finished) -> None:
    """A run that cannot store its header does not begin, and can be started when the cause is gone."""
    with pytest.raises(JournalError, match="the disk is full"):
        here(CYCLIC, fresh, on_store=failing(3, sqlite3.OperationalError("disk is full")), schedule="lockstep")
    assert not answers(fresh)
    assert here(CYCLIC, fresh, schedule="lockstep").pools == alone.pools


@SCHEDULES
def test_in_real_time_too(schedule: str, fresh: Path, alone: Finished) -> None:
    """The commit fails while the event loop runs other tasks."""

    def slow(store: Store) -> None:
        failing(100, sqlite3.OperationalError("disk I/O error"))(store)
        commit = store._commit

        def later(batches: Any) -> None:
            time.sleep(0.008)
            commit(batches)

        store._commit = later  # type: ignore[method-assign]

    first = here(CYCLIC, fresh, on_store=slow, virtual=False, schedule=schedule)
    stops_and_goes_on(first, "the disk failed", fresh, schedule, alone)


def test_nothing_is_sent_for_what_was_not_kept(fresh: Path) -> None:
    """No request is sent whose turn is not in the journal."""
    for good in range(30, 130, 9):
        folder = fresh.parent / str(good) / "run"
        full = sqlite3.OperationalError("database or disk is full")
        here(CYCLIC, folder, on_store=failing(good, full), schedule="pipelined")
        bodies = [body for (body,) in rows(folder, "SELECT body FROM turns")]
        asked = sum(len(found) for body in bodies for found in [_asked(body)])
        assert answers(folder, "sent").total() <= asked


def _asked(body: str) -> list[Any]:
    found: list[Any] = json.loads(body).get("asked", [])
    return found


@SCHEDULES
@pytest.mark.parametrize("kilobytes", [120, 160, 240])
def test_a_file_that_may_not_grow(schedule: str, kilobytes: int, fresh: Path, alone: Finished) -> None:
    """RLIMIT_FSIZE truncates writes in the middle of a page."""

    def limited() -> Finished:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        size = kilobytes * 1024 + 100
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))
        return here(CYCLIC, fresh, schedule=schedule)

    first = in_child(limited).value
    stops_and_goes_on(first, "the journal could not be written", fresh, schedule, alone)


@pytest.fixture
def tiny(tmp_path: Path) -> Iterator[Path]:
    """A disk of 400 kB."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=400k", "tmpfs", disk], capture_output=True)
    if mounted.returncode:
        pytest.skip(f"a disk cannot be mounted here: {mounted.stderr.decode().strip()}")
    try:
        yield disk
    finally:
        subprocess.run(["umount", "-l", disk], check=True)


@SCHEDULES
def test_a_full_disk(schedule: str, tiny: Path, alone: Finished) -> None:
    """A run fails on a really full disk, and resumes once there is room."""
    ballast = tiny / "ballast"
    ballast.write_bytes(bytes(150 * 1024))
    folder = tiny / "run"
    first = in_child(lambda: here(CYCLIC, folder, schedule=schedule)).value
    assert (first.status, "the disk is full" in first.reason) == ("failed", True)
    sound(folder)
    ballast.unlink()
    subprocess.run(["mount", "-o", "remount,size=8m", tiny], check=True)
    stops_and_goes_on(first, "the disk is full", folder, schedule, alone)


def test_a_disk_that_was_full_from_the_start(tiny: Path) -> None:
    """The run fails before it pays anything."""
    (tiny / "ballast").write_bytes(bytes(396 * 1024))
    with pytest.raises(fg.FlashgraphError, match=r"disk is full|cannot be held|disk failed"):
        here(CYCLIC, tiny / "deep" / "run", schedule="lockstep")


def test_somebody_locks_the_file_for_a_while(fresh: Path, alone: Finished) -> None:
    """A write waits for a lock that is released in time."""
    done = here(CYCLIC, fresh, on_store=lambda store: _lock(store, seconds=0.4), schedule="lockstep")
    assert (done.status, done.pools) == ("completed", alone.pools)


@SCHEDULES
def test_somebody_locks_the_file_for_good(schedule: str, fresh: Path, alone: Finished) -> None:
    """A lock that stays ends in SQLITE_BUSY: the error says that another process writes to the journal."""

    def on_store(store: Store) -> None:
        store.db.execute("PRAGMA busy_timeout = 50")
        _lock(store, seconds=None)

    first = here(CYCLIC, fresh, on_store=on_store, schedule=schedule)
    assert first.status == "failed"
    LOCKS.pop().close()
    stops_and_goes_on(first, "another process writes to it", fresh, schedule, alone)


LOCKS: list[sqlite3.Connection] = []


def _lock(store: Store, seconds: float | None) -> None:
    """Take the write lock through another connection after 30 commits; release it after ``seconds``."""

    def on_commit(count: int) -> None:
        if count == 30:
            other = sqlite3.connect(store.path, check_same_thread=False)
            other.execute("BEGIN IMMEDIATE")
            LOCKS.append(other)
            if seconds is not None:
                threading.Timer(seconds, LOCKS.pop().close).start()

    store.on_commit = on_commit


@pytest.mark.parametrize("seed", range(6))
def test_a_log_that_was_cut_off(seed: int, fresh: Path, alone: Finished) -> None:
    """After a power cut the end of the write-ahead log may be missing or garbage; the run resumes from the intact
    part."""
    stream = random.Random(seed)
    session(CYCLIC, fresh, schedule="lockstep", kill_at=stream.randint(25, 75))
    before, log = admitted(fresh), fresh / "journal.db-wal"
    data = log.read_bytes()
    cut = stream.randrange(len(data))
    log.write_bytes(data[:cut] + stream.choice([b"", os.urandom(len(data) - cut)]))
    sound(fresh)
    assert before[: len(admitted(fresh))] == admitted(fresh)
    if not rows(fresh, "SELECT 1 FROM meta WHERE key = 'graph'"):
        return  # nothing had reached the disk
    done = here(CYCLIC, fresh, schedule="lockstep")
    assert (done.status, done.pools) == ("completed", alone.pools)


@pytest.mark.parametrize("jump", [timedelta(days=-4000), timedelta(days=4000), timedelta(hours=-1)])
def test_the_wall_clock_jumps(jump: timedelta, fresh: Path, alone: Finished, monkeypatch: pytest.MonkeyPatch) -> None:
    """The wall clock is stored for people only, so its jumps change nothing."""

    class Clock(datetime):
        count = 0

        @classmethod
        def now(cls, tz: Any = None) -> Any:
            cls.count += 1
            return datetime.now(UTC) + jump * cls.count

    monkeypatch.setattr(writer, "datetime", Clock)
    session(CYCLIC, fresh, schedule="lockstep", kill_at=30)
    done = here(CYCLIC, fresh, schedule="lockstep")
    assert (done.status, done.pools) == ("completed", alone.pools)
    assert Clock.count >= 2


def test_the_machine_was_asleep(fresh: Path) -> None:
    """After a leap of its own clock the run has used up its seconds, and resumes with more of them."""

    async def sleep(run: Any) -> None:
        await anyio.sleep(12.0)
        run._driver._began -= 3600.0

    first = here(CYCLIC, fresh, schedule="lockstep", budget=fg.Budget(seconds=60), act=sleep)
    assert first.status == "budget"
    assert first.seconds > 3600
    then = here(CYCLIC, fresh, schedule="lockstep", budget=fg.Budget(seconds=7200))
    assert then.status == "completed"
    proven(fresh)


def _replaced(folder: Path) -> None:
    (folder / "journal.db").rename(folder / "old.db")
    (folder / "journal.db").write_bytes((folder / "old.db").read_bytes())


def _checkpointed(folder: Path) -> None:
    """Copy the log into the journal, as opening the file in SQLite's own program does."""
    db = sqlite3.connect(folder / "journal.db")
    db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    db.close()


def _all_deleted(folder: Path) -> None:
    for path in folder.glob("journal.db*"):
        path.unlink()


TAKEN: dict[str, Callable[[Path], Any]] = {
    "deleted": lambda folder: (folder / "journal.db").unlink(),
    "all of it deleted": _all_deleted,
    "its log deleted": lambda folder: (folder / "journal.db-wal").unlink(),
    "emptied": lambda folder: os.truncate(folder / "journal.db", 0),
    "cut short": lambda folder: os.truncate(folder / "journal.db", 20_000),
    "its log emptied": lambda folder: os.truncate(folder / "journal.db-wal", 0),
    "its log cut short": lambda folder: os.truncate(folder / "journal.db-wal", 50_000),
    "replaced": _replaced,
    "moved": lambda folder: folder.rename(folder.with_name("moved")),
}


@SCHEDULES
@pytest.mark.parametrize("taken", TAKEN.values(), ids=list(TAKEN))
def test_the_journal_is_taken_away(schedule: str, taken: Callable[[Path], Any], fresh: Path) -> None:
    """SQLite would write on to a deleted file; instead the run stops at its next turn with an error."""
    paid: list[int] = []

    def on_store(store: Store) -> None:
        def on_commit(count: int) -> None:
            if count == 20:
                paid.append(answers(fresh).total())
                taken(fresh)

        store.on_commit = on_commit

    done = here(CYCLIC, fresh, on_store=on_store, schedule=schedule)
    assert done.status == "failed"
    assert "the journal was lost during the run: " in done.reason
    assert "it cannot be resumed.\nFix: start a new run" in done.reason
    assert answers(fresh).total() <= paid[0] + 8  # those in flight


@SCHEDULES
def test_the_log_is_copied_into_the_journal_by_another(schedule: str, fresh: Path, alone: Finished) -> None:
    """The log becomes shorter without a loss, and the run continues."""

    def on_store(store: Store) -> None:
        store.on_commit = lambda count: _checkpointed(fresh) if count % 10 == 0 else None

    done = here(CYCLIC, fresh, on_store=on_store, schedule=schedule)
    assert done.status == "completed"
    if schedule == "lockstep":
        assert done.pools == alone.pools
    proven(fresh)
