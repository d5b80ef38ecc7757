"""The edges that take the value of a node, and what an item there inherits."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import attrs

from flashgraph.graph.ports import Failed
from flashgraph.run.cause import Cause
from flashgraph.run.edge_functions import EdgeFunctions
from flashgraph.run.items import Origin
from flashgraph.run.plan import EdgePlan, Plan

__all__ = ["Routes"]


class Routes:
    """The edges of a plan as ways out of its nodes."""

    def __init__(self, plan: Plan, functions: EdgeFunctions) -> None:
        self._plan = plan
        self._functions = functions

    def of(self, node: str, value: Any, origin: Origin) -> list[tuple[EdgePlan, Origin]]:
        """Return the edges that take ``value`` from ``node``, each with the origin of an item there.

        Raises `FunctionRaised` if a condition raises.
        """
        routes: list[tuple[EdgePlan, Origin]] = []
        for edge in self._plan.outgoing[node]:
            if not _fits(edge, value) or _spent(edge, origin) or (edge.otherwise and routes):
                continue
            if edge.when is not None and not self._takes(edge.name, edge.when, value):
                continue
            here = origin
            if edge.loop is not None:
                loops = {**origin.loops, edge.name: origin.loops.get(edge.name, 0) + 1}
                here = attrs.evolve(origin, loops=loops)
            routes.append((edge, here))
        return routes

    def why_none(self, node: str, value: Any, origin: Origin) -> tuple[Cause, str]:
        """Return why no edge takes ``value`` from ``node``, with a reason for people."""
        for edge in self._plan.outgoing[node]:
            fits = _fits(edge, value) and (edge.when is None or self._takes(edge.name, edge.when, value))
            if fits and _spent(edge, origin):
                return Cause.SPENT, f"it has passed {edge.name} {edge.loop} times (loop={edge.loop})"
        return Cause.UNROUTED, f"no edge out of {node!r} takes it"

    def _takes(self, edge: str, when: Callable[[Any], bool], value: Any) -> bool:
        return self._functions.call(edge, "when", lambda: bool(when(value)))


def _fits(edge: EdgePlan, value: Any) -> bool:
    """Whether ``value`` is of the class that an edge takes.  Failures pass only edges that are declared for them."""
    if isinstance(value, Failed) != edge.takes_failures:
        return False
    return edge.only is None or isinstance(value, edge.only)


def _spent(edge: EdgePlan, origin: Origin) -> bool:
    """Whether an item has passed a loop edge as often as it may."""
    return edge.loop is not None and origin.loops.get(edge.name, 0) >= edge.loop
