"""Each cause of an end, shown by a small run; and the causes in old journals, which store none."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable
from typing import Any

import anyio
import attrs
import pytest

import flashgraph as fg
from flashgraph.api import Run
from flashgraph.errors import ModelRefused
from flashgraph.observe.report import Report
from flashgraph.policies.staleness import Rule
from flashgraph.run import events as ev
from flashgraph.run.cause import LIMITS, Cause, End
from flashgraph.run.journal.causes import cause_of_drain, cause_of_failure, cause_of_job, cause_of_session
from flashgraph.testing import settle
from flashgraph.testing.runs import TASK
from tests.proof.oracles.small import Kept
from tests.run.kit import Virtually, of, watched
from tests.run.test_goal import climb
from tests.run.test_orphans import Job, Story


@attrs.frozen
class Picky(Kept):
    """A pool that admits nothing below 0."""

    def apply(self, event: fg.PoolEvent[Any]) -> Any:
        return self if event.value < 0 else super().apply(event)


def raises(value: Any) -> Any:
    raise ZeroDivisionError(f"{value}")


def plain(
    body: Callable[[int], Any] = abs, rounds: int = 3, source: Callable[[int], int] = abs, **edge: Any
) -> fg.Graph:
    """Return a graph with a source of numbers from 0, a stage and a pool."""
    graph = fg.Graph("plain")
    pool = graph.pool("pool", Picky)

    @graph.source(rounds=rounds)
    def numbers(ctx: fg.Draw[None]) -> int:
        return source(ctx.emission)

    @graph.stage(name="work")
    def work(number: int) -> int | None:
        made: int | None = body(number)
        return made

    graph.edge(numbers, work, **edge)
    graph.edge(work, pool)
    return graph


def asking() -> fg.Graph:
    """Return `plain` with a stage that calls a model once for each number."""
    graph = fg.Graph("asking")
    pool = graph.pool("pool", Picky)

    @graph.source(rounds=3)
    def numbers(ctx: fg.Draw[None]) -> int:
        return ctx.emission

    @graph.stage(model="model", counts=("proposals", "evaluations"))
    async def work(number: int, ctx: fg.Context) -> int:
        await ctx.llm(f"number {number}")
        return number

    graph.edge(numbers, work)
    graph.edge(work, pool)
    return graph


def members(many: int) -> list[int]:
    return list(range(many))


def three(_: int) -> list[int]:
    return [0, 1, 500]


def scattered(member: Callable[[int], Any], **edge: Any) -> fg.Graph:
    """Return a graph with one group of three members; member n takes n seconds."""
    graph = fg.Graph("scattered")
    pool = graph.pool("pool", Picky)

    @graph.source(rounds=1)
    def whole(ctx: fg.Draw[None]) -> int:
        return 3

    @graph.stage(name="work", workers=9)
    async def work(number: int) -> int:
        await anyio.sleep(number)
        made: int = member(number)
        return made

    @graph.stage(name="total")
    def total(group: fg.Group[int, int]) -> int:
        return len(group.values)

    graph.edge(whole, work, scatter=members)
    graph.edge(work, total, gather=True, **edge)
    graph.edge(total, pool)
    return graph


def stale(rule: Callable[[fg.Graph, Any], Rule]) -> fg.Graph:
    """Return a graph whose numbers are made while the pool changes."""
    graph = fg.Graph("stale")
    pool = graph.pool("pool", Picky)

    @graph.source(rounds=1, reads=pool)
    def slow(ctx: fg.Draw[Picky]) -> int:
        return 5

    @graph.source(rounds=2)
    def fast(ctx: fg.Draw[None]) -> int:
        return ctx.emission

    @graph.stage(name="work", workers=9)
    async def work(number: int) -> int:
        await anyio.sleep(number)
        return number

    graph.edge(slow, work)
    graph.edge(fast, work)
    graph.edge(work, pool, stale=rule(graph, pool))
    return graph


def judged(graph: fg.Graph, pool: Any) -> Rule:
    @graph.stage(name="judge", reads=pool)
    async def judge(item: fg.Stale[int], ctx: fg.Context[Picky]) -> fg.Verdict[int]:
        return fg.Verdict.discard("old")

    rule: Rule = fg.repair(judge, above=0)
    return rule


def ends(result: fg.Result) -> tuple[set[tuple[str, Cause]], set[tuple[str, Cause]]]:
    """Return the ends of items and jobs with their causes, after a comparison with the report."""
    items, jobs = of(result, ev.Ended), of(result, ev.JobEnded)
    counted = Report(result, {}).ends()
    for kind, found in (("items", items), ("jobs", jobs)):
        assert counted[kind] == dict(Counter(e.cause.value for e in found if e.cause is not Cause.DONE))
    return {(e.how, e.cause) for e in items}, {(e.how, e.cause) for e in jobs}


MADE = ("consumed", Cause.DONE)
RETURNED = ("done", Cause.DONE)

ITEMS: dict[str, tuple[Callable[[], fg.Graph], set[tuple[str, Cause]], set[tuple[str, Cause]]]] = {
    "done": (plain, {MADE}, {RETURNED}),
    "duplicate": (lambda: plain(distinct=lambda n: n > 0), {MADE, ("filtered", Cause.DUPLICATE)}, {RETURNED}),
    "unchanged": (lambda: plain(lambda n: n - 1), {MADE, ("filtered", Cause.UNCHANGED)}, {RETURNED}),
    "filtered": (lambda: plain(lambda n: None), {("filtered", Cause.NOTHING)}, {RETURNED}),
    "raised": (
        lambda: plain(lambda n: 1 // n),
        {MADE, ("failed", Cause.RAISED)},
        {RETURNED, ("failed", Cause.RAISED)},
    ),
    "function": (lambda: plain(when=lambda n: 1 // n > 0), {MADE}, {RETURNED}),
    "function of a scatter": (
        lambda: scattered(abs, order=fg.priority(lambda m: raises(m))),
        {MADE, ("failed", Cause.FUNCTION)},
        {RETURNED},
    ),
    "late": (
        lambda: scattered(abs, release=fg.count(1), late="cancel"),
        {MADE, ("cancelled", Cause.LATE)},
        {RETURNED, ("cancelled", Cause.CANCELLED)},
    ),
    "late, and finished": (
        lambda: scattered(abs, release=fg.count(1), late="drop"),
        {MADE, ("filtered", Cause.LATE)},
        {RETURNED},
    ),
    "group": (
        lambda: scattered(lambda n: n if n != 1 else raises(n), on_failure=fg.fail_above(0.0)),
        {MADE, ("failed", Cause.RAISED), ("failed", Cause.GROUP), ("cancelled", Cause.GROUP)},
        {RETURNED, ("failed", Cause.RAISED), ("cancelled", Cause.CANCELLED)},
    ),
    "stale": (lambda: stale(lambda graph, pool: fg.discard(0)), {MADE, ("discarded", Cause.STALE)}, {RETURNED}),
    "repair": (lambda: stale(judged), {MADE, ("discarded", Cause.REPAIR)}, {RETURNED}),
}


@pytest.mark.parametrize("case", ITEMS)
def test_ends_of_items_and_jobs(case: str, virtually: Virtually) -> None:
    """All items and jobs of a run have the expected end and cause; the run itself completed."""
    make, items, jobs = ITEMS[case]
    result = watched(make(), virtually, schedule=fg.pipelined(window=4, focus=0))
    assert ends(result) == (items, jobs)
    assert (result.status, result.cause) == ("completed", Cause.DONE)
    (last,) = of(result, ev.RunEnded)
    assert (last.status, last.cause, last.reason) == (result.status, result.cause, result.reason)


def test_orphans(virtually: Virtually) -> None:
    """Descendants of a retracted artifact end as orphans; a group with one as a member is never released."""
    story = Story()

    @story.graph.source(rounds=1)
    def other(ctx: fg.Draw[None]) -> int:
        return 10

    @story.graph.stage
    async def wait(seconds: int) -> int:
        await anyio.sleep(seconds)
        return seconds

    @story.graph.stage(reads=story.pool, workers=3)
    async def member(seconds: int, ctx: fg.Context[Any]) -> int:
        ctx.parents(*([0] if seconds == 1 else []))
        await anyio.sleep(seconds)
        return seconds

    @story.graph.stage
    def total(group: fg.Group[int, int]) -> Job | None:
        return None

    story.graph.edge(total, story.work, scatter=Job.work)
    story.graph.edge(other, wait)
    story.graph.edge(wait, member, scatter=three)
    story.graph.edge(member, total, gather=True)
    items, _ = ends(story.told(virtually))
    assert {("discarded", Cause.ORPHAN), ("cancelled", Cause.VOID)} <= items


async def stop(run: Run) -> None:
    run.stop("enough")


async def drain(run: Run) -> None:
    run.drain("enough")


def refuse(messages: Any) -> str:
    raise ModelRefused("the key is wrong")


def climbed(**options: Any) -> Callable[[Virtually], fg.Result]:
    return lambda virtually: climb([0.1, 1.0, 0.2], "pipelined", **{"budget": 30, **options})


def limited(**limits: Any) -> Callable[[Virtually], fg.Result]:
    models = {"model": lambda messages: "x"}
    return lambda virtually: watched(asking(), virtually, models=models, budget=fg.Budget(**limits))


def small(make: Callable[[], fg.Graph], **options: Any) -> Callable[[Virtually], fg.Result]:
    return lambda virtually: watched(make(), virtually, **options).judged()


RUNS: dict[str, tuple[Callable[[Virtually], fg.Result], str, Cause]] = {
    "proposals": (limited(proposals=1), "budget", Cause.PROPOSALS),
    "evaluations": (limited(evaluations=1), "budget", Cause.EVALUATIONS),
    "calls": (limited(calls=1), "budget", Cause.CALLS),
    "seconds": (small(lambda: scattered(abs), budget=fg.Budget(seconds=1.5)), "budget", Cause.SECONDS),
    "target": (climbed(target_score=0.9), "stopped", Cause.TARGET),
    "perfect": (climbed(), "stopped", Cause.PERFECT),
    "patience": (climbed(target_score=math.inf, patience=4), "stopped", Cause.PATIENCE),
    "drained": (small(lambda: scattered(abs), act=drain), "stopped", Cause.CALLER),
    "stopped": (small(lambda: scattered(abs), act=stop), "cancelled", Cause.CALLER),
    "source": (small(lambda: plain(source=raises)), "failed", Cause.SOURCE),
    "streak": (small(lambda: plain(raises, rounds=30)), "failed", Cause.STREAK),
    "function": (small(lambda: plain(rounds=30, when=raises)), "failed", Cause.FUNCTION),
    "fruitless": (small(lambda: plain(raises)), "failed", Cause.FRUITLESS),
    "model": (small(asking, models={"model": refuse}), "failed", Cause.MODEL),
}


@pytest.mark.parametrize("case", RUNS)
def test_ends_of_runs(case: str, virtually: Virtually) -> None:
    run, status, cause = RUNS[case]
    result = run(virtually)
    assert (result.status, result.cause) == (status, cause), result.reason
    assert result.end == End(result.status, result.cause, result.reason)
    if cause is not Cause.FRUITLESS:  # which is judged when the run has ended
        assert [(e.status, e.cause) for e in of(result, ev.RunEnded)] == [(status, cause)]


def test_an_error_of_a_pool(virtually: Virtually) -> None:
    seen: list[fg.Result] = []

    async def opened() -> None:
        graph = fg.Graph("breaks")
        pool = graph.pool("pool", lambda: Kept(1))

        @graph.source(rounds=3)
        def numbers(ctx: fg.Draw[None]) -> int:
            return ctx.emission

        graph.edge(numbers, pool)
        async with fg.open_run(graph, TASK, models={}, settle=settle) as run:
            with pytest.raises(Exception, match="of 1"):
                await run.wait()
            seen.append(run.result)

    virtually(opened)
    assert (seen[0].status, seen[0].cause) == ("failed", Cause.ERROR)


def test_every_limit_is_a_cause() -> None:
    limits = {field.name for field in attrs.fields(fg.Budget)} - {"roles"}
    assert {cause.value for cause in LIMITS} == limits
    for limit in limits - {"seconds"}:
        assert End.spent(limit) == End("budget", Cause(limit), f"no {limit} left")
    assert End.spent("judge.usd") == End("budget", Cause.USD, "no judge.usd left")


@pytest.mark.parametrize(
    ("status", "reason", "cause"),
    [
        ("completed", "the sources have nothing to emit", Cause.DONE),
        ("budget", "no usd left", Cause.USD),
        ("budget", "no proposals left", Cause.PROPOSALS),
        ("budget", "60 seconds are over", Cause.SECONDS),
        ("budget", "the rest of the budget was set aside for evidence, and no contender lacks any", Cause.RESERVE),
        ("stopped", "a score of 0.900 was reached, the target is 0.5", Cause.TARGET),
        ("stopped", "the best has the greatest score, 1, on all 3 samples of the validation", Cause.PERFECT),
        ("stopped", "5 proposals in a row have come to nothing, the patience is 5", Cause.PATIENCE),
        ("stopped", "the last 1000 rounds used nothing of the budget (calls=9), which", Cause.IDLE),
        ("stopped", "interrupted", Cause.CALLER),
        ("cancelled", "interrupted", Cause.CALLER),
        ("failed", "source 'a' failed: KeyError: 1", Cause.SOURCE),
        ("failed", "stage 'a' failed 20 times in a row, the last time with: KeyError: 1", Cause.STREAK),
        ("failed", "stage 'a' failed 3 of 3 times, most often with: KeyError: 1", Cause.FRUITLESS),
        ("failed", "the when of edge a->b raised 20 times in a row, the last time with: x (y)", Cause.FUNCTION),
        ("failed", "the key is wrong", Cause.ERROR),
    ],
)
def test_runs_of_older_journals(status: str, reason: str, cause: Cause) -> None:
    """The causes of old journals follow from the reasons that flashgraph wrote then."""
    assert cause_of_session(status, reason) is cause
    assert status != "stopped" or cause_of_drain(reason) is cause


@pytest.mark.parametrize(
    ("how", "reason", "cause"),
    [
        ("failed", "KeyError: 1", Cause.RAISED),
        ("failed", "RequestFailed: too long", Cause.MODEL),
        ("failed", "UnusableReply: empty", Cause.RAISED),
        ("cancelled", "cancelled", Cause.CANCELLED),
        ("cancelled", "it did not end within 5 s of its cancellation, and was abandoned", Cause.ABANDONED),
        ("cancelled", "ModelRefused: the key is wrong", Cause.MODEL),
    ],
)
def test_jobs_of_older_journals(how: str, reason: str, cause: Cause) -> None:
    assert cause_of_job(how, reason) is cause
    assert how != "failed" or cause_of_failure(0, reason) is cause
    assert cause_of_failure(-1, reason) is Cause.FUNCTION
