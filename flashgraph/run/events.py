"""What happened in a run, as values in order that nobody changes: the log that invariants, progress and journals read.

``at`` is in seconds of the run's clock since its start.  Items, jobs, rounds, groups and calls are known by
numbers that count from 0 within a run.
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
    at: float


@statically_frozen
class RunStarted(Event):
    graph: str
    schedule: str
    seed: int


@statically_frozen
class Emitted(Event):
    """A source's emission number ``emission`` opened ``round``; ``version`` is the view's that it read."""

    source: str
    round: int
    emission: int
    version: int | None


@statically_frozen
class Created(Event):
    """An item came to be on ``edge``, with its parents, its round, its place in a group and its stamps."""

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
    """A worker of ``stage`` took up ``item``; ``workers`` are busy now.  ``lag`` is the item's at that moment."""

    job: int
    stage: str
    item: int | None
    workers: int
    lag: int
    late: bool = False


@statically_frozen
class JobEnded(Event):
    job: int
    stage: str
    how: Literal["done", "failed", "cancelled"]
    seconds: float
    cause: Cause = Cause.DONE
    reason: str = ""


@statically_frozen
class CallStarted(Event):
    """A model request was sent; ``in_flight`` are out at its endpoint now.  Which endpoint of a role's answers is known
    from here."""

    call: int
    job: int
    role: str
    endpoint: str
    in_flight: int


@statically_frozen
class CallEnded(Event):
    """A model request ended.

    One that was ``"throttled"`` (429) counts as none: it is asked again as another call.  So may be one that
    ``"failed"``, which does count.  ``estimated`` says that the tokens are not the server's count: of a request that
    was cut off there is none, nor of any where it counts nothing.
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
    """A function on ``edge`` raised ``error``, its ``function``: the ``"when"``, ``"scatter"``, ``"order"``,
    ``"release"``, ``"failure rule"`` or ``"staleness rule"``.  ``place`` is the innermost line of the user's own that
    raised it, or the edge's.  What it was asked about fails next."""

    edge: str
    function: str
    error: str
    place: str


@statically_frozen
class Released(Event):
    """A group went on over ``edge`` with ``arrived`` of ``size`` members; the second time as an amendment."""

    group: int
    edge: str
    item: int
    arrived: int
    size: int
    amendment: bool


@statically_frozen
class GroupFailed(Event):
    """A group failed at ``edge``, which gathers it: ``failed`` of ``size`` members failed, or a function of the edge
    raised."""

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
    """A pool took an item in as ``artifact`` and rose to ``version``."""

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
    pool: str
    version: int
    artifact: int
    score: float | None


@statically_frozen
class Retracted(Event):
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
    """The artifact that a run hands out of a pool is another one now, or more is known of it; ``artifact`` is None
    where the pool has none any more.  ``score`` is the pool's own, ``evidence`` what the estimate rests on."""

    pool: str
    version: int
    artifact: int | None
    score: float | None
    evidence: Evidence | None
    provisional: bool


@statically_frozen
class RoundEnded(Event):
    round: int
    failed: bool


@statically_frozen
class Resized(Event):
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
    """An endpoint has told that it takes ``limit`` requests or tokens (``of``) in ``seconds``; they are kept to."""

    endpoint: str
    of: str
    limit: float
    seconds: float


@statically_frozen
class EndpointDown(Event):
    """An endpoint does not answer; its work goes to the role's others, and it is tried again after ``seconds``."""

    endpoint: str
    seconds: float
    reason: str


@statically_frozen
class EndpointUp(Event):
    """An endpoint that was down has answered again."""

    endpoint: str


@statically_frozen
class Late(Event):
    """The item's group has gone on without it: its round no longer waits for it."""

    item: int


@statically_frozen
class Reopened(Event):
    """A run that had ended or was killed goes on; ``jobs`` were running then and run again."""

    jobs: int


@statically_frozen
class RunEnded(Event):
    status: RunStatus
    cause: Cause
    reason: str
    open_items: int
