"""Functions of a graph, run by hand: without an event loop, up to their next model request."""

from __future__ import annotations

import inspect
import random
from collections.abc import Callable, Coroutine, Generator, Mapping, Sequence
from functools import cache
from typing import Any

import attrs

import flashgraph as fg
from flashgraph.graph.contexts import emitted
from flashgraph.run.cause import cause_of
from flashgraph.run.jobs import Call, Done, JobFailure, Outcome, Start
from flashgraph.run.plan import Plan
from flashgraph.run.turns import Asked, Completed
from flashgraph.testing.runs import TASK

__all__ = ["OpenJob", "advance", "draw_source"]


@attrs.frozen
class _Ask:
    """The request to its model at which a coroutine is suspended."""

    messages: Sequence[Mapping[str, str]]

    def __await__(self) -> Generator[_Ask, None, fg.Reply]:
        yield self
        raise AssertionError("a coroutine is never resumed: it is run again with one more reply")


@attrs.define(eq=False)
class OpenJob:
    """A started job with the replies to its requests and its open request; a ``parked`` job makes no further move."""

    start: Start
    replies: list[fg.Reply | Exception] = attrs.field(factory=list)
    call: Call | None = None
    refused: str | None = None
    parked: bool = False

    @property
    def answerable(self) -> bool:
        return self.call is not None and (self.call.reservation is not None or self.refused is not None)


def draw_source(plan: Plan, seed: int, start: Start, cursor: Any) -> Completed:
    """Run a source's function once; ``cursor`` is the one that its last draw left."""
    job, spec = start.job, plan.sources[start.job.node]
    stream = random.Random(f"{seed}/{job.node}/{job.emission}")
    ctx: fg.Draw[Any, Any, Any] = fg.Draw(
        TASK, start.view(spec.reads), stream, **plan.given(spec),
        emission=job.emission, open=start.beside, champion=start.champion, state=cursor,
    )  # fmt: skip
    value, after = emitted(spec.body(ctx), ctx.state)
    return Completed(job.id, Done(value, ctx.used), source=job.node, cursor=after)


def advance(plan: Plan, seed: int, work: OpenJob) -> Asked | Completed:
    """Run a job's function from its start to its first request without a reply, or to its end."""
    job, spec = work.start.job, plan.stages[work.start.job.node].spec
    ctx: fg.Context[Any, Any] = fg.Context(
        TASK, work.start.view(spec.reads),
        random.Random(f"{seed}/{job.node}/{job.item.id if job.item else 0}"),
        **plan.given(spec), lag=job.lag, refreshed=work.start.refreshed,
    )  # fmt: skip
    replies = iter(work.replies)

    async def llm(messages: Any, **params: Any) -> fg.Reply:
        known = next(replies, None)
        if isinstance(known, Exception):
            raise known
        return known if known is not None else await _Ask(messages)

    ctx.llm = llm
    value = work.start.stale if work.start.stale is not None else work.start.value
    arguments = (value, ctx) if _takes_context(spec.body) else (value,)
    outcome = _run(spec.body, arguments, ctx)
    if isinstance(outcome, _Ask):
        return Asked(job.id, spec.model or "", {"calls": 1.0, "tokens": 30.0, "usd": 0.002})
    return Completed(job.id, outcome)


@cache
def _takes_context(body: Callable[..., Any]) -> bool:
    return len(inspect.signature(body).parameters) > 1


def _run(body: Callable[..., Any], arguments: tuple[Any, ...], ctx: fg.Context[Any, Any]) -> _Ask | Outcome:
    try:
        result = body(*arguments)
        if not inspect.iscoroutine(result):
            return Done(result, ctx.used)
        return _step(result, ctx)
    except Exception as error:
        return JobFailure(cause_of(error), f"{type(error).__name__}: {error}")


def _step(coroutine: Coroutine[Any, Any, Any], ctx: fg.Context[Any, Any]) -> _Ask | Outcome:
    try:
        request = coroutine.send(None)
    except StopIteration as end:
        return Done(end.value, ctx.used)
    coroutine.close()
    if not isinstance(request, _Ask):
        raise TypeError(f"by hand a stage may await only its model; this stage awaits {request!r}")
    return request
