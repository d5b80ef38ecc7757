"""Runs of small graphs under virtual time on either event loop, checked against the invariants."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import flashgraph as fg
from flashgraph.api import Run
from flashgraph.testing import check_invariants, settle
from flashgraph.testing.runs import TASK

__all__ = ["Virtually", "of", "watched"]

Virtually = Callable[[Callable[[], Awaitable[Any]]], Any]


def watched(
    graph: fg.Graph,
    virtually: Virtually,
    *,
    act: Callable[[Run], Awaitable[None]] | None = None,
    models: Any = None,
    **options: Any,
) -> fg.Result:
    """Return the result of a run; ``act`` is awaited beside it."""

    async def opened() -> fg.Result:
        async with fg.open_run(graph, TASK, models=models or {}, settle=settle, **options) as run:
            if act is not None:
                await act(run)
            result = await run.wait()
            check_invariants(result.events, run.machine.plan, options.get("budget"))
            return result

    result: fg.Result = virtually(opened)
    return result


def of(result: fg.Result, kind: type[Any]) -> list[Any]:
    """Return the events of one kind."""
    return [event for event in result.events if isinstance(event, kind)]
