"""The language of a graph file: `Graph` collects pools, sources, stages and edges as they are written.

Nothing is refused while the file is read: what is wrong with a declaration is noted with its line, and `check`
reports all of it together.  Handles are generic in what flows through them, so that mypy refuses a wrong edge.
"""

from __future__ import annotations

import sys
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Generic, Literal, overload

import attrs
from typing_extensions import TypeVar

from flashgraph.errors import GraphError, Place, Problem, did_you_mean
from flashgraph.graph.ports import Context, Draw, Group, Param, Pool, Several
from flashgraph.graph.spec import EdgeSpec, GraphSpec, Order, PoolSpec, Release, SourceSpec, StageSpec, Staleness

__all__ = ["Graph", "Included", "PoolNode", "Source", "Stage"]

A = TypeVar("A")
B = TypeVar("B")
M = TypeVar("M")
P = TypeVar("P")
V = TypeVar("V")
In = TypeVar("In")
Out = TypeVar("Out")
In_contra = TypeVar("In_contra", contravariant=True)
Out_co = TypeVar("Out_co", covariant=True)


@attrs.frozen(slots=False)
class Producer(Generic[Out_co]):
    """A node that edges may start from; ``name`` is its name in the graph."""

    name: str
    owner: Graph = attrs.field(repr=False, eq=False)


@attrs.frozen(slots=False)
class Consumer(Generic[In_contra]):
    """A node that edges may end at."""

    name: str
    owner: Graph = attrs.field(repr=False, eq=False)


@attrs.frozen(slots=False)
class Source(Producer[Out_co]):
    pass


@attrs.frozen(slots=False)
class Stage(Producer[Out_co], Consumer[In_contra], Generic[In_contra, Out_co]):
    pass


@attrs.frozen(slots=False)
class PoolNode(Consumer[In_contra], Generic[In_contra, V]):
    pass


@attrs.frozen
class Included:
    """The nodes of an included graph, under their names in that graph: ``part["map"]``."""

    prefix: str
    owner: Graph = attrs.field(repr=False, eq=False)

    def __getitem__(self, name: str) -> Stage[Any, Any]:
        return Stage(f"{self.prefix}.{name}", self.owner)


class StageDecorator:
    """What ``graph.stage(...)`` returns before it is given its function."""

    def __init__(self, graph: Graph, options: dict[str, Any]) -> None:
        self._graph, self._options = graph, options

    @overload
    def __call__(self, body: Callable[[A, Context[Any]], Awaitable[Several[B] | None]], /) -> Stage[A, B]: ...
    @overload
    def __call__(self, body: Callable[[A, Context[Any]], Awaitable[B | None]], /) -> Stage[A, B]: ...
    @overload
    def __call__(self, body: Callable[[A], Several[B] | None], /) -> Stage[A, B]: ...
    @overload
    def __call__(self, body: Callable[[A], B | None], /) -> Stage[A, B]: ...
    @overload
    def __call__(self, body: Callable[[A, Context[Any]], B | None], /) -> Stage[A, B]: ...
    def __call__(self, body: Callable[..., Any], /) -> Stage[Any, Any]:
        return self._graph._add_stage(body, **self._options)


class SourceDecorator(Generic[V]):
    """What ``graph.source(...)`` returns before it is given its function."""

    def __init__(self, graph: Graph, options: dict[str, Any]) -> None:
        self._graph, self._options = graph, options

    def __call__(self, body: Callable[[Draw[Any, Any]], Out | None], /) -> Source[Out]:
        return self._graph._add_source(body, **self._options)


class Graph:
    """An evolution algorithm as a typed graph.

    Declare pools, sources, stages and edges on it; then ``flashgraph check``, ``draw`` and ``run`` work on the file
    that holds it.  ``spec`` is the graph as a frozen value.
    """

    def __init__(self, name: str, doc: str = "") -> None:
        self.name = name
        self.place = Place.of_caller()
        self._doc = doc
        self._params: dict[str, Param[Any]] = {}
        self._nodes: dict[str, PoolSpec | SourceSpec | StageSpec] = {}
        self._edges: list[EdgeSpec] = []
        self.noted: list[Problem] = []
        """Mistakes in the declarations themselves; `check` adds what it finds."""

    @property
    def spec(self) -> GraphSpec:
        return GraphSpec(self.name, self._doc, self.place, dict(self._params), dict(self._nodes), tuple(self._edges))

    def _note(self, code: str, what: str, found: str, expected: str, fix: str) -> None:
        self.noted.append(Problem(code, Place.of_caller(), what, found, expected, fix))

    # ---- declarations ------------------------------------------------------------------------------------

    def param(self, name: str, default: P) -> Param[P]:
        """A parameter of the algorithm: ``at[param]`` in a function, ``--set name=value`` on the command line."""
        if name in self._params:
            self._note(
                "duplicate-param",
                f"parameter {name!r}",
                "a second parameter of that name",
                "one parameter a name",
                f"rename one, e.g. {name + '_2'!r}",
            )
        self._params[name] = Param(name, default)
        return self._params[name]

    def pool(self, name: str, factory: Callable[[], Pool[In]], /) -> PoolNode[In, Any]:
        """Versioned shared state; ``factory()`` is its value at version 0 (see `flashgraph.Pool`)."""
        self._add(PoolSpec(name, factory, Place.of_caller()))
        return PoolNode(name, self)

    @overload
    def source(self, body: Callable[[Draw[Any, Any]], Out | None], /) -> Source[Out]: ...
    @overload
    def source(
        self,
        /,
        *,
        name: str | None = None,
        reads: PoolNode[Any, V] | None = None,
        rounds: int | None = None,
        stream: Literal["keyed", "sequential"] = "keyed",
        cursor: Any = None,
    ) -> SourceDecorator[V]: ...
    def source(self, body: Any = None, /, **options: Any) -> Any:
        """A stage without input: it reads a pool's view, draws, and starts a round with what it returns.

        None means that there is nothing to do until the pool changes.  ``rounds`` bounds its emissions.
        ``stream="sequential"`` draws from one ``random.Random(seed)`` that all such sources share, as published
        loops do; ``"keyed"`` gives each emission a stream of its own.  ``cursor`` is the first value of ``at.cursor``.
        """
        decorator: SourceDecorator[Any] = SourceDecorator(self, options)
        return decorator if body is None else decorator(body)

    @overload
    def stage(
        self, body: Callable[[A, Context[Any]], Awaitable[Several[B] | None]], /, **options: Any
    ) -> Stage[A, B]: ...
    @overload
    def stage(self, body: Callable[[A, Context[Any]], Awaitable[B | None]], /, **options: Any) -> Stage[A, B]: ...
    @overload
    def stage(self, body: Callable[[A], Several[B] | None], /, **options: Any) -> Stage[A, B]: ...
    @overload
    def stage(self, body: Callable[[A], B | None], /, **options: Any) -> Stage[A, B]: ...
    @overload
    def stage(self, body: Callable[[A, Context[Any]], B | None], /, **options: Any) -> Stage[A, B]: ...
    @overload
    def stage(
        self,
        /,
        *,
        name: str | None = None,
        llm: str | None = None,
        reads: PoolNode[Any, Any] | None = None,
        spends: str | Sequence[str] = (),
        workers: int | None = None,
        fanout: int | None = None,
    ) -> StageDecorator: ...
    def stage(self, body: Any = None, /, **options: Any) -> Any:
        """A function from one item to one item, to none (None) or to several (`Several`).

        ``llm`` names the role of the model that ``at.llm`` calls; ``reads`` the pool that ``at.view`` shows;
        ``spends`` the budgets that one execution counts against (``"proposals"``, ``"evaluations"``); ``workers``
        bounds how many run at once; ``fanout`` bounds how many a `Several` may hold.
        """
        known = {"name", "llm", "reads", "spends", "workers", "fanout"}
        for option in sorted(options.keys() - known):
            self._note(
                "unknown-option",
                f"stage option {option!r}",
                f"{option}={options.pop(option)!r}",
                "one of " + ", ".join(sorted(known)),
                did_you_mean(option, sorted(known)),
            )
        decorator = StageDecorator(self, options)
        return decorator if body is None else decorator(body)

    @overload
    def edge(
        self,
        src: Producer[A],
        dst: Consumer[A],
        /,
        *,
        capacity: int | None = None,
        order: Order | None = None,
        when: Callable[[A], bool] | None = None,
        otherwise: bool = False,
        loop: int | None = None,
        stale: Staleness | None = None,
        orphans: Literal["discard", "keep"] = "discard",
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
        capacity: int | None = None,
        order: Order | None = None,
        when: Callable[[A], bool] | None = None,
        otherwise: bool = False,
        loop: int | None = None,
        stale: Staleness | None = None,
        orphans: Literal["discard", "keep"] = "discard",
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
        on_failure: Any = None,
        capacity: int | None = None,
        order: Order | None = None,
        when: Callable[[M], bool] | None = None,
        otherwise: bool = False,
        loop: int | None = None,
        stale: Staleness | None = None,
        orphans: Literal["discard", "keep"] = "discard",
    ) -> None: ...
    def edge(self, src: Any, dst: Any, /, **policies: Any) -> None:
        """A bounded queue from ``src`` to ``dst``.

        ``scatter`` turns one item into a group of members, ``gather`` delivers a group as one `Group`; ``release``
        says when a gathering edge may deliver, ``late`` what becomes of the members still open; ``when`` (or
        ``otherwise``, for what no sibling edge takes) routes; ``loop=N`` permits a cycle, at most N passes an item;
        ``stale`` is the staleness rule; ``orphans="keep"`` lets items through whose origin was retracted.
        """
        known = {f.name for f in attrs.fields(EdgeSpec)} - {"src", "dst", "place"}
        for option in sorted(policies.keys() - known):
            self._note(
                "unknown-option",
                f"edge option {option!r}",
                f"{option}={policies.pop(option)!r}",
                "one of " + ", ".join(sorted(known)),
                did_you_mean(option, sorted(known)),
            )
        names = []
        for end, node in (("start", src), ("end", dst)):
            name = getattr(node, "name", None)
            if not isinstance(name, str) or getattr(node, "owner", None) is not self:
                self._note(
                    "foreign-node",
                    f"{end} of an edge",
                    repr(node) if name is None else f"{name!r}, which is not a node of graph {self.name!r}",
                    "a pool, source or stage of this graph",
                    did_you_mean(str(name), sorted(self._nodes)) if name else "pass what graph.stage returned",
                )
                return
            names.append(name)
        edge = EdgeSpec(names[0], names[1], Place.of_caller(), **policies)
        if any(e.name == edge.name for e in self._edges):
            self._note(
                "duplicate-edge",
                f"edge {edge.name}",
                "a second edge between the same two nodes",
                "one edge from a node to a node",
                "join the two conditions in one when=, or put a stage between",
            )
            return
        self._edges.append(edge)

    def include(
        self,
        part: Graph,
        prefix: str,
        *,
        params: Mapping[str, Any] | None = None,
        pools: Mapping[str, PoolNode[Any, Any]] | None = None,
    ) -> Included:
        """Copy another graph into this one, its nodes named ``prefix.node``.

        ``params`` sets defaults of the part's parameters (they become ``prefix.param``); ``pools`` puts pools of
        this graph in the place of the part's.  Connect the part with edges to and from ``included["node"]``.
        """
        pools, params = pools or {}, params or {}
        self.noted.extend(part.noted)
        for kind, given, known in (("parameter", params, part._params), ("pool", pools, part._nodes)):
            for name in given:
                if name not in known:
                    self._note(
                        "unknown-in-part",
                        f"{kind} {name!r} of included graph {part.name!r}",
                        f"{name!r}",
                        f"a {kind} that {part.name!r} declares",
                        did_you_mean(name, sorted(known)),
                    )
        for param in part._params.values():
            self.param(f"{prefix}.{param.name}", params.get(param.name, param.default))

        def renamed(name: str | None) -> str | None:
            if name is None:
                return None
            return pools[name].name if name in pools else f"{prefix}.{name}"

        for node in part._nodes.values():
            if node.name in pools:
                continue
            changes: dict[str, Any] = {"name": renamed(node.name)}
            if not isinstance(node, PoolSpec):
                changes |= {"reads": renamed(node.reads), "prefix": f"{prefix}.{node.prefix}"}
            self._add(attrs.evolve(node, **changes))
        for edge in part._edges:
            stale = edge.stale.within(prefix) if hasattr(edge.stale, "within") else edge.stale
            self._edges.append(attrs.evolve(edge, src=str(renamed(edge.src)), dst=str(renamed(edge.dst)), stale=stale))
        return Included(prefix, self)

    # ---- what the declarations add -----------------------------------------------------------------------

    def _add(self, node: PoolSpec | SourceSpec | StageSpec) -> None:
        if node.name in self._nodes:
            self._note(
                "duplicate-node",
                f"{node.kind} {node.name!r}",
                f"a second node of that name (the first is at {self._nodes[node.name].place})",
                "one node a name",
                "give it another name: name='...'",
            )
            return
        if not node.name.replace(".", "_").isidentifier():
            self._note(
                "bad-name",
                f"{node.kind} {node.name!r}",
                repr(node.name),
                "a name of letters, digits and underscores",
                "give it such a name: name='...'",
            )
        self._nodes[node.name] = node

    def _pool_name(self, what: str, reads: Any) -> str | None:
        if reads is None or isinstance(reads, PoolNode):
            return None if reads is None else reads.name
        self._note(
            "reads-not-a-pool",
            what,
            f"reads={getattr(reads, 'name', reads)!r}",
            "reads=POOL, with what graph.pool(...) returned",
            did_you_mean(str(getattr(reads, "name", reads)), [n for n in self._nodes if self._nodes[n].kind == "pool"]),
        )
        return None

    def _add_stage(
        self,
        body: Callable[..., Any],
        *,
        name: str | None = None,
        llm: str | None = None,
        reads: Any = None,
        spends: str | Sequence[str] = (),
        workers: int | None = None,
        fanout: int | None = None,
    ) -> Stage[Any, Any]:
        name = name or body.__name__
        pool = self._pool_name(f"stage {name!r}", reads)
        spends = (spends,) if isinstance(spends, str) else tuple(spends)
        place = Place.of_caller()
        self._add(StageSpec(name, body, place, llm, pool, spends, workers, fanout, localns=_locals_of_caller()))
        return Stage(name, self)

    def _add_source(
        self,
        body: Callable[..., Any],
        *,
        name: str | None = None,
        reads: Any = None,
        rounds: int | None = None,
        stream: Literal["keyed", "sequential"] = "keyed",
        cursor: Any = None,
    ) -> Source[Any]:
        name = name or body.__name__
        pool = self._pool_name(f"source {name!r}", reads)
        place = Place.of_caller()
        self._add(SourceSpec(name, body, place, pool, rounds, stream, cursor, localns=_locals_of_caller()))
        return Source(name, self)

    def check(self) -> tuple[Problem, ...]:
        """All mistakes of this graph, by line; empty for a graph that can run."""
        from flashgraph.graph.check import check  # networkx and the type checks load only when asked for

        return check(self)

    def raise_if_wrong(self) -> None:
        """Raises `GraphError` with every problem that `check` finds."""
        if problems := self.check():
            raise GraphError(self.name, problems)


def _locals_of_caller() -> Mapping[str, Any]:
    """Local names where a graph is built inside a function: annotations may refer to them."""
    frame: Any = sys._getframe(1)
    while frame is not None and frame.f_globals.get("__name__", "").split(".")[0] == "flashgraph":
        frame = frame.f_back
    if frame is None or frame.f_locals is frame.f_globals:
        return {}
    return dict(frame.f_locals)
