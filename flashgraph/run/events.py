"""The events of a run, frozen and in order: the log that invariants, progress and journals read.

``at`` is in seconds on the run's clock.  Items, jobs, rounds, groups and calls have numbers that count from 0 within a
run.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from flashgraph.evidence import Evidence
from flashgraph.run.cause import Cause, RunStatus
from flashgraph.run.static_frozen import statically_frozen

__all__ = [
    "Admitted",
    "CallEnded",
    "CallStarted",
    "ChampionChanged",
    "Confirmed",
    "Created",
    "Dequeued",
    "EdgeFailed",
    "Emitted",
    "Ended",
    "EndpointDown",
    "EndpointUp",
    "Event",
    "EvidenceAdded",
    "GroupFailed",
    "JobEnded",
    "JobStarted",
    "Late",
    "LimitChanged",
    "Queued",
    "RateLearned",
    "Released",
    "Reopened",
    "Repaired",
    "Resized",
    "Retracted",
    "RoundEnded",
    "RunEnded",
    "RunStarted",
]

Fate = Literal["consumed", "filtered", "discarded", "cancelled", "failed"]


@statically_frozen
class Event:
    """An event of a run, ``at`` seconds on its clock."""

    at: float


@statically_frozen
class RunStarted(Event):
    """A run of a graph started."""

    graph: str
    schedule: str
    seed: int


@statically_frozen
class Emitted(Event):
    """A source's emission number ``emission`` opened ``round``; ``version`` is that of the view that it read."""

    source: str
    round: int
    emission: int
    version: int | None


@statically_frozen
class Created(Event):
    """An item was made for ``edge``, with its parents, its round, its place in a group and its stamps."""

    item: int
    edge: str
    round: int
    parents: tuple[int, ...]
    group: int | None
    index: int | None
    stamps: Mapping[str, int]
    lineage: frozenset[tuple[str, int]]
    late: bool = False


@statically_frozen
class Queued(Event):
    """An item entered its edge's queue, which then held ``depth`` items."""

    item: int
    edge: str
    depth: int


@statically_frozen
class Dequeued(Event):
    """An item left its edge's queue, which then held ``depth`` items."""

    item: int
    edge: str
    depth: int


@statically_frozen
class Ended(Event):
    """An item ended: consumed by its stage or group, filtered, discarded as stale, cancelled or failed."""

    item: int
    how: Fate
    cause: Cause = Cause.DONE
    reason: str = ""


@statically_frozen
class JobStarted(Event):
    """A worker of ``stage`` took up ``item``; ``workers`` are busy now, and ``lag`` is the item's at that moment."""

    job: int
    stage: str
    item: int | None
    workers: int
    lag: int
    late: bool = False


@statically_frozen
class JobEnded(Event):
    """A job ended after ``seconds``."""

    job: int
    stage: str
    how: Literal["done", "failed", "cancelled"]
    seconds: float
    cause: Cause = Cause.DONE
    reason: str = ""


@statically_frozen
class CallStarted(Event):
    """A model request was sent to ``endpoint``, which now has ``in_flight`` requests in flight."""

    call: int
    job: int
    role: str
    endpoint: str
    in_flight: int


@statically_frozen
class CallEnded(Event):
    """A model request ended.

    A ``"throttled"`` one (429) does not count as a call, and is tried again as another call.  A ``"failed"`` one
    counts, and may be tried again.  ``estimated`` says that the tokens are not the server's count: a cancelled request
    has none, and some servers never count.
    """

    call: int
    job: int
    role: str
    how: Literal["done", "failed", "cancelled", "lost", "throttled"]
    prompt_tokens: int
    completion_tokens: int
    usd: float | None
    seconds: float
    finish: str = ""
    estimated: bool = False


@statically_frozen
class EdgeFailed(Event):
    """A function on ``edge`` raised ``error``, and its item or group fails next.

    ``function`` is its role: ``"when"``, ``"scatter"``, ``"order"``, ``"distinct"``, ``"release"``, ``"failure rule"``
    or ``"staleness rule"``.  ``place`` is the user's innermost line that raised it, or the line of the edge.
    """

    edge: str
    function: str
    error: str
    place: str


@statically_frozen
class Released(Event):
    """A group was released over ``edge`` with ``arrived`` of ``size`` members; the second time as an amendment."""

    group: int
    edge: str
    item: int
    arrived: int
    size: int
    amendment: bool


@statically_frozen
class GroupFailed(Event):
    """A group failed at its gathering ``edge``: by ``failed`` of ``size`` members, or by an error of a function."""

    group: int
    edge: str
    failed: int
    size: int


@statically_frozen
class Repaired(Event):
    """A repair stage judged a stale item, whose lag was ``lag`` when the stage took it up."""

    item: int
    stage: str
    verdict: Literal["accept", "patch", "discard"]
    lag: int


@statically_frozen
class Admitted(Event):
    """A pool admitted an item as ``artifact``, and rose to ``version``."""

    pool: str
    version: int
    artifact: int
    item: int
    lag: int
    provisional: bool
    parents: tuple[int, ...]
    score: float | None


@statically_frozen
class Confirmed(Event):
    """A pool confirmed a provisional artifact, and rose to ``version``."""

    pool: str
    version: int
    artifact: int
    score: float | None


@statically_frozen
class Retracted(Event):
    """A pool retracted a provisional artifact, and rose to ``version``."""

    pool: str
    version: int
    artifact: int


@statically_frozen
class EvidenceAdded(Event):
    """An artifact of a pool was tried on more samples; the pool rose to ``version``."""

    pool: str
    version: int
    artifact: int
    score: float | None


@statically_frozen
class ChampionChanged(Event):
    """The champion of a pool changed, or the evidence for it did; ``artifact`` is None if the pool has none.

    ``score`` is the pool's own, ``evidence`` the basis of the estimate.
    """

    pool: str
    version: int
    artifact: int | None
    score: float | None
    evidence: Evidence | None
    provisional: bool


@statically_frozen
class RoundEnded(Event):
    """A round ended: none of its items is open."""

    round: int
    failed: bool


@statically_frozen
class Resized(Event):
    """The control policy gave ``stage`` that many ``workers``."""

    stage: str
    workers: int


@statically_frozen
class LimitChanged(Event):
    """From now on ``limit`` requests may be in flight at an endpoint."""

    endpoint: str
    limit: int
    reason: str


@statically_frozen
class RateLearned(Event):
    """An endpoint stated a rate limit: ``limit`` requests or tokens (``of``) in ``seconds``."""

    endpoint: str
    of: str
    limit: float
    seconds: float


@statically_frozen
class EndpointDown(Event):
    """An endpoint is down; its work goes to the role's others, and it is tried again after ``seconds``."""

    endpoint: str
    seconds: float
    reason: str


@statically_frozen
class EndpointUp(Event):
    """An endpoint that was down has answered again."""

    endpoint: str


@statically_frozen
class Late(Event):
    """The item's group was released without it, and its round no longer waits for it."""

    item: int


@statically_frozen
class Reopened(Event):
    """A run that had ended or was killed was resumed; ``jobs`` were running at that time, and run again."""

    jobs: int


@statically_frozen
class RunEnded(Event):
    """A run ended, with ``open_items`` open items."""

    status: RunStatus
    cause: Cause
    reason: str
    open_items: int
