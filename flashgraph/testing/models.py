"""Conformance of a user's own model with `flashgraph.llm.protocol.Model`."""

from __future__ import annotations

import math
from typing import Any

import anyio

import flashgraph as fg
from flashgraph.llm.protocol import Model
from flashgraph.run.patience import reply_of

__all__ = ["ModelViolation", "check_model"]

HELLO = [{"role": "user", "content": "Say hello."}]


class ModelViolation(AssertionError):
    """A model breaks the protocol; the text says what was found and what was expected."""


def _expect(holds: bool, found: str, expected: str) -> None:
    if not holds:
        raise ModelViolation(f"{found}\n    expected: {expected}")


def check_model(model: Model, *, backend: str = "asyncio", seconds: float = 30.0) -> None:
    """Open a model, call it, call it ``limit`` times at once (at most eight), cancel a call, and open it again.

    This makes up to 11 short requests.  Each may take ``seconds``, together with its retries after a
    `flashgraph.errors.PassingFault`.  Raises `ModelViolation`, and whatever the model raises.
    """
    for member in ("name", "limit", "open", "complete", "worst_cost"):
        _expect(hasattr(model, member), f"a {type(model).__name__} has no {member}", "all members of fg.Model")
    whole = isinstance(model.limit, int) and not isinstance(model.limit, bool) and model.limit >= 1
    _expect(whole, f"limit is {model.limit!r}", "its concurrency limit, a whole number from 1")
    _expect(isinstance(model.name, str) and bool(model.name), f"name is {model.name!r}", "a text without secrets")
    worst = model.worst_cost(10, 10)
    bound = worst is None or (isinstance(worst, float | int) and 0 <= worst < math.inf)
    _expect(bound, f"worst_cost(10, 10) is {worst!r}", "USD from 0, or None without a known price")
    if worst is not None:
        _expect((model.worst_cost(20, 20) or 0.0) >= worst, "worst_cost falls with more tokens", "an upper bound")
    try:
        anyio.run(_use, model, seconds, backend=backend)
    except BaseExceptionGroup as group:
        found = _first(group)
        raise found if found is not None else group from None


def _first(group: BaseExceptionGroup[BaseException]) -> ModelViolation | None:
    """Return the first violation in a group of errors, which concurrent calls may have raised."""
    for error in group.exceptions:
        inner = _first(error) if isinstance(error, BaseExceptionGroup) else error
        if isinstance(inner, ModelViolation):
            return inner
    return None


async def _use(model: Model, seconds: float) -> None:
    async with model.open():
        await _ask(model, seconds)
        async with anyio.create_task_group() as tasks:
            for _ in range(min(model.limit, 8)):
                tasks.start_soon(_ask, model, seconds)
        await _cancel(model, seconds)
        await _ask(model, seconds)
    async with model.open():
        await _ask(model, seconds)


async def _ask(model: Model, seconds: float) -> None:
    params: dict[str, Any] = {"max_tokens": 16}
    messages = [dict(m) for m in HELLO]
    with anyio.move_on_after(seconds) as scope:
        try:
            reply = await reply_of(model, messages, params)
        except fg.DataError as error:  # raised for a value that is no reply
            raise ModelViolation(str(error).replace("; expected ", "\n    expected: ")) from error
    _expect(not scope.cancelled_caught, f"no reply after {seconds:g} s", "a reply, or an exception of fg.ModelError")
    _expect(isinstance(reply, fg.Reply), f"complete returned a {type(reply).__name__}", "fg.Reply(text, fg.Usage(...))")
    _expect(isinstance(reply.text, str), f"the reply's text is {reply.text!r}", "a text")
    counts = min(reply.usage.prompt, reply.usage.completion) >= 0
    _expect(counts, f"the usage is {reply.usage}", "tokens from 0: an estimate if the server counts none")
    _expect(messages == HELLO, "complete changed its messages", "unchanged messages, because runs keep them")
    if reply.cost is not None:
        worst = model.worst_cost(reply.usage.prompt, reply.usage.completion)
        bounded = worst is not None and reply.cost <= worst * (1 + 1e-9)
        _expect(
            bounded, f"a reply cost {reply.cost} USD, its worst cost was {worst}", "at most that, to keep the budget"
        )


async def _cancel(model: Model, seconds: float) -> None:
    """Check that a call that is cancelled at its first await ends at once."""
    with anyio.move_on_after(seconds) as patience:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(reply_of, model, [dict(m) for m in HELLO], {"max_tokens": 16})
            await anyio.lowlevel.checkpoint()
            tasks.cancel_scope.cancel()
    _expect(
        not patience.cancelled_caught,
        f"a cancelled call did not end within {seconds:g} s",
        "a cancellation that passes through: no shielded scope, no except that swallows it",
    )
