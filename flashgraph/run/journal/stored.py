"""What is read of a stored run, as frozen values."""

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
    "StoredEndpoint",
    "text_diff",
]  # fmt: skip

Status = Literal["running", "killed", "completed", "budget", "failed", "cancelled", "stopped"]


@attrs.frozen
class Session:
    """One process that has worked on the run: from when (ISO 8601, UTC) and where; ``closed`` and what follows are
    None while it goes on, and for ever when it was killed.  ``at`` is the run's clock at its end, in seconds."""

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
    """What a run has used, over all of its sessions.

    ``proposals`` to ``usd`` are the budget's account of what has ended; ``prompt_tokens`` and
    ``completion_tokens`` are those of the replies that came.  The replies of ``lost`` calls were lost when the run
    was killed: they may have been paid twice.  ``unanswered`` requests were asked and not answered: while the run
    goes on they wait or are out, and of one that was killed or cut off as many at most have been paid for nothing.
    ``seconds`` are on the run's clock.
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

    ``version`` is the pool's at its admission, ``lag`` how far the pool had moved on, ``at`` the run's clock,
    a provisional one that was taken back is ``retracted``, one that its pool replaced is ``evicted``.  ``evidence`` is
    what its score, the estimate, rests on; None where the pool weighs none, and in journals of flashgraph 0.1.
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
        """Its texts by component."""
        return texts(self.value)

    @property
    def state(self) -> str:
        """``confirmed``, ``provisional``, ``evicted`` or ``retracted``."""
        if self.retracted or self.evicted:
            return "retracted" if self.retracted else "evicted"
        return "provisional" if self.provisional else "confirmed"


@attrs.frozen
class LineageStep:
    """One step of a line of descent: an artifact, the parent that its line leads through (None for a root), and what
    changed from that parent as a unified diff."""

    artifact: StoredArtifact
    parent: StoredArtifact | None
    diff: tuple[str, ...]


@attrs.frozen
class StoredCall:
    """One model call that has ended.  ``how`` is as in `flashgraph.run.events.CallEnded`; ``usd`` is None where the
    price is not known; ``seconds`` is its latency, ``at`` the run's clock at its end.  ``messages`` are pairs of a role
    and a text: of a content that was made of parts, their JSON."""

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
    """An endpoint's ``calls``; how many requests it ``throttled`` and replies it cut off at their token limit; its
    ``limit`` since the last of ``changes``, with the reason (None: it has not moved), whether it is ``down``, and the
    ``rates`` that it has told of, in words."""

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
    """How often jobs of a stage, or a function on the edge of that name, have failed with a reason, when last, and the
    cause."""

    stage: str
    reason: str
    count: int
    last: float
    cause: Cause


@attrs.frozen
class ChampionMoment:
    """The champion at one moment of a run, after ``at`` seconds and ``calls`` model calls: its score then, and the
    evidence for it.  ``artifact`` is None in journals of flashgraph 0.1, which hold scores alone."""

    at: float
    calls: int
    score: float
    artifact: int | None = None
    evidence: Evidence | None = None


def text_diff(
    before: Mapping[str, str], after: Mapping[str, str], names: tuple[str, str], context: int = 2
) -> tuple[str, ...]:
    """A unified diff of texts, component by component, without line ends; empty when nothing differs."""
    lines: list[str] = []
    for name in dict.fromkeys([*before, *after]):
        heads = (f"{names[0]}: {name}", f"{names[1]}: {name}")
        lines += unified(before.get(name, ""), after.get(name, ""), heads, context)
    return tuple(lines)
