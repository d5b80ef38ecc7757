"""A stage's time limit and its further tries."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import anyio

from flashgraph.errors import BudgetExhausted, FlashgraphError, ModelError
from flashgraph.graph.contexts import Context
from flashgraph.graph.spec import StageSpec

__all__ = ["StageTimedOut", "tried"]


class StageTimedOut(FlashgraphError):
    """An execution of a stage has taken longer than its ``timeout``."""


def tried(stage: StageSpec, body: Callable[..., Any]) -> Callable[..., Any]:
    """Return ``body`` with the time limit and the tries of its stage.

    A try that raises is followed by another, up to ``retries`` times.  The last error is raised.
    No try follows an error that it could not change: a request that the budget refuses, or a model that answers none.
    """
    if stage.timeout is None and not stage.retries:
        return body

    async def within_limit(*arguments: Any) -> Any:
        with anyio.move_on_after(stage.timeout):
            return await body(*arguments)
        raise StageTimedOut(f"stage {stage.name!r} took longer than {stage.timeout:g} s (timeout={stage.timeout:g})")

    async def waiting(*arguments: Any) -> Any:
        left = stage.retries
        while True:
            try:
                return await within_limit(*arguments)
            except Exception as error:
                left = _again(error, left, arguments)

    def plain(*arguments: Any) -> Any:
        left = stage.retries
        while True:
            try:
                return body(*arguments)
            except Exception as error:
                left = _again(error, left, arguments)

    return waiting if inspect.iscoroutinefunction(stage.body) or stage.runs != "loop" else plain


def _again(error: Exception, left: int, arguments: tuple[Any, ...]) -> int:
    """Prepare another try and return how many are left after it; raise the error if there is none."""
    if not left or isinstance(error, BudgetExhausted) or (isinstance(error, ModelError) and error.fatal):
        raise error
    for ctx in arguments:
        if isinstance(ctx, Context):
            ctx._used = None  # the next try names its own parents
    return left - 1
