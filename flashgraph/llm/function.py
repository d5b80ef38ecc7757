"""A plain Python function as a model: for tests, rules and a user's own client code."""

from __future__ import annotations

import inspect
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

import anyio.lowlevel
import attrs

from flashgraph.errors import DataError
from flashgraph.llm.protocol import Message, Reply, Usage

__all__ = ["Answer", "FunctionModel", "as_reply"]

Answer = str | Reply
"""What a function may return; text is wrapped in a `Reply` with estimated usage."""


def as_reply(answer: object, messages: Sequence[Message], name: str) -> Reply:
    """``answer`` as a free reply; the usage of plain text is estimated at four characters a token.

    Raises `DataError` for anything but text and `Reply`.
    """
    if isinstance(answer, Reply):
        return answer
    if not isinstance(answer, str):
        raise DataError(f"model {name!r}: found {type(answer).__name__} {answer!r:.60}, expected str or fg.Reply")
    return Reply(answer, Usage.estimate(messages, answer), cost=0.0, model=name)


def _takes_params(function: Callable[..., object]) -> bool:
    """Whether ``function`` accepts the request's parameters as a second positional argument."""
    try:
        inspect.signature(function).bind((), {})
    except TypeError:
        return False
    except ValueError:
        # Some builtins have no signature; messages alone is the documented form.
        return False
    return True


@attrs.define(eq=False)
class FunctionModel:
    """``function(messages)`` or ``function(messages, params)``, sync or async, answers with text or a `Reply`.

    A sync function runs inline and so must not block; one that does belongs into an async function that awaits
    `anyio.to_thread.run_sync`.  What the function raises goes through as it is, so a bug keeps its traceback.
    """

    function: Callable[..., Answer | Awaitable[Answer]]
    name: str = attrs.field(kw_only=True)
    limit: int = attrs.field(default=64, kw_only=True, validator=attrs.validators.ge(1))
    _takes_params: bool = attrs.field(init=False, repr=False)

    @name.default
    def _function_name(self) -> str:
        return getattr(self.function, "__name__", type(self.function).__name__)

    def __attrs_post_init__(self) -> None:
        if not callable(self.function):
            raise DataError(f"FunctionModel: found {self.function!r}, expected a function of the messages")
        self._takes_params = _takes_params(self.function)

    @asynccontextmanager
    async def open(self) -> AsyncIterator[None]:
        """Nothing to hold."""
        yield

    async def complete(self, messages: Sequence[Message], params: Mapping[str, Any]) -> Reply:
        """What the function answers.

        Raises `DataError` if that is neither text nor a `Reply`, and whatever the function raises.
        """
        await anyio.lowlevel.checkpoint()
        answer = self.function(messages, params) if self._takes_params else self.function(messages)
        if inspect.isawaitable(answer):
            answer = await answer
        return as_reply(answer, messages, self.name)

    def worst_cost(self, prompt: int, completion: int) -> float | None:
        """Free."""
        return 0.0
