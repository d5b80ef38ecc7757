"""Handles of declared nodes, generic in the types of their items so that mypy refuses a wrong edge."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Hashable, Mapping, Sequence
from typing import Any, Generic, Literal, Protocol, TypedDict, overload

import attrs
from typing_extensions import TypeVar

from flashgraph.graph.contexts import Context, Draw, Emit
from flashgraph.graph.ports import Artifact, PoolEvent, Several
from flashgraph.graph.spec import Order, Staleness
from flashgraph.tasks.workers import Runs

__all__ = [
    "Consumer",
    "EdgeOptions",
    "Factory",
    "Included",
    "PoolNode",
    "Producer",
    "Source",
    "SourceDecorator",
    "SourceOptions",
    "Stage",
    "StageDecorator",
    "StageOptions",
]

A = TypeVar("A")
B = TypeVar("B")
V = TypeVar("V")
Out = TypeVar("Out")
In_contra = TypeVar("In_contra", contravariant=True)
Out_co = TypeVar("Out_co", covariant=True)
View_co = TypeVar("View_co", covariant=True)


Number = int | Callable[[Any], int]
"""A number, or a function of the graph's parameters that returns it."""


class Owner(Protocol):
    """The graph that a handle belongs to."""

    name: str

    def handle(self, name: str) -> Any: ...
    @property
    def _add_source(self) -> Callable[..., Source[Any]]: ...
    @property
    def _add_stage(self) -> Callable[..., Stage[Any, Any]]: ...


@attrs.frozen(slots=False)
class Producer(Generic[Out_co]):
    """A node that edges may start from; ``name`` is its name in the graph."""

    name: str
    owner: Owner = attrs.field(repr=False, eq=False)


@attrs.frozen(slots=False)
class Consumer(Generic[In_contra]):
    """A node that edges may end at."""

    name: str
    owner: Owner = attrs.field(repr=False, eq=False)


@attrs.frozen(slots=False)
class Source(Producer[Out_co]):
    pass


@attrs.frozen(slots=False)
class Stage(Producer[Out_co], Consumer[In_contra], Generic[In_contra, Out_co]):
    pass


@attrs.frozen(slots=False)
class PoolNode(Consumer[In_contra], Generic[In_contra, View_co]):
    pass


class Factory(Protocol[In_contra, View_co]):
    """A `flashgraph.Pool` that a factory returns, generic in the values that `apply` takes and in its views."""

    def apply(self, event: PoolEvent[In_contra], /) -> View_co: ...
    def best(self) -> Artifact | None: ...


@attrs.frozen
class Included:
    """The nodes of an included graph, by their names in that graph: ``part["map"]``."""

    prefix: str
    owner: Owner = attrs.field(repr=False, eq=False)
    names: Mapping[str, str] = attrs.field(repr=False, eq=False)

    def __getitem__(self, name: str) -> Any:
        """Return the handle of a node.  mypy knows neither its kind nor its types; `check` does."""
        return self.owner.handle(self.names.get(name, f"{self.prefix}.{name}"))


class SourceOptions(TypedDict, total=False):
    """Options of `Graph.source`, except ``reads``."""

    name: str | None
    rounds: Number | None
    stream: Literal["keyed", "sequential"]
    state: Any
    evidence: bool
    window: Number | None
    focus: bool


class StageOptions(TypedDict, total=False):
    """Options of `Graph.stage`."""

    name: str | None
    model: str | None
    reads: PoolNode[Any, Any] | tuple[PoolNode[Any, Any], ...] | None
    counts: str | Sequence[str]
    workers: Number | None
    fanout: Number | None
    runs: Runs
    timeout: float | None
    retries: int


class EdgeOptions(TypedDict, total=False):
    """Options of every `Graph.edge`."""

    capacity: Number | None
    order: Order | None
    otherwise: bool
    loop: Number | None
    stale: Staleness | None
    orphans: Literal["discard", "keep"]
    distinct: Callable[[Any], Hashable] | None


class SourceDecorator(Generic[V]):
    """The decorator that ``graph.source(...)`` without a function returns."""

    def __init__(self, graph: Owner, options: dict[str, Any]) -> None:
        self._graph, self._options = graph, options

    @overload
    def __call__(self, body: Callable[[Draw[V, Any, Any]], Emit[Out, Any] | None], /) -> Source[Out]: ...
    @overload
    def __call__(self, body: Callable[[Draw[V, Any, Any]], Out | None], /) -> Source[Out]: ...
    def __call__(self, body: Callable[..., Any], /) -> Source[Any]:
        return self._graph._add_source(body, **self._options)


class StageDecorator:
    """The decorator that ``graph.stage(...)`` without a function returns."""

    def __init__(self, graph: Owner, options: dict[str, Any]) -> None:
        self._graph, self._options = graph, options

    @overload
    def __call__(self, body: Callable[[A, Context[Any, Any]], Awaitable[Several[B] | None]], /) -> Stage[A, B]: ...
    @overload
    def __call__(self, body: Callable[[A, Context[Any, Any]], Awaitable[B | None]], /) -> Stage[A, B]: ...
    @overload
    def __call__(self, body: Callable[[A, Context[Any, Any]], Several[B] | None], /) -> Stage[A, B]: ...
    @overload
    def __call__(self, body: Callable[[A, Context[Any, Any]], B | None], /) -> Stage[A, B]: ...
    @overload
    def __call__(self, body: Callable[[A], Awaitable[Several[B] | None]], /) -> Stage[A, B]: ...
    @overload
    def __call__(self, body: Callable[[A], Awaitable[B | None]], /) -> Stage[A, B]: ...
    @overload
    def __call__(self, body: Callable[[A], Several[B] | None], /) -> Stage[A, B]: ...
    @overload
    def __call__(self, body: Callable[[A], B | None], /) -> Stage[A, B]: ...
    def __call__(self, body: Callable[..., Any], /) -> Stage[Any, Any]:
        return self._graph._add_stage(body, **self._options)
