"""The arguments of a graph's functions: `Draw` for a source, `Context` for a stage.

The scheduler fills them in.
"""

from __future__ import annotations

import random as _random
from collections.abc import Mapping
from typing import Any, Generic, Protocol

import attrs
from typing_extensions import TypeVar

from flashgraph.errors import DataError, FlashgraphError, did_you_mean
from flashgraph.graph.ports import Artifact, Openable, Resource
from flashgraph.tasks.task import Llm, Task

__all__ = ["Context", "Draw", "Emit", "Parent", "emitted"]

R = TypeVar("R", bound=Openable)
V = TypeVar("V", default=Any)
# Not Any: with an Any in an argument's type, mypy cannot choose an overload of graph.stage.
W = TypeVar("W", default=object)
Q = TypeVar("Q", default=object)
S = TypeVar("S", default=None)
I_co = TypeVar("I_co", covariant=True)
S_co = TypeVar("S_co", covariant=True)


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
    """The random stream, or its seed until first use, because making a stream takes longer than most stages run."""
    params: Q = attrs.field(default=None)
    """The parameters of the graph that declares the function: an object of its parameter class."""
    _parts: Mapping[str, Any] = attrs.field(factory=dict, kw_only=True)
    """The parameters of the included graphs, by prefix."""
    _resources: Mapping[str, Any] = attrs.field(factory=dict, kw_only=True)
    _pools: Mapping[str, str] = attrs.field(factory=dict, kw_only=True)
    """The pools that the function reads, by their names in its own graph file."""
    _used: list[Parent] | None = attrs.field(default=None, init=False)

    def __getitem__(self, resource: Resource[R]) -> R:
        """Return the open object of a resource."""
        found: R = self._resources[resource.name]
        return found

    def params_of(self, part: Part) -> Any:
        """Return the parameters of an included graph as an object of their class; ``part`` is a result of
        `Graph.include`.
        """
        return self._parts[f"{part.prefix}."]

    @property
    def random(self) -> _random.Random:
        """The random stream of this draw or execution."""
        if isinstance(self._stream, str):
            self._stream = _random.Random(self._stream)
        return self._stream

    def parents(self, *artifacts: Artifact | int, of: Named | None = None) -> None:
        """Name the artifacts that the result descends from.

        ``of`` is their pool; it is required if the function reads several. Raises `DataError` for a pool that the
        function does not read. The result becomes an orphan if one of its parents is retracted. Without a call of
        `parents` or `no_parents`, the result has no parents, and becomes an orphan if any provisional artifact of the
        view is retracted.
        """
        ids = [a.id if isinstance(a, Artifact) else a for a in artifacts]
        named: list[Parent] = [*ids]
        if of is not None:
            if of.name not in self._pools:
                read = ", ".join(self._pools) or "none"
                raise DataError(
                    f"ctx.parents(of={of.name}): found a pool that is not in reads=; expected one of: {read}.\n"
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

    If the source reads several pools, ``view`` is a tuple of views taken at the same time, in the order of ``reads``.
    ``emission`` counts this source's emissions from 0.  ``state`` is the source's own small, immutable value: the
    option ``state`` sets the first, and each `Emit` returns the next.  ``turn`` counts the emissions of all sources
    with the sequential stream.  ``open`` holds the first item of each open round of this source, oldest first.
    ``champion`` is the champion of the pool, or of the first pool of several.

    A source that returns None is called again when its pool changes or one of its rounds ends.
    """

    emission: int = 0
    turn: int = 0
    open: tuple[Any, ...] = ()
    champion: Artifact | None = None
    state: S = None  # type: ignore[assignment]  # None is the state of a source that declares none


@attrs.frozen
class Emit(Generic[I_co, S_co]):
    """The result of a source with a state: the item, and the state for its next call.

    If ``item`` is None, no round opens, but the state still changes. A call that raises or returns None leaves the
    state as it was.
    """

    item: I_co | None
    state: S_co


def emitted(result: Any, state: Any) -> tuple[Any, Any]:
    """Return the item and the next state from a source's result; ``state`` was the state during the call."""
    return (result.item, result.state) if isinstance(result, Emit) else (result, state)


def _no_model(*_: Any, **__: Any) -> Any:
    raise FlashgraphError(
        "this stage called ctx.llm but declares no model. Fix: @graph.stage(model='ROLE'), for instance model='task'."
    )


@attrs.define(eq=False)
class Context(_Ctx[W, Q], Generic[W, Q]):
    """The second argument of a stage.

    ``llm`` calls the stage's model.  ``view`` is the pool that the stage reads, at the version with which its result is
    stamped. It is a tuple of views if the stage reads several pools, and None if it reads none.  ``refreshed`` is True
    if a refresh rule replaced the item's older view.  ``lag`` is the item's lag when the stage started.
    """

    llm: Llm = attrs.field(default=_no_model)
    lag: int = 0
    refreshed: bool = False
