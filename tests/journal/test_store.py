"""The journal's file: opening invalid files, the writing thread, and who holds a run."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
import threading
from concurrent.futures import Future
from pathlib import Path

import anyio
import anyio.to_thread
import filelock
import pytest

from flashgraph.run.journal import JournalError, Store
from flashgraph.run.journal import store as store_module
from flashgraph.run.journal.store import Statement, connect
from flashgraph.run.journal.tables import SCHEMA
from flashgraph.run.journal.writer import durable
from tests.journal.kit import SCENARIOS, here, session, sound
from tests.journal.rights import unprivileged
from tests.journal.small import held, small_run


def put(store: Store, number: int) -> None:
    """Commit one row."""
    store.put([("INSERT INTO turns VALUES (?, 0.0, '', NULL)", (number,))]).result()


def turns(path: Path) -> list[int]:
    db = sqlite3.connect(path)
    try:
        return [number for (number,) in db.execute("SELECT seq FROM turns ORDER BY seq")]
    finally:
        db.close()


def test_what_is_put_is_there(tmp_path: Path) -> None:
    """Once the future is done, another connection sees the row; closing writes all that is waiting."""
    store = Store(tmp_path / "journal.db", create=True)
    for number in range(3):
        put(store, number)
        assert turns(store.path) == list(range(number + 1))
    waiting = [store.put([("INSERT INTO turns VALUES (?, 0.0, '', NULL)", (number,))]) for number in range(3, 200)]
    store.close()
    assert all(future.done() for future in waiting)
    assert turns(store.path) == list(range(200))


def test_what_waits_is_committed_together(tmp_path: Path) -> None:
    """A commit includes everything that arrived during the last one."""
    store = Store(tmp_path / "journal.db", create=True)
    futures = [store.put([("INSERT INTO turns VALUES (?, 0.0, '', NULL)", (number,))]) for number in range(500)]
    for future in futures:
        future.result()
    assert store.commits < 250
    store.close()


def test_a_commit_waits_for_no_thread_of_others() -> None:
    """A commit finishes although stages block all shared threads until it is done."""
    done, free = Future[None](), threading.Event()

    async def run() -> None:
        anyio.to_thread.current_default_thread_limiter().total_tokens = 1
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(anyio.to_thread.run_sync, lambda: free.wait(10))
            await anyio.wait_all_tasks_blocked()
            rest = durable(done, patient=False)
            assert rest is not None
            threading.Timer(0.05, done.set_result, [None]).start()
            try:
                with anyio.fail_after(10):
                    await rest()
            finally:
                free.set()

    anyio.run(run)


def test_a_failed_write_is_the_last(tmp_path: Path) -> None:
    """A failed write discards its transaction, and all later writes fail: there is no gap."""
    store = Store(tmp_path / "journal.db", create=True)
    put(store, 0)
    two: list[Statement] = [("INSERT INTO turns VALUES (1, 0.0, '', NULL)", ()), ("INSERT INTO nowhere VALUES (1)", ())]
    with pytest.raises(JournalError, match="could not be written"):
        store.put(two).result()
    for number in (1, 2):
        with pytest.raises(JournalError, match="could not be written"):
            put(store, number)
    store.close()
    assert turns(store.path) == [0]


def test_a_journal_has_a_largest_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The write that would exceed the maximum size fails with a fix; with a larger maximum it succeeds."""
    monkeypatch.setenv("FLASHGRAPH_JOURNAL_BYTES", "400000")
    store = Store(tmp_path / "journal.db", create=True)
    fill = "INSERT INTO payloads VALUES (?, randomblob(20000))"

    def until_full() -> None:
        for number in range(100):
            store.put([(fill, (str(number),))]).result()

    with pytest.raises(JournalError, match="maximum size of 400000 bytes") as caught:
        until_full()
    assert "FLASHGRAPH_JOURNAL_BYTES=800000 and resume" in str(caught.value)
    store.close()
    assert store.path.stat().st_size <= 400_000
    monkeypatch.setenv("FLASHGRAPH_JOURNAL_BYTES", "800000")
    larger = Store(store.path, create=False)
    larger.put([(fill, ("more",))]).result()
    larger.close()


@pytest.mark.parametrize("said", ["", "0", "-1", "many", "1e9"])
def test_a_largest_size_that_is_none(said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The error names the variable, and the value that it expects."""
    monkeypatch.setenv("FLASHGRAPH_JOURNAL_BYTES", said)
    with pytest.raises(JournalError, match=f"FLASHGRAPH_JOURNAL_BYTES='{said}'; expected a whole number"):
        Store(tmp_path / "journal.db", create=True)


def test_any_error_reaches_who_waits(tmp_path: Path) -> None:
    """An error that is not SQLite's is reported too, and the thread survives."""
    store = Store(tmp_path / "journal.db", create=True)
    with pytest.raises(JournalError, match="surrogates not allowed"):
        store.put([("INSERT INTO turns VALUES (0, 0.0, ?, NULL)", ("\ud800",))]).result(timeout=10)
    store.close()


def damaged(kind: str, path: Path) -> None:
    """Replace or damage a journal."""
    match kind:
        case "garbage":
            path.write_bytes(os.urandom(8192))
        case "text":
            path.write_text("dear diary, " * 400)
        case "empty":
            path.write_bytes(b"")
        case "another database":
            path.unlink()
            db = sqlite3.connect(path)
            db.execute("CREATE TABLE things (x)")
            db.commit()
            db.close()
        case "newer":
            db = sqlite3.connect(path)
            db.execute(f"PRAGMA user_version = {SCHEMA + 1}")
            db.close()
        case "half":
            data = path.read_bytes()
            path.write_bytes(data[: len(data) // 2])
        case "lost text":
            db = sqlite3.connect(path)
            db.execute("DELETE FROM payloads")
            db.commit()
            db.close()
        case "bad turn":
            db = sqlite3.connect(path)
            db.execute("UPDATE turns SET body = substr(body, 1, 20) WHERE seq = 5")
            db.commit()
            db.close()
        case "holes":
            data = path.read_bytes()
            path.write_bytes(data[:4096] + bytes(len(data) - 4096))


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        ("garbage", "not an SQLite file"),
        ("text", "not an SQLite file"),
        ("empty", "not a journal of flashgraph"),
        ("another database", "not a journal of flashgraph"),
        ("newer", f"schema {SCHEMA + 1}; this flashgraph knows schemas up to {SCHEMA}.\nFix: upgrade"),
        ("half", "damaged"),
        ("holes", "damaged"),
        ("lost text", "the journal could not be read: the text [0-9a-f]+ is missing"),
        ("bad turn", "table turns, row 5: it was changed, or turns before it are missing"),
    ],
)
def test_what_is_no_journal(kind: str, said: str, tmp_path: Path) -> None:
    """Resuming says what the file is and what to do, and does not change it."""
    here(SCENARIOS["cyclic"], tmp_path / "run", schedule="lockstep")
    path = tmp_path / "run" / "journal.db"
    damaged(kind, path)
    before = path.read_bytes()
    with pytest.raises(JournalError, match=said) as caught:
        here(SCENARIOS["cyclic"], tmp_path / "run", schedule="lockstep", resume=True)
    assert str(path) in str(caught.value)
    assert "\nFix: " in str(caught.value)
    assert path.read_bytes() == before


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        ("garbage", "not an SQLite file"),
        ("another database", "not a journal of flashgraph"),
        ("newer", "a journal exists already"),
    ],
)
def test_starting_over_what_is_there(kind: str, said: str, tmp_path: Path) -> None:
    """A new run never overwrites a file."""
    small_run(tmp_path / "run")
    path = tmp_path / "run" / "journal.db"
    damaged(kind, path)
    before = path.read_bytes()
    with pytest.raises(JournalError, match=said):
        small_run(tmp_path / "run")
    assert path.read_bytes() == before


@pytest.mark.parametrize("what", ["file", "folder"])
def test_what_is_read_only(what: str, tmp_path: Path) -> None:
    """A read-only file or folder is reported at once, and nothing changes."""
    folder = tmp_path / "run"
    small_run(folder)
    before = (folder / "journal.db").read_bytes()
    (folder / "lock").chmod(0o666)
    (folder / "journal.db").chmod(0o444 if what == "file" else 0o666)
    folder.chmod(0o777 if what == "file" else 0o555)
    said = pytest.raises(JournalError, match=r"read-only|cannot be opened|cannot be held")
    with unprivileged(), said as caught:
        small_run(folder, resume=True)
    assert "Fix: " in str(caught.value)
    folder.chmod(0o755)
    assert (folder / "journal.db").read_bytes() == before
    assert small_run(folder, resume=True).status == "budget"


def test_a_folder_that_may_not_be_looked_into(tmp_path: Path) -> None:
    """The error says that the folder cannot be searched."""
    small_run(tmp_path / "closed" / "run")
    (tmp_path / "closed").chmod(0o600)
    with unprivileged(), pytest.raises(JournalError, match=r"cannot be opened: .*\nFix: give permission to read"):
        connect(tmp_path / "closed" / "run" / "journal.db", readonly=True)


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    """A file that has the folder's name is reported."""
    (tmp_path / "file").write_text("")
    with pytest.raises(JournalError, match="cannot be held"):
        small_run(tmp_path / "file" / "run")


def test_two_processes_cannot_have_one_run(tmp_path: Path) -> None:
    """The second process names the first one, and does nothing; when the first is killed, the run is free."""
    folder = tmp_path / "run"
    with held(folder) as process:
        with pytest.raises(JournalError, match=rf"process {process.pid} on .* holds it since ") as caught:
            small_run(folder, resume=True)
        assert "wait for it to end, or stop it" in str(caught.value)
        with pytest.raises(JournalError, match=rf"process {process.pid} on "):
            small_run(folder)
        assert process.poll() is None
    sound(folder)
    assert small_run(folder, resume=True).status == "budget"


def test_a_folder_that_is_held_before_its_run_began(tmp_path: Path) -> None:
    """The other process has written nothing yet, so the error cannot name it."""
    (tmp_path / "run").mkdir()
    with filelock.FileLock(tmp_path / "run" / "lock"), pytest.raises(JournalError, match="another process holds it"):
        small_run(tmp_path / "run")
    assert small_run(tmp_path / "run").status == "budget"


def test_what_was_waiting_when_a_write_failed_fails_too(tmp_path: Path) -> None:
    """Writes that were queued before the failure are behind the gap, and fail too."""
    store = Store(tmp_path / "journal.db", create=True)
    writing, handed_over = threading.Event(), threading.Event()

    def traced(sql: str) -> None:
        if "nowhere" in sql or sql.startswith("INSERT INTO turns VALUES (1"):
            writing.set()
            handed_over.wait(10)

    store.db.set_trace_callback(traced)
    two: list[Statement] = [("INSERT INTO turns VALUES (1, 0.0, '', NULL)", ()), ("INSERT INTO nowhere VALUES (1)", ())]
    first = store.put(two)
    assert writing.wait(10)
    behind = store.put([("INSERT INTO turns VALUES (2, 0.0, '', NULL)", ())])
    handed_over.set()
    for future in (first, behind):
        with pytest.raises(JournalError, match="could not be written"):
            future.result()
    store.close()
    assert turns(store.path) == []


def test_an_older_schema_is_migrated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each step is a transaction of its own; a failing step leaves the result of the earlier ones."""
    Store(tmp_path / "journal.db", create=True).close()
    steps = {SCHEMA: "ALTER TABLE turns ADD COLUMN one", SCHEMA + 1: "ALTER TABLE turns ADD COLUMN one"}
    monkeypatch.setattr(store_module, "SCHEMA", SCHEMA + 2)
    monkeypatch.setattr(store_module, "MIGRATIONS", {number: f"{sql};" for number, sql in steps.items()})
    with pytest.raises(JournalError, match="could not be migrated: duplicate column name: one"):
        Store(tmp_path / "journal.db", create=False)
    assert version_and_columns(tmp_path / "journal.db") == (SCHEMA + 1, ["seq", "at", "body", "chain", "one"])
    migrations = {number: f"{sql};" for number, sql in steps.items()}
    monkeypatch.setattr(store_module, "MIGRATIONS", {**migrations, SCHEMA + 1: "ALTER TABLE turns ADD COLUMN two;"})
    Store(tmp_path / "journal.db", create=False).close()
    assert version_and_columns(tmp_path / "journal.db") == (SCHEMA + 2, ["seq", "at", "body", "chain", "one", "two"])


def version_and_columns(path: Path) -> tuple[int, list[str]]:
    """Return a journal's schema version, and the columns of its turns."""
    db = sqlite3.connect(path)
    try:
        (version,) = db.execute("PRAGMA user_version").fetchone()
        return version, [name for _, name, *_ in db.execute("PRAGMA table_info(turns)")]
    finally:
        db.close()


def test_readers_do_not_disturb(tmp_path: Path) -> None:
    """A reader with an open transaction neither stops the run nor sees it change."""
    folder = tmp_path / "one" / "run"
    session(SCENARIOS["cyclic"], folder, schedule="lockstep", kill_at=20)
    db = connect(folder / "journal.db", readonly=True)
    db.execute("BEGIN")
    before = db.execute("SELECT count(*) FROM turns").fetchone()
    assert here(SCENARIOS["cyclic"], folder, schedule="lockstep").status == "completed"
    assert db.execute("SELECT count(*) FROM turns").fetchone() == before
    db.execute("COMMIT")
    assert db.execute("SELECT count(*) FROM turns").fetchone() > before
    db.close()


def test_importing_the_journal_is_cheap() -> None:
    """A run without a folder does not load SQLite."""
    code = "import sys, flashgraph; print('sqlite3' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "False\n"
