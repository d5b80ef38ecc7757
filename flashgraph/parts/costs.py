"""The evaluations that a round takes, for `Graph.costs`: one function for each kind of shipped algorithm."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from flashgraph.graph.ports import Costs, Draw, Param

__all__ = ["curating", "reflecting"]


def reflecting(minibatch: Param[int], *children: Param[int]) -> Callable[[Draw[None]], Costs]:
    """Return the costs of an algorithm that validates the seed, then reflects on minibatches.

    A round makes as many children as the product of ``children``. Each is tried on its parent's minibatch, and
    validated if it passes.
    """

    def costs(ctx: Draw[Any]) -> Costs:
        count = math.prod(ctx[param] for param in children)
        tried = 2 * ctx[minibatch] * count
        return Costs(least=tried, most=tried, seeds=1, children=count)

    return costs


def curating(
    batch: Param[int], steps: Param[int], answer_after: Param[bool], *, again: int
) -> Callable[[Draw[None]], Costs]:
    """Return the costs of an algorithm that answers a batch a round and curates it.

    A round answers each sample of its batch once, up to ``again`` more times while the answer is wrong, and once after
    the curation (with ``answer_after``). A validation follows each ``steps`` samples; each round carries its share.
    """

    def costs(ctx: Draw[Any]) -> Costs:
        size, after = ctx[batch], bool(ctx[answer_after])
        validation = len(ctx.task.val) * size / min(ctx[steps], len(ctx.task.train))
        return Costs(least=size * (1 + after), most=math.ceil(size * (1 + again + after) + validation))

    return costs
