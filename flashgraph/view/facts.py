"""The facts of a stored run that the page shows, as JSON."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import attrs

from flashgraph.errors import FlashgraphError
from flashgraph.observe.records import Summary, artifact_json, run_json, summary_json
from flashgraph.run.journal.folders import find_run, runs_in
from flashgraph.run.journal.happened import FIELDS
from flashgraph.run.journal.reading import StoredRun
from flashgraph.run.journal.stored import StoredChange
from flashgraph.view.drawing import drawing

__all__ = ["REDACTED", "Shelf", "artifact_facts", "call_facts", "changes_of", "curve_of", "run_facts", "standing_of"]

REDACTED = "(left out)"


class Shelf:
    """The runs that a page may show: one run, or all runs in a folder.  Raises `DataError` if there is none."""

    def __init__(self, target: Path) -> None:
        try:
            self._one: Path | None = find_run(target)
        except FlashgraphError:
            if not target.is_dir():
                raise
            self._one = None
        self._parent = target if self._one is None else self._one.resolve().parent

    @property
    def first(self) -> str:
        """The run that the page opens with; empty for a list of runs."""
        return "" if self._one is None else self._one.resolve().name

    def folders(self) -> list[Path]:
        return [self._one] if self._one is not None else runs_in(self._parent)

    def folder(self, name: str) -> Path | None:
        """Return the folder of a run that the page may show; None for another name."""
        return next((folder for folder in self.folders() if folder.resolve().name == name), None)

    def summaries(self) -> list[dict[str, Any]]:
        return [{**summary_json(Summary.read(folder)), "folder": ""} for folder in self.folders()]


def run_facts(run: StoredRun) -> dict[str, Any]:
    """Return the facts that stay the same during a run: settings, the graph's drawing, and the fields of events."""
    header = run.header
    return {
        "name": run.name,
        "graph": header.graph,
        "task": header.task,
        "schedule": header.schedule,
        "seed": header.seed,
        "version": header.version,
        "params": dict(header.params),
        "policies": dict(header.policies),
        "drawing": drawing(header),
        "fields": {kind: list(names) for kind, names in FIELDS.items()},
        "pools": list(run.pools),
    }


def standing_of(run: StoredRun) -> dict[str, Any]:
    """Return the present status, spending, limits and champion of a run."""
    found = run_json(run)
    best = run.best()
    found["champion"] = None if best is None else {"pool": best.pool, "id": best.id}
    found["failures"] = [attrs.asdict(failure) for failure in run.failures()]
    return {**found, "folder": ""}


def changes_of(run: StoredRun, since: dict[str, int]) -> list[list[Any]]:
    """Return the changes of each pool after a version, and set ``since`` to the newest: see `StoredChange`."""
    found = []
    for pool in run.pools:
        for change in run.changes(pool, since=since.get(pool, 0)):
            since[pool] = change.version
            found.append([pool, *_row(change)])
    return found


def _row(change: StoredChange) -> list[Any]:
    return [
        change.version, change.at, change.kind, change.artifact, list(change.parents), change.lag, change.provisional,
        change.score, list(change.scores.items()),
    ]  # fmt: skip


def call_facts(run: StoredRun, id: int, redact: bool = False) -> dict[str, Any] | None:
    """Return a call with its messages and its reply; None while it has not ended."""
    call = run.call(id)
    if call is None:
        return None
    found = attrs.asdict(call)
    if redact:
        found["messages"] = [[role, REDACTED] for role, _ in call.messages]
        found["reply"] = None if call.reply is None else REDACTED
    return found


def artifact_facts(run: StoredRun, pool: str, id: int, redact: bool = False) -> dict[str, Any]:
    """Return an artifact with its texts.  Raises `DataError` if there is none."""
    artifact = run.artifact(id, pool)
    texts = {name: REDACTED if redact else text for name, text in artifact.texts.items()}
    return {**artifact_json(artifact, value=False), "texts": texts}


def curve_of(run: StoredRun) -> list[list[Any]]:
    """Return each change of the champion: seconds, calls, score, artifact, and the bounds of its evidence."""
    return [
        [p.at, p.calls, p.score, p.artifact, *(p.evidence.interval if p.evidence is not None else (None, None))]
        for p in run.curve()
    ]
