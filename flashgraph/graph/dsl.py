"""The language of a graph file: `Graph` collects pools, sources, stages and edges as they are written.

Nothing is refused while the file is read: what is wrong with a declaration is noted with its line, and `check`
reports all of it together.  Handles are generic in what flows through them, so that mypy refuses a wrong edge.
"""

from __future__ import annotations

import sys
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, overload

import attrs
from typing_extensions import TypeVar, Unpack

from flashgraph.errors import Place, Problem, did_you_mean
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
from flashgraph.graph.naming import body_name, end_name, identifier, shown, text
from flashgraph.graph.ports import Context, Costs, Draw, Group, Openable, Param, Resource, Several
from flashgraph.graph.spec import EdgeSpec, Failure, GraphSpec, NodeSpec, PoolSpec, Release, SourceSpec, StageSpec

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
        self._resources: dict[str, Resource[Any]] = {}
        self._nodes: dict[str, NodeSpec] = {}
        self._edges: list[EdgeSpec] = []
        self._tests: str | None = None
        self._costs: Callable[[Any], Costs] | None = None
        self.noted: list[Problem] = []
        """Mistakes in the declarations themselves; `check` adds what it finds."""
        self.left_out: set[str] = set()
        """Nodes at which an edge was meant that could not be added."""

    @property
    def spec(self) -> GraphSpec:
        return GraphSpec(
            self.name,
            self._doc,
            self.place,
            dict(self._params),
            dict(self._nodes),
            tuple(self._edges),
            dict(self._resources),
            self._tests,
            self._costs,
        )

    def note(self, code: str, what: str, found: str, expected: str, fix: str) -> None:
        """Write down a mistake in the declaration that is being made."""
        self.noted.append(Problem(code, Place.of_caller(), what, found, expected, fix))

    # ---- declarations ------------------------------------------------------------------------------------

    def param(self, name: str, default: P) -> Param[P]:
        """A parameter of the algorithm: ``at[param]`` in a function, ``--set name=value`` on the command line."""
        param = Param(name, default, Place.of_caller())
        if name in self._params:
            self.note(
                "duplicate-param",
                f"parameter {name!r}",
                f"a second parameter of that name (the first is at {self._params[name].place})",
                "one parameter a name",
                f"rename one, e.g. {f'{name}_2'!r}",
            )
        elif not isinstance(name, str) or not name.replace(".", "_").isidentifier():
            self.note(
                "bad-name",
                f"parameter {name!r}",
                repr(name),
                "a name of letters, digits and underscores: --set gives it a value",
                f"graph.param({identifier(name)!r}, ...)",
            )
        self._params[text(name)] = param
        return param

    def resource(self, name: str, factory: Callable[..., R]) -> Resource[R]:
        """Something that each run holds open for its stages, as a sandbox: ``at[resource]`` in a stage.

        ``factory()`` makes it; its ``open()`` is entered when a run starts and left when it ends.  Graphs that are
        included share a resource of one name and factory.
        """
        made: Any = factory
        resource = Resource(name, factory, Place.of_caller())
        known = self._resources.get(text(name))
        if known is not None and known.factory != factory:
            self.note(
                "duplicate-resource",
                f"resource {name!r}",
                f"a second resource of that name with another factory (the first is at {known.place})",
                "one resource a name",
                f"rename one, e.g. {f'{name}_2'!r}",
            )
        elif not callable(made):
            self.note(
                "resource-not-a-factory",
                f"resource {name!r}",
                shown(made),
                "a class or function that makes it: every run has its own",
                f"graph.resource({name!r}, lambda: ...)",
            )
        self._resources[text(name)] = resource
        return resource

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
        self._edges.append(edge)

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
        from flashgraph.graph.include import include

        return Included(prefix, self, include(self, part, prefix, params or {}, pools or {}, without, roles or {}))

    # ---- what the declarations add -----------------------------------------------------------------------

    def handle(self, name: str) -> PoolNode[Any, Any] | Source[Any] | Stage[Any, Any]:
        """The handle of the node with that name; an edge that uses one which does not exist is a problem."""
        kind = getattr(self._nodes.get(name), "kind", "stage")
        if kind == "pool":
            return PoolNode(name, self)
        return Source(name, self) if kind == "source" else Stage(name, self)

    def add(self, node: NodeSpec) -> str:
        """Add a node and return its name: another one than it has where that is taken, so that edges stay apart."""
        name = text(node.name)
        if not isinstance(node.name, str) or not name.replace(".", "_").isidentifier():
            if not name.endswith("<lambda>"):  # a lambda has a problem of its own
                self.note(
                    "bad-name",
                    f"{node.kind} {name!r}",
                    repr(node.name),
                    "a name of letters, digits and underscores",
                    f"graph.pool({identifier(name)!r}, FACTORY)"
                    if isinstance(node, PoolSpec)
                    else f"name={identifier(name)!r}",
                )
        elif name in self._nodes:
            self.note(
                "duplicate-node",
                f"{node.kind} {name!r}",
                f"a second node of that name (the first is at {self._nodes[name].place})",
                "one node a name",
                f"graph.pool({name + '_2'!r}, ...)" if isinstance(node, PoolSpec) else f"name={name + '_2'!r}",
            )
        count = 1
        unique = name
        while unique in self._nodes:
            count += 1
            unique = f"{name}#{count}"
        self._nodes[unique] = attrs.evolve(node, name=unique)
        return unique

    def _known(self, what: str, options: Mapping[str, Any], known: set[str]) -> dict[str, Any]:
        for option in sorted(options.keys() - known):
            self.note(
                "unknown-option",
                f"{what} option {option!r}",
                f"{option}={shown(options[option])}",
                "one of " + ", ".join(sorted(known)),
                did_you_mean(option, sorted(known)),
            )
        return {option: value for option, value in options.items() if option in known}

    def _is_node(self, what: str, node: Any) -> bool:
        """Whether the end of an edge is a node of this graph; what is none is noted."""
        name = getattr(node, "name", None)
        owner = getattr(node, "owner", None)
        if owner is self and name in self._nodes:
            return True
        if isinstance(node, SourceDecorator | StageDecorator):
            kind = "source" if isinstance(node, SourceDecorator) else "stage"
            found, fix = f"graph.{kind}(...) that was given no function", f"graph.{kind}(FUNCTION, ...)"
        elif isinstance(owner, Graph):
            found = f"{name!r}, which is not a node of graph {self.name!r}"
            fix = did_you_mean(text(name), sorted(self._nodes))
            if owner is not self:
                found = f"{name!r}, a node of graph {owner.name!r}"
                fix = f"graph.include({owner.name}, 'prefix')['{name}'], or a node of this graph"
        else:
            found = shown(node)
            named = end_name(node)
            fix = "pass what graph.source, graph.stage or graph.pool returned"
            if named in self._nodes:
                fix = f"pass the node that graph.{self._nodes[named].kind} returned for {named!r}"
        self.note("foreign-node", what, found, f"a pool, source or stage of graph {self.name!r}", fix)
        return False

    def _pool_name(self, what: str, reads: Any) -> str | None:
        if reads is None:
            return None
        if isinstance(reads, PoolNode) and reads.owner is self and reads.name in self._nodes:
            return reads.name
        name = reads if isinstance(reads, str) else getattr(reads, "name", None)
        pools = [n for n, node in self._nodes.items() if node.kind == "pool"]
        foreign = isinstance(reads, PoolNode) and reads.owner is not self
        self.note(
            "reads-not-a-pool",
            what,
            f"reads={shown(reads) if name is None or isinstance(reads, str) else repr(name)}"
            + (f", a pool of graph {reads.owner.name!r}" if foreign else ""),
            "reads=POOL, with what graph.pool(...) of this graph returned",
            f"reads={name}, without quotes, if that is the pool's variable" if reads in pools else
            did_you_mean(text(name), pools),
        )  # fmt: skip
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
        name = body_name(name, body)
        pool = self._pool_name(f"stage {name!r}", reads)
        budgets = tuple(spends) if isinstance(spends, list | tuple | set | frozenset) else (spends,)
        place = Place.of_caller()
        spec = StageSpec(name, body, place, llm, pool, budgets, workers, fanout, localns=_locals_of_caller())
        return Stage(self.add(spec), self)

    def _add_source(
        self,
        body: Callable[..., Any],
        *,
        name: str | None = None,
        reads: Any = None,
        rounds: int | None = None,
        stream: Literal["keyed", "sequential"] = "keyed",
        cursor: Any = None,
        evidence: bool = False,
    ) -> Source[Any]:
        name = body_name(name, body)
        pool = self._pool_name(f"source {name!r}", reads)
        place = Place.of_caller()
        spec = SourceSpec(name, body, place, pool, rounds, stream, cursor, evidence, localns=_locals_of_caller())
        return Source(self.add(spec), self)

    def check(self) -> tuple[Problem, ...]:
        """Return all mistakes of this graph, by line; empty for a graph that can run."""
        return self._checked().problems

    def checked(self) -> CheckedGraph:
        """Return this graph with its types, as a run uses it.  Raises `GraphError` with all problems if it has any."""
        return self._checked().sound()

    def _checked(self) -> CheckedGraph:
        from flashgraph.graph.check import check  # the checks load only when asked for

        return check(self)


def _locals_of_caller() -> Mapping[str, Any]:
    """Local names where a graph is built inside a function: annotations may refer to them."""
    frame: Any = sys._getframe(1)
    while frame is not None and frame.f_globals.get("__name__", "").split(".")[0] == "flashgraph":
        frame = frame.f_back
    if frame is None or frame.f_locals is frame.f_globals:
        return {}
    return dict(frame.f_locals)


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
