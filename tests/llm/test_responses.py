"""`ResponseCache`: the file shared by runs and processes, its size, and the effects of a broken disk."""

from __future__ import annotations

import itertools
import logging
import os
import sqlite3
import stat
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flashgraph.errors import DataError
from flashgraph.llm.protocol import Reply, Usage
from flashgraph.llm.responses import ROW_BYTES, ResponseCache, Tally, default_path
from tests.journal.rights import unprivileged

WRITER = """
import sys
from flashgraph.llm.protocol import Reply, Usage
from flashgraph.llm.responses import ResponseCache
path, me, count, size = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4])
cache = ResponseCache(path, max_bytes=size)
with cache.open():
    print("open", flush=True)
    sys.stdin.readline()
    for i in range(count):
        for key in (f"common {i}", f"own {me} {i}"):
            found = cache.get(key.encode())
            assert found is None or found.text == key, (key, found)
            cache.put(key.encode(), Reply(key, Usage(1, 1)))
    assert not cache._failed
    print("done", flush=True)
    sys.stdin.readline()
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "deep" / "responses.db"


def kept(path: Path, *keys: bytes) -> list[bytes]:
    """Return which of ``keys`` the file contains, without changing it."""
    with closing(sqlite3.connect(path)) as db:
        held = {key for (key,) in db.execute("SELECT key FROM replies")}
    return [key for key in keys if key in held]


def recorded(path: Path) -> tuple[int, int]:
    """Return the bytes that the file records, and the bytes that it contains."""
    with closing(sqlite3.connect(path)) as db:
        said = db.execute("SELECT bytes FROM total").fetchone()[0]
        real = db.execute(f"SELECT coalesce(sum(length(body) + {ROW_BYTES}), 0) FROM replies").fetchone()[0]
    return said, real


def test_a_reply_outlives_the_run(path: Path) -> None:
    """Text, usage, finish and model come back; the cost is that of a cached reply."""
    reply = Reply("é \0 text", Usage(5, 6), 0.25, "stop", "m-2026")
    with ResponseCache(path).open():
        pass
    first = ResponseCache(path)
    with first.open():
        assert first.get(b"k") is None
        first.put(b"k", reply)
        found = first.get(b"k")  # before or after it is written
    second = ResponseCache(str(path))
    with second.open():
        assert second.get(b"k") == found == Reply(reply.text, reply.usage, 0.0, "stop", "m-2026")
        assert second.get(b"other") is None


def test_the_first_reply_stays(path: Path) -> None:
    """Of two concurrent requests both get their replies, and every later reader gets the same one."""
    cache = ResponseCache(path)
    for text in ("one", "two"):
        with cache.open():
            cache.put(b"k", Reply(text))
            cache.put(b"k", Reply("at once"))
    with cache.open():
        assert cache.get(b"k") == Reply("one", cost=0.0)
        for i in range(100):
            for text in ("one", "two"):
                cache.put(b"%d" % i, Reply(text))
                assert cache.get(b"%d" % i) == Reply("one", cost=0.0)


def test_it_is_the_owners_and_holds_no_request(path: Path) -> None:
    """It has mode 600, and so have SQLite's other files."""
    cache = ResponseCache(path)
    with cache.open():
        cache.put(b"k", Reply("x"))
        modes = {f.name: stat.S_IMODE(f.stat().st_mode) for f in path.parent.iterdir() if f.suffix != ".lock"}
        assert modes["responses.db"] == modes["responses.db-wal"] == modes["responses.db-shm"] == 0o600


def test_nested_opens_and_a_closed_cache(path: Path) -> None:
    """The models of a run share it, and the last user closes it."""
    cache = ResponseCache(path)
    with cache.open(), cache.open():
        cache.put(b"k", Reply("x"))
    with pytest.raises(RuntimeError, match="is not open"):
        cache.get(b"k")
    with pytest.raises(RuntimeError, match="is not open"):
        cache.put(b"k", Reply("x"))
    with cache.open():
        with cache.open():
            pass
        assert cache.get(b"k") == Reply("x", cost=0.0)


def test_what_is_not_plain_data_is_left_out(path: Path) -> None:
    """A stored value that is not a valid reply is ignored too."""
    reply = Reply("x")
    object.__setattr__(reply, "text", 1j)
    cache = ResponseCache(path)
    with cache.open():
        cache.put(b"k", reply)
        assert cache.get(b"k") is None


def test_the_tally(path: Path) -> None:
    """The counts are frozen and added up."""
    cache = ResponseCache(path)
    before = cache.tally
    cache.count("hits", Usage(3, 4))
    cache.count("misses", Usage())
    assert (before, cache.tally) == (Tally(), Tally(hits=1, misses=1, saved=Usage(3, 4)))


def test_the_default_path(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is in the user's cache folder; a tilde in a path works too."""
    monkeypatch.setenv("XDG_CACHE_HOME", "/c")
    monkeypatch.setenv("HOME", "/h")
    assert default_path() == Path("/c/flashgraph/responses.db")
    assert ResponseCache("~/x.db").path == Path("/h/x.db")


# ---- size ------------------------------------------------------------------------------------------------


def test_the_least_recently_used_make_room(path: Path) -> None:
    """A hit counts as use, in this session or an earlier one."""
    body = "x" * 100
    cache = ResponseCache(path, max_bytes=1000)
    for key in (b"a", b"b", b"c"):
        with cache.open():
            cache.put(key, Reply(body))
    assert kept(path, b"a", b"b", b"c") == [b"a", b"b", b"c"]
    with cache.open():
        cache.get(b"a")
    with cache.open():
        cache.put(b"d", Reply(body))
    assert kept(path, b"a", b"b", b"c", b"d") == [b"a", b"c", b"d"]


def test_one_that_is_too_large(path: Path) -> None:
    """It is not stored, and evicts nothing."""
    cache = ResponseCache(path, max_bytes=1000)
    with cache.open():
        cache.put(b"a", Reply("small"))
        cache.put(b"b", Reply("x" * 1000))
        assert cache.get(b"b") is None
    assert kept(path, b"a", b"b") == [b"a"]


def test_a_lowered_bound(path: Path) -> None:
    """The next write shrinks the file."""
    cache = ResponseCache(path)
    with cache.open():
        for i in range(100):
            cache.put(b"%d" % i, Reply("x"))
    lower = ResponseCache(path, max_bytes=600)
    with lower.open():
        lower.put(b"new", Reply("x"))
    said, real = recorded(path)
    assert said == real <= 600
    assert kept(path, b"new", b"99", b"1") == [b"new", b"99"]


@settings(max_examples=40, deadline=None)
@given(
    sessions=st.lists(
        st.lists(st.tuples(st.booleans(), st.integers(0, 5), st.integers(0, 300)), max_size=12), max_size=4
    ),
    bound=st.integers(300, 1500),
)
def test_size_and_order_of_use(
    tmp_path_factory: pytest.TempPathFactory, sessions: list[list[tuple[bool, int, int]]], bound: int
) -> None:
    """After each session the file has the same replies as a plain dictionary in order of use, within the bound."""
    path = tmp_path_factory.mktemp("lru") / "c.db"
    cache = ResponseCache(path, max_bytes=bound)
    model: dict[bytes, int] = {}
    names = [b"%d" % i for i in range(6)]
    overhead = len('["", "stop", "", 0, 0]') + ROW_BYTES
    for session in sessions:
        for write, number, size in session:
            # One operation a session, because rows that are written together are evicted together.
            with cache.open():
                key = names[number]
                if write and size + overhead <= bound:
                    cache.put(key, Reply("x" * size))
                    model.setdefault(key, size)
                elif not write:
                    assert (cache.get(key) is not None) == (key in model)
                    if key in model:
                        model[key] = model.pop(key)
            while sum(size + overhead for size in model.values()) > bound:
                del model[next(iter(model))]
            assert kept(path, *names) == sorted(model)
        if path.exists():
            said, real = recorded(path)
            assert said == real <= bound


# ---- processes -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("bound", [1 << 30, 20_000])
def test_processes_at_once(path: Path, bound: int) -> None:
    """Four processes create, read and write the file together, one is killed: nothing is lost or damaged."""
    count = 60
    started = [
        subprocess.Popen(
            [sys.executable, "-c", WRITER, str(path), str(me), str(count), str(bound)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )
        for me in range(4)
    ]  # fmt: skip
    for process in started:
        assert process.stdout is not None
        assert process.stdin is not None
        assert process.stdout.readline() == "open\n"
    for process in started:
        assert process.stdin is not None
        process.stdin.write("\n")
        process.stdin.flush()
    for process in started:
        assert process.stdout is not None
        assert process.stdout.readline() == "done\n"
    started[0].kill()
    for process in started[1:]:
        process.communicate("\n")
    assert started[0].communicate()[0] == ""
    assert [process.returncode for process in started] == [-9, 0, 0, 0]
    said, real = recorded(path)
    assert said == real <= bound
    with closing(sqlite3.connect(path)) as db:
        assert db.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    wanted = [b"own %d %d" % (me, i) for me in (1, 2, 3) for i in range(count)]
    wanted += [b"common %d" % i for i in range(count)]
    if bound > 1e9:
        assert kept(path, *wanted) == wanted


# ---- broken files and disks --------------------------------------------------------------------------------


def made(path: Path, replies: int = 200) -> Path:
    cache = ResponseCache(path)
    with cache.open():
        for i in range(replies):
            cache.put(b"%d" % i, Reply("x" * 100))
    return path


def refused(path: Path) -> str:
    with pytest.raises(DataError) as caught, ResponseCache(path).open():
        pass
    assert str(path) in str(caught.value)
    return str(caught.value)


def test_a_file_that_is_no_database(path: Path) -> None:
    """The error names it with a fix; the file does not change."""
    path.parent.mkdir()
    path.write_text("something else " * 100)
    assert "Fix: delete it with its -wal and -shm files" in refused(path)
    assert path.read_text().startswith("something else")


def test_a_truncated_file(path: Path) -> None:
    """SQLite notices missing pages at once."""
    os.truncate(made(path), 4096)
    assert "the file is damaged (database disk image is malformed)" in refused(path)


def test_another_database(path: Path) -> None:
    """Nothing is written to another database, such as a journal."""
    path.parent.mkdir()
    with closing(sqlite3.connect(path)) as db:
        db.execute("CREATE TABLE theirs (x)")
    assert "it is another database.\nFix: name another file" in refused(path)
    with closing(sqlite3.connect(path)) as db:
        assert db.execute("SELECT name FROM sqlite_master").fetchall() == [("theirs",)]


def test_a_newer_schema(path: Path) -> None:
    """A later version's file is refused."""
    with closing(sqlite3.connect(made(path))) as db:
        db.execute("PRAGMA user_version = 7")
    assert "it has schema 7, expected 1.\nFix: delete it, or name another file" in refused(path)


def test_a_folder(tmp_path: Path) -> None:
    """The error proposes a file in it."""
    assert f"it is a folder, expected a file.\nFix: write {tmp_path / 'responses.db'}" in refused(tmp_path)


def test_a_place_that_cannot_be(tmp_path: Path) -> None:
    """A path below a file is refused."""
    (tmp_path / "file").touch()
    assert "it cannot be opened" in refused(tmp_path / "file" / "c.db")


def test_a_file_without_permission(path: Path) -> None:
    """Another user's file is refused."""
    made(path).chmod(0)
    with unprivileged():
        assert "Fix: check its permissions" in refused(path)


def given_up(caplog: pytest.LogCaptureFixture, cache: ResponseCache, *keys: bytes) -> str:
    """Return the one warning when one of ``keys`` cannot be read; afterwards the cache is not used."""
    with caplog.at_level(logging.WARNING):
        assert None in [cache.get(key) for key in keys]
        cache.put(b"new", Reply("x"))
        assert cache.get(b"new") is None
    (said,) = caplog.messages
    assert "the run continues without the response cache" in said
    assert str(cache.path) in said
    assert "the file is damaged" in said
    return said


def test_damage_that_shows_later(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """There is one warning; every request is sent again, and nothing more is written."""
    cache = ResponseCache(made(path, 2000))
    damage = "import sys; f = open(sys.argv[1], 'r+b'); f.seek(40960); f.write(bytes([255]) * 200_000)"
    with cache.open():
        # In another process, because closing the file in this one would drop SQLite's locks on it.
        subprocess.run([sys.executable, "-c", damage, str(path)], check=True)
        given_up(caplog, cache, *(b"%d" % i for i in range(2000)))


def test_a_damaged_reply(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """The same holds for damage that SQLite does not detect."""
    with closing(sqlite3.connect(made(path))) as db, db:
        db.execute("UPDATE replies SET body = '[\"cut o' WHERE key = ?", (b"7",))
    cache = ResponseCache(path)
    with cache.open():
        given_up(caplog, cache, b"7")
    with cache.open():
        assert cache.get(b"8") == Reply("x" * 100, cost=0.0)


def test_a_full_disk(path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    """There is one warning, and the run continues; the next run finds the file intact, with earlier replies."""
    made(path)
    connect = ResponseCache._connect

    def on_a_small_disk(self: ResponseCache, *patience: float) -> sqlite3.Connection:
        db = connect(self, *patience)
        db.execute("PRAGMA max_page_count = 1")  # SQLite raises this to the present number of pages
        return db

    cache = ResponseCache(path)
    with monkeypatch.context() as patch, caplog.at_level(logging.WARNING):
        patch.setattr(ResponseCache, "_connect", on_a_small_disk)
        with cache.open():
            for i in itertools.count():
                cache.put(b"new %d" % i, Reply("y" * 5000))
                if caplog.messages:
                    break
            assert cache.get(b"new 0") is None
            cache.put(b"later", Reply("y"))
            assert cache.get(b"later") is None
    (said,) = caplog.messages
    assert "the disk is full (database or disk is full)" in said
    with cache.open():
        assert cache.get(b"7") == Reply("x" * 100, cost=0.0)
        cache.put(b"later", Reply("y"))
    assert kept(path, b"later", b"7") == [b"later", b"7"]
    said_bytes, real = recorded(path)
    assert said_bytes == real
