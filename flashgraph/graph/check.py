"""`check`: every mistake of a graph at once, each with its line, what was found, what was expected and the fix.

The checks run in phases: declarations (noted by the DSL), nodes, edges, shapes.  A later phase leaves out what an
earlier one has already found broken, so that one mistake is reported once.
"""

from __future__ import annotations

from flashgraph.errors import Place, Problem
from flashgraph.graph.check_edges import check_edges
from flashgraph.graph.check_nodes import Ports, check_nodes
from flashgraph.graph.check_shape import check_shape
from flashgraph.graph.dsl import Graph

__all__ = ["check", "ports"]


class Notes:
    """Problems as they are found."""

    def __init__(self) -> None:
        self.problems: list[Problem] = []

    def add(self, code: str, place: Place, what: str, found: str, expected: str, fix: str) -> None:
        self.problems.append(Problem(code, place, what, found, expected, fix))


def check(graph: Graph) -> tuple[Problem, ...]:
    """All problems of ``graph``, ordered by line; an empty tuple for a graph that can run."""
    notes = Notes()
    spec = graph.spec
    ports = check_nodes(spec, notes)
    check_edges(spec, ports, notes)
    check_shape(spec, ports, notes, broken=bool(graph.noted or notes.problems))
    found = dict.fromkeys([*graph.noted, *notes.problems])
    return tuple(sorted(found, key=lambda p: p.place))


def ports(graph: Graph) -> Ports:
    """The types at each node of a graph that passes `check`."""
    return check_nodes(graph.spec, Notes())
