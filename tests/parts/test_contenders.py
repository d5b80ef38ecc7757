"""More evidence for artifacts of a frontier: which one gets it, on which samples, and its effect."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence

import pytest

import flashgraph as fg
from flashgraph.evidence import Drift, weigh
from flashgraph.parts import ParetoFrontier
from flashgraph.parts.evaluation import Attempt, Candidate, Validated

SIZE = 12
Tried = Sequence[float | str | None]
"""A score by sample; None for an open one, ``"-"`` for one not sampled, ``"x"`` for a failure."""


def members(tried: Tried, samples: Sequence[int]) -> tuple[fg.Member[Attempt], ...]:
    def member(place: int, result: float | str | None) -> fg.Member[Attempt]:
        if result is None:
            return fg.Member(place)
        if isinstance(result, str):
            return fg.Member(place, "failed" if result == "x" else "missing", None, result)
        return fg.Member(place, "arrived", Attempt(samples[place], result, "out"))

    return tuple(member(place, result) for place, result in enumerate(tried))


def admit(
    pool: ParetoFrontier, number: int, tried: Tried, parents: tuple[int, ...] = (), strata: tuple[int, ...] = ()
) -> ParetoFrontier:
    origin = Candidate({"text": f"t{number}"}, len(tried))
    value = fg.Group(origin, members(tried, origin.samples), False, strata)
    return pool.apply(fg.PoolEvent("admit", number, value, parents, value.partial))


def more(pool: ParetoFrontier, number: int, results: dict[int, float | str | None]) -> ParetoFrontier:
    origin = Validated(number, {"text": f"t{number}"}, tuple(results))
    value = fg.Group(origin, members(list(results.values()), origin.samples))
    return pool.apply(fg.PoolEvent("evidence", number, value, (), value.partial))


def part(scores: Sequence[float], start: int = 0) -> list[float | str | None]:
    """Return attempts on the samples from ``start`` on, and on no others."""
    return [*["-"] * start, *scores, *["-"] * (SIZE - start - len(scores))]


# ---- evidence --------------------------------------------------------------------------------------------


def test_evidence_adds_to_an_artifact() -> None:
    """Evidence adds to an artifact's scores, estimate and fronts; its text and parents stay."""
    pool = admit(admit(ParetoFrontier(), 0, [0.0] * SIZE), 1, part([1.0] * 4), (0,))
    after = more(pool, 1, {4: 1.0, 5: 0.0})
    artifact = after.artifacts[1]
    assert artifact.scores == {0: 1.0, 1: 1.0, 2: 1.0, 3: 1.0, 4: 1.0, 5: 0.0}
    assert (artifact.value, artifact.parents, artifact.provisional) == ({"text": "t1"}, (0,), False)
    assert artifact.evidence is not None
    assert (artifact.evidence.tried, artifact.evidence.of) == (6, SIZE)
    assert artifact.score == artifact.evidence.mean == pytest.approx(5 / 6)
    assert after.fronts[4] == (1,)
    assert after.artifacts[0] == pool.artifacts[0]


def test_evidence_for_nobody_changes_nothing() -> None:
    """Evidence for an artifact that was removed changes nothing, nor do samples without a result."""
    pool = admit(ParetoFrontier(), 0, part([1.0]))
    assert more(pool, 7, {3: 1.0}) == pool


def test_evidence_in_two_deliveries_counts_once() -> None:
    """A group that is released early and amended later counts once."""
    pool = admit(ParetoFrontier(), 0, part([1.0] * 2))
    early = more(pool, 0, {2: 0.0, 3: None})
    assert early.tried[0].running == {3}
    assert more(early, 0, {2: 0.0, 3: 1.0}) == more(pool, 0, {2: 0.0, 3: 1.0})
    assert not more(early, 0, {2: 0.0, 3: 1.0}).tried[0].running


def test_evidence_for_a_parent_reaches_its_children() -> None:
    """Evidence for a parent reaches the children whose control it is, and their children in turn."""
    pool = admit(ParetoFrontier(), 0, part([1.0] * 4))
    pool = admit(admit(pool, 1, part([0.0] * 2, 4), (0,)), 2, part([0.0] * 2, 6), (1,))
    assert [a.score for a in pool.artifacts.values()] == [1.0, 0.0, 0.0]
    after = more(pool, 0, dict.fromkeys(range(4, SIZE), 0.0))
    assert [a.score for a in after.artifacts.values()] == pytest.approx([4 / SIZE] * 3)


def test_failures_count_as_the_least_score() -> None:
    """A failure counts as the least score, at admission and in evidence; a later scored attempt replaces it."""
    pool = admit(ParetoFrontier(), 0, [1.0, "x", *["-"] * (SIZE - 2)])
    assert pool.artifacts[0].scores == {0: 1.0, 1: 0.0}
    after = more(pool, 0, {2: "x"})
    assert after.artifacts[0].evidence is not None
    assert after.artifacts[0].evidence.failed == 2
    again = more(after, 0, {2: 1.0})
    assert again.artifacts[0].scores == {0: 1.0, 1: 0.0, 2: 1.0}
    assert again.artifacts[0].evidence is not None
    assert again.artifacts[0].evidence.failed == 1


def test_the_least_score_is_that_of_the_task() -> None:
    """The least score is that of the task; without one, a failure has no score."""
    for bounds, scores in (((-1.0, 3.0), {0: 1.0, 1: -1.0}), ((-float("inf"), float("inf")), {0: 1.0})):
        pool = admit(ParetoFrontier(bounds=bounds), 0, [1.0, "x"])
        assert pool.artifacts[0].scores == scores


def test_the_strata_are_those_of_the_first_draw() -> None:
    """The strata are those of the first draw, whatever is tried later."""
    strata = (0,) * 4 + (1,) * 8
    pool = admit(ParetoFrontier(), 0, [0.0, 0.0, "-", "-", 1.0, 1.0, *["-"] * 6], (), strata)
    assert pool.artifacts[0].score == pytest.approx(8 / 12)
    after = more(pool, 0, {2: 0.0})
    assert after.artifacts[0].score == pytest.approx(8 / 12)


# ---- contenders ------------------------------------------------------------------------------------------


def contender(
    pool: ParetoFrontier, sent: dict[int, int] | None = None, champion: int | None = None
) -> Validated | None:
    known = None if champion is None else pool.artifacts[champion]
    return pool.contender(random.Random(0), sent or {}, known)


def test_nobody_contends_in_an_empty_frontier() -> None:
    """An empty frontier has no contender."""
    assert ParetoFrontier().contender(random.Random(0), {}) is None


def test_a_contender_is_tried_on_the_remaining_samples() -> None:
    """A contender is tried on samples that it was not sent to, in order."""
    pool = admit(ParetoFrontier(), 0, part([1.0] * 4))
    found = contender(pool)
    assert found is not None
    assert (found.artifact, found.text) == (0, {"text": "t0"})
    assert set(found.samples) <= set(range(4, SIZE))
    assert len(found.samples) == math.ceil(SIZE / 4)
    assert list(found.samples) == sorted(found.samples)
    assert [w.index for w in found.work()] == list(found.samples)


def test_a_fully_tried_artifact_needs_no_more() -> None:
    """A fully tried artifact gets no more samples, nor does one that is already being tried."""
    pool = admit(ParetoFrontier(), 0, [1.0] * SIZE)
    assert contender(pool) is None
    running = contender(admit(ParetoFrontier(), 0, [1.0, None, *["-"] * (SIZE - 2)]))
    assert running is not None
    assert not {0, 1} & set(running.samples)
    part_only = admit(ParetoFrontier(), 0, part([1.0] * 4))
    assert contender(part_only, {0: 8}) is None
    assert contender(part_only, {0: 4}) is not None


def test_the_champion_comes_first() -> None:
    """The champion is tried first, because challengers are compared with it."""
    pool = admit(admit(ParetoFrontier(), 0, part([0.0] * 4)), 1, part([1.0] * 4))
    best, first = contender(pool), contender(pool, champion=0)
    assert best is not None
    assert first is not None
    assert (best.artifact, first.artifact) == (1, 0)


def test_an_artifact_far_behind_gets_no_more() -> None:
    """An artifact far behind gets no samples while others are tried."""
    pool = admit(admit(ParetoFrontier(), 0, [1.0] * SIZE), 1, part([0.0] * 6), (0,))
    assert contender(pool) is None


def test_a_champion_that_is_gone_is_passed_over() -> None:
    """A champion that the view does not hold is skipped."""
    pool = admit(ParetoFrontier(), 0, part([1.0] * 4))
    found = pool.contender(random.Random(0), {}, fg.Artifact(9, {"text": "t9"}, (), 1.0))
    assert found is not None
    assert found.artifact == 0


# ---- focus and drift -------------------------------------------------------------------------------------


def test_focus_is_the_most_promising() -> None:
    """Focus is by expected score: a high mean over a few samples promises less than it shows."""
    pool = admit(ParetoFrontier(), 0, [float(i % 2) for i in range(SIZE)])
    pool = admit(pool, 1, [1.0] * SIZE, (0,))
    assert list(pool.best_line().artifacts) == [1]
    assert ParetoFrontier().best_line() == ParetoFrontier()


def test_where_children_do_worse_the_focus_is_wide() -> None:
    """If children do worse than parents, depth gains nothing, and artifacts that are worse by as much stay in focus."""
    pool = admit(admit(ParetoFrontier(), 0, [1.0] * 8 + [0.0] * 4), 1, [1.0] * 7 + [0.0] * 5, (0,))
    assert list(pool.best_line().artifacts) == [0]
    for number in range(2, 30):
        pool = admit(pool, number, [0.0] * SIZE, (1,))
    assert pool.drift().mean < -0.3
    assert set(pool.best_line().artifacts) >= {0, 1}


def test_the_drift_is_that_of_children_beside_their_parents() -> None:
    """Without parents there is no drift; it is negative if children are worse and positive if they are better."""
    pool = admit(ParetoFrontier(), 0, [0.0, 1.0] * 6)
    assert pool.drift() == Drift()
    worse, better = (admit(pool, 1, [score] * SIZE, (0,)).drift().mean for score in (0.0, 1.0))
    assert worse < 0 < better


def test_an_estimate_is_that_of_the_evidence() -> None:
    """An estimate is that of `weigh`, with the parent's scores as control, the pool's drift and the task's bounds."""
    pool = admit(ParetoFrontier(bounds=(0.0, 2.0)), 0, [0.0, 2.0] * 6)
    after = admit(pool, 1, part([2.0] * 5), (0,))
    parent = pool.artifacts[0].evidence
    control = pool.predicted[0]
    expected = weigh(
        dict.fromkeys(range(5), 2.0), SIZE, bounds=(0.0, 2.0), control=control, parent=parent, drift=pool.drift()
    )  # fmt: skip
    assert after.artifacts[1].evidence == expected


def test_a_lucky_root_is_no_more_promising_than_its_children() -> None:
    """A lucky root's estimate falls with each worse child, so that the search continues from a child; its score
    stays."""
    pool = admit(ParetoFrontier(), 0, [1.0, 0.0] * 6)
    for number in range(1, 9):
        pool = admit(pool, number, [1.0, 0.0, 0.0] * 4, (0,))
    root = pool.artifacts[0]
    assert root.evidence is not None
    assert root.score == 0.5
    assert root.evidence.estimate < 0.5
