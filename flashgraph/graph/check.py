"""`check`: every mistake of a graph at once, each with its line, what was found, what was expected and the fix.

The checks run in phases: declarations (noted by the DSL), options, nodes, edges, shapes.  Each phase leaves out what
it has found broken, so that the next ones meet only sound values and one mistake is reported once.
"""

from __future__ import annotations

from flashgraph.errors import Problem
from flashgraph.graph.check_edges import check_edges
from flashgraph.graph.check_nodes import Ports, check_nodes
from flashgraph.graph.check_options import check_options
from flashgraph.graph.check_shape import check_shape
from flashgraph.graph.dsl import Graph
from flashgraph.graph.notes import Notes

__all__ = ["check", "ports"]


def check(graph: Graph) -> tuple[Problem, ...]:
    """All problems of ``graph``, ordered by line; an empty tuple for a graph that can run."""
    notes = Notes()
    spec, left_out = check_options(graph.spec, notes)
    found = check_nodes(spec, notes)
    check_edges(spec, found, notes)
    check_shape(spec, found, notes, left_out | graph.left_out)
    return tuple(sorted(dict.fromkeys([*graph.noted, *notes.problems]), key=lambda p: p.place))


def ports(graph: Graph) -> Ports:
    """The types at each node of a graph that passes `check`."""
    return check_nodes(graph.spec, Notes())
