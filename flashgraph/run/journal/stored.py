"""Frozen values that describe a stored run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import attrs

from flashgraph.evidence import Evidence
from flashgraph.run.cause import Cause
from flashgraph.run.journal.plain import texts
from flashgraph.text.differences import unified

__all__ = [
    "ChampionMoment",
    "Failures",
    "LineageStep",
    "Session",
    "Spend",
    "Status",
    "StoredArtifact",
    "StoredCall",
    "StoredChange",
    "StoredEndpoint",
    "text_diff",
]  # fmt: skip

Status = Literal["running", "killed", "completed", "budget", "failed", "cancelled", "stopped"]


@attrs.frozen
class Session:
    """One process that worked on the run: its start (ISO 8601, UTC), host and process id.

    ``closed`` and the fields after it are None while it is active, and stay None if it was killed.  ``at`` is the run's
    clock at its end, in seconds.
    """

    id: int
    opened: str
    host: str
    pid: int
    closed: str | None
    status: str | None
    reason: str | None
    at: float | None
    cause: Cause | None


@attrs.frozen
class Spend:
    """The amounts that a run has used, over all of its sessions.

    ``proposals`` to ``usd`` are the budget's account of finished work.  ``prompt_tokens`` and ``completion_tokens`` are
    those of the replies that arrived.  The replies of ``lost`` calls were lost when the run was killed, so they may be
    paid for twice.  ``unanswered`` requests have no answer.  In an active run they wait or are in flight; in a
    killed or cancelled run, at most that many were paid for nothing.  ``seconds`` are on the run's clock.
    """

    proposals: int
    evaluations: int
    calls: int
    tokens: int
    usd: float
    prompt_tokens: int
    completion_tokens: int
    failed: int
    lost: int
    unanswered: int
    seconds: float


@attrs.frozen
class StoredArtifact:
    """One admitted artifact as it stands now; ``value`` is plain (see `flashgraph.run.journal.plain`).

    ``version`` is the pool's at its admission, ``lag`` how far the pool had moved on, ``at`` the run's clock.
    A provisional artifact that was taken back is ``retracted``; one that its pool replaced is ``evicted``.
    ``evidence`` supports its score, which is the estimate; it is None in pools without evidence and in journals of
    flashgraph 0.1.
    """

    pool: str
    id: int
    version: int
    at: float
    parents: tuple[int, ...]
    score: float | None
    scores: Mapping[int, float] = attrs.field(repr=False)
    lag: int
    provisional: bool
    retracted: bool
    value: Any = attrs.field(repr=False)
    evidence: Evidence | None = None
    evicted: bool = False

    @property
    def texts(self) -> dict[str, str]:
        """Return its texts by component."""
        return texts(self.value)

    @property
    def state(self) -> str:
        """Return ``confirmed``, ``provisional``, ``evicted`` or ``retracted``."""
        if self.retracted or self.evicted:
            return "retracted" if self.retracted else "evicted"
        return "provisional" if self.provisional else "confirmed"


@attrs.frozen
class StoredChange:
    """One change of a pool, to ``version``: an artifact was admitted, confirmed or retracted, or got more evidence.

    ``kind`` is ``admit``, ``confirm``, ``evidence`` or ``retract``; ``scores`` are its scores by sample then.
    """

    version: int
    at: float
    kind: str
    artifact: int
    parents: tuple[int, ...]
    lag: int
    provisional: bool
    score: float | None
    scores: Mapping[int, float] = attrs.field(repr=False)


@attrs.frozen
class LineageStep:
    """One step of a line of descent: an artifact, its parent in the line (None for a root), and the unified diff from
    that parent."""

    artifact: StoredArtifact
    parent: StoredArtifact | None
    diff: tuple[str, ...]


@attrs.frozen
class StoredCall:
    """One finished model call.

    ``how`` is as in `flashgraph.run.events.CallEnded`; ``usd`` is None if the price is unknown.  ``seconds`` is its
    latency, ``at`` the run's clock at its end.  ``messages`` are pairs of a role and a text; the text of a content with
    several parts is their JSON.
    """

    id: int
    job: int
    stage: str
    role: str
    endpoint: str
    how: str
    model: str | None
    prompt_tokens: int
    completion_tokens: int
    usd: float | None
    seconds: float
    finish: str
    at: float
    messages: tuple[tuple[str, str], ...] = attrs.field(repr=False)
    reply: str | None = attrs.field(repr=False)


@attrs.frozen
class StoredEndpoint:
    """An endpoint: its ``calls``, how many requests it ``throttled``, and how many replies ended at their token limit.

    ``limit`` is its concurrency limit after the last of ``changes``, with the reason (None: it never changed).
    ``down`` says whether it has an outage.  ``rates`` are its known rate limits, in words.
    """

    name: str
    calls: int
    throttled: int
    truncated: int
    limit: int | None
    reason: str
    changes: int
    down: bool
    rates: tuple[str, ...] = ()


@attrs.frozen
class Failures:
    """How often jobs of a stage, or a function on the edge of that name, failed for a reason; the last time and the
    cause."""

    stage: str
    reason: str
    count: int
    last: float
    cause: Cause


@attrs.frozen
class ChampionMoment:
    """The champion at one moment of a run, after ``at`` seconds and ``calls`` model calls: its score then, with the
    evidence.  ``artifact`` is None in journals of flashgraph 0.1, which hold scores alone."""

    at: float
    calls: int
    score: float
    artifact: int | None = None
    evidence: Evidence | None = None


def text_diff(
    before: Mapping[str, str], after: Mapping[str, str], names: tuple[str, str], context: int = 2
) -> tuple[str, ...]:
    """Return a unified diff of texts, component by component, without line ends; empty if they are equal."""
    lines: list[str] = []
    for name in dict.fromkeys([*before, *after]):
        heads = (f"{names[0]}: {name}", f"{names[1]}: {name}")
        lines += unified(before.get(name, ""), after.get(name, ""), heads, context)
    return tuple(lines)
