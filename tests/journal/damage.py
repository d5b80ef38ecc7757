"""Damaged copies of a stored run, and everything that reads one."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import flashgraph as fg
from flashgraph.errors import FlashgraphError
from flashgraph.observe.export import to_jsonl
from flashgraph.observe.records import Summary, artifact_json, run_json
from flashgraph.observe.runs import head
from flashgraph.run.journal import JournalError
from flashgraph.run.journal.reading import StoredRun

__all__ = ["FEW", "execute", "read_all", "readers"]

FEW = fg.Budget(proposals=3)
"""The budget of the run that is damaged."""


def execute(folder: Path, *statements: str, values: tuple[Any, ...] = ()) -> None:
    db = sqlite3.connect(folder / "journal.db")
    for sql in statements:
        db.execute(sql, values)
    db.commit()
    db.close()


def readers(folder: Path) -> dict[str, Callable[[], Any]]:
    """Return all readers of a run by name."""

    def of(read: Callable[[StoredRun], Any]) -> Callable[[], Any]:
        def act() -> Any:
            with StoredRun.open(folder) as run:
                return read(run)

        return act

    def lines(run: StoredRun) -> Any:
        best = run.best()
        return None if best is None else run.lineage(best)

    return {
        "summary": lambda: Summary.read(folder),
        "head": of(head),
        "json": of(run_json),
        "artifacts": of(lambda run: [artifact_json(a) for a in run.artifacts()]),
        "lineage": of(lines),
        "calls": of(lambda run: list(run.calls())),
        "last calls": of(lambda run: list(run.calls(last=3))),
        "curve": of(StoredRun.curve),
        "endpoints": of(StoredRun.endpoints),
        "failures": of(StoredRun.failures),
        "accepted": of(StoredRun.accepted),
        "export": of(lambda run: to_jsonl(run, folder.parent / "out.jsonl")),
    }


def read_all(folder: Path) -> dict[str, FlashgraphError]:
    """Return the error of each reader that fails; each must be a `FlashgraphError`, and the summary never fails."""
    failed: dict[str, FlashgraphError] = {}
    for name, read in readers(folder).items():
        try:
            read()
        except FlashgraphError as error:
            failed[name] = error
    assert "summary" not in failed
    for said in failed.values():
        assert isinstance(said, JournalError)
        assert "\nFix: " in str(said)
    return failed
