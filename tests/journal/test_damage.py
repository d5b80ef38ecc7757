"""Damaged and crafted journals: every reader names the table and the row, and reads all that is readable."""

from __future__ import annotations

import ast
import json
import shutil
import time
import tracemalloc
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anyio
import filelock
import pytest

import flashgraph as fg
from flashgraph.errors import FlashgraphError
from flashgraph.observe.records import UNREADABLE, Summary
from flashgraph.observe.runs import head
from flashgraph.run.journal import JournalError, payloads, writer
from flashgraph.run.journal.losses import find_loss
from flashgraph.run.journal.mark import Mark, MarkFile
from flashgraph.run.journal.payloads import named
from flashgraph.run.journal.reading import StoredRun
from flashgraph.run.journal.retention import vacuum
from flashgraph.run.journal.seal import is_own
from flashgraph.run.recorded import ReplayModel
from tests.journal.damage import FEW, execute, read_all, readers
from tests.journal.kit import rows
from tests.journal.rights import unprivileged
from tests.journal.small import judged_run, small_run


@pytest.fixture(scope="module")
def ended(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run that has ended."""
    folder = tmp_path_factory.mktemp("damage") / "ended"
    small_run(folder, budget=FEW)
    return folder


@pytest.fixture
def folder(ended: Path, tmp_path: Path) -> Path:
    """A copy of that folder."""
    return Path(shutil.copytree(ended, tmp_path / "run"))


# ---- one row ---------------------------------------------------------------------------------------------

ROWS: list[tuple[str, str, str]] = [
    ("account", "UPDATE account SET settled = 'x'", "table account, row 0: settled is 'x'; expected JSON"),
    ("account: a list", "UPDATE account SET settled = '[1]'", "expected a JSON object"),
    ("account: less than nothing", "UPDATE account SET settled = '{\"calls\": -5}'", "expected amounts from 0"),
    ("account: a text", "UPDATE account SET settled = '{\"calls\": \"5\"}'", "expected a number"),
    (
        "session",
        "UPDATE sessions SET opened = 'yesterday'",
        "table sessions, row 0: opened is 'yesterday'; expected a time",
    ),
    (
        "session: no zone",
        "UPDATE sessions SET opened = '2026-01-01T00:00:00'",
        "expected a time (ISO 8601, with its zone)",
    ),
    ("session: status", "UPDATE sessions SET status = 'odd'", "status is 'odd'; expected one of running, killed"),
    ("session: clock", "UPDATE sessions SET at = 9e999", "at is inf; expected a finite number"),
    ("session: process", "UPDATE sessions SET pid = 'x'", "pid is 'x'; expected a whole number"),
    ("session: bytes", "UPDATE sessions SET host = x'ff'", "host is b'\\xff'; expected a text in UTF-8"),
    (
        "session: no UTF-8",
        "UPDATE sessions SET reason = CAST(x'61ff' AS TEXT)",
        "reason is 'a\\udcff'; expected a text in UTF-8",
    ),
    ("turn", "UPDATE turns SET body = '{\"asked\": 5' WHERE seq = 3", "table turns, row 3: body is"),
    ("turn: of another form", "UPDATE turns SET body = '{\"asked\": 5}' WHERE seq = 3", "expected a JSON list"),
    (
        "turn: deep",
        "UPDATE turns SET body = '\"asked\"' || replace(hex(zeroblob(50000)), '0', '[') WHERE seq = 3",
        "expected JSON",
    ),
    ("admission", "UPDATE admissions SET scores = '[[0, \"x\"]]'", "table admissions, row "),
    (
        "admission: kind",
        "UPDATE admissions SET kind = 'odd'",
        "kind is 'odd'; expected admit, confirm, evidence, retract",
    ),
    ("admission: parents", "UPDATE admissions SET parents = '{}'", "parents is '{}'; expected a JSON list"),
    ("admission: score", "UPDATE admissions SET score = 'x'", "score is 'x'; expected a number"),
    ("admission: value", "UPDATE admissions SET value = '{' WHERE kind = 'admit'", "value is '{'; expected JSON"),
    ("admission: tag", "UPDATE admissions SET value = '{\"$\": \"dict\", \"of\": [1]}'", "table admissions, row "),
    (
        "standing",
        "UPDATE standings SET evidence = 'x'",
        "table standings, row 'frontier': evidence is 'x'; expected JSON",
    ),
    ("standing: a list", "UPDATE standings SET evidence = '[1]'", "expected a JSON object"),
    ("standing: a field", "UPDATE standings SET evidence = '{\"odd\": 1}'", "table standings, row 'frontier'"),
    ("standing: a field is missing", "UPDATE standings SET evidence = '{}'", "table standings, row 'frontier'"),
    (
        "standing: a text",
        "UPDATE standings SET evidence = replace(evidence, '\"tried\":8', '\"tried\":\"8\"')",
        "expected a whole number from 0",
    ),
    (
        "standing: an interval",
        "UPDATE standings SET evidence = replace(evidence, '\"interval\":[', '\"interval\":[0,')",
        "expected pairs",
    ),
    ("standing: held", "UPDATE standings SET held = 'x'", "held is 'x'; expected a whole number"),
    (
        "champion",
        "UPDATE champions SET evidence = x'00'",
        "table champions, row 1: evidence is b'\\x00'; expected a text in UTF-8",
    ),
    ("champion: null", "UPDATE champions SET evidence = '{\"tried\": null}'", "table champions, row 1: evidence is"),
    ("champion: score", "UPDATE champions SET score = 'x'", "score is 'x'; expected a number"),
    ("champion: clock", "UPDATE champions SET at = 'x'", "at is 'x'; expected a number"),
    ("champion: artifact", "UPDATE champions SET artifact = 'x'", "artifact is 'x'; expected a whole number"),
    ("best", "UPDATE best SET artifact = 'x'", "table best, row 'frontier': artifact is 'x'; expected a whole number"),
    (
        "call",
        "UPDATE calls SET messages = '[[1]]' WHERE id = 2",
        "table calls, row 2: messages is '[[1]]'; expected pairs",
    ),
    (
        "call: tokens",
        "UPDATE calls SET prompt_tokens = 1.5 WHERE id = 2",
        "prompt_tokens is 1.5; expected a whole number",
    ),
    ("payload", "UPDATE payloads SET data = x'00'", "table payloads, row "),
    ("payload: text", "UPDATE payloads SET data = 'x'", "data is 'x'; expected bytes"),
    (
        "meta",
        "UPDATE meta SET value = '[' WHERE key = 'topology'",
        "table meta, row 'topology': value is '['; expected JSON",
    ),
    ("meta: form", "UPDATE meta SET value = '[]' WHERE key = 'topology'", "expected a JSON object"),
    (
        "meta: empty",
        "UPDATE meta SET value = '{\"frontier\": \"\"}' WHERE key = 'topology'",
        "texts that are not empty",
    ),
    ("meta: limits", "UPDATE meta SET value = '{\"calls\": -1}' WHERE key = 'limits'", "expected amounts from 0"),
    ("meta: task", "UPDATE meta SET value = '{}' WHERE key = 'made_of'", "table meta, row 'made_of'"),
    (
        "meta: prices",
        "UPDATE meta SET value = '{\"m\": {\"prompt\": -1, \"completion\": 0, \"source\": \"\"}}' WHERE key = 'prices'",
        "expected prices from 0",
    ),
    ("meta: order", "UPDATE meta SET value = '[1]' WHERE key = 'order'", "table meta, row 'order'"),
]  # fmt: skip


@pytest.mark.parametrize(("sql", "said"), [row[1:] for row in ROWS], ids=[row[0] for row in ROWS])
def test_a_row_that_is_damaged(sql: str, said: str, folder: Path) -> None:
    """Readers that need the row name it, others work; `runs` lists the run as unreadable, with its readable parts."""
    execute(folder, sql)
    failed = read_all(folder)
    assert any(said in str(error) for error in failed.values()), f"{said!r} in {failed}"
    assert len(failed) < len(readers(folder)) or "table meta" in said or "meta" in sql
    summary = Summary.read(folder)
    if summary.status == UNREADABLE:
        assert str(folder / "journal.db") in summary.reason
        assert summary.graph == ("gepa" if "meta" not in sql else None)
    else:
        assert (summary.status, summary.graph, summary.calls) == ("budget", "gepa", 53)


def test_the_head_of_a_damaged_run(folder: Path) -> None:
    """The readable parts of the head are shown, and each unreadable part is named once."""
    execute(folder, "UPDATE account SET settled = 'x'")
    with StoredRun.open(folder) as run:
        lines = head(run)
    assert lines[0] == "run: gepa on world-1: budget (no proposals left)"
    assert [line for line in lines if "not readable" in line] == [
        f"not readable: {folder}/journal.db: table account, row 0: settled is 'x'; expected JSON. "
        "The journal is damaged."
    ]


@pytest.mark.parametrize(
    "sql",
    [
        "UPDATE stream SET state = '[1, 2, 3]'",
        "UPDATE stream SET state = 'x'",
        'UPDATE sources SET cursor = \'{"$": "Turns", "epochs": {"$": "enum"}}\'',
        "UPDATE sources SET cursor = 'x'",
        "UPDATE sessions SET at = 'x'",
        "UPDATE meta SET value = '{\"workers\": 5}' WHERE key = 'capacity'",
        "UPDATE tests SET spent = 'x'",
        'UPDATE turns SET chain = NULL, body = \'{"answered": [[1]], "sign": []}\'',
        'UPDATE turns SET chain = NULL, body = \'{"completed": [[99, "done", null, null]], "sign": []}\'',
        "UPDATE turns SET chain = NULL, body = '[]'",
        "UPDATE turns SET chain = NULL, body = '{}'",
        "UPDATE turns SET chain = NULL, at = 'x'",
    ],
)
def test_resuming_a_damaged_run(sql: str, folder: Path) -> None:
    """Resuming raises one error for the user and writes nothing."""
    row = "INSERT INTO tests VALUES (9, '', '', 'failed', NULL, NULL, 0, 0, NULL, '', '{}', NULL)"
    execute(folder, *([row] if "tests" in sql else []), sql)
    before = (folder / "journal.db").read_bytes()
    with pytest.raises(FlashgraphError, match="\nFix: "):
        small_run(folder, budget=fg.Budget(proposals=5), resume=True)
    if "tests" not in sql:
        assert (folder / "journal.db").read_bytes() == before


def test_a_run_whose_file_may_not_be_read(folder: Path) -> None:
    """It is listed as unreadable; nothing is raised."""
    (folder / "journal.db").chmod(0o000)
    (folder / "lock").chmod(0o000)
    with unprivileged():
        summary = Summary.read(folder)
        with pytest.raises(JournalError, match=r"cannot be opened.*\nFix: check the path and its permissions"):
            StoredRun.open(folder)
    assert (summary.status, summary.name) == (UNREADABLE, "run")


# ---- the schema ------------------------------------------------------------------------------------------

PLACES = [b"CREATE TABLE meta", b"status TEXT", b"TABLE turns (seq", b"calls_of_job", b"reply TEXT", b"hash TEXT"]


@pytest.mark.parametrize("place", PLACES, ids=bytes.decode)
def test_a_schema_that_is_no_utf8(place: bytes, ended: Path, folder: Path) -> None:
    """Opening the journal raises a `JournalError`, although SQLite's message quotes bytes that Python cannot decode."""
    whole, path = (folder / "journal.db").read_bytes(), folder / "journal.db"
    assert place in whole
    said = {}
    for at in (0, len(place) - 1):
        for name, use in users(folder).items():
            path.write_bytes(whole.replace(place, place[:at] + b"\xcc" + place[at + 1 :], 1))
            try:
                found = use()
            except FlashgraphError as error:
                said[at, name] = str(error)
            else:
                said |= {(at, reader): str(error) for reader, error in found.items()} if name == "readers" else {}
    assert {name for _, name in said} > {"begin"}
    assert [text for text in said.values() if str(path) not in text or "\nFix: " not in text] == []


@pytest.mark.parametrize(
    ("sql", "said"),
    [
        ("ALTER TABLE sessions RENAME COLUMN status TO s", "table sessions has no column 'status'"),
        ("ALTER TABLE turns DROP COLUMN chain", "table turns has no column 'chain'"),
        ("DROP TABLE failures", "table failures is missing"),
        ("DROP TABLE champions", "table champions is missing"),
    ],
)
def test_a_schema_that_lacks_something(sql: str, said: str, folder: Path) -> None:
    """The run spends nothing that it could not store; readers that do not need the missing part work."""
    execute(folder, sql)
    calls = []

    def answer(messages: object) -> str:
        calls.append(messages)
        return ""

    with pytest.raises(JournalError, match=f"{said}: the file is damaged.\nFix: use a copy"):
        small_run(folder, resume=True, models=dict.fromkeys(("task", "reflection"), answer))
    assert calls == []
    assert len(read_all(folder)) < len(readers(folder))


def users(folder: Path) -> dict[str, Callable[[], Any]]:
    """Return each way to open a journal by name."""
    return {
        "readers": lambda: read_all(folder),
        "resume": lambda: small_run(folder, resume=True),
        "begin": lambda: small_run(folder),
        "seal": lambda: is_own(folder / "journal.db"),
        "vacuum": lambda: vacuum(folder),
        "losses": lambda: find_loss(mark_of_another(folder)),
        "replay": lambda: anyio.run(replayed, folder),
    }


def mark_of_another(folder: Path) -> Path:
    """Return a journal with a mark beside it, which makes readers look up the journal's name."""
    marks = MarkFile(folder / "journal.db")
    marks.write(Mark("x", 10**6, 0, "", {}))
    marks.close()
    return folder / "journal.db"


async def replayed(folder: Path) -> None:
    async with ReplayModel(str(folder)).open():
        pass


def test_who_has_a_damaged_journal(folder: Path) -> None:
    """A second process learns that another one holds the run, with as much detail as is readable."""
    lock = filelock.FileLock(folder / "lock")
    with lock:
        for sql in ("UPDATE sessions SET host = x'ff'", "DELETE FROM sessions", "DROP TABLE sessions"):
            execute(folder, sql)
            with pytest.raises(JournalError, match=r"another process holds it\.\nFix: wait for it to end"):
                small_run(folder, resume=True)


def test_every_query_goes_through_one_place() -> None:
    """All queries go through `select` and `fetched`, which turn SQLite's errors into `JournalError`."""
    asked = []
    for path in sorted(Path(fg.__file__).parent.rglob("*.py")):
        source = path.read_text()
        opened = "flashgraph.run.journal" in source and "sqlite3" in source
        if path.name != "tables.py" and (opened or path.parent.name == "journal"):
            calls = [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Call)]
            asked += [
                (path.name, ast.unparse(call.args[0])[:20])
                for call in calls
                if isinstance(call.func, ast.Attribute) and call.func.attr in ("execute", "executescript")
            ]
    queries = [
        (name, sql) for name, sql in asked if not sql.startswith(("'PRAGMA", "f'PRAGMA", "f'BEGIN; ", 'f"BEGIN; '))
    ]
    writing = [(name, sql) for name, sql in queries if sql.lstrip("f")[1:7] not in ("UPDATE", "INSERT", "VACUUM")]
    assert writing == [("columns.py", "sql"), ("store.py", "sql"), ("store.py", "sql")]  # select, fetched, the writer


# ---- crafted ones ----------------------------------------------------------------------------------------


def test_parents_that_lead_round(tmp_path: Path) -> None:
    """A lineage ends at an artifact that is its own ancestor, and at a parent that does not exist."""
    judged_run(tmp_path / "run")
    for parents in ("[0]", "[1]", "[2]", "[0, 1, 2, 99]", "[-1]"):
        execute(tmp_path / "run", f"UPDATE admissions SET parents = '{parents}'")
        with StoredRun.open(tmp_path / "run") as run:
            for artifact in run.artifacts():
                assert len(run.lineage(artifact)) <= 3


def test_a_text_that_is_no_utf8(folder: Path) -> None:
    """A stored text that matches its hash and is invalid UTF-8 is an error."""
    execute(folder, "INSERT INTO payloads VALUES (?, ?)", values=(named(b"\xff"), zlib.compress(b"\xff")))
    value = json.dumps({"$": "long", "of": named(b"\xff")})
    execute(folder, "UPDATE admissions SET value = ? WHERE kind = 'admit'", values=(value,))
    with (
        StoredRun.open(folder) as run,
        pytest.raises(JournalError, match=r"table payloads, row '\w+': UnicodeDecodeError"),
    ):
        run.artifacts()


MEBI = 2**20


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make 4 MiB the longest text, because reaching the real bound would take seconds."""
    monkeypatch.setattr(payloads, "LONGEST", 4 * MEBI)
    monkeypatch.setattr(payloads, "RATIO", 10)


def refused(folder: Path, texts: dict[str, bytes]) -> None:
    """Check that an artifact with these compressed texts, by name, is refused without filling the memory."""
    for row in texts.items():
        execute(folder, "INSERT OR REPLACE INTO payloads VALUES (?, ?)", values=row)
    value = json.dumps([{"$": "long", "of": name} for name in texts])
    execute(folder, "UPDATE admissions SET value = ? WHERE kind = 'admit'", values=(value,))
    tracemalloc.start()
    with StoredRun.open(folder) as run, pytest.raises(JournalError, match="its text is longer than"):
        run.artifacts()
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert most < 64 * MEBI


@pytest.mark.usefixtures("short")
def test_a_text_that_inflates_without_an_end(folder: Path) -> None:
    """A few kilobytes that would inflate to gigabytes are refused before they fill the memory."""
    inflating = zlib.compressobj(9)
    bomb = b"".join([*(inflating.compress(bytes(MEBI)) for _ in range(80)), inflating.flush()])
    assert len(bomb) < MEBI / 8
    refused(folder, {named(b"bomb"): bomb})


@pytest.mark.usefixtures("short")
def test_many_texts_that_are_too_much_together(folder: Path) -> None:
    """Texts that are short enough each are refused when they are too long together."""
    texts = [bytes([number % 256, number // 256]) * (3 * MEBI // 2) for number in range(6)]
    refused(folder, {named(text): zlib.compress(text, 1) for text in texts})


def test_a_text_that_is_not_what_its_name_says(folder: Path) -> None:
    ((name,),) = rows(folder, "SELECT reply FROM calls WHERE id = 0")
    execute(folder, "UPDATE payloads SET data = ? WHERE hash = ?", values=(zlib.compress(b"forged"), name))
    with (
        StoredRun.open(folder) as run,
        pytest.raises(JournalError, match="its text does not match its hash"),
    ):
        list(run.calls())


def test_a_text_that_is_too_long_to_be_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A text that could not be read back is refused when it is written."""
    monkeypatch.setattr(writer, "LONGEST", 1000)

    async def answer(messages: object) -> str:
        return "x" * 1001

    done = small_run(tmp_path / "run", models=dict.fromkeys(("task", "reflection"), answer))
    assert done.status == "failed"
    assert "cannot store a text of 1,001 bytes; expected at most 1,000.\nFix: " in done.reason


ENDLESS = (
    "WITH RECURSIVE n(seq) AS (SELECT 0 UNION ALL SELECT seq + 1 FROM n) SELECT seq, 0.0 AS at, '{}' AS body FROM n"
)


@pytest.mark.parametrize(
    ("statements", "said"),
    [
        (("DROP TABLE turns", f"CREATE VIEW turns AS {ENDLESS}"), "it has a view 'turns'"),
        ((f"CREATE VIEW more AS {ENDLESS}",), "it has a view 'more'"),
        (("CREATE TRIGGER more AFTER INSERT ON turns BEGIN DELETE FROM turns; END",), "it has a trigger 'more'"),
        (("DROP TABLE best", "CREATE VIRTUAL TABLE best USING fts5(pool, artifact)"), "it has a virtual table 'best'"),
        (
            ("DROP TABLE account", "CREATE TABLE account (id, settled AS (hex(zeroblob(900000000))))"),
            "it has a computed column in 'account'",
        ),
    ],
)
def test_what_computes_is_no_journal(statements: tuple[str, ...], said: str, folder: Path) -> None:
    """A view or computed column, which may run forever, is refused before anything is read from it."""
    execute(folder, *statements)
    began = time.process_time()
    assert said in Summary.read(folder).reason
    for resume in (True, False):
        with pytest.raises(FlashgraphError, match=r"another program made it|exists already"):
            small_run(folder, resume=resume)
    assert time.process_time() - began < 20
