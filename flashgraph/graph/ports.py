"""The arguments and results of a graph's functions: groups, draws, contexts, stale items and verdicts.

A graph file uses them as annotations.  They hold data, which the scheduler fills in.
"""

from __future__ import annotations

import random as _random
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractAsyncContextManager
from typing import Any, Generic, Literal, Protocol, Self

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
    "Emit",
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
V = TypeVar("V", default=Any)
# Not Any: with an Any in an argument's type, mypy cannot choose an overload of graph.stage.
W = TypeVar("W", default=object)
Q = TypeVar("Q", default=object)
S = TypeVar("S", default=None)
I_co = TypeVar("I_co", covariant=True)
S_co = TypeVar("S_co", covariant=True)
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

    ``amendment`` is True on the second delivery of a group that was released early.  If only some members were sent
    out (`fg.sampled`), ``strata`` holds the stratum that each was drawn from (`fg.discriminative`).  If it is empty,
    all members are of one stratum.
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
class Several(Generic[T_co]):
    """Several items from one.  Each is routed by itself; to gather items again, use ``scatter`` instead."""

    items: tuple[T_co, ...] = attrs.field(converter=tuple)

    def __iter__(self) -> Iterator[T_co]:
        return iter(self.items)


@attrs.frozen
class Artifact:
    """An artifact in its pool.

    ``id`` counts the pool's admissions from 0.  ``scores`` maps validation samples to values, and ``score`` is the
    pool's summary of them (None before there is any).  ``provisional`` means that more of its evidence will come.
    ``evidence`` is the evidence of its score; None if the pool weighs none.
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
        """The estimate of its evidence; the pool's score if the pool weighs no evidence."""
        return self.score if self.evidence is None else self.evidence.estimate


@attrs.frozen
class Contender:
    """An artifact of a pool that is tried on more samples.

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

    If it returns an equal value, the version stays the same.  An artifact counts as admitted or confirmed if it is in
    `artifacts` afterwards, and as rejected or retracted if it is not.
    """

    def apply(self, event: PoolEvent[In_contra]) -> Self: ...

    @property
    def artifacts(self) -> Mapping[int, Artifact]:
        """The artifacts that the pool holds, by id, in order of admission."""
        ...

    def best(self) -> Artifact | None:
        """Return the artifact to hand out if the run ended now; None before there is one."""
        ...

    def focus(self) -> Self:
        """Return the view narrowed to the best line, which a schedule may show to a source."""
        ...


class Openable(Protocol):
    """The value of a resource: its ``open()`` acquires everything on entry and releases it on exit."""

    def open(self) -> AbstractAsyncContextManager[Any]: ...


@attrs.frozen
class Resource(Generic[R]):
    """Something that a run holds open for its stages, such as a sandbox.

    ``factory()`` makes it; stages read it as ``ctx[resource]``.
    """

    name: str
    factory: Callable[..., R]
    place: Place | None = attrs.field(default=None, eq=False, repr=False)


@attrs.frozen
class Change:
    """One version step of a pool: the artifact that ``version`` admitted, confirmed, retracted or gave evidence."""

    version: int
    kind: Literal["admitted", "confirmed", "evidence", "retracted"]
    artifact: Artifact


class Named(Protocol):
    """A node of a graph file, such as a pool."""

    @property
    def name(self) -> str: ...


Parent = int | tuple[str, int]
"""A parent as a function names it: an artifact of the only pool that it reads, or a pool with its artifact."""


class Part(Protocol):
    """An included graph."""

    @property
    def prefix(self) -> str: ...


@attrs.define(eq=False)
class _Ctx(Generic[V, Q]):
    task: Task[Any, Any]
    view: V
    _stream: _random.Random | str
    """The random stream, or its seed: a stream takes longer to make than most stages run."""
    params: Q = attrs.field(default=None)
    """The parameters of the graph that declares the function: an object of its parameter class."""
    _parts: Mapping[str, Any] = attrs.field(factory=dict, kw_only=True)
    """By prefix, the parameters of the graphs that are included in that graph."""
    _resources: Mapping[str, Any] = attrs.field(factory=dict, kw_only=True)
    _pools: Mapping[str, str] = attrs.field(factory=dict, kw_only=True)
    """The pools that it reads, by the names that its graph file gives them."""
    _used: list[Parent] | None = attrs.field(default=None, init=False)

    def __getitem__(self, resource: Resource[R]) -> R:
        """Return what the run holds open under a resource."""
        found: R = self._resources[resource.name]
        return found

    def params_of(self, part: Part) -> Any:
        """Return the parameters of an included graph, which `Graph.include` returned, as an object of its class."""
        return self._parts[f"{part.prefix}."]

    @property
    def random(self) -> _random.Random:
        """The random stream of this draw or execution."""
        if isinstance(self._stream, str):
            self._stream = _random.Random(self._stream)
        return self._stream

    def parents(self, *artifacts: Artifact | int, of: Named | None = None) -> None:
        """Name the artifacts that the result descends from.

        ``of`` is their pool, needed where the function reads several.  Raises `DataError` for a pool that it does not
        read.
        They become its parents, and a retraction of one makes it an orphan.  Without a call of `parents` or
        `no_parents`, the result has no parents, and the retraction of any provisional artifact of the view makes it an
        orphan.
        """
        ids = [a.id if isinstance(a, Artifact) else a for a in artifacts]
        named: list[Parent] = [*ids]
        if of is not None:
            if of.name not in self._pools:
                read = ", ".join(self._pools) or "none is"
                raise DataError(
                    f"ctx.parents(of={of.name}): found a pool that is not read here; expected one that is: {read}.\n"
                    f"Fix: {did_you_mean(of.name, list(self._pools))}, or reads={of.name} on the source or stage."
                )
            named = [(self._pools[of.name], artifact) for artifact in ids]
        self._used = [*(self._used or []), *named]

    def no_parents(self) -> None:
        """State that the result descends from no artifact: no retraction makes it an orphan."""
        self._used = self._used or []

    @property
    def used(self) -> tuple[Parent, ...] | None:
        return None if self._used is None else tuple(dict.fromkeys(self._used))


@attrs.define(eq=False)
class Draw(_Ctx[V, Q], Generic[V, Q, S]):
    """The argument of a source: the pool's view, the parameters, a random stream and the source's own state.

    ``view`` is a tuple of views if the source reads several pools, in the order of ``reads``; all are of one moment.
    ``emission`` counts this source's emissions from 0.  ``state`` is the source's own small, immutable value: the first
    one is an option of the source, and each `Emit` returns the next.  ``turn`` counts the emissions of all sources that
    share the sequential stream.  ``open`` holds the items that this source's open rounds began with, oldest first.
    ``champion`` is the artifact that the run would hand out of the pool, or of the first of several.

    A source that returns None is called again when its pool changes or one of its rounds ends.
    """

    emission: int = 0
    turn: int = 0
    open: tuple[Any, ...] = ()
    champion: Artifact | None = None
    state: S = None  # type: ignore[assignment]  # None is the state of a source that declares none


@attrs.frozen
class Emit(Generic[I_co, S_co]):
    """The result of a source that keeps a state: the item, and the state that its next call sees.

    Without an item no round opens, and the state is replaced nevertheless.  A call that raises, or returns None, leaves
    the state as it was.
    """

    item: I_co | None
    state: S_co


def emitted(result: Any, state: Any) -> tuple[Any, Any]:
    """Return the item and the next state that a source's result means, after a call that saw ``state``."""
    return (result.item, result.state) if isinstance(result, Emit) else (result, state)


@attrs.frozen
class Costs:
    """How many evaluations a run of an algorithm takes.

    Besides validations, it takes ``start`` evaluations before its first round, and ``least`` to ``most`` in each round.
    It validates ``seeds`` candidates at the start, and up to ``children`` in a round.  The task and the schedule decide
    how many samples a validation has.
    """

    start: int = 0
    least: int = 0
    most: int = 0
    seeds: int = 0
    children: int = 0


def _no_model(*_: Any, **__: Any) -> Any:
    raise FlashgraphError(
        "this stage called ctx.llm but declares no model. Fix: @graph.stage(model='ROLE'), for instance model='task'."
    )


@attrs.define(eq=False)
class Context(_Ctx[W, Q], Generic[W, Q]):
    """The second argument of a stage.

    ``llm`` calls the stage's model.  ``view`` is the pool that the stage reads, at the version that its result is
    stamped with.  It is a tuple of views for several pools, and None if it reads none.  ``refreshed`` means that a refresh
    rule replaced the item's older view.  ``lag`` is the item's lag when the stage started.
    """

    llm: Llm = attrs.field(default=_no_model)
    lag: int = 0
    refreshed: bool = False


@attrs.frozen
class Stale(Generic[T_co]):
    """The argument of a repair stage: a stale item's value, its lag, and the changes since, the oldest first."""

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
