"""Stored runs as data: summaries, and JSON for scripts and exports."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import attrs

from flashgraph.errors import FlashgraphError
from flashgraph.evidence import Evidence
from flashgraph.run.cause import Cause
from flashgraph.run.journal.reading import StoredRun
from flashgraph.run.journal.stored import LineageStep, StoredArtifact

__all__ = [
    "EVIDENCE",
    "UNREADABLE",
    "Summary",
    "artifact_json",
    "evidence_json",
    "first_line",
    "lineage_json",
    "run_json",
    "summary_json",
]

UNREADABLE = "unreadable"

EVIDENCE = ("estimate", "low", "high", "tried", "of", "failed", "mean")
"""The numbers of an `Evidence` in JSON and in exported tables."""


@attrs.frozen
class Summary:
    """A summary of a stored run.  A field that cannot be read is None, and ``reason`` says why.

    ``opened`` is when the run began.  ``touched`` is when a session last opened or closed it (both ISO 8601).
    ``seconds`` is the time on the run's own clock.  ``best`` is the champion's score, and ``evidence`` is the evidence
    for it.
    """

    name: str
    folder: str
    status: str
    reason: str
    cause: Cause | None = None
    graph: str | None = None
    task: str | None = None
    schedule: str | None = None
    seed: int | None = None
    opened: str | None = None
    touched: str | None = None
    seconds: float | None = None
    best: float | None = None
    evidence: Evidence | None = None
    accepted: int | None = None
    calls: int | None = None
    tokens: int | None = None
    usd: float | None = None
    size: int | None = None

    damage: str = ""
    """The loss at the journal's end, in words; empty for an intact journal."""

    @classmethod
    def of(cls, run: StoredRun) -> Summary:
        """Return the summary of an open run, or of a damaged one all that can be read."""
        header = run.header
        found: dict[str, Any] = {"status": UNREADABLE, "reason": ""}
        wrong: list[str] = []
        with run.snapshot():
            for part in (_standing, _spending, _found, _lasting):
                try:
                    found |= part(run)
                except FlashgraphError as error:
                    wrong.append(first_line(error))
        if wrong:
            found |= {"status": UNREADABLE, "reason": "; ".join(dict.fromkeys(wrong))}
        return cls(
            name=run.name,
            folder=str(run.folder),
            graph=header.graph,
            task=header.task,
            schedule=header.schedule,
            seed=header.seed,
            **found,
        )

    @classmethod
    def read(cls, folder: Path) -> Summary:
        """Return the summary of the run in a folder; the status of an unreadable one is ``unreadable``."""
        try:
            with StoredRun.open(folder) as run:
                return cls.of(run)
        except FlashgraphError as error:
            return cls(folder.resolve().name, str(folder), UNREADABLE, first_line(error))


def _standing(run: StoredRun) -> dict[str, Any]:
    sessions = run.sessions()
    last = sessions[-1] if sessions else None
    return {
        "status": run.status,
        "reason": run.reason,
        "cause": run.cause,
        "opened": sessions[0].opened if sessions else None,
        "touched": (last.closed or last.opened) if last is not None else None,
    }


def _spending(run: StoredRun) -> dict[str, Any]:
    spend = run.spend()
    return {"seconds": spend.seconds, "calls": spend.calls, "tokens": spend.tokens, "usd": spend.usd}


def _found(run: StoredRun) -> dict[str, Any]:
    return {"best": run.best_score(), "evidence": run.best_evidence(), "accepted": run.accepted()}


def _lasting(run: StoredRun) -> dict[str, Any]:
    return {"size": run.size(), "damage": "" if (loss := run.loss) is None else str(loss)}


def first_line(error: Exception) -> str:
    return str(error).partition("\n")[0]


def run_json(run: StoredRun) -> dict[str, Any]:
    """Return a run's summary, header, limits, spend, endpoints and sessions."""
    return {
        **summary_json(Summary.of(run)),
        "limits": dict(run.limits()),
        "params": dict(run.header.params),
        "version": run.header.version,
        "prices": {name: dict(price) for name, price in run.header.prices.items()},
        "spend": attrs.asdict(run.spend()),
        "endpoints": [attrs.asdict(endpoint) for endpoint in run.endpoints()],
        "sessions": [attrs.asdict(session) for session in run.sessions()],
    }


def summary_json(run: Summary) -> dict[str, Any]:
    """Return the fields of a summary."""
    found = attrs.asdict(run, recurse=False)
    return {**found, "evidence": None if run.evidence is None else evidence_json(run.evidence)}


def evidence_json(evidence: Evidence | None) -> dict[str, float | None]:
    """Return the numbers of an `Evidence` (``low`` and ``high`` bound its interval), each None without one."""
    if evidence is None:
        return dict.fromkeys(EVIDENCE)
    low, high = evidence.interval
    found = (evidence.estimate, low, high, evidence.tried, evidence.of, evidence.failed, evidence.mean)
    return dict(zip(EVIDENCE, found, strict=True))


def artifact_json(artifact: StoredArtifact, *, value: bool = True) -> dict[str, Any]:
    """Return an artifact with its state and the numbers of its evidence.

    ``value=False`` leaves out its value and its scores by sample.
    """
    found = {
        **{name: v for name, v in attrs.asdict(artifact).items() if name != "evidence"},
        "state": artifact.state,
        **evidence_json(artifact.evidence),
    }
    return found if value else {name: v for name, v in found.items() if name not in ("value", "scores")}


def lineage_json(steps: Sequence[LineageStep]) -> list[dict[str, Any]]:
    """Return the steps of a lineage, with the lines of their diffs."""
    return [
        {
            "artifact": step.artifact.id,
            "parent": None if step.parent is None else step.parent.id,
            "score": step.artifact.score,
            **evidence_json(step.artifact.evidence),
            "diff": list(step.diff),
        }
        for step in steps
    ]
