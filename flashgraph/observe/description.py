"""A graph described for people: the source of drawings, tables and explanations."""

from __future__ import annotations

from typing import Literal

import attrs

from flashgraph.graph.check import CheckedGraph
from flashgraph.graph.dsl import Graph
from flashgraph.graph.signatures import function_name
from flashgraph.graph.spec import EdgeSpec, PoolSpec, SourceSpec, StageSpec
from flashgraph.graph.types import show
from flashgraph.observe.words import counted
from flashgraph.run.plan import DEFAULT_CAPACITY

__all__ = ["Description", "Link", "Node", "describe"]


@attrs.frozen
class Node:
    """A node of a graph, its types and options as text.

    ``kind`` is ``"repair"`` for the repair stage of an edge; ``role`` is the model that a stage calls.
    """

    name: str
    kind: Literal["pool", "source", "stage", "repair"]
    role: str | None
    takes: str
    gives: str
    notes: tuple[str, ...]


@attrs.frozen
class Link:
    """An edge: the type at its end, the policies that the graph states, and its repair stages."""

    src: str
    dst: str
    flows: str
    policies: tuple[str, ...]
    repairs: tuple[str, ...]
    loop: int | None
    takes: str = ""
    """The type that the edge takes from its start."""

    @property
    def name(self) -> str:
        return f"{self.src}->{self.dst}"


@attrs.frozen
class Description:
    """A graph: its nodes and links in the order of declaration; ``reads`` holds (pool, reader) pairs."""

    name: str
    doc: str
    params: tuple[str, ...]
    nodes: tuple[Node, ...]
    links: tuple[Link, ...]
    reads: tuple[tuple[str, str], ...]
    capacity: int
    """The capacity of an edge that sets none."""

    @property
    def roles(self) -> tuple[str, ...]:
        return tuple(sorted({n.role for n in self.nodes if n.role is not None}))

    def node(self, name: str) -> Node:
        return next(n for n in self.nodes if n.name == name)


def describe(graph: Graph | CheckedGraph) -> Description:
    """Describe a graph.  Raises `GraphError` for one that has problems."""
    checked = graph.checked() if isinstance(graph, Graph) else graph.sound()
    spec, types = checked.spec, checked.ports
    nodes = []
    for node in spec.nodes.values():
        takes, gives = (show(t[node.name]) if node.name in t else "" for t in (types.takes, types.gives))
        if isinstance(node, PoolSpec):
            nodes.append(Node(node.name, "pool", None, takes, show(checked.ports.views[node.name]), ()))
        elif isinstance(node, SourceSpec):
            rounds = () if node.rounds is None else (counted(node.rounds, "round"),)
            nodes.append(Node(node.name, "source", None, "", gives, rounds))
        else:
            kind: Literal["repair", "stage"] = "repair" if node.name in spec.repairers else "stage"
            gives = f"Several[{gives}]" if node.name in types.several else gives
            nodes.append(Node(node.name, kind, node.model, takes, gives, _notes(node)))
    links = []
    for edge in spec.edges:
        flow = checked.flows[edge.name]
        repairers = () if edge.stale is None else edge.stale.repairers()
        links.append(
            Link(
                edge.src,
                edge.dst,
                show(flow.arrives),
                policies_of(edge),
                tuple(str(getattr(r, "name", r)) for r in repairers),
                edge.loop,
                show(flow.sent),
            )
        )
    readers: tuple[SourceSpec | StageSpec, ...] = (*spec.sources, *spec.stages)
    reads = tuple((pool, n.name) for n in readers for pool in n.reads)
    doc = next((line for line in spec.doc.strip().splitlines() if line.strip()), "")
    params = tuple(f"{p.name}={p.default!r}" for p in spec.params.values())
    return Description(spec.name, doc, params, tuple(nodes), tuple(links), reads, DEFAULT_CAPACITY)


def policies_of(edge: EdgeSpec) -> tuple[str, ...]:
    """Return a phrase for each policy that an edge states."""
    phrases = [
        edge.scatter and f"scatter {function_name(edge.scatter)}",
        edge.gather and "gather",
        edge.fanout and f"fanout {edge.fanout} at most",
        edge.only and f"only {edge.only.__name__}",
        edge.when and f"when {function_name(edge.when)}",
        edge.otherwise and "otherwise",
        edge.distinct and f"distinct {function_name(edge.distinct)}",
        edge.loop and f"loop {edge.loop} at most",
        edge.order and f"order {edge.order}",
        edge.release and f"release {edge.release}",
        edge.late and f"late {edge.late}",
        edge.stale and f"stale {edge.stale}",
        edge.on_failure and f"on failure {edge.on_failure}",
        edge.capacity and f"capacity {edge.capacity}",
        edge.orphans == "keep" and "keeps orphans",
    ]
    return tuple(phrase for phrase in phrases if phrase)


def _notes(stage: StageSpec) -> tuple[str, ...]:
    phrases = [
        stage.counts and f"counts {', '.join(stage.counts)}",
        stage.workers and counted(stage.workers, "worker"),
        stage.fanout and f"fanout {stage.fanout} at most",
        stage.timeout and f"at most {stage.timeout:g} s a try",
        stage.retries and f"{stage.retries + 1} tries",
    ]
    return tuple(phrase for phrase in phrases if phrase)
