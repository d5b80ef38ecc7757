"""The members that an edge scatters an item into, and which of them it sends out, in which order."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

import attrs

from flashgraph.errors import FlashgraphError
from flashgraph.graph.ports import Member
from flashgraph.policies.release import drawn
from flashgraph.run.edge_functions import EdgeFunctions
from flashgraph.run.items import Item
from flashgraph.run.plan import EdgePlan, Plan

__all__ = ["Scattered", "Scattering"]


@attrs.frozen
class Scattered:
    """The members of a new group: ``places`` are the indices of those that are sent out, in their order."""

    values: tuple[Any, ...]
    places: Sequence[int]
    identities: tuple[Any, ...] = ()
    """The names of the members to a discriminative order."""
    strata: tuple[int, ...] = ()
    """The stratum of each member, where a sample of them is sent out."""


class Scattering:
    """The scatters of one run.  Discriminative orders learn from `remember`."""

    def __init__(self, plan: Plan, functions: EdgeFunctions, seed: int) -> None:
        self.streaks: dict[str, dict[Any, int]] = {e.name: {} for e in plan.edges.values() if e.arrange}
        """By edge with a discriminative order and by member, how often in a row the member has passed."""
        self._plan = plan
        self._functions = functions
        self._seed = seed

    def scattered(self, edge: EdgePlan, whole: Item) -> Scattered:
        """Return the members that ``whole`` is scattered into.  Raises `FunctionRaised`."""
        values = self._functions.call(edge.name, "scatter", lambda: _members(edge, whole.value))
        return self._functions.call(edge.name, "order", lambda: self._arranged(edge, values, whole.path))

    def _arranged(self, edge: EdgePlan, values: tuple[Any, ...], path: str) -> Scattered:
        identities: tuple[Any, ...] = ()
        strata: tuple[int, ...] = ()
        places: Sequence[int] = range(len(values))
        gathers = self._plan.gathers[edge.name]
        sent = max((_sends(self._plan.edges[g].release, len(values)) for g in gathers), default=len(values))
        if (arrange := edge.arrange) is not None:
            identities = tuple(arrange.identity(i, v) for i, v in enumerate(values))
            places = arrange.arrange(values, self.streaks[edge.name])
        if sent < len(values):
            named = getattr(arrange, "strata", None)
            strata = named(values, self.streaks[edge.name]) if named is not None else (0,) * len(values)
            places = drawn(strata, sent, random.Random(f"{self._seed}/sample/{path}"))
        return Scattered(values, places, identities, strata)

    def remember(self, edge: str, identities: Sequence[Any], members: Sequence[Member[Any]]) -> None:
        """Count, for a discriminative order, how often in a row each member of a closed group has passed."""
        arrange = self._plan.edges[edge].arrange
        if arrange is None:
            return
        streaks = self.streaks[edge]
        for identity, member in zip(identities, members, strict=True):
            if member.state == "arrived":
                try:
                    passed = arrange.passed(member.value)
                except Exception:  # the order is only a hint: a member that cannot be judged is sent out early
                    passed = False
                streaks[identity] = streaks.get(identity, 0) + 1 if passed else 0


def _sends(rule: Any, size: int) -> int:
    """Return how many members of a group are sent out; all of them under a user's rule that does not say."""
    sends = getattr(rule, "sends", None)
    return size if sends is None else int(sends(size))


def _members(edge: EdgePlan, value: Any) -> tuple[Any, ...]:
    assert edge.scatter is not None
    values = tuple(edge.scatter(value))
    if edge.fanout is not None and len(values) > edge.fanout:
        raise FlashgraphError(
            f"edge {edge.name}: its scatter made {len(values)} members; it declares fanout={edge.fanout}.\n"
            "Fix: declare the true bound, or scatter fewer."
        )
    return values
