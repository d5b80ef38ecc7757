"""A plain Python function as a model: for tests, rules and a user's own client code."""

from __future__ import annotations

import inspect
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

import anyio.lowlevel
import attrs

from flashgraph.errors import DataError
from flashgraph.llm.prices import checked_price
from flashgraph.llm.protocol import Message, Reply, Usage

__all__ = ["Answer", "FunctionModel", "as_reply"]

Answer = str | Reply
"""The result of a function; text is wrapped in a `Reply` with estimated usage."""


def as_reply(answer: object, messages: Sequence[Message], name: str) -> Reply:
    """Return ``answer`` as a reply; plain text is free, its usage estimated at four characters a token.

    Raises `DataError` for anything but text and `Reply`.
    """
    if isinstance(answer, Reply):
        return answer
    if not isinstance(answer, str):
        raise DataError(f"model {name!r}: found {type(answer).__name__} {answer!r:.60}, expected str or fg.Reply")
    return Reply(answer, Usage.estimate(messages, answer), cost=0.0, model=name)


def _takes_params(function: Callable[..., object]) -> bool:
    """Return whether ``function`` accepts the request's parameters as a second positional argument."""
    try:
        inspect.signature(function).bind((), {})
    except TypeError:
        return False
    except ValueError:
        # Some builtins have no signature; the documented form takes messages alone.
        return False
    return True


@attrs.define(eq=False)
class FunctionModel:
    """A model whose ``function(messages)`` or ``function(messages, params)``, sync or async, returns text or a `Reply`.

    ``price`` is USD for one prompt token and one completion token; ``(0, 0)`` is free.  A budget of money requires it,
    because otherwise nobody knows before a call what its reply can cost.

    A sync function runs on the event loop, so it must not block.  Call blocking code in an async function through
    `anyio.to_thread.run_sync`.  Exceptions of the function are raised unchanged, so that a bug keeps its traceback.
    """

    function: Callable[..., Answer | Awaitable[Answer]]
    name: str = attrs.field(kw_only=True)
    limit: int = attrs.field(default=64, kw_only=True, validator=attrs.validators.ge(1))
    price: tuple[float, float] | None = attrs.field(default=None, kw_only=True)
    _takes_params: bool = attrs.field(init=False, repr=False)

    @name.default
    def _function_name(self) -> str:
        return getattr(self.function, "__name__", type(self.function).__name__)

    def __attrs_post_init__(self) -> None:
        if not callable(self.function):
            raise DataError(f"FunctionModel: found {self.function!r}, expected a function of the messages")
        if self.price is not None:
            self.price = checked_price("FunctionModel", self.price)
        self._takes_params = _takes_params(self.function)

    @property
    def bounds_cost(self) -> bool:
        """Return whether `worst_cost` is a bound: whether a price was given."""
        return self.price is not None

    @asynccontextmanager
    async def open(self) -> AsyncIterator[None]:
        """Do nothing: there is nothing to open."""
        yield

    async def complete(self, messages: Sequence[Message], params: Mapping[str, Any]) -> Reply:
        """Return the function's answer; it costs what its `Reply` says, or else the price of its tokens.

        Raises `DataError` if that is neither text nor a `Reply`, and whatever the function raises.
        """
        await anyio.lowlevel.checkpoint()
        answer = self.function(messages, params) if self._takes_params else self.function(messages)
        if inspect.isawaitable(answer):
            answer = await answer
        reply = as_reply(answer, messages, self.name)
        if self.price is None or (isinstance(answer, Reply) and answer.cost is not None):
            return reply
        return attrs.evolve(reply, cost=self.worst_cost(reply.usage.prompt, reply.usage.completion))

    def worst_cost(self, prompt: int, completion: int) -> float | None:
        """Return the cost by ``price``; 0 without one."""
        return prompt * self.price[0] + completion * self.price[1] if self.price is not None else 0.0
