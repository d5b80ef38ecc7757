"""Groups with a random part sent out: members that run, that count, and that are missing."""

from __future__ import annotations

from typing import Any

import anyio
import pytest

import flashgraph as fg
from flashgraph.parts.evaluation import Attempt, Candidate, Work
from flashgraph.run import events as ev
from tests.run.kit import Virtually, of, watched
from tests.run.test_sources import Log

SIZE = 10


def sampling(
    *, failing: int = 0, passes: tuple[int, ...] = (), rounds: int = 1, twice: bool = False, **edge: Any
) -> fg.Graph:
    """Return a graph of sweeps over ten members; the first ``failing`` fail, and those in ``passes`` are right."""
    graph = fg.Graph("sampling")
    pool = graph.pool("pool", Log)

    @graph.source(rounds=rounds)
    def pick(ctx: fg.Draw[None]) -> Candidate:
        return Candidate({"text": str(ctx.emission)}, SIZE)

    @graph.stage(workers=SIZE)
    async def judge(work: Work) -> Attempt:
        await anyio.sleep(1 + work.index)
        if work.index < failing:
            raise ValueError("no")
        return Attempt(work.index, float(work.index in passes), "")

    @graph.stage
    def gathered(batch: fg.Group[Candidate, Attempt]) -> str:
        seen.append(batch)
        return "done"

    seen: list[fg.Group[Candidate, Attempt]] = []
    graph.seen = seen  # type: ignore[attr-defined]
    graph.edge(pick, judge, scatter=Candidate.work, order=fg.discriminative(window=1, passed=lambda a: a.score > 0.5))
    options: dict[str, Any] = {"release": fg.sampled(4), "late": "cancel", **edge}
    graph.edge(judge, gathered, gather=True, **options)
    graph.edge(gathered, pool)
    if twice:

        @graph.stage
        def second(batch: fg.Group[Candidate, Attempt]) -> str:
            return "second"

        graph.edge(judge, second, gather=True)
        graph.edge(second, pool)
    return graph


def ran(graph: fg.Graph, virtually: Virtually, **options: Any) -> tuple[fg.Result, list[fg.Group[Any, Any]]]:
    options.setdefault("schedule", fg.pipelined(1))
    return watched(graph, virtually, **options), graph.seen  # type: ignore[attr-defined]


def test_only_a_part_is_sent_out(virtually: Virtually) -> None:
    """Only a part is sent out: the others are missing with a reason, and no job starts for them."""
    result, (batch,) = ran(sampling(), virtually)
    states = [(m.state, m.reason) for m in batch.members]
    assert states.count(("arrived", "")) == 4
    assert states.count(("missing", "not sampled")) == SIZE - 4
    assert batch.size == SIZE
    assert batch.strata == (0,) * SIZE
    assert sum(e.stage == "judge" for e in of(result, ev.JobStarted)) == 4
    (released,) = of(result, ev.Released)
    assert (released.arrived, released.size) == (4, SIZE)


def test_which_part_depends_on_the_seed_alone(virtually: Virtually) -> None:
    """The part depends on the seed alone, and differs from sweep to sweep."""

    def parts(seed: int) -> list[tuple[int, ...]]:
        _, seen = ran(sampling(rounds=4), virtually, seed=seed)
        return [tuple(m.index for m in b.members if m.state == "arrived") for b in seen]

    assert parts(0) == parts(0)
    assert parts(0) != parts(1)
    assert len(set(parts(0))) > 1


def test_a_share_of_the_part_is_waited_for(virtually: Virtually) -> None:
    """A share of the part is waited for: two of four are released, and the rest is cancelled."""
    result, (batch,) = ran(sampling(release=fg.sampled(4, share=0.5)), virtually)
    assert len(batch.values) == 2
    (released,) = of(result, ev.Released)
    assert released.arrived == 2
    assert sum(e.how == "cancelled" for e in of(result, ev.Ended)) == 2


def test_an_amendment_is_the_rest_of_the_part(virtually: Virtually) -> None:
    """An amendment has the whole part, and no more."""
    _, (early, whole) = ran(sampling(release=fg.sampled(4, share=0.5), late="amend"), virtually)
    assert (len(early.values), early.amendment, early.partial) == (2, False, True)
    assert (len(whole.values), whole.amendment, whole.partial) == (4, True, False)
    assert whole.strata == early.strata


def test_what_all_passed_is_drawn_less_often(virtually: Virtually) -> None:
    """A member that always passed is in stratum 1 from then on, and is drawn less often."""
    _, seen = ran(sampling(rounds=12, passes=tuple(range(5))), virtually)
    assert seen[0].strata == (0,) * SIZE
    passed = {m.index for b in seen[:-1] for m in b.members if m.state == "arrived" and m.index < 5}
    assert {i for i, stratum in enumerate(seen[-1].strata) if stratum} == passed
    assert passed


@pytest.mark.parametrize(("share", "fails"), [(0.4, True), (0.6, False)])
def test_a_share_of_failures_is_one_of_the_part(share: float, fails: bool, virtually: Virtually) -> None:
    """A share of failures is one of the members that are sent out."""
    release = fg.sampled(SIZE)
    result, seen = ran(sampling(failing=5, release=release, on_failure=fg.fail_above(share)), virtually)
    assert bool(seen) is not fails
    alone, found = ran(sampling(failing=SIZE, on_failure=fg.fail_above(0.5)), virtually)
    assert not found
    assert any(e.reason.startswith("3 of 4 members failed") for e in of(alone, ev.Ended))
    assert result.status == "completed"


def test_lockstep_tries_all(virtually: Virtually) -> None:
    """Lockstep tries all members, because a part is speculation."""
    _, (batch,) = ran(sampling(), virtually, schedule="lockstep")
    assert len(batch.values) == SIZE


def test_two_gathers_have_what_the_greater_part_asks_for(virtually: Virtually) -> None:
    """Two gathers have the greater part sent out: one gets all members, and the other its part as members arrive."""
    result, (batch,) = ran(sampling(twice=True), virtually)
    assert sum(e.stage == "judge" for e in of(result, ev.JobStarted)) == SIZE
    assert len(batch.values) >= 4
