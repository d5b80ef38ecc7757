"""Sources and stages that read several pools: one moment's views, parents by pool, and lags by pool."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import anyio
import attrs
import pytest

import flashgraph as fg
from flashgraph.run import events as ev
from tests.run.kit import Virtually, of, watched


@attrs.frozen
class Log:
    """A pool of all admissions, in order."""

    artifacts: Mapping[int, fg.Artifact] = attrs.field(factory=dict)

    def apply(self, event: fg.PoolEvent[str]) -> Log:
        found = fg.Artifact(event.artifact, event.value, event.parents)
        return Log({**self.artifacts, event.artifact: found})

    def best(self) -> fg.Artifact | None:
        return None

    def best_line(self) -> Log:
        return self


def arena(name: str = "arena", *, stale: Any = None, parents: str = "each") -> fg.Graph:
    """Return a race of two pools: each round adds an attack, and a defence against it one second later."""
    graph = fg.Graph(name)
    attacks, defences = graph.pool("attacks", Log), graph.pool("defences", Log)

    @graph.source(reads=(attacks, defences), rounds=4)
    def draw(ctx: fg.Draw[tuple[Log, Log]]) -> str:
        theirs, ours = ctx.view
        if parents == "each":
            ctx.parents(*list(theirs.artifacts)[-1:], of=attacks)
            ctx.parents(*list(ours.artifacts)[-1:], of=defences)
        elif parents == "unclear":
            ctx.parents(0)
        return f"{ctx.emission}: {len(theirs.artifacts)} attacks, {len(ours.artifacts)} defences"

    @graph.stage
    def attack(text: str) -> str:
        return text

    @graph.stage(reads=(defences, attacks))
    async def defend(text: str, ctx: fg.Context[tuple[Log, Log]]) -> str:
        ours, theirs = ctx.view
        await anyio.sleep(1)
        return f"{text}; {len(ours.artifacts)} and {len(theirs.artifacts)}"

    graph.edge(draw, attack)
    graph.edge(attack, attacks)
    graph.edge(attack, defend)
    graph.edge(defend, defences, stale=stale)
    return graph


def values(result: fg.Result, pool: str) -> list[str]:
    return [str(a.value) for a in result.artifacts if a.pool.endswith(pool)]


def test_views_are_in_the_order_of_reads(virtually: Virtually) -> None:
    """In lockstep the source sees both pools after each round, and the stage sees what the source saw."""
    result = watched(arena(), virtually, schedule="lockstep")
    assert values(result, "attacks") == [f"{n}: {n} attacks, {n} defences" for n in range(4)]
    assert values(result, "defences") == [f"{n}: {n} attacks, {n} defences; {n} and {n}" for n in range(4)]


def test_parents_are_named_by_pool(virtually: Virtually) -> None:
    """An artifact's parents are those of its own pool."""
    result = watched(arena(), virtually, schedule="lockstep")
    for pool in ("attacks", "defences"):
        assert [a.parents for a in result.artifacts if a.pool == pool] == [(), (0,), (1,), (2,)]
    graph = fg.Graph("outer")
    graph.include(arena(), "part")
    included = watched(graph, virtually, schedule="lockstep")
    assert [a.parents for a in included.artifacts if a.pool == "part.defences"] == [(), (0,), (1,), (2,)]


def test_parents_without_a_pool_are_refused(virtually: Virtually) -> None:
    """With two pools a bare number may mean either."""
    result = watched(arena(parents="unclear"), virtually)
    assert result.status == "failed"
    assert "ctx.parents(0): attacks and defences are read here. Fix: ctx.parents(0, of=POOL)" in result.reason


def test_the_parents_of_a_pool_that_is_not_read_are_refused() -> None:
    """The message names the pools that are."""
    graph = fg.Graph("g")
    log = graph.pool("log", Log)
    ctx: fg.Draw[Any] = fg.Draw(None, Log(), "0", pools={"attacks": "attacks"})  # type: ignore[arg-type]
    with pytest.raises(fg.DataError, match=r"of=log\): found a pool that is not in reads=; expected one of: att"):
        ctx.parents(1, of=log)


@pytest.mark.parametrize("pool", ["attacks", "defences"])
@pytest.mark.parametrize("included", [False, True])
def test_a_rule_counts_the_lag_of_its_pool(pool: str, included: bool, virtually: Virtually) -> None:
    """Four rounds at once: each defence lags behind its own attack, and all but the first behind the defences."""
    graph = arena(stale=fg.discard(above=0, of=arena().handle(pool)))
    if included:
        outer = fg.Graph("outer")
        outer.include(graph, "part")
        graph = outer
    assert graph.check() == ()
    result = watched(graph, virtually, schedule=fg.pipelined(window=4, focus=0.0))
    assert len(values(result, "defences")) == (0 if pool == "attacks" else 1)
    discarded = [e.reason for e in of(result, ev.Ended) if e.how == "discarded"]
    named = f"part.{pool}" if included else pool
    assert len(discarded) == (4 if pool == "attacks" else 3)
    assert all(f"discard(above=0, of={named})" in reason for reason in discarded)


def test_a_source_sees_what_its_open_rounds_began_with(virtually: Virtually) -> None:
    """A source can leave these out: here each number is drawn once although results take a second."""
    graph = fg.Graph("open work")
    log = graph.pool("log", Log)
    seen: list[tuple[str, ...]] = []

    @graph.source(reads=log)
    def draw(ctx: fg.Draw[Log]) -> str | None:
        seen.append(ctx.open)
        done = {str(a.value) for a in ctx.view.artifacts.values()}
        return next((name for name in "abcd" if name not in done and name not in ctx.open), None)

    @graph.stage
    async def work(name: str) -> str:
        await anyio.sleep(1)
        return name

    graph.edge(draw, work)
    graph.edge(work, log)
    result = watched(graph, virtually, schedule=fg.pipelined(window=3, focus=0.0), budget=fg.Budget(seconds=60))
    assert sorted(values(result, "log")) == list("abcd")
    assert seen[:4] == [(), ("a",), ("a", "b"), ()]
