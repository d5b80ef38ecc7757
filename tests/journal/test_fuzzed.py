"""Journals with any value in any column, and with any changed bytes: readers never crash."""

from __future__ import annotations

import json
import math
import shutil
import sqlite3
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from flashgraph.errors import FlashgraphError
from flashgraph.run.journal.losses import find_loss
from flashgraph.run.journal.tables import TABLES
from tests.journal.damage import FEW, read_all
from tests.journal.kit import SCENARIOS, here, session
from tests.journal.small import small_run


@pytest.fixture(scope="module")
def ended(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run that has ended."""
    folder = tmp_path_factory.mktemp("damage") / "ended"
    small_run(folder, budget=FEW)
    return folder


GENERATED = settings(
    max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
FEWER = settings(GENERATED, max_examples=6)
MORE = settings(GENERATED, max_examples=500)
ODD = st.one_of(
    st.integers(-(2**63), 2**63 - 1),
    st.floats(),
    st.text(max_size=8),
    st.binary(max_size=8),
    st.sampled_from(
        ["[]", "{}", "null", "1", '"x"', "[[]]", '[["x", "y"]]', '{"$": "long"}', '{"$": "enum"}', "[1e999]"]
    ),
    st.recursive(st.none() | st.floats() | st.text(max_size=3), st.lists, max_leaves=4).map(json.dumps),
)
COLUMNS = [
    (table, line.strip().split()[0])
    for table, body in ((t.split("(", 1)[0].split()[-1], t.split("(", 1)[1]) for t in TABLES.split("CREATE TABLE ")[1:])
    for line in body.replace("\n", " ").split(",")
    if line.strip().split()[0] not in ("PRIMARY", "version)") and table != "failures"
]


def check_value(column: tuple[str, str], value: Any, row: int, ended: Path, tmp_path: Path) -> None:
    """Every reader reads a run with this value in this column, or names the row."""
    folder = tmp_path / "run"
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(ended, folder)
    table, name = column
    db = sqlite3.connect(folder / "journal.db")
    ((many,),) = db.execute(f"SELECT count(*) FROM {table}").fetchall()
    if not many:
        db.close()
        return
    keys = [key[1] for key in db.execute(f"PRAGMA table_info({table})") if key[5]] or ["rowid"]
    found = db.execute(f"SELECT {', '.join(keys)} FROM {table} LIMIT 1 OFFSET {row % many}").fetchone()
    where = " AND ".join(f"{key} = ?" for key in keys)
    try:
        db.execute(f"UPDATE {table} SET {name} = ? WHERE {where}", (value, *found))
    except sqlite3.Error:  # SQLite itself refuses the value
        db.close()
        return
    db.commit()
    db.close()
    read_all(folder)


def check_bytes(flips: list[tuple[float, int]], ended: Path, tmp_path: Path) -> None:
    """A run with changed bytes in its file is read and resumed, or refused with a reason."""
    folder = tmp_path / "run"
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(ended, folder)
    (folder / "journal.db").write_bytes(changed((folder / "journal.db").read_bytes(), flips))
    read_all(folder)
    with suppress(FlashgraphError):
        small_run(folder, budget=FEW, resume=True)


VALUES = given(column=st.sampled_from(COLUMNS), value=ODD, row=st.integers(0, 10**6))
FLIPS = st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(1, 255)), min_size=1, max_size=6)
BYTES = given(flips=FLIPS)
LOGS = given(flips=FLIPS, name=st.sampled_from(["journal.db-wal", "journal.db.mark"]))


def check_log(flips: list[tuple[float, int]], name: str, killed: Path, tmp_path: Path) -> None:
    """The same holds for the other files of a killed run: its log and its mark."""
    folder = tmp_path / "one" / "run"
    shutil.rmtree(folder.parent, ignore_errors=True)
    shutil.copytree(killed.parent, folder.parent)
    (folder / name).write_bytes(changed((folder / name).read_bytes(), flips))
    with suppress(FlashgraphError):
        find_loss(folder / "journal.db")
    read_all(folder)
    with suppress(FlashgraphError):
        here(SCENARIOS["cyclic"], folder, schedule="lockstep")


def changed(data: bytes, flips: list[tuple[float, int]]) -> bytes:
    found = bytearray(data)
    for place, change in flips:
        found[math.floor(place * len(found))] ^= change
    return bytes(found)


@pytest.fixture(scope="module")
def killed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that was killed after 60 commits, so that most of its journal is in the log."""
    folder = tmp_path_factory.mktemp("killed") / "one" / "run"
    session(SCENARIOS["cyclic"], folder, schedule="lockstep", kill_at=60)
    return folder


@GENERATED
@VALUES
def test_any_value_in_any_column(column: tuple[str, str], value: Any, row: int, ended: Path, tmp_path: Path) -> None:
    """Readers never crash."""
    check_value(column, value, row, ended, tmp_path)


@FEWER
@BYTES
def test_any_bytes_anywhere(flips: list[tuple[float, int]], ended: Path, tmp_path: Path) -> None:
    """Readers never crash."""
    check_bytes(flips, ended, tmp_path)


@FEWER
@LOGS
def test_any_bytes_of_the_log(flips: list[tuple[float, int]], name: str, killed: Path, tmp_path: Path) -> None:
    """Readers never crash."""
    check_log(flips, name, killed, tmp_path)


@pytest.mark.slow
@MORE
@LOGS
def test_more_bytes_of_the_log(flips: list[tuple[float, int]], name: str, killed: Path, tmp_path: Path) -> None:
    """Readers never crash, in 500 examples."""
    check_log(flips, name, killed, tmp_path)


@pytest.mark.slow
@MORE
@VALUES
def test_more_values(column: tuple[str, str], value: Any, row: int, ended: Path, tmp_path: Path) -> None:
    """Readers never crash, in 500 examples."""
    check_value(column, value, row, ended, tmp_path)


@pytest.mark.slow
@MORE
@BYTES
def test_more_bytes(flips: list[tuple[float, int]], ended: Path, tmp_path: Path) -> None:
    """Readers never crash, in 500 examples."""
    check_bytes(flips, ended, tmp_path)
