"""The test split: how candidates do on samples that no stage has seen, paid from what the run's budget has left."""

from __future__ import annotations

import hashlib
import inspect
import json
import random
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import anyio
import attrs

from flashgraph.errors import BudgetExhausted, ModelError, ModelRefused, PassingFault, RequestFailed
from flashgraph.evidence import Evidence, weigh
from flashgraph.graph.ports import Context
from flashgraph.graph.spec import StageSpec
from flashgraph.llm.messages import as_texts, checked, checked_reply
from flashgraph.llm.protocol import Message, Model, Reply
from flashgraph.parts.evaluation import Work, attempt
from flashgraph.run.budget import (
    DEFAULT_REPLY_TOKENS,
    Cost,
    Ledger,
    bounded,
    excess,
    prompt_estimate,
    reply_bound,
    reservation,
)
from flashgraph.run.contained import Inside, escaped, guarded_loop, reason, within
from flashgraph.run.floor import Floor
from flashgraph.run.journal.examined import Examined
from flashgraph.run.journal.store import JournalError
from flashgraph.run.patience import EndpointHealth, Patience, ending, passing, patiently, suspect
from flashgraph.run.resumed import request_key
from flashgraph.run.watch import Pace
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
    params: Mapping[str, Any] | None = None,
    resources: Mapping[str, Any] | None = None,
    examined: Examined | None = None,
    limit: int | None = None,
) -> tuple[HeldOut, ...]:
    """Let each candidate attempt every test sample with ``model``, which is open, and settle it on ``ledger``.

    ``stage`` tries a candidate on a sample (`Graph.tests_with`), with the run's ``params`` and open ``resources``; by
    default it is the task's own ``attempt``.  At most ``limit`` requests are out at once, by default ``model.limit``.
    ``examined`` keeps the calls: what an earlier session of the run has had an answer for is not asked again.

    Raises `BudgetExhausted` when the budget does not last, before the first request if that is plain from the number
    of calls; `ModelUnavailable` and `ModelRefused` as the model does; `JournalError` when ``examined`` cannot keep one.
    """
    if lacking := beyond(ledger, unanswered(task, candidates, stage, examined)):
        raise BudgetExhausted(lacking)
    limit = model.limit if limit is None else limit
    desk = _Desk(model, ledger, examined, limit)
    workers = anyio.CapacityLimiter(limit)
    body = attempt if stage is None else stage.body
    scores = [[task.least] * len(task.test) for _ in candidates]
    failures: list[dict[int, str]] = [{} for _ in candidates]
    fatal: list[Exception] = []

    async def one(which: int, index: int) -> None:
        async with workers:
            if fatal:
                return
            stream = random.Random(f"held-out/{index}")
            llm = desk.seat(candidates[which], index)
            at: Context[Any] = Context(task, None, stream, params or {}, llm=llm, resources=resources or {})
            try:
                made = body(Work(candidates[which], "test", index), at)
                found = await made if inspect.isawaitable(made) else made
                scores[which][index] = found.score
            except BaseException as raised:
                if (error := raised if isinstance(raised, Exception) else escaped(raised)) is None:
                    raise
                if isinstance(error, BudgetExhausted | JournalError) or (isinstance(error, ModelError) and error.fatal):
                    fatal.append(error)
                    tasks.cancel_scope.cancel()
                failures[which][index] = reason(error)

    with guarded_loop():
        async with anyio.create_task_group() as tasks:
            for index in range(len(task.test)):
                for which in range(len(candidates)):
                    with within(Inside("the held-out test", Floor(anyio.current_time))):
                        tasks.start_soon(one, which, index)
    if fatal:
        raise fatal[0]
    return tuple(
        HeldOut(
            sum(s) / len(s), tuple(s), dict(sorted(f.items())),
            weigh(dict(enumerate(s)), len(s), bounds=task.bounds, failed=len(f)),
        )
        for s, f in zip(scores, failures, strict=True)
    )  # fmt: skip


def unanswered(
    task: Task[Any, Any],
    candidates: Sequence[Mapping[str, str]],
    stage: StageSpec | None = None,
    examined: Examined | None = None,
) -> int:
    """How many attempts a test takes for which no model was asked in an earlier session; 0 where none asks one."""
    if stage is not None and stage.llm is None:
        return 0
    works = [_named(candidate, index) for candidate in candidates for index in range(len(task.test))]
    return len(works) if examined is None else sum(work not in examined for work in works)


def _named(candidate: Mapping[str, str], index: int) -> str:
    """Names one candidate on one sample."""
    return hashlib.sha256(json.dumps([dict(candidate), index], sort_keys=True).encode()).hexdigest()[:32]


def beyond(ledger: Ledger, attempts: int) -> str:
    """Why so many attempts, of at least one call each, cannot be paid; empty where they may be."""
    for limit, left in ledger.remaining().items():
        if limit in ("tokens", "usd") and left <= 0:
            return f"no {limit} are left"
        if limit == "calls" and left < attempts:
            return f"it needs at least {attempts} calls, and {left:.0f} are left"
    return ""


class _Desk:
    """The model as all attempts share it: a request reserves its share of the budget before it is sent."""

    def __init__(self, model: Model, ledger: Ledger, examined: Examined | None, limit: int) -> None:
        self._model, self._ledger, self._examined = model, ledger, examined
        self._slots = anyio.CapacityLimiter(limit)
        self._settled = anyio.Event()
        self._pace = Pace()
        self._standing = EndpointHealth()

    def seat(self, candidate: Mapping[str, str], index: int) -> Llm:
        """The model as the attempt of a candidate at a sample sees it."""
        work = _named(candidate, index)

        async def llm(messages: str | Sequence[Message], **params: Any) -> Reply:
            messages = checked(messages)
            key = request_key(self._model.name, messages, params)
            if self._examined is not None and (known := self._examined.take(work, key)) is not None:
                return known.without_thoughts()
            answer = partial(self._answer, work, key, messages, params, Patience())
            return (await patiently(answer, key)).without_thoughts()

        return llm

    async def _answer(
        self, work: str, key: str, messages: Sequence[Message], params: Mapping[str, Any], patience: Patience
    ) -> Reply:
        examined, model = self._examined, self._model
        sent = bounded(model, params, self._ledger.limits)
        async with self._slots:
            amounts = reservation([model], as_texts(messages), params, self._ledger.limits)
            while (lacking := self._ledger.lacking(amounts)) is not None:
                if self._ledger.reserved[lacking] <= 0:
                    raise BudgetExhausted(f"no {lacking} left for another request")
                await self._settled.wait()
            reserved = self._ledger.reserve(amounts)
            reply, number = None, None
            # Until a reply says better: a request that was cut off has cost something that nobody can tell.
            spent: Mapping[str, float] = amounts
            began = anyio.current_time()
            try:
                if examined is not None:
                    number = await examined.asked(work, key, amounts)
                reply = checked_reply(await model.complete(messages, sent), model.name)
                self._pace.answered(model.name, reply.usage.completion, anyio.current_time() - began)
                self._standing.answered(model.name, began)
                spent = Cost.counted(reply.usage, reply.cost, amounts).spent
                if broken := excess(model, reply.cost, amounts, self._ledger.limits):
                    raise BudgetExhausted(broken)
                return reply
            except (PassingFault, ModelRefused) as error:
                fault, now = passing(error), anyio.current_time()
                most = reply_bound(model, sent) or DEFAULT_REPLY_TOKENS
                cut_off = self._pace.cut_off(model.name, prompt_estimate(messages), now - began, most)
                spent = Cost.of_fault(fault, model, amounts, cut_off).spent
                beside = int(self._slots.borrowed_tokens) - 1
                ruling = self._standing.rule(patience, fault, model.name, key, now, beside=beside)
                if suspect(fault):
                    self._standing.failed(model.name, key, now)
                raise (fault if ruling == "again" else ending(fault, ruling)) from None
            except RequestFailed as error:
                spent = Cost.answered(error.usage, model, amounts).spent
                raise
            finally:
                self._ledger.settle(reserved, spent)
                if examined is not None and number is not None:
                    examined.ended(number, reply, spent, self._ledger.settled)
                settled, self._settled = self._settled, anyio.Event()
                settled.set()
