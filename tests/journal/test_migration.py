"""Journals of older schemas are readable as they are, and migrated when their run is resumed."""

from __future__ import annotations

import shutil
import sqlite3
from pathlib import Path

import pytest

import flashgraph as fg
from flashgraph.run.journal.reading import StoredRun
from flashgraph.run.journal.store import Store
from flashgraph.run.journal.tables import MIGRATIONS, SCHEMA
from tests.journal.damage import FEW
from tests.journal.small import small_run

BACK = {
    6: "ALTER TABLE calls DROP COLUMN tools; ALTER TABLE tests DROP COLUMN tools; PRAGMA user_version = 5;",
    5: "DROP TABLE events; PRAGMA user_version = 4;",
    4: "ALTER TABLE sessions DROP COLUMN cause; ALTER TABLE failures DROP COLUMN cause; PRAGMA user_version = 3;",
    3: "ALTER TABLE turns DROP COLUMN chain; PRAGMA user_version = 2;",
    2: "DROP TABLE standings; DROP TABLE champions; PRAGMA user_version = 1;",
}
"""By schema version: the statements that turn it into the version before it."""

Table = tuple[str, list[tuple[object, ...]]]


def as_of(folder: Path, schema: int) -> None:
    """Turn a journal into one of an older schema."""
    db = sqlite3.connect(folder / "journal.db")
    for version in range(SCHEMA, schema, -1):
        db.executescript(BACK[version])
    db.close()
    (folder / "journal.db.mark").unlink(missing_ok=True)  # older versions wrote none


def tables(path: Path) -> tuple[int, list[Table]]:
    """Return a journal's schema version, and the columns of each of its tables."""
    db = sqlite3.connect(path)
    try:
        ((version,),) = db.execute("PRAGMA user_version").fetchall()
        names = [name for (name,) in db.execute("SELECT name FROM sqlite_master WHERE type = 'table' ORDER BY name")]
        return version, [(name, db.execute(f"PRAGMA table_info({name})").fetchall()) for name in names]
    finally:
        db.close()


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, fg.Result]:
    """The folder of a finished run, and the result that a larger budget gives."""
    folder = tmp_path_factory.mktemp("migration")
    small_run(folder / "run", budget=FEW)
    return folder / "run", small_run(folder / "longer")


def test_each_schema_has_a_way_on() -> None:
    assert sorted(MIGRATIONS) == list(range(1, SCHEMA))
    assert sorted(BACK) == list(range(2, SCHEMA + 1))


@pytest.mark.parametrize("schema", range(1, SCHEMA))
def test_a_run_of_an_older_schema(schema: int, whole: tuple[Path, fg.Result], tmp_path: Path) -> None:
    """Reading does not change the file; opening it for writing migrates it; the run resumes like any other."""
    folder = Path(shutil.copytree(whole[0], tmp_path / "run"))
    as_of(folder, schema)
    before = tables(folder / "journal.db")
    assert before[0] == schema
    with StoredRun.open(folder) as run:
        artifacts = run.artifacts()
        assert run.status == "budget"
        assert [a.evidence is None for a in artifacts] == [schema < 2] * len(artifacts)
    assert tables(folder / "journal.db") == before
    Store(folder / "journal.db", create=False).close()
    fresh = tmp_path / "fresh.db"
    Store(fresh, create=True).close()
    assert tables(folder / "journal.db") == tables(fresh)
    result = small_run(folder, resume=True)
    assert result.status == "budget"
    assert [(a.value, a.score) for a in result.artifacts] == [(a.value, a.score) for a in whole[1].artifacts]
    with StoredRun.open(folder) as run:
        assert [(a.id, a.score) for a in run.artifacts()] == [(a.id, a.score) for a in result.artifacts]
        assert all(a.evidence is not None for a in run.artifacts())
        assert run.best_score() == (result.best and result.best.score)
