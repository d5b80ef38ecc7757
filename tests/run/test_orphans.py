"""Descendants of an artifact that is retracted while they are made, in virtual time."""

from __future__ import annotations

from typing import Any

import anyio
import attrs
import pytest

import flashgraph as fg
from flashgraph.parts import Archive
from flashgraph.parts.evaluation import Attempt
from flashgraph.run import events as ev
from tests.run.kit import Virtually, of, watched

RETRACTED = 60.0
"""When the first artifact, admitted on half of its evidence at second 2, is taken back."""


@attrs.frozen
class Job:
    """A job; ``members`` are the (seconds, score) of each member."""

    members: tuple[tuple[float, float], ...]
    name: str = "first"

    def work(self) -> list[tuple[float, float]]:
        return list(self.members)


FIRST = Job(((1, 1.0), (2, 1.0), (50, 0.0), (RETRACTED, 0.0)))


class Story:
    """A graph in which `FIRST` becomes artifact 0 of ``pool`` and is retracted; others add to the pool."""

    def __init__(self, **edge: Any) -> None:
        self.graph = fg.Graph("story")
        self.pool = self.graph.pool("pool", lambda: Archive(threshold=0.8))

        @self.graph.source(rounds=1)
        def first(ctx: fg.Draw[None]) -> Job:
            return FIRST

        @self.graph.stage(workers=99)
        async def work(member: tuple[float, float]) -> Attempt:
            await anyio.sleep(member[0])
            return Attempt(0, member[1], "-")

        self.work = work
        self.graph.edge(first, work, scatter=Job.work)
        self.graph.edge(work, self.pool, gather=True, release=fg.fraction(0.5), late="amend", **edge)

    def told(self, virtually: Virtually, **options: Any) -> fg.Result:
        result = watched(self.graph, virtually, schedule=fg.pipelined(window=4, focus=0), **options)
        assert result.status == "completed"
        assert [(e.at, e.artifact) for e in of(result, ev.Retracted)][:1] == [(RETRACTED, 0)]
        return result


def orphans(result: fg.Result) -> list[float]:
    """Return when items ended as orphans."""
    return [e.at for e in of(result, ev.Ended) if e.reason.startswith("orphan of pool artifact 0")]


@pytest.mark.parametrize(("named", "kept"), [(None, False), ((0,), False), ((), True)])
def test_what_a_stage_made_of_a_retracted_artifact(named: Any, kept: bool, virtually: Virtually) -> None:
    """A stage that reads the pool names its parents; one that names none may descend from any artifact with incomplete
    evidence.
    """
    story = Story()

    @story.graph.source(rounds=1)
    def other(ctx: fg.Draw[None]) -> float:
        return 10.0

    @story.graph.stage
    async def wait(seconds: float) -> float:
        await anyio.sleep(seconds)
        return seconds

    @story.graph.stage(reads=story.pool)
    async def reflect(seconds: float, ctx: fg.Context[Archive]) -> Job:
        assert list(ctx.view.artifacts) == [0]
        if named is not None:
            ctx.parents(*named)
        await anyio.sleep(RETRACTED)
        return Job(((1, 1.0),), "reflected")

    story.graph.edge(other, wait)
    story.graph.edge(wait, reflect)
    story.graph.edge(reflect, story.work, scatter=Job.work)
    result = story.told(virtually)
    assert orphans(result) == ([] if kept else [10 + RETRACTED])
    assert [a.at for a in result.artifacts if not a.retracted] == ([11 + RETRACTED] if kept else [])


@pytest.mark.parametrize("keeps", [False, True])
def test_what_was_repaired_from_a_retracted_artifact(keeps: bool, virtually: Virtually) -> None:
    """An item that was repaired from a retracted artifact ends, unless its edge keeps orphans."""
    story = Story()

    @story.graph.source(reads=story.pool, rounds=1)
    def other(ctx: fg.Draw[Archive]) -> Job:
        return Job(((1, 1.0),), "other")

    @story.graph.stage
    async def wait(job: Job) -> Job:
        await anyio.sleep(10)
        return job

    @story.graph.stage(reads=story.pool)
    async def rebase(stale: fg.Stale[Job], ctx: fg.Context[Archive]) -> fg.Verdict[Job]:
        assert list(ctx.view.artifacts) == [0]
        await anyio.sleep(RETRACTED)
        return fg.Verdict.patch(attrs.evolve(stale.value, name="mended"))

    story.graph.edge(other, wait)
    story.graph.edge(
        wait, story.work, scatter=Job.work, stale=fg.repair(rebase, above=0), orphans="keep" if keeps else "discard"
    )
    result = story.told(virtually)
    assert [e.verdict for e in of(result, ev.Repaired)] == ["patch"]
    # It is kept where it waits; its result is an orphan on the next edge.
    assert orphans(result) == [(11 if keeps else 10) + RETRACTED]
    assert all(a.retracted for a in result.artifacts)


@pytest.mark.parametrize("keeps", ["keep", "discard"])
def test_edges_that_keep_orphans_let_them_through(keeps: Any, virtually: Virtually) -> None:
    """If every edge on its way keeps orphans, a child of a retracted artifact is admitted on its own evidence."""
    story = Story(orphans=keeps)

    @story.graph.source(reads=story.pool, rounds=1)
    def child(ctx: fg.Draw[Archive]) -> Job | None:
        ctx.parents(*list(ctx.view.artifacts)[:1])
        return Job(((1, 1.0),), "child") if ctx.view.artifacts else None

    @story.graph.stage
    async def wait(job: Job) -> Job:
        await anyio.sleep(RETRACTED)
        return job

    story.graph.edge(child, wait, orphans=keeps)
    story.graph.edge(wait, story.work, scatter=Job.work, orphans=keeps)
    result = story.told(virtually)
    assert orphans(result) == ([] if keeps == "keep" else [RETRACTED])
    found = [(a.at, a.parents) for a in result.artifacts if not a.retracted]
    assert found == ([(3 + RETRACTED, (0,))] if keeps == "keep" else [])


@pytest.mark.parametrize("begins", [30.0, 90.0])
def test_what_is_made_of_a_child_with_complete_evidence(begins: float, virtually: Virtually) -> None:
    """A child with complete evidence stays when its parent is retracted; its own descendants stay too, whether they
    began before or after.
    """
    story = Story()

    @story.graph.source(reads=story.pool, rounds=1)
    def child(ctx: fg.Draw[Archive]) -> Job | None:
        ctx.parents(*list(ctx.view.artifacts)[:1])
        return Job(((1, 1.0),), "child") if ctx.view.artifacts else None

    @story.graph.source(rounds=1)
    def other(ctx: fg.Draw[None]) -> float:
        return begins

    @story.graph.stage
    async def wait(seconds: float) -> float:
        await anyio.sleep(seconds)
        return seconds

    @story.graph.stage(reads=story.pool)
    async def reflect(seconds: float, ctx: fg.Context[Archive]) -> Job:
        ctx.parents(1)
        return Job(((80, 1.0),), "grandchild")

    story.graph.edge(child, story.work, scatter=Job.work)
    story.graph.edge(other, wait)
    story.graph.edge(wait, reflect)
    story.graph.edge(reflect, story.work, scatter=Job.work)
    result = story.told(virtually)
    assert not orphans(result)
    assert [(a.at, a.parents, a.retracted) for a in result.artifacts] == [
        (2.0, (), True), (3.0, (0,), False), (begins + 80, (1,), False),
    ]  # fmt: skip


def test_what_waits_for_its_repair_and_is_an_orphan(virtually: Virtually) -> None:
    """Of two children of a retracted artifact, one is in repair and one waits for the only worker. Both end at once,
    and the worker is free.
    """
    story = Story()

    @story.graph.source(reads=story.pool, rounds=3)
    def child(ctx: fg.Draw[Archive]) -> Job | None:
        if not ctx.open and not ctx.view.artifacts:
            return None
        if ctx.view.artifacts:
            ctx.parents(0)
        return Job(((1, 1.0),), "child")

    @story.graph.source(rounds=1)
    def bump(ctx: fg.Draw[None]) -> Job:
        return Job(((20, 1.0),), "bump")

    repaired: list[float] = []

    @story.graph.stage(workers=1)
    async def rebase(stale: fg.Stale[Job]) -> fg.Verdict[Job]:
        repaired.append(anyio.current_time())
        await anyio.sleep(200)
        return fg.Verdict.accept()

    @story.graph.stage(workers=9)
    async def wait(job: Job) -> Job:
        await anyio.sleep(30)
        return job

    story.graph.edge(child, wait)
    story.graph.edge(wait, story.work, scatter=Job.work, stale=fg.repair(rebase, above=0))
    story.graph.edge(bump, story.work, scatter=Job.work)
    result = story.told(virtually)
    assert len(repaired) == 1
    assert orphans(result)[:3] == [RETRACTED] * 3
    assert result.spent.seconds == RETRACTED
