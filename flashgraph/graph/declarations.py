"""The declarations of a graph file, and the mistakes found in them while the file is read."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import attrs
from typing_extensions import TypeVar

from flashgraph.errors import Place, Problem, did_you_mean, frame_of_caller
from flashgraph.graph.handles import PoolNode, Source, SourceDecorator, Stage, StageDecorator
from flashgraph.graph.naming import body_name, end_name, identifier, shown, text
from flashgraph.graph.params import Param, params_of_class
from flashgraph.graph.ports import Costs, Openable, Resource
from flashgraph.graph.spec import EdgeSpec, GraphSpec, NodeSpec, PoolSpec, SourceSpec, StageSpec
from flashgraph.tasks.workers import Runs

__all__ = ["Declarations"]

R = TypeVar("R", bound=Openable)


class Declarations:
    """The parameters, resources, nodes and edges of a graph; ``spec`` is the graph as a frozen value."""

    def __init__(self, name: str, doc: str = "", *, params: type | None = None) -> None:
        self.name = name
        self.place = Place.of_caller()
        self.noted: list[Problem] = []
        """Mistakes in the declarations themselves; `check` adds its own."""
        self.left_out: set[str] = set()
        """Nodes that lack an edge because its declaration had a mistake."""
        self._doc = doc
        self._params: dict[str, Param] = {}
        self._classes: dict[str, type] = {}
        self._resources: dict[str, Resource[Any]] = {}
        self._nodes: dict[str, NodeSpec] = {}
        self._edges: list[EdgeSpec] = []
        self._tests: str | None = None
        self._costs: Callable[[Any], Costs] | None = None
        self._result: str | None = None
        if params is not None:
            self._declare(params)

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
            self._result,
            dict(self._classes),
        )

    def note(self, code: str, what: str, found: str, expected: str, fix: str) -> None:
        """Note a mistake in the current declaration."""
        self.noted.append(Problem(code, Place.of_caller(), what, found, expected, fix))

    def _declare(self, params: type) -> None:
        """Declare the fields of a class as parameters."""
        try:
            found = params_of_class(params, Place.of_caller())
        except Exception as error:
            self.note(
                "bad-params",
                f"parameters of graph {self.name!r}",
                f"params={shown(params)}: {error}",
                "an attrs class whose fields all have a type and a default",
                "@attrs.frozen above class Params, and NAME: TYPE = DEFAULT in it",
            )
            return
        self._classes[""] = params
        self._params |= {param.name: param for param in found}

    def resource(self, name: str, factory: Callable[..., R]) -> Resource[R]:
        """Declare a resource that each run opens for its stages, such as a sandbox; stages use it as ``ctx[resource]``.

        ``factory()`` makes it. A run enters its ``open()`` context at the start and leaves it at the end.  Included
        graphs share a resource that has the same name and factory.
        """
        made: Any = factory
        resource = Resource(name, factory, Place.of_caller())
        known = self._resources.get(text(name))
        if known is not None and known.factory != factory:
            self.note(
                "duplicate-resource",
                f"resource {name!r}",
                f"a second resource of that name with another factory (the first is at {known.place})",
                "one resource of each name",
                f"rename one, e.g. {f'{name}_2'!r}",
            )
        elif not callable(made):
            self.note(
                "resource-not-a-factory",
                f"resource {name!r}",
                shown(made),
                "a class or function that makes the resource, because every run makes its own",
                f"graph.resource({name!r}, lambda: ...)",
            )
        self._resources[text(name)] = resource
        return resource

    def handle(self, name: str) -> PoolNode[Any, Any] | Source[Any] | Stage[Any, Any]:
        """Return the handle of the node with that name. If no such node exists, an edge with the handle is a
        problem.
        """
        kind = getattr(self._nodes.get(name), "kind", "stage")
        if kind == "pool":
            return PoolNode(name, self)
        return Source(name, self) if kind == "source" else Stage(name, self)

    def add(self, node: NodeSpec) -> str:
        """Add a node and return its name, with a number added if the name is taken, so that edges of the two stay
        apart.
        """
        name = text(node.name)
        if not isinstance(node.name, str) or not name.replace(".", "_").isidentifier():
            if not name.endswith("<lambda>"):  # `check` reports a lambda
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
                "one node of each name",
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
        """Return whether the end of an edge is a node of this graph; note a problem if it is not."""
        name = getattr(node, "name", None)
        owner = getattr(node, "owner", None)
        if owner is self and name in self._nodes:
            return True
        if isinstance(node, SourceDecorator | StageDecorator):
            kind = "source" if isinstance(node, SourceDecorator) else "stage"
            found, fix = f"graph.{kind}(...), which has no function yet", f"graph.{kind}(FUNCTION, ...)"
        elif isinstance(owner, Declarations):
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

    def _pool_names(self, what: str, reads: Any) -> tuple[str, ...]:
        several = reads if isinstance(reads, tuple | list) else () if reads is None else (reads,)
        found = (self._pool_name(what, each) for each in several)
        names = tuple(name for name in found if name is not None)
        if len(set(names)) < len(names):
            self.note(
                "reads-twice", what, f"reads {', '.join(names)}", "each pool once", "name each pool once in reads="
            )
        return tuple(dict.fromkeys(names))

    def _pool_name(self, what: str, reads: Any) -> str | None:
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
            "reads=POOL, the value that graph.pool(...) of this graph returned",
            f"reads={name}, without quotes, if that is the pool's variable" if reads in pools else
            did_you_mean(text(name), pools),
        )  # fmt: skip
        return None

    def add_edge(self, edge: EdgeSpec) -> None:
        """Add an edge between two nodes of this graph."""
        self._edges.append(edge)

    def _add_stage(
        self,
        body: Callable[..., Any],
        *,
        name: str | None = None,
        model: str | None = None,
        reads: Any = None,
        counts: str | Sequence[str] = (),
        workers: Any = None,
        fanout: Any = None,
        runs: Runs = "loop",
        timeout: float | None = None,
        retries: int = 0,
    ) -> Stage[Any, Any]:
        name = body_name(name, body)
        pools = self._pool_names(f"stage {name!r}", reads)
        budgets = tuple(counts) if isinstance(counts, list | tuple | set | frozenset) else (counts,)
        place = Place.of_caller()
        spec = StageSpec(
            name, body, place, model, pools, budgets, workers, fanout, runs, timeout, retries,
            localns=_locals_of_caller(),
        )  # fmt: skip
        return Stage(self.add(spec), self)

    def _add_source(
        self,
        body: Callable[..., Any],
        *,
        name: str | None = None,
        reads: Any = None,
        rounds: Any = None,
        stream: Literal["keyed", "sequential"] = "keyed",
        state: Any = None,
        evidence: bool = False,
        window: Any = None,
        focus: bool = True,
    ) -> Source[Any]:
        name = body_name(name, body)
        pools = self._pool_names(f"source {name!r}", reads)
        place = Place.of_caller()
        spec = SourceSpec(
            name, body, place, pools, rounds, stream, state, evidence, window, focus, localns=_locals_of_caller()
        )
        return Source(self.add(spec), self)


def _locals_of_caller() -> Mapping[str, Any]:
    """Return the local names of the function that builds the graph, if any: annotations may refer to them."""
    frame = frame_of_caller()
    if frame is None or frame.f_locals is frame.f_globals:
        return {}
    return dict(frame.f_locals)


def in_order(graph: Declarations, name: Any, factory: Any) -> tuple[Any, Any]:
    """Return the name and the factory of a pool; note a problem if they were given in the other order."""
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
