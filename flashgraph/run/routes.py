"""The edges that take the value of a node, and what an item there inherits."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import attrs

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
            if edge.only is not None and not isinstance(value, edge.only):
                continue
            here = origin
            if edge.loop is not None:
                passes = origin.loops.get(edge.name, 0)
                if passes >= edge.loop:
                    continue
                here = attrs.evolve(origin, loops={**origin.loops, edge.name: passes + 1})
            if (edge.otherwise and routes) or (edge.when is not None and not self._takes(edge.name, edge.when, value)):
                continue
            routes.append((edge, here))
        return routes

    def _takes(self, edge: str, when: Callable[[Any], bool], value: Any) -> bool:
        return self._functions.call(edge, "when", lambda: bool(when(value)))
