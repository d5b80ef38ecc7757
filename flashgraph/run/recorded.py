"""A model that answers from the calls of a stored run, at no cost."""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, closing
from typing import Any

import anyio.lowlevel
import attrs

from flashgraph.errors import DataError, RequestFailed
from flashgraph.llm.limits import Limits
from flashgraph.llm.messages import said_in
from flashgraph.llm.prices import LOCAL, Price, pin, pricing
from flashgraph.llm.protocol import Load, Message, Model, Reply, Usage, bounds_cost
from flashgraph.llm.sharing import Shared

__all__ = ["ReplayModel"]

LIMIT = 64
"""Requests in flight at once, without another model."""

SHOWN = 80
"""Characters of a request that an error shows."""

Key = tuple[tuple[str, str], ...]


@attrs.define(eq=False)
class ReplayModel:
    """Answers a request as the stored run ``run`` did (a folder, or a name below ``runs/``).

    Two requests are equal if their messages are.  Equal requests get the run's replies in order.  When these are used
    up, they get the last reply again.  Replies take no time and cost nothing.  A request that the run did not have goes
    to ``otherwise``, or fails.
    """

    run: str
    otherwise: Model | None = None
    _kept: Shared[dict[Key, deque[Reply]]] = attrs.field(factory=Shared, init=False, repr=False)

    @property
    def name(self) -> str:
        return f"replay:{self.run}"

    @property
    def limit(self) -> int:
        """The limit of the other model; without one, 64."""
        return LIMIT if self.otherwise is None else self.otherwise.limit

    @property
    def limits(self) -> Limits | None:
        """The adaptive limits of the other model, if it has any."""
        return getattr(self.otherwise, "limits", None)

    @property
    def params(self) -> Mapping[str, Any]:
        """The request parameters of the other model."""
        return getattr(self.otherwise, "params", None) or {}

    @property
    def prioritises(self) -> bool:
        """Whether the other model takes priorities."""
        return getattr(self.otherwise, "prioritises", False)

    @asynccontextmanager
    async def open(self) -> AsyncIterator[None]:
        """Read the run's calls, and hold the other model open.

        Raises `DataError` when there is no such run, and `flashgraph.run.journal.JournalError` when it cannot be read.
        """
        async with AsyncExitStack() as stack:
            if self.otherwise is not None:
                await stack.enter_async_context(self.otherwise.open())
            await stack.enter_async_context(self._kept.hold(self._reading))
            yield

    @asynccontextmanager
    async def _reading(self) -> AsyncIterator[dict[Key, deque[Reply]]]:
        yield self._read()

    async def complete(self, messages: Sequence[Message], params: Mapping[str, Any]) -> Reply:
        """Return the run's reply to ``messages``, or the other model's.

        Raises `RequestFailed` if the run has no reply and there is no other model, and the other model's errors.
        """
        if (replies := self._kept.value) is None:
            raise RuntimeError(f"{self.name} is not open: use `async with model.open():` around its calls")
        known = replies.get(_key(messages))
        if known is not None:
            await anyio.lowlevel.checkpoint()
            return known.popleft() if len(known) > 1 else known[0]
        if self.otherwise is not None:
            return await self.otherwise.complete(messages, params)
        said = said_in(messages[-1]) if messages else ""
        raise RequestFailed(
            f"{self.name}: the run has no answer to {said[:SHOWN]!r}{'...' if len(said) > SHOWN else ''}; it has "
            f"{len(replies)} requests. Name a model for new requests: {self.name}?else=MODEL"
        )

    def worst_cost(self, prompt: int, completion: int) -> float | None:
        """Return the other model's bound; without one, requests are free."""
        return 0.0 if self.otherwise is None else self.otherwise.worst_cost(prompt, completion)

    @property
    def bounds_cost(self) -> bool:
        """Whether the other model's `worst_cost` is a bound, if there is one."""
        return self.otherwise is None or bounds_cost(self.otherwise)

    def pricing(self) -> Price:
        """Return the price of the other model; without one, requests are free."""
        return LOCAL if self.otherwise is None else pricing(self.otherwise)

    def pin(self, price: Price) -> bool:
        """Pin the other model's price."""
        return self.otherwise is not None and pin(self.otherwise, price)

    async def load(self) -> Load | None:
        """Return the load of the other model's server, by its own account."""
        ask = getattr(self.otherwise, "load", None)
        return None if ask is None else await ask()

    def _read(self) -> dict[Key, deque[Reply]]:
        from flashgraph.run.journal.columns import count, json_of, list_of, maybe, pair, whole, word
        from flashgraph.run.journal.folders import find_run
        from flashgraph.run.journal.keeper import JOURNAL
        from flashgraph.run.journal.rows import Rows
        from flashgraph.run.journal.tools import KEPT, beside_text

        found: dict[Key, deque[Reply]] = {}
        expected = (whole, json_of(list_of(pair(word, word))), word, count, count, word, maybe(word), beside_text)
        with closing(Rows(find_run(self.run) / JOURNAL)) as rows:
            calls = "calls" if rows.has("calls", "tools") else "(SELECT *, NULL AS tools FROM calls)"
            sql = (
                f"SELECT id, messages, reply, prompt_tokens, completion_tokens, finish, model, tools FROM {calls} "
                f"WHERE how = 'done' AND {KEPT} ORDER BY id"
            )
            for _, messages, reply, *counts, finish, model, parts in rows.read("calls", expected, sql):
                key = tuple((role, rows.text(name)) for role, name in messages)
                end, name = finish or "stop", model or self.name
                said = Reply(rows.text(reply), Usage(*counts), 0.0, end, name, **parts)
                found.setdefault(key, deque()).append(said)
        if not found:
            raise DataError(f"{self.name}: the run has no model call that was answered.\nFix: name another run.")
        return found


def _key(messages: Sequence[Message]) -> Key:
    """Return messages as the journal keeps them: parts as their JSON."""
    return tuple((message["role"], said_in(message)) for message in messages)
