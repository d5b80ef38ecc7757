"""The evaluations that a round takes, for `Graph.costs`: one function for each kind of shipped algorithm."""

from __future__ import annotations

import math
from typing import Any

from flashgraph.graph.ports import Costs
from flashgraph.tasks.task import Task

__all__ = ["curating", "reflecting"]


def reflecting(minibatch: int, children: int = 1) -> Costs:
    """Return the costs of an algorithm that validates the seed, then reflects on minibatches.

    A round makes ``children`` children. Each is tried on its parent's minibatch, and validated if it passes.
    """
    tried = 2 * minibatch * children
    return Costs(least=tried, most=tried, seeds=1, children=children)


def curating(task: Task[Any, Any], batch: int, steps: int, answer_after: bool, *, again: int) -> Costs:
    """Return the costs of an algorithm that answers a batch a round and curates it.

    A round answers each sample of its batch once, up to ``again`` more times while the answer is wrong, and once after
    the curation (with ``answer_after``). A validation follows each ``steps`` samples; each round carries its share.
    """
    validation = len(task.val) * batch / min(steps, len(task.train))
    return Costs(least=batch * (1 + answer_after), most=math.ceil(batch * (1 + again + answer_after) + validation))
