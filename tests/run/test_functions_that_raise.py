"""I15: a function of the graph that raises fails its own item, with the place and the error, and nothing else."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import anyio
import attrs
import pytest

import flashgraph as fg
from flashgraph.errors import ModelUnavailable, RequestFailed
from flashgraph.run import events as ev
from flashgraph.testing import settle
from flashgraph.testing.runs import TASK, LatencyModel
from tests.run.endpoints import requests
from tests.run.kit import Virtually, watched
from tests.run.test_sources import Log

ROUNDS = 6
BAD = 2
"""The round whose item a function raises on."""


class Broken(Exception):
    """The error that the function raises."""


@attrs.frozen
class Number:
    n: int
    mended: bool = False


@attrs.frozen
class Picky(Log):
    """A pool that does not take every event."""

    def apply(self, event: fg.PoolEvent[str]) -> Picky:
        if event.artifact == BAD:
            raise Broken("no room")
        return Picky({**self.artifacts, event.artifact: fg.Artifact(event.artifact, event.value)})


SAID = {
    "an async stage": "Broken: an async stage",
    "a stage": "Broken: a stage",
    "a stage with a context": "Broken: a stage with a context",
    "when": "when of check->look: Broken: when",
    "order": "order of look->member: Broken: order",
    "scatter": "scatter of look->member: Broken: scatter",
    "member": "Broken: member",
    "decided": "release of member->total: Broken: decided",
    "stale": "staleness rule of total->pool: Broken: stale",
    "repair": "Broken: repair",
    "no verdict": "TypeError: stage 'rebase' returned a str; it declares Verdict[str]",
    "uses": "LookupError: ctx.parents(99): pool 'pool' has no such artifact",
    "uses of nothing": "LookupError: ctx.parents(0): no pool is read here. Fix: reads=POOL on the source or stage",
}
"""By error, the reason that the log must have."""
OVERLAPPING = ("decided", "stale", "repair", "no verdict")
"""Rules that say nothing in lockstep."""


def graph_of(wrong: str) -> fg.Graph:
    """Return a graph with a function in each place of a graph; ``wrong`` raises on number `BAD`."""

    def risk(place: str, n: int) -> None:
        if place == wrong and n == BAD:
            raise Broken(place)

    graph = fg.Graph("risky")
    pool = graph.pool("pool", Log)

    @graph.source(reads=pool, rounds=ROUNDS)
    def draw(ctx: fg.Draw[Log]) -> Number:
        return Number(ctx.emission)

    @graph.stage
    async def begin(number: Number) -> Number:
        await anyio.sleep(1 + number.n / 8)
        risk("an async stage", number.n)
        return number

    @graph.stage
    def check(number: Number) -> Number:
        risk("a stage", number.n)
        return number

    @graph.stage(reads=pool)
    def look(number: Number, ctx: fg.Context[Log]) -> Number:
        risk("a stage with a context", number.n)
        if wrong == "uses" and number.n == BAD:
            ctx.parents(99)
        return number

    @graph.stage
    async def member(number: Number, ctx: fg.Context) -> Number:
        if wrong == "uses of nothing" and number.n == BAD:
            ctx.parents(0)
        await anyio.sleep(1 + number.n / 8)
        risk("member", number.n)
        return number

    @graph.stage
    def total(group: fg.Group[Number, Number]) -> str | None:
        return f"round {group.origin.n}" if group.values else None

    @graph.stage
    def rebase(stale: fg.Stale[str]) -> fg.Verdict[str]:
        risk("repair", number_of(stale.value))
        if wrong == "no verdict" and number_of(stale.value) == BAD:
            return "sure"  # type: ignore[return-value]  # the mistake under test
        return fg.Verdict.accept()

    def passes(number: Number) -> bool:
        risk("when", number.n)
        return True

    def urgency(number: Number) -> int:
        risk("order", number.n)
        return number.n

    def work(number: Number) -> list[Number]:
        risk("scatter", number.n)
        return [number, number]

    def decided(so_far: fg.Group[Number, Number]) -> bool:
        risk("decided", so_far.values[0].n if so_far.values else -1)
        return False

    def touched(text: str, view: Log) -> bool:
        risk("stale", number_of(text))
        return True

    graph.edge(draw, begin)
    graph.edge(begin, check)
    graph.edge(check, look, when=passes)
    graph.edge(look, member, scatter=work, order=fg.priority(urgency))
    graph.edge(member, total, gather=True, release=fg.decided(decided), late="cancel", on_failure=fg.fail_above(0.0))
    graph.edge(total, pool, stale=fg.repair(rebase, above=0, when=touched))
    assert graph.check() == ()
    return graph


def number_of(text: str) -> int:
    return int(text.removeprefix("round "))


def run(graph: fg.Graph, schedule: str, virtually: Virtually, **options: Any) -> fg.Result:
    chosen = fg.pipelined(window=ROUNDS) if schedule == "pipelined" else schedule
    return watched(graph, virtually, schedule=chosen, **options)


def admitted(result: fg.Result) -> list[str]:
    return sorted(str(artifact.value) for artifact in result.artifacts)


@pytest.mark.parametrize("schedule", ["lockstep", "pipelined"])
@pytest.mark.parametrize("wrong", SAID)
def test_the_others_are_not_affected(wrong: str, schedule: str, virtually: Virtually) -> None:
    """Every other round admits the same as without the error, and the run completes."""
    expected = [f"round {n}" for n in range(ROUNDS)]
    if schedule == "pipelined" or wrong not in OVERLAPPING:
        expected.remove(f"round {BAD}")
    result = run(graph_of(wrong), schedule, virtually)
    assert (result.status, admitted(result)) == ("completed", expected)
    reasons = [e.reason for e in result.events if isinstance(e, ev.Ended) and e.how == "failed"]
    assert any(SAID[wrong] in reason for reason in reasons) == (len(expected) < ROUNDS)


def test_nothing_goes_wrong(virtually: Virtually) -> None:
    """Without the error all rounds are admitted, and repairs take place."""
    result = run(graph_of(""), "pipelined", virtually)
    assert admitted(result) == [f"round {n}" for n in range(ROUNDS)]
    assert any(isinstance(e, ev.Repaired) for e in result.events)


@pytest.mark.parametrize("schedule", ["lockstep", "pipelined"])
def test_a_source_that_raises_ends_the_run(schedule: str, virtually: Virtually) -> None:
    """A source that raises ends the run, because its draws depend on each other; admitted artifacts stay."""
    graph = fg.Graph("breaks")
    pool = graph.pool("pool", Log)

    @graph.source(reads=pool, rounds=ROUNDS)
    def draw(ctx: fg.Draw[Log]) -> str:
        if ctx.emission == BAD:
            raise Broken("no more")
        return f"round {ctx.emission}"

    graph.edge(draw, pool)
    result = run(graph, schedule, virtually)
    assert (result.status, result.reason) == ("failed", "source 'draw' failed: Broken: no more")
    assert admitted(result) == [f"round {n}" for n in range(BAD)]


def test_a_hint_that_raises_is_none(virtually: Virtually) -> None:
    """An order that cannot judge a member fails nothing, because it only orders the next members."""
    graph = fg.Graph("hints")
    pool = graph.pool("pool", Log)

    @graph.source(reads=pool, rounds=3)
    def draw(ctx: fg.Draw[Log]) -> Number:
        return Number(ctx.emission)

    @graph.stage
    async def member(number: int) -> int:
        return number

    @graph.stage
    def total(group: fg.Group[Number, int]) -> str:
        return f"{group.origin.n}: {sorted(group.values)}"

    def passed(number: int) -> bool:
        if number == BAD:
            raise Broken("passed")
        return True

    def work(number: Number) -> list[int]:
        return [0, 1, BAD, 3]

    graph.edge(draw, member, scatter=work, order=fg.discriminative(1, passed=passed))
    graph.edge(member, total, gather=True)
    graph.edge(total, pool)
    result = run(graph, "pipelined", virtually, settings={"window": 1})
    assert admitted(result) == [f"{n}: [0, 1, 2, 3]" for n in range(3)]
    sent = [
        e.index for e in result.events if isinstance(e, ev.Created) and e.edge == "draw->member" and e.index is not None
    ]
    # A member that passed goes last; one that cannot be judged has not passed.
    assert sent == [0, 1, 2, 3, *[BAD, 0, 1, 3] * 2]


def test_a_pool_that_raises_ends_the_run(virtually: Virtually) -> None:
    """A pool that raises ends the run: it must accept every event of its type."""

    graph = fg.Graph("picky")
    pool = graph.pool("pool", Picky)

    @graph.source(rounds=ROUNDS)
    def draw(ctx: fg.Draw[None]) -> str:
        return f"round {ctx.emission}"

    graph.edge(draw, pool)
    with pytest.raises(fg.FlashgraphError, match=NO_ROOM):
        run(graph, "pipelined", virtually)


NO_ROOM = r"pool 'pool': apply\(admit artifact \d\) raised Broken: no room"


def picky_graph(rounds: int) -> fg.Graph:
    """Return a graph whose pool raises on artifact `BAD` while requests of later rounds are in flight."""
    graph = fg.Graph("picky")
    pool = graph.pool("pool", Picky)

    @graph.source(rounds=rounds)
    def draw(ctx: fg.Draw[None]) -> str:
        return f"round {ctx.emission}"

    @graph.stage(model="task")
    async def ask(text: str, ctx: fg.Context) -> str:
        await ctx.llm(text)
        return text

    graph.edge(draw, ask)
    graph.edge(ask, pool)
    return graph


@pytest.mark.parametrize("rounds", [BAD + 1, ROUNDS])
def test_the_pools_error_is_the_runs(rounds: int, virtually: Virtually, tmp_path: Path) -> None:
    """A caller that waits gets the pool's error unchanged, also if the run has nothing else to do. The journal and the
    result show it, and requests in flight are settled (I12).
    """
    reached: list[fg.Result] = []

    async def go() -> None:
        model = LatencyModel(2, lambda request: 1.0)
        options: dict[str, Any] = {
            "settle": settle,
            "folder": tmp_path / "run",
            "schedule": fg.pipelined(window=ROUNDS),
        }
        async with fg.open_run(picky_graph(rounds), TASK, models={"task": model}, **options) as opened:
            with pytest.raises(fg.FlashgraphError, match=NO_ROOM):
                await opened.wait()
            reached.append(opened.result)
            assert not any(opened.machine.ledger.reserved.values())

    virtually(go)
    (result,) = reached
    assert result.status == "failed"
    assert re.match(NO_ROOM, result.reason)
    assert len(result.artifacts) == BAD
    sent = {e.call for e in result.events if isinstance(e, ev.CallStarted)}
    assert sent == {e.call for e in result.events if isinstance(e, ev.CallEnded)}
    with fg.StoredRun.open(tmp_path / "run") as stored:
        assert (stored.status, stored.reason) == (result.status, result.reason)


@pytest.mark.parametrize("told", [False, True])
def test_an_error_that_nobody_waits_for(told: bool, virtually: Virtually) -> None:
    """An error that nobody waits for is raised once, at the end of the block."""

    async def go() -> None:
        model = LatencyModel(2, lambda request: 1.0)
        async with fg.open_run(picky_graph(ROUNDS), TASK, models={"task": model}, settle=settle) as opened:
            if told:
                with pytest.raises(fg.FlashgraphError, match=NO_ROOM):
                    [event async for event in opened]
            await anyio.sleep(60)

    if told:
        virtually(go)
    else:
        with pytest.raises(fg.FlashgraphError, match=NO_ROOM):
            virtually(go)


@pytest.mark.parametrize("error", [ValueError, fg.UnusableReply, RequestFailed, ModelUnavailable, SystemExit, KeyError])
def test_no_secret_of_the_environment_is_kept(
    error: type[BaseException], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A function model's error may quote a key.  Neither the run's folder nor its result holds that key."""
    monkeypatch.setenv("ACME_API_KEY", "sk-abc/def-0123456789")

    def model(messages: object) -> str:
        raise error("Incorrect API key provided: sk-abc/def-0123456789")

    result = fg.run(requests(2), TASK, models={"task": model}, folder=tmp_path / "run", budget=fg.Budget(calls=4))
    assert "***" in f"{result.reason} {list(result.events)!r}"
    assert "sk-abc" not in f"{result!r} {list(result.events)!r}"
    kept = b"".join(path.read_bytes() for path in (tmp_path / "run").rglob("*") if path.is_file())
    assert b"sk-abc" not in kept
