"""A graph as frozen values: the DSL makes them, `check` reads them, and a plan is compiled from them.

The protocols of policies are here because edges hold policies; the policies themselves are in a higher layer.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any, Literal, Protocol

import attrs

from flashgraph.errors import Flaw, Place
from flashgraph.graph.params import Param
from flashgraph.graph.ports import Costs, Failed, Group, Resource
from flashgraph.tasks.workers import Runs

__all__ = [
    "DEFAULT_LATE",
    "EdgeSpec",
    "Failure",
    "GraphSpec",
    "NodeSpec",
    "Order",
    "PoolSpec",
    "QueueRule",
    "Release",
    "ScatterRule",
    "SourceSpec",
    "StageSpec",
    "Staleness",
]

Late = Literal["cancel", "drop", "amend"]
DEFAULT_LATE: Late = "cancel"


class Staleness(Protocol):
    """A staleness rule; see `flashgraph.policies.staleness`."""

    def judge(self, lags: Mapping[str, int], repairs: int, touched: Any = ...) -> Any: ...
    def flaw(self) -> Flaw | None: ...
    def repairers(self) -> tuple[Any, ...]: ...
    def pools(self) -> tuple[Any, ...]: ...
    def refreshes(self) -> bool: ...
    def renamed(self, names: Mapping[str, str]) -> Staleness: ...


class Release(Protocol):
    """A release rule; see `flashgraph.policies.release`."""

    def ready(self, group: Group[Any, Any], arrived: int, elapsed: float) -> bool: ...
    def needs(self, size: int) -> int: ...
    def deadline(self) -> float | None: ...
    def flaw(self) -> Flaw | None: ...


class QueueRule(Protocol):
    """An order of an edge's queue; see `flashgraph.policies.order`."""

    def key(self, value: Any, version: int) -> Any: ...
    def flaw(self) -> Flaw | None: ...


class ScatterRule(Protocol):
    """An order of the members of a scatter; see `flashgraph.policies.order`."""

    def arrange(self, members: Sequence[Any], streaks: Mapping[Any, int]) -> list[int]: ...
    def identity(self, index: int, member: Any) -> Any: ...
    def passed(self, value: Any) -> bool: ...
    def flaw(self) -> Flaw | None: ...


class Failure(Protocol):
    """A rule about failed members of a group; see `flashgraph.policies.failure`."""

    def fails(self, failed: int, size: int) -> bool: ...
    def flaw(self) -> Flaw | None: ...


Order = QueueRule | ScatterRule


@attrs.frozen
class PoolSpec:
    name: str
    factory: Callable[[], Any]
    place: Place
    prefix: str = ""
    kind: Literal["pool"] = "pool"


@attrs.frozen
class SourceSpec:
    """A source.  ``rounds`` bounds its emissions (None: no bound), ``stream`` names the random stream of its draws.

    ``reads`` names the pools that it sees, and ``reads_as`` has their names in its own graph file. ``evidence`` is True
    if its rounds try artifacts of the pool on more samples.  ``window`` bounds its open rounds under every schedule,
    and ``focus`` says whether a schedule may narrow its view to the pool's best line.
    """

    name: str
    body: Callable[..., Any]
    place: Place
    reads: tuple[str, ...] = ()
    rounds: int | None = None
    stream: Literal["keyed", "sequential"] = "keyed"
    state: Any = None
    evidence: bool = False
    window: int | None = None
    focus: bool = True
    prefix: str = ""
    reads_as: tuple[str, ...] = attrs.field(default=attrs.Factory(lambda self: self.reads, takes_self=True), eq=False)
    localns: Mapping[str, Any] = attrs.field(factory=dict, repr=False, eq=False)
    kind: Literal["source"] = "source"


@attrs.frozen
class StageSpec:
    """A stage. ``model`` is the role of its model, ``counts`` the budgets that one execution counts against. ``reads``
    and ``reads_as`` are as in `SourceSpec`. A try may take ``timeout`` seconds; if it raises, up to ``retries`` more
    follow.
    """

    name: str
    body: Callable[..., Any]
    place: Place
    model: str | None = None
    reads: tuple[str, ...] = ()
    counts: tuple[str, ...] = ()
    workers: int | None = None
    fanout: int | None = None
    runs: Runs = "loop"
    timeout: float | None = None
    retries: int = 0
    prefix: str = ""
    reads_as: tuple[str, ...] = attrs.field(default=attrs.Factory(lambda self: self.reads, takes_self=True), eq=False)
    localns: Mapping[str, Any] = attrs.field(factory=dict, repr=False, eq=False)
    kind: Literal["stage"] = "stage"


NodeSpec = PoolSpec | SourceSpec | StageSpec


@attrs.frozen
class EdgeSpec:
    """A bounded queue between two nodes with its policies; None is the default of the schedule."""

    src: str
    dst: str
    place: Place
    capacity: int | None = None
    scatter: Callable[[Any], Sequence[Any]] | None = None
    gather: bool = False
    fanout: int | None = None
    release: Release | None = None
    late: Late | None = None
    order: Order | None = None
    only: type | None = None
    when: Callable[[Any], bool] | None = None
    otherwise: bool = False
    loop: int | None = None
    stale: Staleness | None = None
    on_failure: Any = None
    orphans: Literal["discard", "keep"] = "discard"
    distinct: Callable[[Any], Hashable] | None = None
    prefix: str = ""

    @property
    def name(self) -> str:
        return f"{self.src}->{self.dst}"

    @property
    def takes_failures(self) -> bool:
        """Whether the edge takes the failures of its stage, and nothing else."""
        return self.only is Failed


@attrs.frozen
class GraphSpec:
    """A whole graph; nodes and edges are in the order of their declaration."""

    name: str
    doc: str
    place: Place
    params: Mapping[str, Param]
    nodes: Mapping[str, NodeSpec]
    edges: tuple[EdgeSpec, ...]
    resources: Mapping[str, Resource[Any]] = attrs.field(factory=dict)
    tests: str | None = None
    """The stage that runs artifacts in the held-out test; None for the task's own ``attempt``."""
    costs: Callable[[Any], Costs] | None = None
    """A function of a `Draw` without a view that returns how many evaluations a run takes; None if undeclared."""
    result: str | None = None
    """The pool whose champion is the run's result; None for the first declared pool that has a champion."""
    classes: Mapping[str, type] = attrs.field(factory=dict)
    """The parameter classes of the graph (prefix "") and of its included graphs, by prefix."""

    @property
    def results(self) -> tuple[str, ...]:
        """The pools whose champion may be the run's result, in order: the first that has a champion decides."""
        return tuple(p.name for p in self.pools) if self.result is None else (self.result,)

    @property
    def pools(self) -> tuple[PoolSpec, ...]:
        return tuple(n for n in self.nodes.values() if isinstance(n, PoolSpec))

    @property
    def sources(self) -> tuple[SourceSpec, ...]:
        return tuple(n for n in self.nodes.values() if isinstance(n, SourceSpec))

    @property
    def stages(self) -> tuple[StageSpec, ...]:
        return tuple(n for n in self.nodes.values() if isinstance(n, StageSpec))

    @property
    def roles(self) -> tuple[str, ...]:
        """The roles of the models that the stages call, sorted."""
        return tuple(sorted({s.model for s in self.stages if s.model is not None}))

    @property
    def repairers(self) -> frozenset[str]:
        """The names of the stages that the staleness rules of edges use for repairs."""
        return frozenset(
            str(getattr(r, "name", r)) for e in self.edges if e.stale is not None for r in e.stale.repairers()
        )

    def into(self, node: str) -> tuple[EdgeSpec, ...]:
        return tuple(e for e in self.edges if e.dst == node)

    def out_of(self, node: str) -> tuple[EdgeSpec, ...]:
        return tuple(e for e in self.edges if e.src == node)

    def edge(self, name: str) -> EdgeSpec | None:
        return next((e for e in self.edges if e.name == name), None)
