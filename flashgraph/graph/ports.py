"""The items, artifacts and results that a graph's functions take and return: groups, failures, verdicts, pool events.

A graph file uses them as annotations.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractAsyncContextManager
from typing import Any, Generic, Literal, Protocol, Self

import attrs
from typing_extensions import TypeVar

from flashgraph.errors import DataError, Place, did_you_mean
from flashgraph.evidence import Evidence

__all__ = [
    "Artifact",
    "Change",
    "Contender",
    "Costs",
    "Failed",
    "Group",
    "Member",
    "Pool",
    "PoolEvent",
    "Resource",
    "Several",
    "Stale",
    "Verdict",
]

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)
O_co = TypeVar("O_co", covariant=True)
M_co = TypeVar("M_co", covariant=True)
R = TypeVar("R", bound="Openable")
In_contra = TypeVar("In_contra", contravariant=True)


STATES = ("arrived", "failed", "missing", "open")


@attrs.frozen
class Member(Generic[M_co]):
    """One member of a group: its index in the scatter and its state.

    ``state`` is ``"arrived"`` (``value`` is set), ``"failed"`` (``reason`` says why), ``"missing"`` (it was filtered or
    discarded on its way) or ``"open"`` (it had not arrived when the group was released).
    """

    index: int
    state: Literal["arrived", "failed", "missing", "open"] = "open"
    value: M_co | None = None
    reason: str = ""

    def __attrs_post_init__(self) -> None:
        if self.state not in STATES:
            raise DataError(
                f"fg.Member({self.index}, {self.state!r}): no such state; expected one of {', '.join(STATES)}.\n"
                f"Fix: {did_you_mean(str(self.state), STATES)}"
            )


@attrs.frozen
class Group(Generic[O_co, M_co]):
    """The items scattered from ``origin``, gathered again; ``members`` are in the order of the scatter.

    ``amendment`` is True on the second delivery of a group that was released early. If the scatter sent only some
    members (`fg.sampled`), ``strata`` holds the stratum of each (`fg.discriminative`); it is empty if all are of one
    stratum.
    """

    origin: O_co
    members: tuple[Member[M_co], ...]
    amendment: bool = False
    strata: tuple[int, ...] = ()

    @property
    def size(self) -> int:
        return len(self.members)

    @property
    def values(self) -> tuple[M_co, ...]:
        """The values that arrived, in the order of the scatter."""
        return tuple(m.value for m in self.members if m.state == "arrived" and m.value is not None)

    @property
    def partial(self) -> bool:
        """Whether some members were still open when the group was released."""
        return any(m.state == "open" for m in self.members)

    @property
    def failures(self) -> tuple[Member[M_co], ...]:
        return tuple(m for m in self.members if m.state == "failed")


@attrs.frozen
class Failed(Generic[T_co]):
    """An item on which a stage failed, and the reason.

    An edge with ``only=fg.Failed`` takes the failures of its stage.  Without such an edge the item ends as failed.
    """

    value: T_co
    reason: str


@attrs.frozen
class Several(Generic[T_co]):
    """Several items from one. Each continues independently; to gather them later, use ``scatter`` instead."""

    items: tuple[T_co, ...] = attrs.field(converter=tuple)

    def __iter__(self) -> Iterator[T_co]:
        return iter(self.items)


@attrs.frozen
class Artifact:
    """An artifact in its pool.

    ``id`` counts the pool's admissions from 0.  ``scores`` maps validation samples to values, and ``score`` is the
    pool's summary of them (None before there is any).  ``provisional`` means that its group was released early and more
    evidence will follow. ``evidence`` is the evidence of its score; None if the pool computes none.
    """

    id: int
    value: Any
    parents: tuple[int, ...] = ()
    score: float | None = None
    scores: Mapping[int, float] = attrs.field(factory=dict)
    provisional: bool = False
    evidence: Evidence | None = None

    @property
    def estimate(self) -> float | None:
        """The estimate of its evidence; the pool's score if it has no evidence."""
        return self.score if self.evidence is None else self.evidence.estimate


@attrs.frozen
class Contender:
    """The origin of a round that tries an artifact of a pool on more samples.

    A group with a contender as its origin adds evidence to that artifact.  The pool gets a `PoolEvent` of kind
    ``"evidence"``, and admits no new artifact.
    """

    artifact: int


@attrs.frozen
class PoolEvent(Generic[T_co]):
    """A change of a pool: ``admit`` a value as ``artifact``, ``amend`` it with the rest of its group, add ``evidence``
    to it, or ``retract`` it."""

    kind: Literal["admit", "amend", "evidence", "retract"]
    artifact: int
    value: T_co
    parents: tuple[int, ...] = ()
    partial: bool = False


class Pool(Protocol[In_contra]):
    """A pool is a pure state machine: an immutable value whose `apply` returns the next one.

    If `apply` returns an equal value, the version stays the same.  An artifact counts as admitted or confirmed if it is
    in `artifacts` afterwards, otherwise as rejected or retracted. A pool may also have a method ``best_line()`` that
    returns the pool with its best line only; schedules with ``focus`` show that to sources.
    """

    def apply(self, event: PoolEvent[In_contra]) -> Self: ...

    @property
    def artifacts(self) -> Mapping[int, Artifact]:
        """The artifacts that the pool holds, by id, in order of admission."""
        ...

    def best(self) -> Artifact | None:
        """Return the pool's best artifact; None if the pool has none."""
        ...


class Openable(Protocol):
    """The object of a resource: its ``open()`` is a context manager that acquires on entry and releases on exit."""

    def open(self) -> AbstractAsyncContextManager[Any]: ...


@attrs.frozen
class Resource(Generic[R]):
    """An object that a run holds open for its stages, such as a sandbox.

    ``factory()`` makes it; stages read it as ``ctx[resource]``.
    """

    name: str
    factory: Callable[..., R]
    place: Place | None = attrs.field(default=None, eq=False, repr=False)


@attrs.frozen
class Change:
    """One change of a pool: the artifact that was admitted, confirmed, retracted or given evidence at ``version``."""

    version: int
    kind: Literal["admitted", "confirmed", "evidence", "retracted"]
    artifact: Artifact


@attrs.frozen
class Costs:
    """How many evaluations a run of an algorithm takes.

    A run validates ``seeds`` candidates at the start, and up to ``children`` in each round. The task and the schedule
    decide how many samples a validation has. Besides validations, a run takes ``start`` evaluations before its first
    round, and ``least`` to ``most`` in each round.
    """

    start: int = 0
    least: int = 0
    most: int = 0
    seeds: int = 0
    children: int = 0


@attrs.frozen
class Stale(Generic[T_co]):
    """The argument of a repair stage: a stale item's value, its lag, and the pool's changes since its version, oldest
    first.
    """

    value: T_co
    lag: int
    changes: tuple[Change, ...]


@attrs.frozen
class Verdict(Generic[T]):
    """The result of a repair stage: accept the item as it is, replace its value, or discard it."""

    kind: Literal["accept", "patch", "discard"]
    value: T | None = None
    reason: str = ""

    @classmethod
    def accept(cls) -> Verdict[T]:
        return cls("accept")

    @classmethod
    def patch(cls, value: T) -> Verdict[T]:
        return cls("patch", value)

    @classmethod
    def discard(cls, reason: str = "") -> Verdict[T]:
        return cls("discard", None, reason)
