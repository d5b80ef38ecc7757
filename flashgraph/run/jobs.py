"""Jobs and model calls, and the state machine's commands to the driver."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import attrs

from flashgraph.graph.contexts import Parent
from flashgraph.graph.ports import Artifact, Stale
from flashgraph.llm.rates import Amount
from flashgraph.run.cause import Cause
from flashgraph.run.items import Item
from flashgraph.run.static_frozen import statically_frozen

__all__ = ["Call", "Cancel", "Command", "Done", "Grant", "Job", "JobFailure", "Outcome", "Refuse", "Start"]


@attrs.define(eq=False)
class Job:
    """One execution of a source, a stage, or a repair stage for an item of ``edge``."""

    id: int
    node: str
    kind: Literal["source", "stage", "repair"]
    started_at: float
    item: Item | None = None
    stamps: Mapping[str, int] = attrs.field(factory=dict)
    reservation: int | None = None
    slot: str | None = None
    """The endpoint whose slot it holds for its first request."""
    lag: int = 0
    cancelled: bool = False
    done: bool = False
    refused: bool = False
    """Whether the budget has refused one of its requests: it is parked, and runs again in a session with more."""
    outbox: list[Item] = attrs.field(factory=list)
    emission: int = 0
    calls: dict[int, Call] = attrs.field(factory=dict)
    """Its open calls."""
    asked: bool = False
    """Whether it has called a model."""


@attrs.define(eq=False)
class Call:
    """A model request of a job: waiting for one of a service's endpoints, in flight at one, or ended.

    ``size`` estimates the tokens of its prompt, ``tokens`` those of prompt and reply.  ``by_then`` sums up everything
    sent to its endpoint, up to this call, and ``among`` counts the slots in use at that moment.
    """

    id: int
    job: Job
    role: str
    service: str
    amounts: Mapping[str, float]
    size: float = 0.0
    endpoint: str = ""
    reservation: int | None = None
    started_at: float = 0.0
    priority: int = 0
    tokens: float = 0.0
    by_then: Amount = (0.0, 0.0, 0.0)
    among: int = 0


@statically_frozen
class Start:
    """Run ``job``: a source on the view of its pool, a stage on its item's ``value``, a repair stage on ``stale``.

    ``views`` are the values of the pools that it reads; ``refreshed`` says that a refresh rule chose the newest.  For a
    source, ``beside`` are the items that its open rounds began with, and ``champion`` is that of its first pool.
    ``turn`` counts the emissions of all sequential sources.
    """

    job: Job
    value: Any
    views: Mapping[str, Any]
    refreshed: bool = False
    stale: Stale[Any] | None = None
    beside: tuple[Any, ...] = ()
    turn: int = 0
    champion: Artifact | None = None

    def view(self, reads: tuple[str, ...]) -> Any:
        """Return what a function sees that reads these pools: None, the view of one, or a tuple of several views."""
        return self.views[reads[0]] if len(reads) == 1 else tuple(self.views[name] for name in reads) or None


@statically_frozen
class Cancel:
    """Cancel a running job."""

    job: Job


@statically_frozen
class Grant:
    """Send the request of a call."""

    call: Call


@statically_frozen
class Refuse:
    """Refuse a call for which the budget lacks some of ``limit``.  Its job is parked; see `Job.refused`."""

    call: Call
    limit: str


Command = Start | Cancel | Grant | Refuse


@statically_frozen
class Done:
    """A job's result; ``uses`` are the parents that it named (None: it named none)."""

    value: Any
    uses: tuple[Parent, ...] | None = None


@statically_frozen
class JobFailure:
    """The failure or cancellation of a job."""

    cause: Cause
    reason: str
    how: Literal["failed", "cancelled"] = "failed"


Outcome = Done | JobFailure
