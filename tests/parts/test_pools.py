"""The Pareto frontier and the archive: admission, provisional scores, amendment and retraction."""

from __future__ import annotations

import random
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

import flashgraph as fg
from flashgraph.parts import Archive, ParetoFrontier
from flashgraph.parts.evaluation import Attempt, Candidate


def group(scores: list[float | None], text: str = "t") -> fg.Group[Candidate, Attempt]:
    """Return a validated candidate; None is an open member."""
    members = tuple(
        fg.Member(i) if s is None else fg.Member(i, "arrived", Attempt(i, s, "out")) for i, s in enumerate(scores)
    )
    return fg.Group(Candidate({"instruction": text}, len(scores)), members)


def admit(
    pool: ParetoFrontier, number: int, scores: list[float | None], parents: tuple[int, ...] = ()
) -> ParetoFrontier:
    value = group(scores, f"t{number}")
    return pool.apply(fg.PoolEvent("admit", number, value, parents, value.partial))


def test_a_front_holds_all_that_are_best_at_its_sample() -> None:
    """A front holds all ties; a better score replaces them."""
    pool = admit(admit(admit(ParetoFrontier(), 0, [1.0, 0.0]), 1, [1.0, 0.5]), 2, [0.0, 0.5])
    assert pool.fronts == {0: (0, 1), 1: (1, 2)}


def test_draw_leaves_out_dominated_artifacts() -> None:
    """A candidate whose every front also holds a survivor is never drawn; the others by their number of fronts."""
    pool = admit(admit(admit(ParetoFrontier(), 0, [1, 0, 0]), 1, [1, 1, 0]), 2, [0, 0, 1])
    drawn = Counter(a.id for i in range(900) if (a := pool.draw(random.Random(i))) is not None)
    assert set(drawn) == {1, 2}
    assert 1.6 < drawn[1] / drawn[2] < 2.5


def named(
    pool: ParetoFrontier, number: int, rows: list[dict[str, float]], parents: tuple[int, ...] = (), open_: int = 0
) -> ParetoFrontier:
    """Return a candidate whose samples all score 0 and have these objectives; ``open_`` more are open."""
    arrived = [fg.Member(i, "arrived", Attempt(i, 0.0, "out", objectives=row)) for i, row in enumerate(rows)]
    members = (*arrived, *(fg.Member[Attempt](len(rows) + i) for i in range(open_)))
    value = fg.Group(Candidate({"instruction": f"t{number}"}, len(members)), members)
    return pool.apply(fg.PoolEvent("admit", number, value, parents, value.partial))


def test_fronts_of_objectives() -> None:
    """Fronts of objectives are by mean, with the samples, or at each sample; all ties are on them."""
    pool = named(ParetoFrontier(), 0, [{"a": 1, "b": 0}, {"a": 0, "b": 0}])
    pool = named(pool, 1, [{"a": 0, "b": 1}, {"a": 1, "b": 1}])
    assert pool.fronts_of("instance") == {0: (0, 1), 1: (0, 1)}
    assert pool.fronts_of("objective") == {"a": (0, 1), "b": (1,)}
    assert pool.fronts_of("hybrid") == {0: (0, 1), 1: (0, 1), "a": (0, 1), "b": (1,)}
    assert pool.fronts_of("cartesian") == {(0, "a"): (0,), (0, "b"): (1,), (1, "a"): (1,), (1, "b"): (1,)}
    assert pool.dominators("objective") == [1]


def test_a_mean_of_an_objective_is_completed_by_the_parents() -> None:
    """An incomplete mean of an objective is completed from the parents, like the score."""
    pool = named(named(ParetoFrontier(), 0, [{"a": 0.2}, {"a": 1.0}]), 1, [{"a": 0.4}], parents=(0,), open_=1)
    assert pool.fronts_of("objective") == {"a": (1,)}


def test_objectives_go_with_their_artifact() -> None:
    """Objectives go with their artifact, when it is retracted and in the narrowed view."""
    pool = named(named(ParetoFrontier(), 0, [{"a": 1}]), 1, [{"a": 0}])
    assert set(pool.best_line().objectives) == {1}
    retracted = pool.apply(fg.PoolEvent("retract", 1, group([])))
    assert (set(retracted.artifacts), set(retracted.objectives)) == ({0}, {0})


def test_a_frontier_of_objectives_needs_some() -> None:
    """A frontier of objectives needs scores with objectives, once it is not empty."""
    assert ParetoFrontier().draw(random.Random(0), "cartesian") is None
    with pytest.raises(fg.DataError, match="frontier='objective' compares objectives; found none"):
        admit(ParetoFrontier(), 0, [1.0]).draw(random.Random(0), "objective")


def test_only_the_top_are_drawn() -> None:
    """Only top artifacts are on fronts; if none of them is on one, the best is drawn."""
    pool = admit(admit(admit(ParetoFrontier(), 0, [1, 0, 0]), 1, [0, 1, 1]), 2, [0, 0.5, 0.5])
    assert {a.id for i in range(50) if (a := pool.draw(random.Random(i), top=1)) is not None} == {1}
    assert {a.id for i in range(50) if (a := pool.draw(random.Random(i), top=3)) is not None} == {0, 1}
    beaten = admit(admit(admit(ParetoFrontier(), 0, [1, 0]), 1, [0, 1]), 2, [0.9, 0.9])
    assert beaten.draw(random.Random(0), top=1) == beaten.artifacts[2]


def test_an_empty_frontier_draws_nothing() -> None:
    assert ParetoFrontier().draw(random.Random(0)) is None
    assert ParetoFrontier().best() is None


CUT = (None, None)


def cut(pool: ParetoFrontier, number: int, scores: list[float | None], parents: tuple[int, ...] = ()) -> ParetoFrontier:
    """Return the pool after an admission on a part of its validation, the rest cancelled."""
    return pool.apply(fg.PoolEvent("admit", number, group(scores, f"t{number}"), parents, False))


def test_scores_of_different_halves_compare() -> None:
    """A partial score is compared with the parent on the same samples, and extended to the rest."""
    pool = cut(admit(ParetoFrontier(), 0, [0.0, 0.0, 0.0, 0.0]), 1, [1.0, 1.0, *CUT], (0,))
    pool = cut(pool, 2, [*CUT, 1.0, 0.0], (1,))
    assert [a.score for a in pool.artifacts.values()] == [0.0, 1.0, 1.0]
    assert pool.best() == pool.artifacts[1], "the oldest among equals"
    assert not pool.artifacts[2].provisional, "no more is to come"
    assert pool.artifacts[2].scores == {2: 1.0, 3: 0.0}, "on fronts there is what was seen"
    assert pool.fronts == {0: (1,), 1: (1,), 2: (2,), 3: (0, 2)}


def test_a_score_is_completed_by_the_best_of_the_parents() -> None:
    """A merge's score is completed from its better parent, because it keeps that one's strengths."""
    pool = admit(admit(ParetoFrontier(), 0, [0.0, 0.0, 0.0]), 1, [0.0, 1.0, 1.0])
    assert cut(pool, 2, [1.0, *CUT], (0, 1)).artifacts[2].score == 1.0
    assert cut(pool, 2, [1.0, *CUT], (1, 0)).artifacts[2].score == 1.0
    assert cut(pool, 2, [1.0, *CUT], (7,)).artifacts[2].score == 1.0, "of a parent that is not held nothing is known"


def test_an_amendment_reaches_incomplete_descendants() -> None:
    """An amendment of the seed reaches its incomplete descendants, and no complete ones."""
    pool = admit(ParetoFrontier(), 0, [1.0, *CUT, None])
    pool = cut(pool, 1, [*CUT, 1.0, None], (0,))
    pool = cut(pool, 2, [None, 1.0, *CUT], (1,))
    pool = admit(pool, 3, [1.0, 1.0, 1.0, 1.0], (0,))
    assert [a.score for a in pool.artifacts.values()] == [1.0, 1.0, 1.0, 1.0]
    after = pool.apply(fg.PoolEvent("amend", 0, group([1.0, 0.0, 0.0, 0.0])))
    assert [a.score for a in after.artifacts.values()] == [0.25, 1.0, 1.0, 1.0]


def test_a_control_outlives_its_artifact() -> None:
    """When a parent is retracted, estimates that used it stay as they are."""
    pool = cut(admit(ParetoFrontier(), 0, [1.0, 0.0]), 1, [None, 1.0], (0,))
    left = cut(pool.apply(fg.PoolEvent("retract", 0, group([]))), 2, [0.0, None], (1,))
    assert {i: a.score for i, a in left.artifacts.items()} == {1: 1.0, 2: 0.0}


def test_a_provisional_score_is_completed_by_the_parents() -> None:
    """A provisional score is completed from the parents, because hard samples come first and lower its own mean."""
    pool = admit(ParetoFrontier(), 0, [0.0, 1.0, 1.0, 1.0])
    pool = admit(pool, 1, [1.0, None, None, None], parents=(0,))
    assert pool.artifacts[1].provisional
    assert pool.artifacts[1].score == 1.0
    assert pool.best() == pool.artifacts[0], "a confirmed artifact is handed out before a provisional one"
    full = pool.apply(fg.PoolEvent("amend", 1, group([1.0, 1.0, 0.0, 0.0]), (0,)))
    assert (full.artifacts[1].score, full.artifacts[1].provisional) == (0.5, False)


def test_no_evidence_is_no_candidate() -> None:
    """A sweep without any score admits nothing, and retracts a provisional artifact."""
    pool = admit(ParetoFrontier(), 0, [1.0, None])
    assert admit(pool, 1, [None, None]) == pool
    assert 0 not in pool.apply(fg.PoolEvent("amend", 0, group([None, None]))).artifacts


def test_an_archive_retracts_below_its_threshold() -> None:
    """An archive retracts an artifact whose complete evidence is below the threshold."""
    pool = Archive(threshold=0.5).apply(fg.PoolEvent("admit", 0, group([1.0, None]), (), True))
    assert pool.artifacts[0].provisional
    assert pool.apply(fg.PoolEvent("amend", 0, group([1.0, 0.0]))).artifacts[0].score == 0.5
    assert pool.apply(fg.PoolEvent("amend", 0, group([0.6, 0.0]))).artifacts == {}


@given(st.lists(st.lists(st.sampled_from([0.0, 0.5, 1.0]), min_size=4, max_size=4), min_size=1, max_size=8))
def test_a_drawn_artifact_is_on_a_front(rows: list[list[float]]) -> None:
    """A drawn artifact is one of the best at some sample, and the survivors cover every sample."""
    pool = ParetoFrontier()
    for number, row in enumerate(rows):
        pool = admit(pool, number, list(row))
    drawn = {a.id for i in range(40) if (a := pool.draw(random.Random(i))) is not None}
    assert all(any(d in front for front in pool.fronts.values()) for d in drawn)


def test_archive_ranks_the_best_first_and_the_older_of_equals() -> None:
    """Equal scores keep the order of their numbers, and no more than ``most`` artifacts come."""
    pool = Archive()
    for number, score in enumerate([0.25, 1.0, 0.5, 1.0]):
        pool = pool.apply(fg.PoolEvent("admit", number, group([score, score], f"t{number}"), (), False))
    assert [artifact.id for artifact in pool.ranked(3)] == [1, 3, 2]
    assert pool.ranked(0) == []
