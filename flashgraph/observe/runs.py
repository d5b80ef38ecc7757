"""Stored runs as tables, as texts, and as JSON for scripts."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs

from flashgraph.errors import FlashgraphError
from flashgraph.evidence import Evidence
from flashgraph.observe.words import clock, counted, score_text
from flashgraph.run.cause import Cause
from flashgraph.run.journal.reading import StoredRun
from flashgraph.run.journal.stored import Failures, LineageStep, Session, StoredArtifact, StoredCall, StoredEndpoint
from flashgraph.text.terminal import grid

if TYPE_CHECKING:
    from rich.table import Table

__all__ = [
    "EVIDENCE",
    "UNREADABLE",
    "Summary",
    "artifact_head",
    "artifact_json",
    "artifacts_table",
    "calls_table",
    "evidence_json",
    "failures_table",
    "head",
    "lineage_json",
    "lineage_lines",
    "run_json",
    "runs_table",
    "score_text",
    "sessions_table",
    "summary_json",
]

UNREADABLE = "unreadable"

EVIDENCE = ("estimate", "low", "high", "tried", "of", "failed", "mean")
"""The numbers of evidence in JSON and in exported tables."""


@attrs.frozen
class Summary:
    """A run in a line.  What could not be read is None, and ``reason`` says why; ``opened`` and ``touched`` are when
    it was begun and when it was last opened or closed (ISO 8601), ``seconds`` the run's clock.  ``evidence`` is what
    the score of the ``best`` rests on."""

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
    """What is missing of the journal's end, in words."""

    @classmethod
    def of(cls, run: StoredRun) -> Summary:
        """What an open run says of itself; of one that is damaged, all that can be read."""
        header = run.header
        found: dict[str, Any] = {"status": UNREADABLE, "reason": ""}
        wrong: list[str] = []
        with run.snapshot():
            for part in (_standing, _spending, _found, _lasting):
                try:
                    found |= part(run)
                except FlashgraphError as error:
                    wrong.append(_first_line(error))
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
        """The summary of the run in a folder, also of one that cannot be read."""
        try:
            with StoredRun.open(folder) as run:
                return cls.of(run)
        except FlashgraphError as error:
            return cls(folder.resolve().name, str(folder), UNREADABLE, _first_line(error))


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


def _first_line(error: Exception) -> str:
    return str(error).partition("\n")[0]


# ---- tables ----------------------------------------------------------------------------------------------


STYLES = {
    "running": "bold green",
    "killed": "yellow",
    "failed": "red",
    UNREADABLE: "red",
    "retracted": "dim",
    "evicted": "dim",
}


def _grid(columns: Sequence[str], rows: Iterable[Sequence[str]], right: Sequence[str] = ()) -> Table:
    """A table in which some words have a colour."""
    return grid(columns, ([(cell, STYLES.get(cell, "")) for cell in row] for row in rows), right)


def runs_table(runs: Sequence[Summary], now: datetime | None = None) -> Table:
    """A line a run."""
    right = ("best", "accepted", "calls", "tokens", "usd", "time")
    rows = [
        (
            run.name,
            run.graph or "",
            run.task or "",
            run.status,
            score_text(run.best, run.evidence),
            *("" if number is None else f"{number:,}" for number in (run.accepted, run.calls, run.tokens)),
            "" if run.usd is None else f"{run.usd:.4f}",
            "" if run.seconds is None else clock(run.seconds),
            age(run.opened, now),
        )
        for run in runs
    ]
    return _grid(("run", "graph", "task", "status", *right, "started"), rows, right)


def sessions_table(sessions: Sequence[Session]) -> Table:
    """The processes that have worked on a run."""
    rows = [(str(s.id), s.opened, f"{s.pid} on {s.host}", s.closed or "-", s.status or "-") for s in sessions]
    return _grid(("session", "opened", "process", "closed", "ended"), rows)


def artifacts_table(artifacts: Sequence[StoredArtifact]) -> Table:
    """A line an artifact."""
    rows = [
        (
            str(a.id),
            a.pool,
            score_text(a.score, a.evidence),
            a.state,
            ", ".join(map(str, a.parents)) or "-",
            str(a.lag),
            str(a.version),
            clock(a.at),
        )
        for a in artifacts
    ]
    right = ("artifact", "score", "lag", "version", "at")
    return _grid(("artifact", "pool", "score", "state", "parents", "lag", "version", "at"), rows, right)


def calls_table(calls: Sequence[StoredCall]) -> Table:
    """A line a model call, with the beginning of its reply."""
    rows = [
        (
            str(c.id),
            clock(c.at),
            c.stage or c.role,
            c.how,
            f"{c.prompt_tokens:,}",
            f"{c.completion_tokens:,}",
            "" if c.usd is None else f"{c.usd:.4f}",
            f"{c.seconds:.2f}",
            _beginning(c.reply or ""),
        )
        for c in calls
    ]
    right = ("call", "at", "prompt", "reply", "usd", "seconds")
    return _grid(("call", "at", "stage", "how", "prompt", "reply", "usd", "seconds", "text"), rows, right)


def failures_table(failures: Sequence[Failures]) -> Table:
    """A line for each reason that jobs of a stage, or functions on an edge, have failed with."""
    rows = [(f.stage, f"{f.count:,}", clock(f.last), f.cause, f.reason) for f in failures]
    return _grid(("stage or edge", "times", "last at", "cause", "reason"), rows, ("times", "last at"))


# ---- texts -----------------------------------------------------------------------------------------------


def head(run: StoredRun) -> list[str]:
    """How a run stands and what it has used; of one that is damaged, all that can be read."""
    lines: list[str] = []
    for part in (_first, _used, _endpoints, _open, _missing):
        try:
            lines += part(run)
        except FlashgraphError as error:
            if (line := f"not readable: {_first_line(error)}") not in lines:
                lines.append(line)
    return lines


def _first(run: StoredRun) -> list[str]:
    header = run.header
    return [f"{run.name}: {header.graph} on {header.task}: {run.status} ({run.reason})"]


def _used(run: StoredRun) -> list[str]:
    header, spend, limits = run.header, run.spend(), run.limits()
    amounts = [
        f"{counted(int(amount), noun)}{f' of {limits[key]:,g}' if key in limits else ''}"
        for key, noun, amount in (("calls", "call", spend.calls), ("tokens", "token", spend.tokens))
    ]
    usd = f"${spend.usd:.4f}" + (f" of ${limits['usd']:g}" if "usd" in limits else "")
    others = [f"{name} {limit:g}" for name, limit in limits.items() if name not in ("calls", "tokens", "usd")]
    lines = [
        ", ".join([f"{run.accepted():,} accepted", *amounts, usd, clock(spend.seconds)]),
        ", ".join([header.schedule, f"seed {header.seed}", *([f"limits: {', '.join(others)}"] if others else [])]),
    ]
    lines += [f"{name}: {said}" for name, price in header.prices.items() if (said := _priced(price))]
    unpriced = [name for name, price in header.prices.items() if price["prompt"] is None]
    if unpriced:
        lines.append(f"price not known, cost not counted: {', '.join(unpriced)}")
    return lines


def _endpoints(run: StoredRun) -> list[str]:
    return [line for endpoint in run.endpoints() if (line := _endpoint(endpoint))]


def _open(run: StoredRun) -> list[str]:
    spend, status, lines = run.spend(), run.status, []
    if spend.failed:
        lines.append(f"{counted(spend.failed, 'call')} failed (each try counts)")
    if spend.lost:
        lines.append(f"{counted(spend.lost, 'call')} lost when the run was killed or cut off: may have been paid twice")
    if spend.unanswered:
        number = spend.unanswered
        if status == "running":
            lines.append(f"{counted(number, 'request')} waiting or out")
        elif status == "killed":
            lines.append(f"up to {counted(number, 'call')} out when the run was killed: counted when it is resumed")
        else:
            lines.append(f"up to {counted(number, 'call')} cut off when the run ended: paid again by resuming")
    return lines


def _missing(run: StoredRun) -> list[str]:
    """What of the journal is gone, or was when the run went on."""
    lines = [f"damaged, before a session went on: {said}" for said in run.lost()]
    return lines if (loss := run.loss) is None else [*lines, f"damaged: {loss}"]


def _priced(price: Mapping[str, Any]) -> str:
    """What an endpoint's tokens cost, and who says so; empty where that is nothing, or not known."""
    if not price["prompt"] and not price["completion"]:
        return ""
    return f"USD {price['prompt']:g} a prompt token, {price['completion']:g} a completion token ({price['source']})"


def _endpoint(endpoint: StoredEndpoint) -> str:
    """What there is to say of an endpoint beside its calls; empty where there is nothing."""
    said = []
    if endpoint.down:
        said.append("down")
    if endpoint.limit is not None:
        times = counted(endpoint.changes, "change")
        said.append(f"limit {endpoint.limit} after {times} (the last: {endpoint.reason})")
    if endpoint.rates:
        said.append(f"by its own account {', '.join(endpoint.rates)}")
    if endpoint.throttled:
        said.append(f"{counted(endpoint.throttled, 'request')} told to wait (429)")
    if endpoint.truncated:
        said.append(f"replies cut off at their token limit: {endpoint.truncated:,}")
    return f"{endpoint.name}: {counted(endpoint.calls, 'call')}, {', '.join(said)}" if said else ""


def artifact_head(artifact: StoredArtifact) -> str:
    """Where an artifact stands."""
    made = f"from {', '.join(map(str, artifact.parents))}" if artifact.parents else "a root"
    score = score_text(artifact.score, artifact.evidence)
    return (
        f"artifact {artifact.id} of {artifact.pool}: score {score}, {artifact.state}, {made}, "
        f"admitted at {clock(artifact.at)} as version {artifact.version}, lag {artifact.lag}"
    )


def lineage_lines(steps: Sequence[LineageStep]) -> list[str]:
    """Each step from the root on: the artifact and what changed."""
    lines: list[str] = []
    for step in steps:
        lines += [
            "",
            artifact_head(step.artifact),
            *(step.diff or (() if step.parent is None else ("(the same text)",))),
        ]
    return lines


def age(opened: str | None, now: datetime | None = None) -> str:
    """How long ago a moment (ISO 8601) was, in its largest unit."""
    if opened is None:
        return ""
    seconds = ((now or datetime.now(UTC)) - datetime.fromisoformat(opened)).total_seconds()
    for unit, size in (("day", 86400), ("hour", 3600), ("minute", 60)):
        if seconds >= size:
            return f"{counted(int(seconds // size), unit)} ago"
    return "just now"


def _beginning(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= 60 else f"{line[:59]}…"


# ---- JSON ------------------------------------------------------------------------------------------------


def run_json(run: StoredRun) -> dict[str, Any]:
    """A run's header, standing, sessions and spend."""
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
    """A run in a line."""
    found = attrs.asdict(run, recurse=False)
    return {**found, "evidence": None if run.evidence is None else evidence_json(run.evidence)}


def evidence_json(evidence: Evidence | None) -> dict[str, float | None]:
    """The numbers of evidence: ``low`` and ``high`` are the ends of the interval; all None where there is none."""
    if evidence is None:
        return dict.fromkeys(EVIDENCE)
    low, high = evidence.interval
    found = (evidence.estimate, low, high, evidence.tried, evidence.of, evidence.failed, evidence.mean)
    return dict(zip(EVIDENCE, found, strict=True))


def artifact_json(artifact: StoredArtifact, *, value: bool = True) -> dict[str, Any]:
    """An artifact with its state and the numbers of its evidence; ``value=False`` leaves out its value and its scores
    by sample."""
    found = {
        **{name: v for name, v in attrs.asdict(artifact).items() if name != "evidence"},
        "state": artifact.state,
        **evidence_json(artifact.evidence),
    }
    return found if value else {name: v for name, v in found.items() if name not in ("value", "scores")}


def lineage_json(steps: Sequence[LineageStep]) -> list[dict[str, Any]]:
    """The steps of a line of descent, with the lines of their diffs."""
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
