"""The held-out test: candidates on samples that no stage has seen, paid from the rest of the run's budget."""

from __future__ import annotations

import hashlib
import inspect
import json
import random
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from itertools import product
from typing import Any

import anyio
import attrs

from flashgraph.errors import BudgetExhausted, ModelError
from flashgraph.evidence import Evidence, weigh
from flashgraph.graph.contexts import Context
from flashgraph.graph.spec import StageSpec
from flashgraph.llm.parsing import asked
from flashgraph.llm.protocol import Message, Model, Reply
from flashgraph.parts.evaluation import Work, attempt
from flashgraph.run.budget import OF_REQUESTS, Cost, Ledger, unit, with_role
from flashgraph.run.contained import Inside, escaped, reason, within
from flashgraph.run.floor import Floor
from flashgraph.run.journal.examined import Examined
from flashgraph.run.journal.store import JournalError
from flashgraph.run.loop import guarded_loop
from flashgraph.run.patience import patiently
from flashgraph.run.tries import ModelRequest, Target, Tries, TryOutcome
from flashgraph.tasks.task import Llm, Task

__all__ = ["HeldOut", "beyond", "held_out", "unanswered"]


@attrs.frozen
class HeldOut:
    """A candidate on the test split: the mean of its scores, where a failed sample has the task's least score.

    ``failures`` maps the indices of failed samples to reasons; ``evidence`` holds the interval.
    """

    score: float
    scores: tuple[float, ...]
    failures: Mapping[int, str] = attrs.field(factory=dict)
    evidence: Evidence | None = None


async def held_out(
    task: Task[Any, Any],
    candidates: Sequence[Mapping[str, str]],
    model: Model,
    ledger: Ledger,
    *,
    stage: StageSpec | None = None,
    given: Mapping[str, Any] | None = None,
    resources: Mapping[str, Any] | None = None,
    examined: Examined | None = None,
    limit: int | None = None,
    role: str = "task",
    others: Mapping[str, Model] | None = None,
    done: Callable[[], object] = bool,
) -> tuple[HeldOut, ...]:
    """Let each candidate attempt every test sample with ``model``, which is open, and settle the costs on ``ledger``.

    ``stage`` tries a candidate on a sample (`Graph.tests_with`), with the run's parameters (``given``, from
    `Plan.given`) and open ``resources``; by default it is the task's own ``attempt``.  ``role`` is the role of
    ``model``, and ``others`` are the open models of the task's further roles.  At most ``limit`` requests are in
    flight, by default ``model.limit``.  ``examined`` stores the calls, and a later session of the run reads them.
    ``done`` is called after each attempt.  Raises `BudgetExhausted` if the budget does not suffice, before the first
    request if the number of calls shows it.
    Raises `ModelUnavailable` and `ModelRefused` as the model does, and `JournalError` if a call cannot be stored.
    """
    if lacking := beyond(ledger, unanswered(task, candidates, stage, examined), role):
        raise BudgetExhausted(lacking)
    limit = model.limit if limit is None else limit
    gateway = _Gateway(model, role, ledger, examined, limit, others or {})
    workers = anyio.CapacityLimiter(limit)
    body = attempt if stage is None else stage.body
    scores = [[task.least] * len(task.test) for _ in candidates]
    failures: list[dict[int, str]] = [{} for _ in candidates]
    fatal: list[Exception] = []

    async def one(which: int, index: int) -> None:
        async with workers:
            if fatal:
                return
            stream, llm = random.Random(f"held-out/{index}"), gateway.llm_of(candidates[which], index)
            ctx: Context[Any] = Context(task, None, stream, **(given or {}), llm=llm, resources=resources or {})
            try:
                scores[which][index] = (await _made(body(Work(candidates[which], "test", index), ctx))).score
            except BaseException as raised:
                if (error := raised if isinstance(raised, Exception) else escaped(raised)) is None:
                    raise
                if _ends_test(error):
                    fatal.append(error)
                    tasks.cancel_scope.cancel()
                failures[which][index] = reason(error)
            done()

    with guarded_loop():
        async with anyio.create_task_group() as tasks:
            for index, which in product(range(len(task.test)), range(len(candidates))):
                with within(Inside("the held-out test", Floor(anyio.current_time))):
                    tasks.start_soon(one, which, index)
    if fatal:
        raise fatal[0]
    return tuple([_weighed(task, s, f) for s, f in zip(scores, failures, strict=True)])


async def _made(result: Any) -> Any:
    """Return a result that a function returned or will return."""
    return await result if inspect.isawaitable(result) else result


def _ends_test(error: Exception) -> bool:
    """Whether no other attempt can succeed after ``error``."""
    return isinstance(error, BudgetExhausted | JournalError) or (isinstance(error, ModelError) and error.fatal)


def _weighed(task: Task[Any, Any], scores: Sequence[float], failures: Mapping[int, str]) -> HeldOut:
    evidence = weigh(dict(enumerate(scores)), len(scores), bounds=task.bounds, failed=len(failures))
    return HeldOut(sum(scores) / len(scores), tuple(scores), dict(sorted(failures.items())), evidence)


def unanswered(
    task: Task[Any, Any],
    candidates: Sequence[Mapping[str, str]],
    stage: StageSpec | None = None,
    examined: Examined | None = None,
) -> int:
    """Return how many attempts of a test call a model and were not answered in an earlier session."""
    if stage is not None and stage.model is None:
        return 0
    works = [_named(candidate, index) for candidate in candidates for index in range(len(task.test))]
    return len(works) if examined is None else sum(work not in examined for work in works)


def _named(candidate: Mapping[str, str], index: int) -> str:
    """Return a name for one candidate on one sample."""
    return hashlib.sha256(json.dumps([dict(candidate), index], sort_keys=True).encode()).hexdigest()[:32]


def beyond(ledger: Ledger, attempts: int, role: str = "task") -> str:
    """Return why the budget cannot pay that many attempts, of at least one call to ``role`` each; empty if it may."""
    spent = with_role(role, dict.fromkeys(OF_REQUESTS, 0.0))
    for limit, left in ledger.remaining().items():
        if limit not in spent:
            continue
        if unit(limit) != "calls" and left <= 0:
            return f"no {limit} are left"
        if unit(limit) == "calls" and left < attempts:
            return f"it needs at least {attempts} {limit}, and {left:.0f} are left"
    return ""


class _Gateway:
    """The model that all attempts share: a request reserves its share of the budget before it is sent."""

    def __init__(
        self,
        model: Model,
        role: str,
        ledger: Ledger,
        examined: Examined | None,
        limit: int,
        others: Mapping[str, Model],
    ) -> None:
        self._role, self._models, self._ledger, self._examined = role, {**others, role: model}, ledger, examined
        self._slots = {id(one): anyio.CapacityLimiter(one.limit) for one in others.values()}
        self._slots[id(model)] = anyio.CapacityLimiter(limit)
        self._settled = anyio.Event()
        self._tries = Tries(anyio.current_time)

    def llm_of(self, candidate: Mapping[str, str], index: int) -> Llm:
        """Return the model as the attempt of a candidate at a sample sees it."""
        work = _named(candidate, index)

        async def call(role: str, messages: str | Sequence[Message], **params: Any) -> Reply:
            model, limits = self._models[role], self._ledger.limits_for(role)
            request = ModelRequest.of(model.name, messages, params, [model], limits)
            if self._examined is not None and (known := self._examined.take(work, request.key)) is not None:
                return known.without_thoughts()
            return (await patiently(partial(self._send, role, work, request), request.key)).without_thoughts()

        async def llm(messages: str | Sequence[Message], *, role: str | None = None, **params: Any) -> Reply:
            return await asked(partial(call, role if role in self._models else self._role), messages, **params)

        return llm

    async def _send(self, role: str, work: str, request: ModelRequest) -> Reply:
        model, amounts = self._models[role], with_role(role, request.amounts)
        slots = self._slots[id(model)]
        async with slots:
            while (lacking := self._ledger.lacking(amounts)) is not None:
                if self._ledger.reserved[lacking] <= 0:
                    raise BudgetExhausted(f"no {lacking} left for another request")
                await self._settled.wait()
            reserved = self._ledger.reserve(amounts)
            number: int | None = None
            ended: list[TryOutcome] = []

            def settle(tried: TryOutcome) -> None:
                ended.append(tried)
                self._tries.learn()
                spent = with_role(role, tried.cost.spent)
                self._ledger.settle(reserved, spent)
                if self._examined is not None and number is not None:
                    self._examined.ended(number, tried.reply, spent, self._ledger.settled)
                settled, self._settled = self._settled, anyio.Event()
                settled.set()

            if self._examined is not None:
                try:
                    number = await self._examined.asked(work, request.key, amounts)
                except BaseException:
                    settle(TryOutcome("failed", Cost(request.amounts)))
                    raise
            target = Target(
                model,
                model.name,
                at=anyio.current_time(),
                beside=lambda: int(slots.borrowed_tokens) - 1,
            )
            reply = await self._tries.send(request, target, settle)
            if ended[-1].excess:
                raise BudgetExhausted(ended[-1].excess)
            assert reply is not None, "it has no other endpoint"
            return reply
