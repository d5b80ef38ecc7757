"""Journals that are damaged or crafted: every reader says which table and row, and reads what can be read."""

from __future__ import annotations

import json
import shutil
import time
import tracemalloc
import zlib
from pathlib import Path

import pytest

import flashgraph as fg
from flashgraph.errors import FlashgraphError
from flashgraph.observe.runs import UNREADABLE, Summary, head
from flashgraph.run.journal import JournalError, payloads, writer
from flashgraph.run.journal.payloads import named
from flashgraph.run.journal.reading import StoredRun
from tests.journal.damage import FEW, execute, read_all, readers
from tests.journal.kit import rows
from tests.journal.rights import as_nobody, open_to_all
from tests.journal.small import judged_run, small_run


@pytest.fixture(scope="module")
def ended(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that has ended."""
    folder = tmp_path_factory.mktemp("damage") / "ended"
    small_run(folder, budget=FEW)
    return folder


@pytest.fixture
def folder(ended: Path, tmp_path: Path) -> Path:
    """A copy of it."""
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
    """Whoever needs it names it; `runs` lists the run as unreadable, with what could be read; the others are read."""
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
    """What can be read is there, and what cannot is named once."""
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
    """One message of the user's, and nothing is written."""
    row = "INSERT INTO tests VALUES (9, '', '', 'failed', NULL, NULL, 0, 0, NULL, '', '{}')"
    execute(folder, *([row] if "tests" in sql else []), sql)
    before = (folder / "journal.db").read_bytes()
    with pytest.raises(FlashgraphError, match="\nFix: "):
        small_run(folder, budget=fg.Budget(proposals=5), resume=True)
    if "tests" not in sql:
        assert (folder / "journal.db").read_bytes() == before


def test_a_run_whose_file_may_not_be_read(folder: Path) -> None:
    """It is listed as unreadable; nothing is raised."""
    open_to_all(folder)
    (folder / "journal.db").chmod(0o000)
    (folder / "lock").chmod(0o000)
    with as_nobody():
        summary = Summary.read(folder)
        with pytest.raises(JournalError, match=r"cannot be opened.*\nFix: check the path and its permissions"):
            StoredRun.open(folder)
    assert (summary.status, summary.name) == (UNREADABLE, "run")


# ---- crafted ones ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("parents", ["[0]", "[1]", "[2]", "[0, 1, 2, 99]", "[-1]"])
def test_parents_that_lead_round(parents: str, tmp_path: Path) -> None:
    """Its own parent, its child's child, one that there is not: the line ends."""
    judged_run(tmp_path / "run")
    execute(tmp_path / "run", f"UPDATE admissions SET parents = '{parents}'")
    with StoredRun.open(tmp_path / "run") as run:
        for artifact in run.artifacts():
            assert len(run.lineage(artifact)) <= 3


MEBI = 2**20


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    """Texts of 4 MiB are the longest: the real bound would take seconds to reach."""
    monkeypatch.setattr(payloads, "LONGEST", 4 * MEBI)


def refused(folder: Path, texts: dict[str, bytes]) -> None:
    """An artifact of these compressed texts, by name, is not read, and the memory stays free."""
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
    """A few kilobytes that would become gigabytes are refused before they fill the memory."""
    inflating = zlib.compressobj(9)
    bomb = b"".join([*(inflating.compress(bytes(MEBI)) for _ in range(200)), inflating.flush()])
    assert len(bomb) < MEBI / 4
    refused(folder, {named(b"bomb"): bomb})


@pytest.mark.usefixtures("short")
def test_many_texts_that_are_too_much_together(folder: Path) -> None:
    """Each has its own name, and is not too long."""
    texts = [bytes([number % 256, number // 256]) * (3 * MEBI // 2) for number in range(16)]
    refused(folder, {named(text): zlib.compress(text, 1) for text in texts})


def test_a_text_that_is_not_what_its_name_says(folder: Path) -> None:
    ((name,),) = rows(folder, "SELECT reply FROM calls WHERE id = 0")
    execute(folder, "UPDATE payloads SET data = ? WHERE hash = ?", values=(zlib.compress(b"forged"), name))
    with (
        StoredRun.open(folder) as run,
        pytest.raises(JournalError, match="its text is not the one that it is named for"),
    ):
        list(run.calls())


def test_a_text_that_is_too_long_to_be_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It could not be read again: said when it is to be written."""
    monkeypatch.setattr(writer, "LONGEST", 1000)

    async def answer(messages: object) -> str:
        return "x" * 1001

    done = small_run(tmp_path / "run", models=dict.fromkeys(("task", "reflection"), answer))
    assert done.status == "failed"
    assert "a text of 1,001 bytes cannot be kept; expected at most 1,000.\nFix: " in done.reason


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
    """A table that is none may take for ever: it is refused before anything is read from it."""
    execute(folder, *statements)
    began = time.process_time()
    assert said in Summary.read(folder).reason
    for resume in (True, False):
        with pytest.raises(FlashgraphError, match=r"made by something else|is there already"):
            small_run(folder, resume=resume)
    assert time.process_time() - began < 20
