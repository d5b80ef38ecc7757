"""Checkpoints: the snapshot that is handed out, offline and online, and the scores of training answers."""

from __future__ import annotations

from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st

import flashgraph as fg
from flashgraph.parts import Checkpoints, Snapshot, StepScores
from flashgraph.parts.evaluation import Attempt, Work

SCORES = st.lists(st.sampled_from([0.0, 0.5, 1.0]), min_size=3, max_size=3)


def group(step: int, scores: Sequence[float | None], split: str = "val", first: int = 0) -> fg.Group[Snapshot, Attempt]:
    """Return a snapshot that was tried on samples from ``first`` on; None is an open sample."""
    indices = tuple(range(first, first + len(scores)))
    members = tuple(
        fg.Member(i) if s is None else fg.Member(i, "arrived", Attempt(first + i, s, "out"))
        for i, s in enumerate(scores)
    )
    return fg.Group(Snapshot({"playbook": f"p{step}"}, step, split, indices), members)


def admitted(*groups: fg.Group[Snapshot, Attempt] | StepScores) -> Checkpoints:
    pool = Checkpoints()
    for number, value in enumerate(groups):
        partial = isinstance(value, fg.Group) and value.partial
        pool = pool.apply(fg.PoolEvent("admit", number, value, (), partial))
    return pool


def best_text(pool: Checkpoints) -> str:
    best = pool.best()
    return best.value["playbook"] if best else ""


def test_an_empty_pool_hands_nothing_out() -> None:
    assert Checkpoints().best() is None
    assert Checkpoints().cumulative is None
    assert admitted(StepScores(1, 0.0, 1.0)).best() is None


@given(st.lists(SCORES, min_size=1, max_size=6), st.randoms(use_true_random=False))
def test_the_first_of_the_best_is_handed_out(sweeps: list[list[float]], order: object) -> None:
    """Offline the first of the best snapshots wins, in the order of the training and not of the sweeps' ends."""
    best, text = -1.0, ""
    for step, scores in enumerate(sweeps):
        if sum(scores) > best:
            best, text = sum(scores), f"p{step}"
    groups = [group(step, scores) for step, scores in enumerate(sweeps)]
    order.shuffle(groups)  # type: ignore[attr-defined]
    assert best_text(admitted(*groups)) == text


def test_online_the_newest_is_handed_out_and_every_window_counts_by_its_size() -> None:
    """Online the newest snapshot is best, and each window counts by its size, because windows have different
    samples."""
    pool = admitted(group(0, [1, 1, 1, 1], "train"), group(8, [0, 0], "train", 8), group(4, [1, 0, 0, 0], "train", 4))
    assert best_text(pool) == "p8"
    assert pool.cumulative == 5 / 10


def test_scores_stand_under_their_samples() -> None:
    """Scores are kept by sample, although members are numbered within their window."""
    pool = admitted(group(4, [1.0, 0.0, 0.5], "train", 4))
    assert pool.artifacts[0].scores == {4: 1.0, 5: 0.0, 6: 0.5}


def test_a_provisional_snapshot_waits_for_a_confirmed_one() -> None:
    """A confirmed snapshot beats a provisional one, until the amendment decides."""
    pool = admitted(group(1, [1, 0, 0]), group(2, [1, None, None]))
    assert pool.artifacts[1].provisional
    assert best_text(pool) == "p1"
    full = pool.apply(fg.PoolEvent("amend", 1, group(2, [1, 1, 0])))
    assert best_text(full) == "p2"
    assert list(full.artifacts) == [0, 1]
    gone = pool.apply(fg.PoolEvent("retract", 1, group(2, [1, None, None])))
    assert best_text(gone) == "p1"
    assert list(gone.artifacts) == [0]


def test_a_failed_sample_is_no_evidence() -> None:
    """A failed sample is no evidence for a snapshot, and a snapshot without any scored sample is dropped."""
    failed = group(1, [1, 1])
    failed = fg.Group(failed.origin, (*failed.members[:1], fg.Member(1, "failed", None, "no answer")))
    assert admitted(failed).artifacts[0].score == 0.5
    nothing: fg.Group[Snapshot, Attempt] = fg.Group(failed.origin, (fg.Member(0, "failed"), fg.Member(1, "failed")))
    assert admitted(nothing).artifacts == {}


def test_the_trainings_own_answers_are_summed() -> None:
    pool = admitted(StepScores(1, 0.0, 1.0), group(1, [1]), StepScores(3, 1.0, 2.0))
    assert (pool.answered, pool.before, pool.after) == (4, 1.0, 3.0)
    assert pool.best_line() is pool


def test_a_snapshot_is_tried_on_its_samples() -> None:
    snapshot = Snapshot({"playbook": "p"}, 4, "train", (4, 5))
    assert snapshot.work() == [Work({"playbook": "p"}, "train", 4), Work({"playbook": "p"}, "train", 5)]
