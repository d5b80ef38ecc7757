"""Several models behind one role: one model on several servers, or different models that share the work."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import attrs

from flashgraph.errors import DataError, ModelUnavailable, PassingFault
from flashgraph.llm.messages import said_in
from flashgraph.llm.protocol import Message, Model, Reply, bounds_cost, reply_limit

__all__ = ["Ensemble", "members"]


def _weighted(instance: Ensemble, attribute: attrs.Attribute[Any], value: Any) -> None:
    if not value or any(not weight > 0 for _, weight in value):
        raise DataError(f"ensemble: found {value!r}, expected at least one (model, weight) pair with weights above 0")


@attrs.frozen(eq=False)
class Ensemble:
    """Models with weights.

    In a run the scheduler picks one with a free slot, at random by weight, and skips those with an outage.  Outside the
    scheduler, as at the end of a run, the request determines the first model, and the others follow in turn.  If a
    failed try cost nothing, the next model is called at once, else on the next call.
    """

    members: tuple[tuple[Model, float], ...] = attrs.field(validator=_weighted)
    _paid: Counter[str] = attrs.field(factory=Counter, init=False, repr=False)
    """Failed tries that cost something, by request."""

    @property
    def name(self) -> str:
        return " + ".join(model.name for model, _ in self.members)

    @property
    def limit(self) -> int:
        return sum(model.limit for model, _ in self.members)

    @property
    def params(self) -> Mapping[str, Any]:
        """Return the bound of a reply of any member: the largest one, if the parameters of each member have one."""
        bounds = [reply_limit(getattr(model, "params", None) or {}) for model, _ in self.members]
        known = [bound for bound in bounds if bound is not None]
        return {"max_tokens": max(known)} if len(known) == len(bounds) else {}

    @asynccontextmanager
    async def open(self) -> AsyncIterator[None]:
        """Open all members.  Raises the error of the first that cannot be opened."""
        async with AsyncExitStack() as stack:
            for model, _ in self.members:
                await stack.enter_async_context(model.open())
            yield

    async def complete(self, messages: Sequence[Message], params: Mapping[str, Any]) -> Reply:
        """Answer ``messages`` with one member, or with another one if that has an outage or throttles.

        Raises a `PassingFault` at once if the try cost something, because the caller keeps the account.  If all members
        fail, raises a `PassingFault` of one that may answer later, else the last error.
        """
        weights = [weight for _, weight in self.members]
        request = "\0".join(said_in(message) for message in messages)
        first = random.Random(request).choices(range(len(weights)), weights)[0]
        failed: list[ModelUnavailable | PassingFault] = []
        for turn in range(len(weights)):
            model = self.members[(first + self._paid[request] + turn) % len(weights)][0]
            try:
                reply = await model.complete(messages, params)
            except (ModelUnavailable, PassingFault) as error:
                if isinstance(error, PassingFault) and (error.cut_off or error.usage is not None):
                    self._paid[request] += 1 + turn
                    raise
                failed.append(error)
            else:
                del self._paid[request]
                return reply
        raise next((error for error in failed if isinstance(error, PassingFault)), failed[-1])

    @property
    def bounds_cost(self) -> bool:
        """Return whether each member bounds its cost."""
        return all(bounds_cost(model) for model, _ in self.members)

    def worst_cost(self, prompt: int, completion: int) -> float | None:
        """Return the cost of the most expensive member; None if any price is unknown."""
        costs = [model.worst_cost(prompt, completion) for model, _ in self.members]
        known = [cost for cost in costs if cost is not None]
        return max(known) if len(known) == len(costs) else None


def members(model: Model) -> tuple[tuple[Model, float], ...]:
    """Return the models of an `Ensemble` with their weights, or any other model alone with weight 1."""
    return model.members if isinstance(model, Ensemble) else ((model, 1.0),)
