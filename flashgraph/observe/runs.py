"""Stored runs as tables and texts."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from flashgraph.errors import FlashgraphError
from flashgraph.observe.records import UNREADABLE, Summary, first_line
from flashgraph.observe.words import clock, counted, score_text
from flashgraph.run.budget import OF_REQUESTS
from flashgraph.run.journal.reading import StoredRun
from flashgraph.run.journal.stored import Failures, LineageStep, Session, StoredArtifact, StoredCall, StoredEndpoint
from flashgraph.text.terminal import grid

if TYPE_CHECKING:
    from rich.table import Table

__all__ = [
    "age",
    "artifact_head",
    "artifacts_table",
    "calls_table",
    "failures_table",
    "head",
    "lineage_lines",
    "runs_table",
    "sessions_table",
]


STYLES = {
    "running": "bold green",
    "killed": "yellow",
    "failed": "red",
    UNREADABLE: "red",
    "retracted": "dim",
    "evicted": "dim",
}


def _grid(columns: Sequence[str], rows: Iterable[Sequence[str]], right: Sequence[str] = ()) -> Table:
    """Return a table whose cells have the colours of `STYLES`."""
    return grid(columns, ([(cell, STYLES.get(cell, "")) for cell in row] for row in rows), right)


def runs_table(runs: Sequence[Summary], now: datetime | None = None) -> Table:
    """Return a table with a row for each run."""
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
    """Return a table of the processes that have worked on a run."""
    rows = [(str(s.id), s.opened, f"{s.pid} on {s.host}", s.closed or "-", s.status or "-") for s in sessions]
    return _grid(("session", "opened", "process", "closed", "ended"), rows)


def artifacts_table(artifacts: Sequence[StoredArtifact]) -> Table:
    """Return a table with a row for each artifact."""
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
    """Return a table with a row for each model call and the beginning of its reply."""
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
    """Return a table with a row for each reason that jobs of a stage, or functions on an edge, failed with."""
    rows = [(f.stage, f"{f.count:,}", clock(f.last), f.cause, f.reason) for f in failures]
    return _grid(("stage or edge", "times", "last at", "cause", "reason"), rows, ("times", "last at"))


def head(run: StoredRun) -> list[str]:
    """Return the lines for a run's status and spend; of a damaged run all that can be read."""
    lines: list[str] = []
    for part in (_first, _used, _costs, _endpoints, _open, _missing):
        try:
            lines += part(run)
        except FlashgraphError as error:
            if (line := f"not readable: {first_line(error)}") not in lines:
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
    others = [f"{name} {limit:g}" for name, limit in limits.items() if name not in OF_REQUESTS and "." not in name]
    account = run.account()
    others += [f"{name} {account.get(name, 0.0):g} of {limit:g}" for name, limit in limits.items() if "." in name]
    lines = [
        ", ".join([f"{run.accepted():,} accepted", *amounts, usd, clock(spend.seconds)]),
        ", ".join([header.schedule, f"seed {header.seed}", *([f"limits: {', '.join(others)}"] if others else [])]),
    ]
    lines += [f"{name}: {cost}" for name, price in header.prices.items() if (cost := _priced(price))]
    unpriced = [name for name, price in header.prices.items() if price["prompt"] is None]
    if unpriced:
        lines.append(f"price unknown, so the cost is not counted: {', '.join(unpriced)}")
    return lines


def _costs(run: StoredRun) -> list[str]:
    """Return a line for each stage and role that called models; none where there is only one."""
    costs = run.costs()
    if len(costs) < 2:
        return []
    return [
        f"{c.stage} ({c.role}): {counted(c.calls, 'call')}, {counted(c.prompt_tokens, 'prompt token')}, "
        f"{counted(c.completion_tokens, 'reply token')}{f', ${c.usd:.4f}' if c.usd else ''}"
        for c in costs
    ]


def _endpoints(run: StoredRun) -> list[str]:
    return [line for endpoint in run.endpoints() if (line := _endpoint(endpoint))]


def _open(run: StoredRun) -> list[str]:
    spend, status, lines = run.spend(), run.status, []
    if spend.failed:
        lines.append(f"{counted(spend.failed, 'call')} failed (each try counts)")
    if spend.lost:
        lines.append(
            f"the replies to {counted(spend.lost, 'call')} were lost when the run was killed or cancelled; these calls "
            "may have been paid twice"
        )
    if spend.unanswered:
        number = spend.unanswered
        if status == "running":
            lines.append(f"{counted(number, 'request')} in flight or queued")
        elif status == "killed":
            lines.append(
                f"up to {counted(number, 'request')} in flight when the run was killed; resuming counts them as spent"
            )
        else:
            lines.append(
                f"up to {counted(number, 'request')} cancelled at the end; resuming sends (and pays for) them again"
            )
    return lines


def _missing(run: StoredRun) -> list[str]:
    """Return a line for each part that the journal has lost, in this session or before an earlier resume."""
    lines = [f"damaged, before an earlier resume: {loss}" for loss in run.lost()]
    return lines if (loss := run.loss) is None else [*lines, f"damaged: {loss}"]


def _priced(price: Mapping[str, Any]) -> str:
    """Return what an endpoint's tokens cost and the source of the price; empty if the price is zero or unknown."""
    if not price["prompt"] and not price["completion"]:
        return ""
    return f"USD {price['prompt']:g} per prompt token, {price['completion']:g} per reply token ({price['source']})"


def _endpoint(endpoint: StoredEndpoint) -> str:
    """Return an endpoint's calls, concurrency limit and rate limits; empty for one with nothing but calls."""
    parts = []
    if endpoint.down:
        parts.append("down")
    if endpoint.limit is not None:
        changes = counted(endpoint.changes, "change")
        parts.append(f"allows {counted(endpoint.limit, 'concurrent request')} ({changes}; last: {endpoint.reason})")
    if endpoint.rates:
        parts.append(f"reports a rate limit of {', '.join(endpoint.rates)}")
    if endpoint.throttled:
        parts.append(f"{counted(endpoint.throttled, 'request')} throttled (429)")
    if endpoint.truncated:
        parts.append(f"replies truncated at the token limit: {endpoint.truncated:,}")
    return f"{endpoint.name}: {counted(endpoint.calls, 'call')}, {', '.join(parts)}" if parts else ""


def artifact_head(artifact: StoredArtifact) -> str:
    """Return an artifact's score, state, parents and admission in one line."""
    made = f"from {', '.join(map(str, artifact.parents))}" if artifact.parents else "no parents"
    score = score_text(artifact.score, artifact.evidence)
    return (
        f"artifact {artifact.id} of {artifact.pool}: score {score}, {artifact.state}, {made}, "
        f"admitted at {clock(artifact.at)} as version {artifact.version}, lag {artifact.lag}"
    )


def lineage_lines(steps: Sequence[LineageStep]) -> list[str]:
    """Return the lines of a lineage from its root on: each artifact and the diff to the one before."""
    lines: list[str] = []
    for step in steps:
        lines += [
            "",
            artifact_head(step.artifact),
            *(step.diff or (() if step.parent is None else ("(the same text)",))),
        ]
    return lines


def age(opened: str | None, now: datetime | None = None) -> str:
    """Return how long ago a moment (ISO 8601) was, in the largest whole unit."""
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
