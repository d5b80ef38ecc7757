"""A model whose answers, faults and delays a test states beforehand."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

import anyio
import attrs

from flashgraph.errors import DataError
from flashgraph.llm.function import as_reply
from flashgraph.llm.protocol import Message, Reply

__all__ = ["Line", "RecordedCall", "ScriptedModel"]

Line = str | Reply | Exception
"""One scripted answer; an exception is raised."""


@attrs.frozen
class RecordedCall:
    """One request as the model received it."""

    messages: tuple[Message, ...]
    params: Mapping[str, Any]


@attrs.define(eq=False)
class ScriptedModel:
    """A model that answers call ``i`` (from 0) with ``replies[i]``, or with the result of ``replies`` on its messages.

    ``delay`` is slept before each answer, in seconds of the running clock: a number, or a function of ``i``.
    ``in_flight`` counts calls between their start and end (cancelled ones end too), ``peak`` is its maximum.
    """

    replies: Sequence[Line] | Callable[[Sequence[Message]], Line]
    delay: float | Callable[[int], float] = 0
    limit: int = attrs.field(default=64, kw_only=True, validator=attrs.validators.ge(1))
    name: str = attrs.field(default="scripted", kw_only=True)
    in_flight: int = attrs.field(default=0, init=False)
    peak: int = attrs.field(default=0, init=False)
    _calls: list[RecordedCall] = attrs.field(factory=list, init=False, repr=False)

    @property
    def calls(self) -> tuple[RecordedCall, ...]:
        """Return all requests so far, in the order of their start."""
        return tuple(self._calls)

    @asynccontextmanager
    async def open(self) -> AsyncIterator[None]:
        """Do nothing: there is nothing to open."""
        yield

    async def complete(self, messages: Sequence[Message], params: Mapping[str, Any]) -> Reply:
        """Return the call's line of the script.

        Raises the line if it is an exception, and `DataError` when the script has run out.
        """
        index = len(self._calls)
        self._calls.append(RecordedCall(tuple(messages), dict(params)))
        self.in_flight += 1
        self.peak = max(self.peak, self.in_flight)
        try:
            await anyio.sleep(self.delay(index) if callable(self.delay) else self.delay)
            line = self._line(index, messages)
        finally:
            self.in_flight -= 1
        if isinstance(line, Exception):
            raise line
        return as_reply(line, messages, self.name)

    def worst_cost(self, prompt: int, completion: int) -> float | None:
        """Return 0: the model is free."""
        return 0.0

    def _line(self, index: int, messages: Sequence[Message]) -> Line:
        if callable(self.replies):
            return self.replies(messages)
        if index >= len(self.replies):
            raise DataError(f"{self.name}: this is call {index + 1}, but the script has {len(self.replies)} replies")
        return self.replies[index]
