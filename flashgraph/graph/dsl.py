"""The language of a graph file: `Graph` collects pools, sources, stages and edges as they are written.

Nothing is refused while the file is read: what is wrong with a declaration is noted with its line, and `check`
reports all of it together.  Handles are generic in what flows through them, so that mypy refuses a wrong edge.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, overload

import attrs
from typing_extensions import TypeVar, Unpack

from flashgraph.errors import Place, Problem
from flashgraph.graph.declarations import Declarations
from flashgraph.graph.handles import (
    Consumer,
    EdgeOptions,
    Factory,
    Included,
    PoolNode,
    Producer,
    Source,
    SourceDecorator,
    SourceOptions,
    Stage,
    StageDecorator,
    StageOptions,
)
from flashgraph.graph.include import include
from flashgraph.graph.naming import end_name, shown
from flashgraph.graph.ports import Context, Costs, Draw, Group, Openable, Several
from flashgraph.graph.spec import EdgeSpec, Failure, PoolSpec, Release

if TYPE_CHECKING:
    from flashgraph.graph.check import CheckedGraph

__all__ = ["Graph", "Included", "PoolNode", "Source", "Stage"]

A = TypeVar("A")
B = TypeVar("B")
M = TypeVar("M")
P = TypeVar("P")
R = TypeVar("R", bound=Openable)
V = TypeVar("V")
In = TypeVar("In")
Out = TypeVar("Out")

EDGE_OPTIONS = {f.name for f in attrs.fields(EdgeSpec)} - {"src", "dst", "place"}
STAGE_OPTIONS = set(StageOptions.__annotations__)
SOURCE_OPTIONS = {"reads", *SourceOptions.__annotations__}


class Graph(Declarations):
    """An evolution algorithm as a typed graph.

    Declare pools, sources, stages and edges on it; then ``flashgraph check``, ``draw`` and ``run`` work on the file
    that holds it.  ``spec`` is the graph as a frozen value.
    """

    def tests_with(self, stage: Stage[Any, Any]) -> None:
        """Let the held-out test try artifacts by this stage, a function of a `flashgraph.parts.evaluation.Work` to an
        `flashgraph.parts.evaluation.Attempt` that reads no pool; by default it is the task's own ``attempt``."""
        self._tests = stage.name if self._is_node("tests_with", stage) else None

    def costs(self, function: Callable[[Draw[None]], Costs]) -> Callable[[Draw[None]], Costs]:
        """Say how many evaluations a run takes, by a function of ``at.task`` and the parameters: `flashgraph run` says
        from it what a budget buys.  A decorator: ``@graph.costs``."""
        made: Any = function
        if not callable(made):
            self.note(
                "costs-not-a-function",
                f"costs of graph {self.name!r}",
                shown(made),
                "a function of a fg.Draw to a fg.Costs",
                "@graph.costs above such a function",
            )
            return function
        self._costs = function
        return function

    def pool(self, name: str, factory: Callable[[], Factory[In, V]], /) -> PoolNode[In, V]:
        """Versioned shared state; ``factory()`` is its value at version 0 (see `flashgraph.Pool`)."""
        first, second = _in_order(self, name, factory)
        return PoolNode(self.add(PoolSpec(first, second, Place.of_caller())), self)

    @overload
    def source(
        self, body: Callable[[Draw[Any, Any]], Out | None], /, **options: Unpack[SourceOptions]
    ) -> Source[Out]: ...
    @overload
    def source(
        self,
        body: Callable[[Draw[V, Any]], Out | None],
        /,
        *,
        reads: PoolNode[Any, V],
        **options: Unpack[SourceOptions],
    ) -> Source[Out]: ...
    @overload
    def source(self, /, *, reads: PoolNode[Any, V], **options: Unpack[SourceOptions]) -> SourceDecorator[V]: ...
    @overload
    def source(self, /, **options: Unpack[SourceOptions]) -> SourceDecorator[Any]: ...
    def source(self, body: Any = None, /, **options: Any) -> Any:
        """A stage without input: it reads a pool's view, draws, and starts a round with what it returns.

        None means that there is nothing to do until the pool changes, or for good where it reads none.  ``rounds``
        bounds its emissions.  ``stream="sequential"`` draws from one ``random.Random(seed)`` that all such sources
        share, as published loops do; ``"keyed"`` gives each emission a stream of its own.  ``cursor`` is the first
        value of ``at.cursor``.  ``evidence=True`` says that its rounds try artifacts of the pool on more
        samples: it goes before other sources, sees the whole pool, and the last share of the budget is its alone.
        """
        decorator: SourceDecorator[Any] = SourceDecorator(self, self._known("source", options, SOURCE_OPTIONS))
        return decorator if body is None else decorator(body)

    @overload
    def stage(
        self, body: Callable[[A, Context[Any]], Awaitable[Several[B] | None]], /, **options: Unpack[StageOptions]
    ) -> Stage[A, B]: ...
    @overload
    def stage(
        self, body: Callable[[A, Context[Any]], Awaitable[B | None]], /, **options: Unpack[StageOptions]
    ) -> Stage[A, B]: ...
    @overload
    def stage(
        self, body: Callable[[A, Context[Any]], Several[B] | None], /, **options: Unpack[StageOptions]
    ) -> Stage[A, B]: ...
    @overload
    def stage(self, body: Callable[[A, Context[Any]], B | None], /, **options: Unpack[StageOptions]) -> Stage[A, B]: ...
    @overload
    def stage(
        self, body: Callable[[A], Awaitable[Several[B] | None]], /, **options: Unpack[StageOptions]
    ) -> Stage[A, B]: ...
    @overload
    def stage(self, body: Callable[[A], Awaitable[B | None]], /, **options: Unpack[StageOptions]) -> Stage[A, B]: ...
    @overload
    def stage(self, body: Callable[[A], Several[B] | None], /, **options: Unpack[StageOptions]) -> Stage[A, B]: ...
    @overload
    def stage(self, body: Callable[[A], B | None], /, **options: Unpack[StageOptions]) -> Stage[A, B]: ...
    @overload
    def stage(self, /, **options: Unpack[StageOptions]) -> StageDecorator: ...
    def stage(self, body: Any = None, /, **options: Any) -> Any:
        """A function from one item to one item, to none (None) or to several (`Several`).

        ``llm`` names the role of the model that ``at.llm`` calls; ``reads`` the pool that ``at.view`` shows;
        ``spends`` the budgets that one execution counts against (``"proposals"``, ``"evaluations"``); ``workers``
        bounds how many run at once; ``fanout`` bounds how many a `Several` may hold.
        """
        decorator = StageDecorator(self, self._known("stage", options, STAGE_OPTIONS))
        return decorator if body is None else decorator(body)

    @overload
    def edge(
        self,
        src: Producer[A],
        dst: Consumer[A],
        /,
        *,
        when: Callable[[A], bool] | None = None,
        **options: Unpack[EdgeOptions],
    ) -> None: ...
    @overload
    def edge(
        self,
        src: Producer[Any],
        dst: Consumer[A],
        /,
        *,
        only: type[A],
        when: Callable[[A], bool] | None = None,
        **options: Unpack[EdgeOptions],
    ) -> None: ...
    @overload
    def edge(
        self,
        src: Producer[Any],
        dst: Consumer[B],
        /,
        *,
        only: type[A],
        scatter: Callable[[A], Sequence[B]],
        fanout: int | None = None,
        when: Callable[[A], bool] | None = None,
        **options: Unpack[EdgeOptions],
    ) -> None: ...
    @overload
    def edge(
        self,
        src: Producer[A],
        dst: Consumer[B],
        /,
        *,
        scatter: Callable[[A], Sequence[B]],
        fanout: int | None = None,
        when: Callable[[A], bool] | None = None,
        **options: Unpack[EdgeOptions],
    ) -> None: ...
    @overload
    def edge(
        self,
        src: Producer[M],
        dst: Consumer[Group[A, M]],
        /,
        *,
        gather: Literal[True],
        only: type[M] | None = None,
        release: Release | None = None,
        late: Literal["cancel", "drop", "amend"] | None = None,
        on_failure: Failure | None = None,
        when: Callable[[M], bool] | None = None,
        **options: Unpack[EdgeOptions],
    ) -> None: ...
    def edge(self, src: Any, dst: Any, /, **options: Any) -> None:
        """A bounded queue from ``src`` to ``dst``.

        ``scatter`` turns one item into a group of members, ``gather`` delivers a group as one `Group`; ``release``
        says when a gathering edge may deliver, ``late`` what becomes of the members still open; ``only``
        (a class), ``when`` (a condition) and ``otherwise`` (what no sibling edge takes) route; ``loop=N`` permits a
        cycle, at most N passes an item;
        ``stale`` is the staleness rule; ``orphans="keep"`` lets items through whose origin was retracted.
        ``distinct`` makes a key of an item: of those with equal keys the edge takes the first, where rounds overlap.
        """
        options = self._known("edge", options, EDGE_OPTIONS)
        what = f"edge {end_name(src)}->{end_name(dst)}"
        sound = [self._is_node(what, end) for end in (src, dst)]
        if not all(sound):
            self.left_out |= {end_name(src), end_name(dst)} & self._nodes.keys()
            return
        edge = EdgeSpec(src.name, dst.name, Place.of_caller(), **options)
        if any(e.name == edge.name for e in self._edges):
            self.note(
                "duplicate-edge",
                f"edge {edge.name}",
                "a second edge between the same two nodes",
                "one edge from a node to a node",
                "join the two conditions in one when=, or put a stage between",
            )
            return
        self.add_edge(edge)

    def include(
        self,
        part: Graph,
        prefix: str,
        *,
        params: Mapping[str, Any] | None = None,
        pools: Mapping[str, PoolNode[Any, Any]] | None = None,
        without: Sequence[str] = (),
        roles: Mapping[str, str] | None = None,
    ) -> Included:
        """Copy another graph into this one, its nodes named ``prefix.node``.

        ``params`` sets defaults of the part's parameters (they become ``prefix.param``); ``pools`` puts pools of
        this graph in the place of the part's; ``without`` names nodes that are left out, with their edges; ``roles``
        gives model roles of the part other names.  Connect the part with edges to and from ``included["node"]``.
        """
        return Included(prefix, self, include(self, part, prefix, params or {}, pools or {}, without, roles or {}))

    def check(self) -> tuple[Problem, ...]:
        """Return all mistakes of this graph, by line; empty for a graph that can run."""
        return self._checked().problems

    def checked(self) -> CheckedGraph:
        """Return this graph with its types, as a run uses it.  Raises `GraphError` with all problems if it has any."""
        return self._checked().sound()

    def _checked(self) -> CheckedGraph:
        from flashgraph.graph.check import check  # the checks load only when asked for

        return check(self)


def _in_order(graph: Graph, name: Any, factory: Any) -> tuple[Any, Any]:
    """The name and the factory of a pool, also where they were given the wrong way round, which is noted."""
    if isinstance(name, str) or not isinstance(factory, str):
        return name, factory
    graph.note(
        "bad-name",
        f"pool {factory!r}",
        f"graph.pool({shown(name)}, {factory!r})",
        "its name first, then its factory",
        f"graph.pool({factory!r}, {getattr(name, '__name__', 'FACTORY')})",
    )
    return factory, name
