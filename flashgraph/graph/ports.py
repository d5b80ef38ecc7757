"""What a graph's functions see: groups, draws, contexts, stale items and verdicts.

These are the words of a graph file's annotations.  They hold data; who fills them is the scheduler's business.
"""

from __future__ import annotations

import random as _random
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractAsyncContextManager
from typing import Any, Generic, Literal, Protocol, Self, overload

import attrs
from typing_extensions import TypeVar

from flashgraph.errors import DataError, FlashgraphError, Place, did_you_mean
from flashgraph.evidence import Evidence
from flashgraph.tasks.task import Llm, Task

__all__ = [
    "Artifact",
    "Change",
    "Contender",
    "Context",
    "Costs",
    "Draw",
    "Group",
    "Member",
    "Param",
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
P = TypeVar("P")
R = TypeVar("R", bound="Openable")
V = TypeVar("V", default=Any)
# Not Any: mypy takes no overload of graph.stage for certain where an argument's type has an Any in it.
W = TypeVar("W", default=object)
C = TypeVar("C", default=None)
In_contra = TypeVar("In_contra", contravariant=True)


STATES = ("arrived", "failed", "missing", "open")


@attrs.frozen
class Member(Generic[M_co]):
    """One member of a group: its place in the scatter, and what became of it.

    ``state`` is ``"arrived"`` (then ``value`` is set), ``"failed"`` (``reason`` says why), ``"missing"`` (filtered or
    discarded on its way) or ``"open"`` (not there yet when the group was released).
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
    """The items scattered from ``origin``, gathered again: ``members`` stand in the order they were scattered.

    ``amendment`` is True on the second delivery of a group that was released early.  ``strata`` names, for each member,
    the part of the scatter that it was drawn from when only some members were sent out (`fg.discriminative`); without
    it all are of one stratum.
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
        """What arrived, in the order of the scatter."""
        return tuple(m.value for m in self.members if m.state == "arrived" and m.value is not None)

    @property
    def partial(self) -> bool:
        """Whether members were still open when the group was released."""
        return any(m.state == "open" for m in self.members)

    @property
    def failures(self) -> tuple[Member[M_co], ...]:
        return tuple(m for m in self.members if m.state == "failed")


@attrs.frozen
class Several(Generic[T_co]):
    """Several items from one: each goes its own way (use ``scatter`` to have them gathered again)."""

    items: tuple[T_co, ...] = attrs.field(converter=tuple)

    def __iter__(self) -> Iterator[T_co]:
        return iter(self.items)


@attrs.frozen
class Artifact:
    """An artifact as its pool knows it.

    ``id`` counts the pool's admissions from 0; ``scores`` maps validation samples to values, ``score`` is the
    pool's one-number summary (None before anything is known); ``provisional`` says that part of its evidence is
    still to come; ``evidence`` is what the score rests on, where the pool says so.
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
        """What it is expected to score: the evidence's estimate, or the pool's score where it weighs no evidence."""
        return self.score if self.evidence is None else self.evidence.estimate


@attrs.frozen
class Contender:
    """An artifact of a pool that is tried on more samples.

    A group whose origin is one adds evidence to that artifact: the pool gets it as a `PoolEvent` of kind
    ``"evidence"``, and no new artifact is admitted.
    """

    artifact: int


@attrs.frozen
class PoolEvent(Generic[T_co]):
    """An event of a pool: ``admit`` a value as ``artifact``, ``amend`` it when the rest of its group is in, add
    ``evidence`` to it, or ``retract`` it."""

    kind: Literal["admit", "amend", "evidence", "retract"]
    artifact: int
    value: T_co
    parents: tuple[int, ...] = ()
    partial: bool = False


class Pool(Protocol[In_contra]):
    """A pool is a pure state machine: an immutable value whose `apply` returns the next one.

    Returning an equal value says that nothing changed, and the version stays.  An artifact is admitted, confirmed
    or retracted by whether it is in `artifacts` afterwards.
    """

    def apply(self, event: PoolEvent[In_contra]) -> Self: ...

    @property
    def artifacts(self) -> Mapping[int, Artifact]:
        """What the pool holds, by id, in order of admission."""
        ...

    def best(self) -> Artifact | None:
        """The artifact to hand out if evolution ended now."""
        ...

    def focus(self) -> Self:
        """The view narrowed to the best line: what a schedule that goes deep shows to a source."""
        ...


@attrs.frozen
class Param(Generic[P]):
    """A named parameter of a graph; read it as ``at[param]``, set it with ``--set name=value``."""

    name: str
    default: P
    place: Place | None = attrs.field(default=None, eq=False, repr=False)


class Openable(Protocol):
    """What a resource is made of: entering ``open()`` takes hold of what it needs, leaving it lets go of all."""

    def open(self) -> AbstractAsyncContextManager[Any]: ...


@attrs.frozen
class Resource(Generic[R]):
    """Something that a run holds open for its stages, as a sandbox; ``factory()`` makes it, ``at[resource]`` is it."""

    name: str
    factory: Callable[..., R]
    place: Place | None = attrs.field(default=None, eq=False, repr=False)


@attrs.frozen
class Change:
    """One version step of a pool: the artifact that was admitted, confirmed, retracted or given more evidence at
    ``version``."""

    version: int
    kind: Literal["admitted", "confirmed", "evidence", "retracted"]
    artifact: Artifact


@attrs.define(eq=False)
class _At(Generic[V]):
    task: Task[Any, Any]
    view: V
    _stream: _random.Random | str
    """The random stream, or what it is seeded with: making one takes longer than most stages do."""
    _params: Mapping[str, Any]
    _resources: Mapping[str, Any] = attrs.field(factory=dict, kw_only=True)
    _used: list[int] | None = attrs.field(default=None, init=False)

    @overload
    def __getitem__(self, key: Param[P]) -> P: ...
    @overload
    def __getitem__(self, key: Resource[R]) -> R: ...
    def __getitem__(self, key: Any) -> Any:
        return (self._resources if isinstance(key, Resource) else self._params)[key.name]

    @property
    def random(self) -> _random.Random:
        """The random stream of this draw or execution."""
        if isinstance(self._stream, str):
            self._stream = _random.Random(self._stream)
        return self._stream

    def uses(self, *artifacts: Artifact | int) -> None:
        """Name the artifacts that what is made here descends from: they become its parents, and a retraction of
        one of them makes it an orphan.  Without a call, everything provisional in the view counts."""
        ids = [a.id if isinstance(a, Artifact) else a for a in artifacts]
        self._used = [*(self._used or []), *ids]

    @property
    def used(self) -> tuple[int, ...] | None:
        return None if self._used is None else tuple(dict.fromkeys(self._used))


@attrs.define(eq=False)
class Draw(_At[V], Generic[V, C]):
    """What a source sees: the pool's view, its random stream and its cursor.

    ``emission`` counts this source's emissions from 0.  ``cursor`` is the source's own small state: assign the next
    value to it (an immutable one); it is kept from emission to emission and belongs to the run's state.  ``turn``
    counts the emissions of all sources that share the sequential stream, ``open`` the source's rounds that are open
    now.  ``champion`` is the artifact that the run would hand out of the pool.  A source that returns None is asked
    again when its pool has changed or one of its rounds has ended.
    """

    emission: int = 0
    turn: int = 0
    open: int = 0
    champion: Artifact | None = None
    cursor: C = None  # type: ignore[assignment]  # None is the cursor of a source that declares none


@attrs.frozen
class Costs:
    """How many evaluations a run of an algorithm takes.

    Beside validations it takes ``start`` of them before its first round, and ``least`` to ``most`` for each round.
    ``seeds`` candidates are validated at the start, and up to ``children`` in a round; how many samples that is, the
    task and the schedule say.
    """

    start: int = 0
    least: int = 0
    most: int = 0
    seeds: int = 0
    children: int = 0


def _no_model(*_: Any, **__: Any) -> Any:
    raise FlashgraphError(
        "this stage called at.llm but declares no model. Fix: @graph.stage(llm='ROLE'), for instance llm='task'."
    )


@attrs.define(eq=False)
class Context(_At[W], Generic[W]):
    """What a stage sees beside its item.

    ``llm`` calls the stage's model; ``view`` is the pool that the stage reads, at the version its result is stamped
    with (None for a stage that reads none); ``refreshed`` says that a refresh rule replaced the item's older view;
    ``lag`` is the item's lag when the stage started.
    """

    llm: Llm = attrs.field(default=_no_model)
    lag: int = 0
    refreshed: bool = False


@attrs.frozen
class Stale(Generic[T_co]):
    """A stale item before a repair stage: its value, how far it lags, and what changed since (oldest first)."""

    value: T_co
    lag: int
    changes: tuple[Change, ...]


@attrs.frozen
class Verdict(Generic[T]):
    """What a repair stage decides: let the item pass as it is, replace its value, or discard it."""

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
