"""The language of a graph file: `Graph` collects pools, sources, stages and edges.

Declarations never raise. Each notes its mistakes with their lines, and `check` reports all of them together. Handles
are generic in the types of their items, so that mypy refuses a wrong edge.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, overload

import attrs
from typing_extensions import TypeVar, Unpack

from flashgraph.errors import Place, Problem
from flashgraph.graph.contexts import Context, Draw, Emit
from flashgraph.graph.declarations import Declarations, in_order
from flashgraph.graph.handles import (
    Consumer,
    EdgeOptions,
    Factory,
    Included,
    Number,
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
from flashgraph.graph.ports import Costs, Group, Openable, Several
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
W = TypeVar("W")
In = TypeVar("In")
Out = TypeVar("Out")

EDGE_OPTIONS = {f.name for f in attrs.fields(EdgeSpec)} - {"src", "dst", "place", "prefix"}
STAGE_OPTIONS = set(StageOptions.__annotations__)
SOURCE_OPTIONS = {"reads", *SourceOptions.__annotations__}


class Graph(Declarations):
    """An evolution algorithm as a typed graph.

    Declare pools, sources, stages and edges on it.  ``flashgraph check``, ``draw`` and ``run`` then work on its file.
    ``spec`` is the graph as a frozen value.

    ``params`` is an attrs class. Its fields, each with a type and a default, are the parameters of the algorithm.
    Functions read ``ctx.params.NAME``, and ``--set NAME=VALUE`` sets one. A run checks values against the types and the
    validators of the class before it opens a model.
    """

    def tests_with(self, stage: Stage[Any, Any]) -> None:
        """Make the held-out test run artifacts with this stage; the default is the task's own ``attempt``.

        The stage takes a `flashgraph.parts.evaluation.Work`, returns a `flashgraph.parts.evaluation.Attempt`, and reads
        no pool.
        """
        self._tests = stage.name if self._is_node("tests_with", stage) else None

    def result(self, pool: PoolNode[Any, Any]) -> None:
        """Make this pool's champion the run's result; the default is the first declared pool that has a champion."""
        made: Any = pool
        if not self._is_node("result", pool):
            return
        if not isinstance(made, PoolNode):
            self.note(
                "result-not-a-pool",
                f"result of graph {self.name!r}",
                f"{getattr(pool, 'name', pool)!r}, a {type(pool).__name__.lower()}",
                "a pool of this graph",
                "graph.result(POOL), where POOL = graph.pool(...)",
            )
            return
        self._result = pool.name

    def costs(self, function: Callable[[Draw[None, Any]], Costs]) -> Callable[[Draw[None, Any]], Costs]:
        """Declare how many evaluations a run takes, as a function of ``ctx.task`` and the parameters.

        ``flashgraph run`` uses it to predict the number of rounds that a budget buys. It is a decorator:
        ``@graph.costs``.
        """
        made: Any = function
        if not callable(made):
            self.note(
                "costs-not-a-function",
                f"costs of graph {self.name!r}",
                shown(made),
                "a function that takes a fg.Draw and returns a fg.Costs",
                "@graph.costs above such a function",
            )
            return function
        self._costs = function
        return function

    @overload
    def pool(self, name: str, factory: Callable[[], Factory[In, V]], /) -> PoolNode[In, V]: ...
    @overload
    def pool(self, name: str, factory: Callable[[Any], Factory[In, V]], /) -> PoolNode[In, V]: ...
    def pool(self, name: str, factory: Any, /) -> Any:
        """Declare a pool: versioned shared state, whose value at version 0 is ``factory()`` (see `flashgraph.Pool`).

        A function with one parameter gets the parameters of the graph: ``lambda params: Beam(params.width)``.
        """
        first, second = in_order(self, name, factory)
        return PoolNode(self.add(PoolSpec(first, second, Place.of_caller())), self)

    @overload
    def source(
        self, body: Callable[[Draw[Any, Any, Any]], Emit[Out, Any] | None], /, **options: Unpack[SourceOptions]
    ) -> Source[Out]: ...
    @overload
    def source(
        self, body: Callable[[Draw[Any, Any, Any]], Out | None], /, **options: Unpack[SourceOptions]
    ) -> Source[Out]: ...
    @overload
    def source(
        self,
        body: Callable[[Draw[V, Any, Any]], Emit[Out, Any] | None],
        /,
        *,
        reads: PoolNode[Any, V],
        **options: Unpack[SourceOptions],
    ) -> Source[Out]: ...
    @overload
    def source(
        self,
        body: Callable[[Draw[V, Any, Any]], Out | None],
        /,
        *,
        reads: PoolNode[Any, V],
        **options: Unpack[SourceOptions],
    ) -> Source[Out]: ...
    @overload
    def source(
        self,
        body: Callable[[Draw[Any, Any, Any]], Out | None],
        /,
        *,
        reads: tuple[PoolNode[Any, Any], ...],
        **options: Unpack[SourceOptions],
    ) -> Source[Out]: ...
    @overload
    def source(self, /, *, reads: PoolNode[Any, V], **options: Unpack[SourceOptions]) -> SourceDecorator[V]: ...
    @overload
    def source(
        self, /, *, reads: tuple[PoolNode[Any, V], PoolNode[Any, W]], **options: Unpack[SourceOptions]
    ) -> SourceDecorator[tuple[V, W]]: ...
    @overload
    def source(
        self, /, *, reads: tuple[PoolNode[Any, Any], ...], **options: Unpack[SourceOptions]
    ) -> SourceDecorator[Any]: ...
    @overload
    def source(self, /, **options: Unpack[SourceOptions]) -> SourceDecorator[Any]: ...
    def source(self, body: Any = None, /, **options: Any) -> Any:
        """Declare a source: a plain function from a `Draw` to the first item of a round, or to None.

        A source that returns None is called again when its pool has changed or one of its rounds has ended. A source
        that reads no pool ends with its first None.

        Args:
            name: Its name; the function's name by default.
            reads: The pool that ``ctx.view`` shows; items carry the version that the source read.  For a tuple of
                pools, ``ctx.view`` is a tuple of views, and ``ctx.parents(..., of=POOL)`` names the pool.
            rounds: The most emissions; unbounded by default.  Numbers of a graph may be functions of
                its parameters: ``rounds=lambda params: params.generations``.
            stream: ``"keyed"`` gives each emission a random stream of its own.  All sources with ``"sequential"``
                share one ``random.Random(seed)``, as published loops do.
            state: The first value of ``ctx.state``: small and immutable.  The source returns the next in a `fg.Emit`.
            evidence: Whether its rounds try artifacts of the pool on more samples.  Such a source emits before the
                others, sees the whole pool whatever ``focus`` says, and may use the ``reserve`` of the schedule.
            window: The most rounds of this source open at once, under every schedule.  Use 1 for an algorithm whose
                next step needs the result of the last one.
            focus: False to always show it the whole pool, even if the schedule narrows views to the best line.
        """
        decorator: SourceDecorator[Any] = SourceDecorator(self, self._known("source", options, SOURCE_OPTIONS))
        return decorator if body is None else decorator(body)

    @overload
    def stage(
        self, body: Callable[[A, Context[Any, Any]], Awaitable[Several[B] | None]], /, **options: Unpack[StageOptions]
    ) -> Stage[A, B]: ...
    @overload
    def stage(
        self, body: Callable[[A, Context[Any, Any]], Awaitable[B | None]], /, **options: Unpack[StageOptions]
    ) -> Stage[A, B]: ...
    @overload
    def stage(
        self, body: Callable[[A, Context[Any, Any]], Several[B] | None], /, **options: Unpack[StageOptions]
    ) -> Stage[A, B]: ...
    @overload
    def stage(
        self, body: Callable[[A, Context[Any, Any]], B | None], /, **options: Unpack[StageOptions]
    ) -> Stage[A, B]: ...
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
        """Declare a stage: a function of an item, or of an item and a `Context`, plain or ``async``.

        It returns one item, None to filter the item out, or `Several` items that continue independently.

        Args:
            name: Its name; the function's name by default.
            model: The role of the model that ``await ctx.llm(...)`` calls.  The function must be ``async``, or run in a
                thread.
            reads: The pool, or tuple of pools, that ``ctx.view`` shows.
            counts: The budgets that one execution counts against: ``"proposals"``, ``"evaluations"`` or both.
            workers: The most concurrent executions.
            runs: Where a plain function runs: on the event loop (``"loop"``), in a ``"thread"`` or in a ``"process"``.
                In a thread ``ctx.llm(...)`` blocks and returns the reply.  A function in a process gets only the item.
            fanout: The most items in one `Several`; required before and in cycles.
            timeout: The most seconds of one try; for an ``async`` function, a thread or a process.
            retries: The most further tries of an execution whose function raises.
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
        fanout: Number | None = None,
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
        fanout: Number | None = None,
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
        release: Release | None = None,
        late: Literal["cancel", "drop", "amend"] | None = None,
        on_failure: Failure | None = None,
        when: Callable[[M], bool] | None = None,
        **options: Unpack[EdgeOptions],
    ) -> None: ...
    @overload
    def edge(
        self,
        src: Producer[Any],
        dst: Consumer[Group[A, M]],
        /,
        *,
        gather: Literal[True],
        only: type[M],
        release: Release | None = None,
        late: Literal["cancel", "drop", "amend"] | None = None,
        on_failure: Failure | None = None,
        when: Callable[[M], bool] | None = None,
        **options: Unpack[EdgeOptions],
    ) -> None: ...
    def edge(self, src: Any, dst: Any, /, **options: Any) -> None:
        """Declare a bounded queue from a source or stage to a stage or pool.

        A node with several outgoing edges sends a copy of an item along each that accepts it by ``when``, ``only`` and
        ``otherwise``.

        Args:
            capacity: The most items in the queue.  A full queue blocks its producer.
            scatter: A function of an item, or a method of its class, that returns a list or tuple.  Its members
                continue as a group.
            fanout: The most members of one scatter; required before and in cycles.
            gather: Whether to deliver a group as one `Group`.
            release: When a gathering edge may deliver its group.
            late: ``"cancel"`` (default) aborts members that are still open after the release.  ``"drop"`` lets the
                running ones finish and records them.  ``"amend"`` delivers the full group as well.
            on_failure: The effect of failed members on their group.
            when: A condition: the edge takes only items for which it is true.  A gathering edge applies it to members.
            only: A class: the edge takes only its instances.
            otherwise: Whether the edge takes the items that no sibling edge takes.
            loop: The most times that an item passes this edge; an edge with ``loop`` permits a cycle.
            order: Which item of the queue, or member of a scatter, goes first.
            stale: The staleness rule.
            distinct: A function that returns the key of an item.  The first item with a key claims it.  The edge
                filters out others with that key while a descendant of the first is open or in a pool.  ``lockstep``
                ignores it.
            orphans: ``"discard"`` (default) or ``"keep"`` items whose origin was retracted.
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
                "a second edge from the same node to the same node",
                "one edge between the same two nodes",
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
        """Copy another graph into this one; its nodes are named ``prefix.node``.

        ``params`` sets defaults of the part's parameters, which are named ``prefix.param``.  ``pools`` replaces pools
        of the part by pools of this graph.  ``without`` names nodes to leave out, with their edges.  ``roles`` renames
        model roles of the part.  Connect the part with edges to and from ``included["node"]``.
        """
        return Included(prefix, self, include(self, part, prefix, params or {}, pools or {}, without, roles or {}))

    def check(self) -> tuple[Problem, ...]:
        """Return all mistakes of this graph, by line; an empty tuple if the graph can run."""
        return self._checked().problems

    def checked(self) -> CheckedGraph:
        """Return this graph with its types, as a run uses it. Raises `GraphError` with all of its problems."""
        return self._checked().sound()

    def _checked(self) -> CheckedGraph:
        from flashgraph.graph.check import check  # the checks load only when asked for

        return check(self)
