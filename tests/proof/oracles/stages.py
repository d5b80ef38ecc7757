"""Reference model of stages: groups of errors, foreign cancellations, leftover tasks, and models with priorities."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import AbstractAsyncContextManager, nullcontext
from typing import Any, Literal

import anyio
import attrs
from hypothesis import strategies as st

import flashgraph as fg
from flashgraph.errors import BudgetExhausted, FlashgraphError, ModelRefused
from flashgraph.graph.check import check
from flashgraph.policies.control import Control, balanced, drain_first, shortest_first
from flashgraph.run import events as ev
from flashgraph.run.return_types import ReturnType
from flashgraph.sim.clock import run_virtually, settle
from flashgraph.testing.runs import TASK
from tests.proof.oracles.small import Kept, run_small
from tests.proof.tried import FOREVER, Property, expect

__all__ = ["STAGES"]

Leaf = Literal["plain", "budget", "fatal"]
Tree = Sequence[Any]
"""A tree of exception groups and errors."""


def _error(tree: Tree | Leaf, place: str = "0") -> Exception:
    match tree:
        case "plain":
            return ZeroDivisionError(place)
        case "budget":
            return BudgetExhausted(place)
        case "fatal":
            return ModelRefused(place)
    return ExceptionGroup("group", [_error(part, f"{place}.{i}") for i, part in enumerate(tree)])


def _leaves(tree: Tree | Leaf, place: str = "0", depth: int = 0) -> list[tuple[int, str, Leaf]]:
    """Return the depth, place and kind of each leaf."""
    if isinstance(tree, str):
        return [(depth, place, tree)]  # type: ignore[list-item]  # a text is a leaf
    return [leaf for i, part in enumerate(tree) for leaf in _leaves(part, f"{place}.{i}", depth + 1)]


def tells_of_groups(tree: Tree | Leaf, rounds: int) -> None:
    """I15: of a group of errors, however nested, the most serious one counts.

    A model that refuses every request ends the run; otherwise the first error fails the job.
    """
    graph = fg.Graph("groups")
    pool = graph.pool("pool", Kept)

    @graph.source(reads=pool, rounds=rounds)
    def emit(ctx: fg.Draw[Kept]) -> int:
        return ctx.emission

    @graph.stage(name="raises")
    async def raises(number: int) -> int:
        await anyio.sleep(1.0)
        if number == 0:
            raise _error(tree)
        return number

    graph.edge(emit, raises)
    graph.edge(raises, pool)
    result = run_small(graph, fg.lockstep())
    leaves = _leaves(tree)
    telling = [leaf for leaf in leaves if leaf[2] == "fatal"] or leaves
    (job,) = [e for e in result.events if isinstance(e, ev.JobEnded) and e.stage == "raises" and e.how != "done"]
    places = {place for _, place, _ in telling}
    expect(any(job.reason.endswith(f": {place}") for place in places), f"I15: of {tree} it says {job.reason!r}")
    kinds = {kind for _, place, kind in telling if job.reason.endswith(f": {place}")}
    ended = {"plain": "failed", "budget": "failed", "fatal": "cancelled"}
    expect(job.how in {ended[kind] for kind in kinds}, f"I15: of {tree} the job has {job.how}: {job.reason}")
    fatal = "fatal" in kinds
    expect((result.status == "failed") == fatal, f"I15: of {tree} the run ended as {result.status}: {result.reason}")
    admitted = [a.value for a in result.artifacts]
    expect(fatal or admitted == list(range(1, rounds)), f"I15: of {rounds} rounds the pool has {admitted}")
    expect(not fatal or (not admitted and "0" in result.reason), f"I15: it ended with {result.reason}, has {admitted}")


def minds_no_stranger(cancelled: Sequence[int], rounds: int, stop: bool) -> None:
    """I15: a stage that awaits what another task has cancelled has failed; the stage itself is not cancelled.

    A stage that is cancelled while the run stops is not failed.
    """
    graph = fg.Graph("strangers")
    pool = graph.pool("pool", Kept)

    @graph.source(reads=pool, rounds=rounds)
    def emit(ctx: fg.Draw[Kept]) -> int:
        return ctx.emission

    @graph.stage(name="awaits")
    async def awaits(number: int) -> int:
        await anyio.sleep(1.0)
        future: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        if number in cancelled:
            future.cancel()
        else:
            future.set_result(number)
        return await future

    graph.edge(emit, awaits)
    graph.edge(awaits, pool)

    async def run() -> fg.Result:
        schedule = fg.pipelined(2, focus=0.0)
        async with fg.open_run(graph, TASK, models={}, schedule=schedule, settle=settle) as opened:
            with anyio.move_on_after(1.5 if stop else FOREVER):
                return await opened.wait()
            opened.stop()
            return await opened.wait()

    result = run_virtually(run, backend="asyncio")
    ends = {e.job: (e.how, e.reason) for e in result.events if isinstance(e, ev.JobEnded) and e.stage == "awaits"}
    numbers = [e.job for e in result.events if isinstance(e, ev.JobStarted) and e.stage == "awaits"]
    for number, job in enumerate(numbers):
        how, reason = ends[job]
        expected = "failed" if number in cancelled else "done"
        if stop and number >= 2:
            expected = "cancelled"
        expect(how == expected, f"I15: number {number} has {how}, expected {expected}: {reason}")
        expect(how != "failed" or "somebody else has cancelled" in reason, f"I15: number {number} failed of {reason}")
    expect(stop or len(numbers) == rounds, f"I9: of {rounds} rounds {len(numbers)} were begun")


@attrs.define(eq=False)
class Answering:
    """A model that replies after ``seconds``, and records the parameters of each call."""

    seconds: float
    prioritises: bool = False
    asked: list[tuple[str, Mapping[str, Any]]] = attrs.field(factory=list)
    in_flight: int = 0
    name: str = "answering"
    limit: int = 2

    def open(self) -> AbstractAsyncContextManager[None]:
        return nullcontext()

    async def complete(self, messages: Any, params: Mapping[str, Any]) -> fg.Reply:
        self.asked.append((messages[-1]["content"], dict(params)))
        self.in_flight += 1
        try:
            await anyio.sleep(self.seconds)
        finally:
            self.in_flight -= 1
        return fg.Reply("ok", fg.Usage(1, 1))

    def worst_cost(self, prompt: int, completion: int) -> float | None:
        return 0.0


def leaves_no_call_behind(lasts: float, later: Sequence[float], rounds: int) -> None:
    """I4, I15: a task that a stage leaves behind, and that calls its model ``later``, learns that the stage has ended.

    A call in flight at that moment is cancelled and frees its slot.
    """
    graph = fg.Graph("behind")
    pool = graph.pool("pool", Kept)
    model = Answering(2.0)
    heard: list[tuple[float, str]] = []
    outside: list[Any] = []

    @graph.source(reads=pool, rounds=rounds)
    def emit(ctx: fg.Draw[Kept]) -> int:
        return ctx.emission

    async def calls(ctx: fg.Context[None], seconds: float, name: str) -> None:
        await anyio.sleep(seconds)
        try:
            heard.append((seconds, (await ctx.llm(name)).text))
        except FlashgraphError as error:
            heard.append((seconds, str(error)))

    @graph.stage(name="leaves", model="model", workers=2)
    async def leaves(number: int, ctx: fg.Context[None]) -> int:
        for place, seconds in enumerate(later):
            outside[0].start_soon(calls, ctx, seconds, f"{number} {place}")
        await anyio.sleep(lasts)
        return number

    graph.edge(emit, leaves)
    graph.edge(leaves, pool)

    async def run() -> fg.Result:
        async with anyio.create_task_group() as tasks:
            outside.append(tasks)
            opened = fg.open_run(
                graph, TASK, models={"model": model}, schedule=fg.pipelined(2, focus=0.0), settle=settle,
                budget=fg.Budget(seconds=FOREVER),
            )  # fmt: skip
            async with opened as running:
                return await running.wait()
        raise AssertionError

    result = run_virtually(run)
    expect(result.status == "completed", f"I9: the run ended as {result.status}: {result.reason}")
    admitted = sorted(a.value for a in result.artifacts)
    expect(admitted == list(range(rounds)), f"I15: of {rounds} rounds the pool has {admitted}")
    expect(model.in_flight == 0, f"I4: {model.in_flight} requests are left behind")
    expect(len(heard) == rounds * len(later), f"I9: of {rounds * len(later)} calls {len(heard)} have ended: {heard}")
    for seconds, said in heard:
        # Two at a time are answered, each after two seconds.
        expect(seconds + 2.0 < lasts or "has ended" in said, f"I15: after {seconds} s of {lasts} it heard {said!r}")
    expect(all(said == "ok" for s, said in heard) or lasts < 64, f"I15: in {lasts} s it heard {heard}")
    open_ = {e.call for e in result.events if isinstance(e, ev.CallStarted)}
    closed = {e.call for e in result.events if isinstance(e, ev.CallEnded)}
    expect(open_ == closed, f"I4: calls {sorted(open_ - closed)} were never settled")


def tells_priorities(control: Control, stages: int, prioritises: bool, rounds: int) -> None:
    """I9: a model that takes priorities gets those of the control policy, and no other model gets any."""
    graph = fg.Graph("priorities")
    pool = graph.pool("pool", Kept)
    model = Answering(1.0, prioritises)

    @graph.source(reads=pool, rounds=rounds)
    def emit(ctx: fg.Draw[Kept]) -> int:
        return ctx.emission

    last: Any = emit
    for place in range(stages):
        stage: Any = graph.stage(name=f"stage{place}", model="model")(_asking(f"{place}"))
        graph.edge(last, stage)
        last = stage
    graph.edge(last, pool)

    result = run_small(graph, fg.pipelined(2, focus=0.0, control=control), {"model": model})
    expect(result.status == "completed", f"I9: the run ended as {result.status}: {result.reason}")
    expect(len(model.asked) == stages * rounds, f"I9: {len(model.asked)} requests, expected {stages * rounds}")
    for name, params in model.asked:
        distance = stages - int(name)
        of_stage = 0 if control == balanced(1.0) else 2 * distance
        expected = {"temperature": 0.5, **({"priority": of_stage} if prioritises else {})}
        expect(params == expected, f"I9: a request {distance} edges from the pool has {params}, expected {expected}")


@attrs.frozen
class Odd(Control):
    """A user's control policy, which asks for these numbers of workers at its adjustments."""

    interval: float | None = 1.0
    wants: tuple[int, ...] = ()

    def adjust(self, workers: Mapping[str, int], finished: Mapping[str, float]) -> dict[str, int]:
        at = sum(workers.values()) % len(self.wants)
        return {name: self.wants[(at + place) % len(self.wants)] for place, name in enumerate(workers)}


def bounds_workers(wants: Sequence[int], workers: Sequence[int], rounds: int) -> None:
    """I3: whatever a control policy asks for, a stage that calls a model has between one worker and its own number."""
    graph = fg.Graph("workers")
    pool = graph.pool("pool", Kept)
    model = Answering(1.0)

    @graph.source(reads=pool, rounds=rounds)
    def emit(ctx: fg.Draw[Kept]) -> int:
        return ctx.emission

    last: Any = emit
    for place, most in enumerate(workers):
        stage: Any = graph.stage(name=f"stage{place}", model="model", workers=most)(_asking(f"{place}"))
        graph.edge(last, stage)
        last = stage
    graph.edge(last, pool)
    result = run_small(graph, fg.pipelined(4, focus=0.0, control=Odd(wants=tuple(wants))), {"model": model})
    expect(result.status == "completed", f"I9: the run ended as {result.status}: {result.reason}")
    now = {f"stage{place}": most for place, most in enumerate(workers)}
    own = dict(now)
    for event in result.events:
        if isinstance(event, ev.Resized):
            fits = 1 <= event.workers <= own[event.stage] and event.workers != now[event.stage]
            expect(fits, f"I3: {event.stage} is given {event.workers} of {own[event.stage]} workers")
            now = {**now, event.stage: event.workers}
    busy = Counter[str]()
    for event in result.events:
        if isinstance(event, ev.JobStarted) and event.item is not None:
            busy[event.stage] += 1
            expect(busy[event.stage] <= own[event.stage], f"I3: {event.stage} runs {busy[event.stage]} jobs at once")
        elif isinstance(event, ev.JobEnded) and event.stage in own:
            busy[event.stage] -= 1


def _asking(text: str) -> Any:
    async def asks(number: int, ctx: fg.Context[None]) -> int:
        await ctx.llm(text, temperature=0.5)
        return number

    return asks


@attrs.frozen
class Declared:
    """A declared return type of a stage, its classes, and its form in a refusal."""

    hint: Any
    classes: tuple[type, ...]
    shown: str


DECLARED = (
    Declared(int, (int,), "int"),
    Declared(int | None, (int, type(None)), "int | None"),
    Declared(str | int, (str, int), "str | int"),
    Declared(list[int], (list,), "list[int]"),
    Declared(tuple[int, ...] | None, (tuple, type(None)), "tuple[int, ...] | None"),
    Declared(Kept, (Kept,), "Kept"),
    Declared(fg.Several[int], (fg.Several,), "Several[int]"),
    Declared(Any, (object,), "Any"),
)
RETURNED = (0, True, None, "text", [1], (1,), {"a": 1}, 1.5, Kept(), fg.Several([1]))


def refuses_other_classes(declared: int, returned: int, source: bool) -> None:
    """I15: a stage or source that returns a class that it does not declare is refused.

    The error says what was found and what was expected.
    """
    hint, value = DECLARED[declared], RETURNED[returned]
    source &= hint.classes != (fg.Several,)  # `check` refuses it

    def stage(number: int) -> Any:
        return value

    def emit(ctx: fg.Draw[Kept]) -> Any:
        return value

    graph = fg.Graph("declared")
    pool = graph.pool("pool", Kept)
    body: Any = emit if source else stage
    body.__annotations__["return"] = hint.hint
    if source:
        graph.source(name="node", reads=pool)(body)
    else:
        most: dict[str, Any] = {"fanout": 1} if hint.classes == (fg.Several,) else {}
        graph.stage(name="node", **most)(body)
    spec: Any = graph.spec.sources[0] if source else graph.spec.stages[0]
    returns = ReturnType.of(spec, check(graph).ports)
    fits = isinstance(value, hint.classes)
    try:
        expect(returns.checked(value) is value and fits, f"I15: {value!r} passes for {hint.shown}")
    except TypeError as error:
        name = type(value).__name__
        article = "" if value is None else "an " if name[0] in "aeiou" else "a "
        found = f"{article}{'None' if value is None else name}"
        what = f"{'source' if source else 'stage'} 'node' returned {found}; it declares {hint.shown}"
        several = ". Fix: return fg.Several(...) of them" if hint.classes == (fg.Several,) else ""
        expect(not fits and str(error) == what + several, f"I15: {value!r} for {hint.shown} is refused with: {error}")


LEAVES: st.SearchStrategy[Any] = st.sampled_from(["plain", "plain", "budget", "fatal"])
TREES = st.recursive(LEAVES, lambda inner: st.lists(inner, min_size=1, max_size=3), max_leaves=6)

STAGES: Mapping[str, Property] = {
    "groups of errors": Property(("I15",), tells_of_groups, {"tree": TREES, "rounds": st.integers(1, 3)}, 0.6),
    "foreign cancellations": Property(
        ("I15",),
        minds_no_stranger,
        {
            "cancelled": st.lists(st.integers(0, 5), max_size=4),
            "rounds": st.integers(1, 6),
            "stop": st.booleans(),
        },
        0.3,
    ),
    "leftover tasks": Property(
        ("I4", "I9", "I15"),
        leaves_no_call_behind,
        {
            "lasts": st.sampled_from([0.5, 1.0, 3.0, 5.0, 64.0]),
            "later": st.lists(st.sampled_from([0.0, 0.75, 1.5, 4.0]), max_size=3),
            "rounds": st.integers(1, 3),
        },
        0.4,
        known=[{"lasts": 1.0, "later": [0.0, 0.0, 1.5], "rounds": 2}],
    ),
    "priorities for servers": Property(
        ("I9",),
        tells_priorities,
        {
            "control": st.sampled_from([drain_first(), balanced(1.0), shortest_first()]),
            "stages": st.integers(1, 3),
            "prioritises": st.booleans(),
            "rounds": st.integers(1, 3),
        },
        0.3,
    ),
    "workers that a policy wants": Property(
        ("I3", "I9"),
        bounds_workers,
        {
            "wants": st.lists(st.sampled_from([-1, 0, 1, 2, 9]), min_size=1, max_size=3),
            "workers": st.lists(st.integers(1, 3), min_size=1, max_size=3),
            "rounds": st.integers(1, 6),
        },
        0.3,
        known=[{"wants": [0], "workers": [2, 2], "rounds": 4}],
    ),
    "classes that are declared": Property(
        ("I15",),
        refuses_other_classes,
        {
            "declared": st.integers(0, len(DECLARED) - 1),
            "returned": st.integers(0, len(RETURNED) - 1),
            "source": st.booleans(),
        },
        2,
    ),
}
