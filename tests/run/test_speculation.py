"""Release, late members, amendment, retraction, orphans, repair and reordering, on small graphs in virtual time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import anyio
import attrs
import pytest

import flashgraph as fg
from flashgraph.parts import Archive
from flashgraph.parts.evaluation import Attempt
from flashgraph.run import events as ev
from flashgraph.sim import clock
from flashgraph.testing.runs import TASK, LatencyModel
from tests.run.kit import Virtually


@attrs.frozen
class Job:
    """A job; ``members`` are the (seconds, score) of each member."""

    members: tuple[tuple[float, float], ...]

    def work(self) -> list[tuple[int, float, float]]:
        return [(i, seconds, score) for i, (seconds, score) in enumerate(self.members)]


async def work(item: tuple[int, float, float], ctx: fg.Context) -> Attempt:
    """A member: a model call that takes its seconds."""
    index, seconds, score = item
    await ctx.llm(f"{seconds}")
    return Attempt(index, score, "-")


def evolve(
    virtually: Virtually,
    jobs: Sequence[Job],
    *,
    threshold: float = 0.0,
    limit: int = 100,
    schedule: Any = None,
    **policies: Any,
) -> tuple[fg.Result, LatencyModel]:
    """Return a graph: a source that emits ``jobs`` in turn, a worker on each member, and a pool behind the gather."""
    graph = fg.Graph("small")

    def factory() -> Archive:
        return Archive(threshold=threshold)

    pool = graph.pool("pool", factory)

    @graph.source(reads=pool, rounds=len(jobs))
    def emit(ctx: fg.Draw[Archive]) -> Job:
        ctx.parents(*list(ctx.view.artifacts)[-1:])
        return jobs[ctx.emission]

    stage = graph.stage(work, name="work", model="model", workers=100)
    graph.edge(emit, stage, scatter=Job.work, order=policies.pop("order", None))
    graph.edge(stage, pool, gather=True, **policies)
    model = LatencyModel(limit, float)

    async def go() -> fg.Result:
        return await fg.arun(
            graph,
            TASK,
            models={"model": model},
            schedule=schedule or fg.pipelined(window=1, focus=0),
            settle=clock.settle,
        )

    return virtually(go), model


def of(result: fg.Result, kind: type[Any]) -> list[Any]:
    return [e for e in result.events if isinstance(e, kind)]


QUICK_AND_SLOW = Job(((1, 1.0), (2, 1.0), (50, 0.0), (60, 0.0)))


def test_amend_admits_early_and_confirms_with_everything(virtually: Virtually) -> None:
    """An edge that amends admits a provisional artifact on half of the members; the rest confirms it as a version."""
    result, _ = evolve(virtually, [QUICK_AND_SLOW], release=fg.fraction(0.5), late="amend")
    (admitted,), (confirmed,) = of(result, ev.Admitted), of(result, ev.Confirmed)
    assert (admitted.at, admitted.provisional, admitted.score) == (2, True, 1.0)
    assert (confirmed.at, confirmed.version, confirmed.score) == (60, 2, 0.5)
    assert not result.artifacts[0].provisional
    assert [r.amendment for r in of(result, ev.Released)] == [False, True]


def test_late_members_do_not_hold_the_window(virtually: Virtually) -> None:
    """Late members do not hold the window: with a window of one the next round begins when the group is released."""
    result, _ = evolve(virtually, [QUICK_AND_SLOW, QUICK_AND_SLOW], release=fg.fraction(0.5), late="amend")
    assert [e.at for e in of(result, ev.Emitted)] == [0, 2]


def test_a_retraction_discards_what_descends_from_it(virtually: Virtually) -> None:
    """Full evidence below the pool's threshold retracts the artifact: a new version, and its children in flight are
    orphans.
    """
    child = Job(((1000, 1.0),))
    result, model = evolve(virtually, [QUICK_AND_SLOW, child], threshold=0.8, release=fg.fraction(0.5), late="amend")
    (retracted,) = of(result, ev.Retracted)
    assert (retracted.at, retracted.version) == (60, 2)
    orphans = [e for e in of(result, ev.Ended) if "orphan" in e.reason]
    assert orphans
    assert all(e.at == 60 for e in orphans)
    assert result.spent.seconds == 60, "the orphan's request was cut off"
    assert model.in_flight == 0
    assert result.best is None
    assert result.artifacts[0].retracted


def test_a_provisional_child_goes_with_its_retracted_parent(virtually: Virtually) -> None:
    """A provisional child is retracted with its parent at once: its late members are orphans, so its evidence cannot be
    complete.
    """
    child = Job(((1, 1.0), (2, 1.0), (1000, 1.0), (1000, 1.0)))
    result, _ = evolve(virtually, [QUICK_AND_SLOW, child], threshold=0.8, release=fg.fraction(0.5), late="amend")
    assert [a.parents for a in result.artifacts] == [(), (0,)]
    assert [a.retracted for a in result.artifacts] == [True, True]
    assert [(e.at, e.artifact, e.version) for e in of(result, ev.Retracted)] == [(60, 0, 3), (60, 1, 4)]
    assert not any(a.provisional for a in result.artifacts)


def test_orphans_are_kept_by_the_edge_they_stand_on_and_by_no_other(virtually: Virtually) -> None:
    """orphans="keep" on the gathering edge does not keep members that still wait for their work before it."""
    child = Job(((100, 1.0),))
    graph_result, _ = evolve(
        virtually, [QUICK_AND_SLOW, child], threshold=0.8, release=fg.fraction(0.5), late="amend", orphans="keep"
    )
    assert any("orphan" in e.reason for e in of(graph_result, ev.Ended))


def test_cancel_frees_the_server_at_once(virtually: Virtually) -> None:
    """late="cancel": the slow requests are cancelled at the moment of the release."""
    result, model = evolve(virtually, [QUICK_AND_SLOW], release=fg.fraction(0.5), late="cancel")
    assert [(e.at, e.how) for e in of(result, ev.CallEnded)] == [
        (1, "done"),
        (2, "done"),
        (2, "cancelled"),
        (2, "cancelled"),
    ]
    assert result.spent.seconds == 2
    assert model.in_flight == 0


@pytest.mark.parametrize(("late", "provisional"), [("cancel", False), ("drop", False), ("amend", True)])
def test_a_part_is_provisional_where_the_rest_is_still_to_come(
    late: str, provisional: bool, virtually: Virtually
) -> None:
    """A part is provisional if the rest is still to come. Otherwise the part is all the evidence, and final at once,
    for a target score too.
    """
    result, _ = evolve(virtually, [QUICK_AND_SLOW], release=fg.fraction(0.5), late=late)
    assert of(result, ev.Admitted)[0].provisional is provisional
    assert not any(a.provisional for a in result.artifacts)


def test_drop_lets_what_runs_end_and_records_it(virtually: Virtually) -> None:
    """late="drop": requests in flight end by themselves, waiting ones are not sent; nothing is amended."""
    result, _ = evolve(virtually, [QUICK_AND_SLOW], release=fg.fraction(0.5), late="drop", limit=3)
    assert [(e.at, e.how) for e in of(result, ev.CallEnded)] == [(1, "done"), (2, "done"), (50, "done"), (61, "done")]
    assert not of(result, ev.Confirmed)


def test_lockstep_waits_for_everyone(virtually: Virtually) -> None:
    """Lockstep leaves out the speculation that the graph allows."""
    result, _ = evolve(virtually, [QUICK_AND_SLOW], release=fg.fraction(0.5), late="amend", schedule=fg.lockstep())
    (admitted,) = of(result, ev.Admitted)
    assert (admitted.at, admitted.provisional) == (60, False)


@pytest.mark.parametrize(
    ("rule", "at"),
    [(fg.count(1), 1), (fg.count(3), 50), (fg.deadline(10), 10), (fg.decided(lambda group: len(group.values) >= 2), 2)],
)
def test_release_rules(rule: Any, at: float, virtually: Virtually) -> None:
    """Each rule releases at its own moment."""
    result, _ = evolve(virtually, [QUICK_AND_SLOW], release=rule, late="cancel")
    assert of(result, ev.Admitted)[0].at == at


def test_what_always_passes_goes_last(virtually: Virtually) -> None:
    """discriminative(2): a member that passed in two groups is sent out behind the others."""
    jobs = [Job(((1, 1.0), (1, 0.0), (1, 1.0), (1, 0.0)))] * 3
    result, _ = evolve(virtually, jobs, limit=1, order=fg.discriminative(2))
    created = [e for e in of(result, ev.Created) if e.edge == "emit->work" and e.index is not None]
    assert [e.index for e in created] == [0, 1, 2, 3] * 2 + [1, 3, 0, 2]


def test_a_group_fails_above_its_share(virtually: Virtually) -> None:
    """fail_above: one failed member of four passes at 0.5, and not at 0.2; a run in which nothing else was made has
    then failed.
    """

    async def brittle(item: tuple[int, float, float], ctx: fg.Context) -> Attempt:
        if item[0] == 2:
            raise ValueError("cannot")
        return await work(item, ctx)

    for share, admitted, status in ((0.5, 1, "completed"), (0.2, 0, "failed")):
        graph = fg.Graph("brittle")
        pool = graph.pool("pool", Archive)

        @graph.source(reads=pool, rounds=1)
        def emit(ctx: fg.Draw[Archive]) -> Job:
            return QUICK_AND_SLOW

        stage = graph.stage(brittle, name="work", model="model")
        graph.edge(emit, stage, scatter=Job.work)
        graph.edge(stage, pool, gather=True, on_failure=fg.fail_above(share))

        async def go(graph: fg.Graph = graph) -> fg.Result:
            return await fg.arun(graph, TASK, models={"model": LatencyModel(9, float)}, settle=clock.settle)

        result = virtually(go)
        assert (result.status, len(result.artifacts)) == (status, admitted)
        assert any("ValueError: cannot" in e.reason for e in of(result, ev.Ended))


def test_failures_after_the_release_are_for_the_amendment_to_tell(virtually: Virtually) -> None:
    """Failures after the release are for the pool to judge: they are in the amendment."""

    async def fails_late(item: tuple[int, float, float], ctx: fg.Context) -> Attempt:
        attempt = await work(item, ctx)
        if item[1] > 10:
            raise ValueError("too late")
        return attempt

    graph = fg.Graph("late-failures")
    pool = graph.pool("pool", Archive)

    @graph.source(reads=pool, rounds=1)
    def emit(ctx: fg.Draw[Archive]) -> Job:
        return QUICK_AND_SLOW

    stage = graph.stage(fails_late, name="work", model="model")
    graph.edge(emit, stage, scatter=Job.work)
    graph.edge(stage, pool, gather=True, release=fg.fraction(0.5), late="amend", on_failure=fg.fail_above(0.2))

    async def go() -> fg.Result:
        return await fg.arun(graph, TASK, models={"model": LatencyModel(9, float)}, settle=clock.settle)

    result = virtually(go)
    (confirmed,) = of(result, ev.Confirmed)
    assert (confirmed.at, confirmed.score) == (60, 0.5), "what failed counts as the least score"
    assert not result.artifacts[0].provisional


def test_a_source_that_has_nothing_in_a_narrowed_view_is_shown_the_whole(virtually: Virtually) -> None:
    """A source that has nothing in a narrowed view gets a whole one: a crossover needs two artifacts."""
    graph = fg.Graph("crossover")
    pool = graph.pool("pool", Archive)

    @graph.source(reads=pool, rounds=2)
    def first(ctx: fg.Draw[Archive]) -> Job:
        return Job(((1.0 + ctx.emission, 1.0),))

    @graph.source(reads=pool, rounds=9)
    def cross(ctx: fg.Draw[Archive]) -> Job | None:
        return Job(((3.0, 1.0),)) if len(ctx.view.artifacts) > 1 else None

    stage = graph.stage(work, name="work", model="model")
    graph.edge(first, stage, scatter=Job.work)
    graph.edge(cross, stage, scatter=Job.work)
    graph.edge(stage, pool, gather=True)

    async def go() -> fg.Result:
        schedule = fg.pipelined(window=3, focus=1)
        return await fg.arun(
            graph, TASK, models={"model": LatencyModel(9, float)}, schedule=schedule, settle=clock.settle
        )

    result = virtually(go)
    assert [e.source for e in of(result, ev.Emitted)].count("cross") == 9


@attrs.frozen
class Note:
    """The item of a round: ``seen`` is the version that its text was made from."""

    seconds: float
    seen: int


@attrs.frozen
class Notes:
    """A pool that admits every note."""

    held: Mapping[int, fg.Artifact] = attrs.field(factory=dict)

    def apply(self, event: fg.PoolEvent[Note]) -> Notes:
        return Notes({**self.held, event.artifact: fg.Artifact(event.artifact, event.value, event.parents)})

    @property
    def artifacts(self) -> Mapping[int, fg.Artifact]:
        return self.held

    def best(self) -> fg.Artifact | None:
        return self.held[max(self.held)] if self.held else None

    def best_line(self) -> Notes:
        return self


def noted(
    virtually: Virtually,
    rule: Any,
    times: Sequence[float],
    schedule: Any = None,
    *,
    rebase: Any = None,
    when: Any = None,
) -> fg.Result:
    """Return a graph with rounds of different lengths that write to one pool; ``rule`` stands before the pool."""
    graph = fg.Graph("noted")
    pool = graph.pool("pool", Notes)

    @graph.source(reads=pool, rounds=len(times))
    def emit(ctx: fg.Draw[Notes]) -> Note:
        return Note(times[ctx.emission], len(ctx.view.held))

    @graph.stage(workers=9)
    async def write(note: Note) -> Note:
        await anyio.sleep(note.seconds)
        return note

    async def reread(stale: fg.Stale[Note], ctx: fg.Context[Notes]) -> fg.Verdict[Note]:
        await anyio.sleep(5)
        assert [c.version for c in stale.changes] == list(range(stale.value.seen + 1, stale.value.seen + stale.lag + 1))
        return fg.Verdict.patch(Note(stale.value.seconds, len(ctx.view.held)))

    graph.edge(emit, write)
    if rule == "repair":
        rule = fg.repair(graph.stage(rebase or reread, name="rebase", reads=pool), above=0, when=when)
    graph.edge(write, pool, stale=rule)

    async def go() -> fg.Result:
        chosen = schedule or fg.pipelined(window=8, focus=0)
        return await fg.arun(graph, TASK, models={}, schedule=chosen, settle=clock.settle)

    result: fg.Result = virtually(go)
    assert result.status == "completed"
    return result


def test_discard_at_the_pool_is_exact(virtually: Virtually) -> None:
    """Discard at the pool is exact: of three rounds from version 0, the second admission has lag 1, the third 2."""
    assert [a.lag for a in noted(virtually, None, [1, 2, 3]).artifacts] == [0, 1, 2]
    assert [a.lag for a in noted(virtually, fg.discard(above=1), [1, 2, 3]).artifacts] == [0, 1]
    assert [a.lag for a in noted(virtually, fg.discard(above=0), [1, 2, 3]).artifacts] == [0]


def test_repair_sees_what_changed_and_stamps_anew(virtually: Virtually) -> None:
    """A repair sees the changes and stamps: a patched note carries the version that the repair has read."""
    result = noted(virtually, "repair", [1, 2, 20])
    assert [a.value.seen for a in result.artifacts] == [0, 1, 2]
    assert [e.verdict for e in of(result, ev.Repaired)] == ["patch", "patch"]
    assert [a.lag for a in result.artifacts] == [0, 0, 0]


def test_repair_only_what_is_touched(virtually: Virtually) -> None:
    """Only touched items are repaired: ``when`` sees the item and the pool of now. Other items are admitted unchanged,
    and an error in ``when`` fails the item.
    """
    views = []

    def touched(note: Note, view: Notes) -> bool:
        views.append((note.seconds, len(view.held)))
        if note.seconds == 4:
            raise LookupError("no such note")
        return note.seconds == 3

    def rebase(stale: fg.Stale[Note], ctx: fg.Context[Notes]) -> fg.Verdict[Note]:
        return fg.Verdict.discard()

    result = noted(virtually, "repair", [1, 2, 3, 4], when=touched, rebase=rebase)
    assert [(a.value.seconds, a.lag) for a in result.artifacts] == [(1, 0), (2, 1)]
    assert views == [(2, 1), (3, 2), (4, 2)]
    failed = [e.reason for e in of(result, ev.Ended) if e.how == "failed"]
    assert failed == ["staleness rule of write->pool: LookupError: no such note"]


def test_a_condition_is_asked_of_the_whole_and_not_of_its_members(virtually: Virtually) -> None:
    """On a scattering edge the condition is called for the whole alone; members that start later have more lag, and no
    second call.
    """
    graph = fg.Graph("wholes")
    pool = graph.pool("pool", Archive)
    asked = []

    @graph.source(reads=pool, rounds=3)
    def emit(ctx: fg.Draw[Archive]) -> Job:
        return Job(((1.0, 1.0), (1.0, 1.0)))

    @graph.stage(reads=pool)
    def rebase(stale: fg.Stale[Job], ctx: fg.Context[Archive]) -> fg.Verdict[Job]:
        return fg.Verdict.accept()

    def touched(job: Job, view: Archive) -> bool:
        asked.append(len(job.work()))
        return True

    stage = graph.stage(work, name="work", model="model", workers=1)
    graph.edge(emit, stage, scatter=Job.work, stale=fg.repair(rebase, above=0, when=touched))
    graph.edge(stage, pool, gather=True)

    async def go() -> fg.Result:
        schedule = fg.pipelined(window=3, focus=0)
        return await fg.arun(
            graph, TASK, models={"model": LatencyModel(9, float)}, schedule=schedule, settle=clock.settle
        )

    result = virtually(go)
    assert (result.status, len(result.artifacts)) == ("completed", 3)
    assert asked == [2, 2]
    assert len(of(result, ev.Repaired)) == 2


def test_lockstep_is_never_stale(virtually: Virtually) -> None:
    """Lockstep is never stale: with one round at a time the lag is always 0."""
    assert [a.lag for a in noted(virtually, fg.discard(above=0), [3, 2, 1], fg.lockstep()).artifacts] == [0, 0, 0]
