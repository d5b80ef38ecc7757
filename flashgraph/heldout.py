"""The test split: how candidates do on samples that no stage has seen, paid from what the run's budget has left."""

from __future__ import annotations

import inspect
import random
from collections.abc import Mapping, Sequence
from typing import Any

import anyio
import attrs

from flashgraph.errors import BudgetExhausted, ModelError
from flashgraph.evaluation import Work, attempt
from flashgraph.graph.ports import Context
from flashgraph.graph.spec import StageSpec
from flashgraph.llm.protocol import Message, Model, Reply
from flashgraph.run.budget import Ledger, reservation
from flashgraph.task import Task

__all__ = ["HeldOut", "beyond", "held_out"]


@attrs.frozen
class HeldOut:
    """A candidate on the test split: the mean of its scores, where a failed sample counts as 0.

    ``failures`` maps the indices of failed samples to reasons.
    """

    score: float
    scores: tuple[float, ...]
    failures: Mapping[int, str] = attrs.field(factory=dict)


async def held_out(
    task: Task[Any, Any],
    candidates: Sequence[Mapping[str, str]],
    model: Model,
    ledger: Ledger,
    *,
    stage: StageSpec | None = None,
    params: Mapping[str, Any] | None = None,
    resources: Mapping[str, Any] | None = None,
) -> tuple[HeldOut, ...]:
    """Let each candidate attempt every test sample with ``model``, which is open, and settle it on ``ledger``.

    ``stage`` tries a candidate on a sample (`Graph.tests_with`), with the run's ``params`` and open ``resources``; by
    default it is the task's own ``attempt``.  At most ``model.limit`` requests are out at once.

    Raises `BudgetExhausted` when the budget does not last, before the first request if that is plain from the number
    of calls; `ModelUnavailable` and `ModelRefused` as the model does.
    """
    asks = stage is None or stage.llm is not None
    if lacking := beyond(ledger, len(candidates) * len(task.test) if asks else 0):
        raise BudgetExhausted(lacking)
    account = _Account(model, ledger)
    workers = anyio.CapacityLimiter(model.limit)
    body = attempt if stage is None else stage.body
    scores = [[0.0] * len(task.test) for _ in candidates]
    failures: list[dict[int, str]] = [{} for _ in candidates]
    fatal: list[Exception] = []

    async def one(which: int, index: int) -> None:
        async with workers:
            if fatal:
                return
            stream = random.Random(f"held-out/{index}")
            at: Context[Any] = Context(task, None, stream, params or {}, llm=account, resources=resources or {})
            try:
                made = body(Work(candidates[which], "test", index), at)
                found = await made if inspect.isawaitable(made) else made
                scores[which][index] = found.score
            except Exception as error:
                if isinstance(error, BudgetExhausted) or (isinstance(error, ModelError) and error.fatal):
                    fatal.append(error)
                    tasks.cancel_scope.cancel()
                failures[which][index] = f"{type(error).__name__}: {error}"

    async with anyio.create_task_group() as tasks:
        for index in range(len(task.test)):
            for which in range(len(candidates)):
                tasks.start_soon(one, which, index)
    if fatal:
        raise fatal[0]
    return tuple(
        HeldOut(sum(s) / len(s), tuple(s), dict(sorted(f.items()))) for s, f in zip(scores, failures, strict=True)
    )


def beyond(ledger: Ledger, attempts: int) -> str:
    """Why so many attempts, of at least one call each, cannot be paid; empty where they may be."""
    for limit, left in ledger.remaining().items():
        if limit in ("tokens", "usd") and left <= 0:
            return f"no {limit} are left"
        if limit == "calls" and left < attempts:
            return f"it needs at least {attempts} calls, and {left:.0f} are left"
    return ""


class _Account:
    """The model as an attempt sees it: a request reserves its share of the budget before it is sent."""

    def __init__(self, model: Model, ledger: Ledger) -> None:
        self._model = model
        self._ledger = ledger
        self._slots = anyio.CapacityLimiter(model.limit)
        self._settled = anyio.Event()

    async def __call__(self, messages: str | Sequence[Message], **params: Any) -> Reply:
        if isinstance(messages, str):
            messages = [{"role": "user", "content": messages}]
        async with self._slots:
            amounts = reservation(self._model, messages, params, self._ledger.limits)
            while (lacking := self._ledger.lacking(amounts)) is not None:
                if self._ledger.reserved[lacking] <= 0:
                    raise BudgetExhausted(f"no {lacking} left for another request")
                await self._settled.wait()
            reserved = self._ledger.reserve(amounts)
            # Until a reply says better: a request that was cut off has cost something that nobody can tell.
            spent = amounts
            try:
                reply = await self._model.complete(messages, params)
                spent = {"calls": 1.0, "tokens": float(reply.usage.total), "usd": reply.cost or 0.0}
                return reply
            finally:
                self._ledger.settle(reserved, spent)
                settled, self._settled = self._settled, anyio.Event()
                settled.set()
