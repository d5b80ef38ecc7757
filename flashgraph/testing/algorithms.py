"""Check a whole algorithm: run it under a virtual clock, on models with long-tailed latencies."""

from __future__ import annotations

import hashlib
import math
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import partial
from inspect import isawaitable
from pathlib import Path
from typing import Any

import anyio
import attrs

import flashgraph as fg
from flashgraph.graph.loading import load_graph
from flashgraph.graph.spec import PoolSpec
from flashgraph.llm.protocol import Message, text_in
from flashgraph.run import events as ev
from flashgraph.run.pools import for_task
from flashgraph.sim.clock import run_virtually, settle
from flashgraph.testing.interpreter import NotApplicable, interpret
from flashgraph.testing.invariants import check_invariants
from flashgraph.testing.log import InvariantViolation, around
from flashgraph.testing.pools import PoolViolation, check_pool
from flashgraph.testing.recording import Recording, record_pools

__all__ = ["SlowModel", "check_algorithm", "outcomes"]

POOL_EVENTS = 30
"""The number of a pool's events for `check_pool`, which applies them all again after each."""

Answer = Callable[[Sequence[Message]], str | Awaitable[str]]


class SlowModel:
    """Answers by a function, after a lognormal time with a median of ``seconds`` that is a hash of the request.

    ``in_flight`` counts open requests, so that a leak shows.
    """

    def __init__(self, answer: Answer, *, limit: int = 16, seconds: float = 2.0, seed: int = 0) -> None:
        self._answer, self._limit, self._seconds, self._seed = answer, limit, seconds, seed
        self.in_flight = 0

    @property
    def name(self) -> str:
        return "slow"

    @property
    def limit(self) -> int:
        return self._limit

    def open(self) -> AbstractAsyncContextManager[None]:
        return self._open()

    @asynccontextmanager
    async def _open(self) -> AsyncIterator[None]:
        yield

    async def complete(self, messages: Sequence[Message], params: Mapping[str, Any]) -> fg.Reply:
        """Return the function's answer."""
        self.in_flight += 1
        try:
            await anyio.sleep(self._latency(str(messages)))
            answer = self._answer(messages)
            text = str(await answer if isawaitable(answer) else answer)
            return fg.Reply(text, fg.Usage(sum(map(len, map(text_in, messages))) // 4, len(text) // 4), 0.0)
        finally:
            self.in_flight -= 1

    def worst_cost(self, prompt: int, completion: int) -> float | None:
        return 0.0

    def _latency(self, request: str) -> float:
        digest = hashlib.sha256(f"{self._seed} {request}".encode()).digest()
        one, two = (int.from_bytes(digest[i : i + 6], "big") / 2**48 for i in (0, 6))
        return self._seconds * math.exp(math.sqrt(-2 * math.log(1 - one)) * math.cos(2 * math.pi * two))


def check_algorithm(
    graph: fg.Graph | str | Path,
    task: fg.Task,
    answer: Answer | Mapping[str, Answer],
    *,
    schedule: str | fg.Schedule = "pipelined",
    budget: fg.Budget | None = None,
    seed: int = 0,
    limit: int = 16,
    backend: str = "trio",
    thorough: bool = False,
    **options: Any,
) -> fg.Result:
    """Run an algorithm in virtual time, and check the invariants I1 to I10, I12, I13 and I15.

    The first events of each pool are checked by `check_pool`.  ``answer`` is a function from messages to a text, or one
    for each role of the graph.  The models allow ``limit`` concurrent requests, and ``seed`` determines their
    latencies.  ``options`` are those of `flashgraph.open_run`; here a perfect validation ends a run only with
    ``target_score=None``.  A run of an hour takes seconds.

    ``thorough`` runs the algorithm again, for which the graph's functions and ``answer`` must depend on their arguments
    alone.  On the other event loop the log must be the same (I14).  Runs that are stopped after a tenth and after half
    of the time must leave nothing behind (I12).  A lockstep run must equal the reference interpreter (I11), which needs
    one pool, no `Several` and no draws in stages.

    Returns the result of the first run.  Raises `flashgraph.testing.InvariantViolation` for a violation (with the
    events around it), a failed run, or a function on an edge that raised.  Raises `flashgraph.testing.PoolViolation`,
    and `GraphError` when the graph does not pass its checks.
    """
    options.setdefault("target_score", math.inf)
    case = _Case(load_graph(graph), task, answer, budget or fg.Budget(calls=1000), seed, limit, options)
    result = case.run(schedule, backend)
    if thorough:
        _expect_same(result.events, case.run(schedule, "asyncio" if backend == "trio" else "trio").events)
        for share in (0.1, 0.5):
            case.run(schedule, backend, stop_after=result.spent.seconds * share)
        lockstep = (isinstance(schedule, fg.Schedule) and schedule.serial) or schedule == "lockstep"
        other = case.run("pipelined" if lockstep else "lockstep", backend)
        case.check_lockstep(result if lockstep else other, backend)
    return result


@attrs.frozen
class _Case:
    """The settings of `check_algorithm` for each of its runs."""

    graph: fg.Graph
    task: fg.Task
    answer: Answer | Mapping[str, Answer]
    budget: fg.Budget
    seed: int
    limit: int
    options: Mapping[str, Any]

    def models(self) -> dict[str, SlowModel]:
        roles = sorted({s.model for s in self.graph.spec.stages if s.model is not None})
        if isinstance(self.answer, Mapping):
            return {role: SlowModel(self.answer[role], limit=self.limit, seed=self.seed) for role in roles}
        return dict.fromkeys(roles, SlowModel(self.answer, limit=self.limit, seed=self.seed))

    def run(self, schedule: str | fg.Schedule, backend: str, stop_after: float = math.inf) -> fg.Result:
        """Run once, and make every check that one run allows."""
        models = self.models()
        memory: Any = None if "folder" in self.options else Recording

        async def drive() -> tuple[fg.Result, Any, Any, Mapping[str, list[fg.PoolEvent[Any]]]]:
            async with fg.open_run(
                self.graph, self.task, models=models, schedule=schedule, budget=self.budget, seed=self.seed,
                settle=settle, **{"memory": memory, **self.options},
            ) as opened:  # fmt: skip
                applied = record_pools(opened.machine)
                with anyio.move_on_after(stop_after):
                    await opened.wait()
                opened.stop()
                return await opened.wait(), opened.machine.plan, opened.memory, applied

        result, plan, recorded, applied = run_virtually(drive, backend)
        _expect_no_failure(result)
        check_invariants(result.events, plan, self.budget)
        left = sum(model.in_flight for model in models.values())
        if left:
            raise InvariantViolation(f"I12: {left} requests are in flight after the run")
        if isinstance(recorded, Recording):
            recorded.replay(plan, self.budget, self.seed)
        for pool in self.graph.checked().spec.pools:
            try:
                check_pool(partial(_made, pool, self.task), applied[pool.name][:POOL_EVENTS])
            except PoolViolation as error:
                error.args = (f"pool {pool.name!r}: {error}",)
                raise
        return result

    def check_lockstep(self, result: fg.Result, backend: str) -> None:
        """Check that a lockstep run did what the interpreter does, as far as its budget allows (I11)."""
        spec = self.graph.checked().spec
        if len(spec.pools) != 1 or spec.resources or self.options or any(e.only is not None for e in spec.edges):
            return
        expected = outcomes(result.events, {s.name for s in spec.stages}, {p.name for p in spec.pools})

        async def reply(messages: str | Sequence[Message], **params: Any) -> fg.Reply:
            if isinstance(messages, str):
                messages = [{"role": "user", "content": messages}]
            assert not isinstance(self.answer, Mapping)
            text = self.answer(messages)
            return fg.Reply(str(await text if isawaitable(text) else text))

        if isinstance(self.answer, Mapping) and len(set(self.answer.values())) > 1:
            return
        llm = reply
        try:
            lines = run_virtually(
                lambda: interpret(self.graph, self.task, seed=self.seed, llm=llm, most=len(expected)), backend
            )
        except NotApplicable:
            return
        for place, (line, wanted) in enumerate(zip(lines, expected, strict=False)):
            if (line.node, line.outcome) != wanted:
                raise InvariantViolation(
                    f"I11: step {place} of the lockstep run is {wanted}; the synchronous algorithm's is "
                    f"{(line.node, line.outcome)}"
                )


def _made(pool: PoolSpec, task: fg.Task) -> Any:
    """Return a pool's value at version 0 in a run of a task."""
    return for_task(pool.factory(), task)


def _expect_same(events: Sequence[ev.Event], others: Sequence[ev.Event]) -> None:
    """Check that two runs with the same seed and latencies have the same log (I14)."""
    place = next((i for i, (one, other) in enumerate(zip(events, others, strict=False)) if one != other), None)
    if place is None and len(events) == len(others):
        return
    place = min(len(events), len(others)) if place is None else place
    other = others[place] if place < len(others) else "nothing"
    raise InvariantViolation(
        f"I14: the same seed and latencies made another log on another event loop:\n{around(list(events), place)}\n"
        f"The other log has\n    {place}: {other}\nFix: make the node of that event, or one before it, depend on its "
        "arguments alone: no global, no clock, and ctx.random instead of random."
    )


def _expect_no_failure(result: fg.Result) -> None:
    """Check that no function on an edge raised and the run did not fail; a stage may fail on single items."""
    raised = next((event for event in result.events if isinstance(event, ev.EdgeFailed)), None)
    if raised is not None:
        raise InvariantViolation(
            f"the {raised.function} of edge {raised.edge} raised {raised.error}\n    at:       {raised.place}\n"
            "    expected: a result for every item of the edge"
        )
    if result.status == "failed":
        raise InvariantViolation(f"the run failed: {result.reason}")


def outcomes(events: Sequence[ev.Event], stages: set[str], pools: set[str]) -> list[tuple[str, str]]:
    """Return a run's outcomes in the interpreter's form: (stage, outcome) and (pool, version)."""
    found: list[tuple[str, str]] = []
    for event in events:
        if isinstance(event, ev.JobEnded) and event.how != "cancelled" and event.stage in stages:
            found.append((event.stage, event.how))
        elif isinstance(event, ev.Admitted | ev.EvidenceAdded):
            found.append((event.pool, str(event.version)))
    return found
