"""How many evaluations the shipped kinds of algorithms take: functions for `Graph.costs`, made of their parameters."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from flashgraph.graph.ports import Costs, Draw, Param

__all__ = ["curating", "reflecting"]


def reflecting(minibatch: Param[int], *children: Param[int]) -> Callable[[Draw[None]], Costs]:
    """The seed is validated.  A round makes as many children as the product of ``children``; each is tried on the
    minibatch that its parent was tried on, and validated if it passes."""

    def costs(at: Draw[Any]) -> Costs:
        count = math.prod(at[param] for param in children)
        tried = 2 * at[minibatch] * count
        return Costs(least=tried, most=tried, seeds=1, children=count)

    return costs


def curating(
    batch: Param[int], steps: Param[int], answer_after: Param[bool], *, again: int
) -> Callable[[Draw[None]], Costs]:
    """A round answers a batch, up to ``again`` times more while an answer is wrong, and once after its curation.  A
    validation follows each ``steps`` samples, and each round bears its share."""

    def costs(at: Draw[Any]) -> Costs:
        size, after = at[batch], bool(at[answer_after])
        validation = len(at.task.val) * size / min(at[steps], len(at.task.train))
        return Costs(least=size * (1 + after), most=math.ceil(size * (1 + again + after) + validation))

    return costs
