"""A checked graph: its problems, types and scopes, which compiling, journals and drawings use."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Self

import attrs

from flashgraph.errors import GraphError, Problem
from flashgraph.graph.analysis import Scope
from flashgraph.graph.spec import GraphSpec

__all__ = ["CheckedGraph", "EdgeTypes", "Ports"]


@attrs.define
class Ports:
    """The types that each node takes and gives; nodes with a wrong signature are left out."""

    takes: dict[str, Any] = attrs.field(factory=dict)
    gives: dict[str, Any] = attrs.field(factory=dict)
    """The type of one result, without `Several` and None."""
    several: set[str] = attrs.field(factory=set)
    """Stages that return a `Several`."""
    optional: set[str] = attrs.field(factory=set)
    """Sources and stages that may return None."""
    views: dict[str, Any] = attrs.field(factory=dict)
    """The class of each pool's views."""


@attrs.frozen
class EdgeTypes:
    """The types on an edge: what it takes from its start, and what arrives at its end."""

    sent: Any
    arrives: Any


@attrs.frozen
class CheckedGraph:
    """A graph with its problems and its types.

    Without problems, ``ports`` has every node, ``flows`` every edge and ``scopes`` every node that items reach.
    """

    spec: GraphSpec
    problems: tuple[Problem, ...]
    """Ordered by line."""
    ports: Ports
    flows: Mapping[str, EdgeTypes]
    """By name of the edge."""
    scopes: Mapping[str, Scope]
    """The scope of the items at each node: the nested scatters that they belong to."""
    declared: GraphSpec
    """The graph as declared, in which options may be functions of the parameters."""

    def sound(self) -> Self:
        """Return this graph, or raise `GraphError` with all its problems."""
        if self.problems:
            raise GraphError(self.spec.name, self.problems)
        return self
