"""The Pareto frontier and the archive: admission, provisional scores, amendment and retraction."""

from __future__ import annotations

import random
from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

import flashgraph as fg
from flashgraph.evaluation import Attempt, Candidate
from flashgraph.pools import Archive, ParetoFrontier


def group(scores: list[float | None], text: str = "t") -> fg.Group[Candidate, Attempt]:
    """A validated candidate; None is a member that is still open."""
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
    """Ties are all in; a better score replaces them."""
    pool = admit(admit(admit(ParetoFrontier(), 0, [1.0, 0.0]), 1, [1.0, 0.5]), 2, [0.0, 0.5])
    assert pool.fronts == {0: (0, 1), 1: (1, 2)}


def test_draw_leaves_out_what_others_cover() -> None:
    """A candidate whose every front also holds a survivor is never drawn; the others by their number of fronts."""
    pool = admit(admit(admit(ParetoFrontier(), 0, [1, 0, 0]), 1, [1, 1, 0]), 2, [0, 0, 1])
    drawn = Counter(a.id for i in range(900) if (a := pool.draw(random.Random(i))) is not None)
    assert set(drawn) == {1, 2}
    assert 1.6 < drawn[1] / drawn[2] < 2.5


def test_an_empty_frontier_draws_nothing() -> None:
    assert ParetoFrontier().draw(random.Random(0)) is None
    assert ParetoFrontier().best() is None


def test_a_provisional_score_is_completed_by_the_parents() -> None:
    """Hard samples come first, so the mean over them alone would be too low to compare."""
    pool = admit(ParetoFrontier(), 0, [0.0, 1.0, 1.0, 1.0])
    pool = admit(pool, 1, [1.0, None, None, None], parents=(0,))
    assert pool.artifacts[1].provisional
    assert pool.artifacts[1].score == 1.0
    assert pool.best() == pool.artifacts[0], "a confirmed artifact is handed out before a provisional one"
    full = pool.apply(fg.PoolEvent("amend", 1, group([1.0, 1.0, 0.0, 0.0]), (0,)))
    assert (full.artifacts[1].score, full.artifacts[1].provisional) == (0.5, False)


def test_no_evidence_is_no_candidate() -> None:
    """A sweep of which nothing arrived admits nothing, and retracts what was provisional."""
    pool = admit(ParetoFrontier(), 0, [1.0, None])
    assert admit(pool, 1, [None, None]) == pool
    assert 0 not in pool.apply(fg.PoolEvent("amend", 0, group([None, None]))).artifacts


def test_an_archive_retracts_what_falls_below_its_threshold() -> None:
    """The full evidence decides."""
    pool = Archive(threshold=0.5).apply(fg.PoolEvent("admit", 0, group([1.0, None]), (), True))
    assert pool.artifacts[0].provisional
    assert pool.apply(fg.PoolEvent("amend", 0, group([1.0, 0.0]))).artifacts[0].score == 0.5
    assert pool.apply(fg.PoolEvent("amend", 0, group([0.6, 0.0]))).artifacts == {}


@given(st.lists(st.lists(st.sampled_from([0.0, 0.5, 1.0]), min_size=4, max_size=4), min_size=1, max_size=8))
def test_whoever_is_drawn_is_on_a_front(rows: list[list[float]]) -> None:
    """A draw is always one of the best at some sample, and the survivors cover every sample."""
    pool = ParetoFrontier()
    for number, row in enumerate(rows):
        pool = admit(pool, number, list(row))
    drawn = {a.id for i in range(40) if (a := pool.draw(random.Random(i))) is not None}
    assert all(any(d in front for front in pool.fronts.values()) for d in drawn)
