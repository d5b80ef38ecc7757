"""`check`: every mistake of a graph at once, each with its line, what was found, what was expected and the fix.

The checks run in phases: declarations (noted by the DSL), options, nodes, edges, shapes.  Each phase leaves out what
it has found broken, so that the next ones meet only sound values and one mistake is reported once.
"""

from __future__ import annotations

from flashgraph.errors import Problem
from flashgraph.graph.check.edges import check_edges
from flashgraph.graph.check.nodes import Ports, check_nodes
from flashgraph.graph.check.options import check_options
from flashgraph.graph.check.shape import check_shape
from flashgraph.graph.dsl import Graph
from flashgraph.graph.notes import Notes
from flashgraph.graph.spec import GraphSpec

__all__ = ["check", "check_spec", "ports"]


def check(graph: Graph) -> tuple[Problem, ...]:
    """All problems of ``graph``, ordered by line; an empty tuple for a graph that can run."""
    found = [*graph.noted, *check_spec(graph.spec, frozenset(graph.left_out))]
    return tuple(sorted(dict.fromkeys(found), key=lambda p: p.place))


def check_spec(spec: GraphSpec, left_out: frozenset[str] = frozenset()) -> tuple[Problem, ...]:
    """The problems of a graph as a value; ``left_out`` names nodes of which the DSL could not add an edge."""
    notes = Notes()
    sound, touched = check_options(spec, notes)
    found = check_nodes(sound, notes)
    check_edges(sound, found, notes)
    check_shape(sound, found, notes, touched | left_out)
    return tuple(notes.problems)


def ports(graph: Graph) -> Ports:
    """The types at each node of a graph that passes `check`."""
    return check_nodes(graph.spec, Notes())
