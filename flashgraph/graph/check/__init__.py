"""`check`: every mistake of a graph at once, each with its line, what was found, what was expected and the fix.

The checks run in phases: declarations (noted by the DSL), options, nodes, edges, shape.  Each phase removes the broken
parts, so that later phases see only sound values and report no mistake twice.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, Protocol

from flashgraph.errors import Problem
from flashgraph.graph.analysis import scopes
from flashgraph.graph.check.checked import CheckedGraph, EdgeTypes, Ports
from flashgraph.graph.check.edges import check_edges
from flashgraph.graph.check.nodes import check_nodes
from flashgraph.graph.check.options import check_options
from flashgraph.graph.check.shape import check_clashes, check_shape
from flashgraph.graph.notes import Notes
from flashgraph.graph.resolved import resolve
from flashgraph.graph.spec import GraphSpec

__all__ = ["CheckedGraph", "EdgeTypes", "Ports", "check", "check_spec", "checked_with"]


class Declared(Protocol):
    """A graph as the DSL has collected it: `flashgraph.Graph`."""

    @property
    def spec(self) -> GraphSpec: ...
    @property
    def noted(self) -> Collection[Problem]: ...
    @property
    def left_out(self) -> Collection[str]: ...


def check(graph: Declared) -> CheckedGraph:
    """Check a graph; the result includes the problems that the DSL noted while it read the file."""
    return check_spec(graph.spec, graph.noted, frozenset(graph.left_out))


def check_spec(
    declared: GraphSpec,
    noted: Collection[Problem] = (),
    left_out: frozenset[str] = frozenset(),
    params: Mapping[str, Any] | None = None,
) -> CheckedGraph:
    """Check a graph with these values of its parameters; by default, with their defaults.

    ``noted`` holds the problems of its declarations. ``left_out`` names nodes that lack an edge because of one.
    """
    notes = Notes()
    spec = resolve(declared, params, notes)
    sound, touched = check_options(spec, notes)
    ports = check_nodes(sound, notes)
    inside, clashes = scopes(sound)
    flows = check_edges(sound, ports, inside, notes)
    check_clashes(clashes, notes)
    check_shape(sound, ports, inside, notes, touched | left_out)
    problems = sorted(dict.fromkeys([*noted, *notes.problems]), key=lambda problem: problem.place)
    return CheckedGraph(spec, tuple(problems), ports, flows, inside, declared)


def checked_with(checked: CheckedGraph, params: Mapping[str, Any]) -> CheckedGraph:
    """Return a sound graph with its options computed from these parameters.

    Raises `GraphError` if the graph with these options has problems.
    """
    return checked if checked.declared is checked.spec else check_spec(checked.declared, params=params).sound()
