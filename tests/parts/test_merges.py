"""Crosses of two candidates over a common ancestor; test_gepa_options compares them with the published ones."""

from __future__ import annotations

import random
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

import flashgraph as fg
from flashgraph.parts.gepa.merges import SUBSAMPLE, Merge, Merges


def artifact(number: int, text: str, scores: Sequence[float], *parents: int) -> fg.Artifact:
    """Return an artifact; ``text`` has one letter for each component."""
    value = {f"c{i}": letter for i, letter in enumerate(text)}
    return fg.Artifact(number, value, parents, sum(scores) / len(scores), dict(enumerate(scores)))


def held(*artifacts: fg.Artifact) -> dict[int, fg.Artifact]:
    return {a.id: a for a in artifacts}


SEED = artifact(0, "aa", [0.1] * 8)
LEFT = artifact(1, "ba", [1, 1, 1, 0, 0, 0, 0, 0], 0)
RIGHT = artifact(2, "ac", [0, 0, 0, 1, 1, 1, 0, 0], 0)


def draw(artifacts: dict[int, fg.Artifact], candidates: Sequence[int], seed: int = 0) -> Merge | None:
    return Merges().draw(artifacts, candidates, 5, random.Random(seed))[0]


@given(st.integers(0, 50))
def test_a_cross_takes_each_sides_changes(seed: int) -> None:
    """A merge takes each side's changes, and must reach the better parent on samples of all three kinds."""
    merge = draw(held(SEED, LEFT, RIGHT), [1, 2], seed)
    assert merge is not None
    assert (merge.text, merge.parents) == ({"c0": "b", "c1": "c"}, (1, 2))
    assert sorted(s // 3 for s in merge.samples) in ([0, 0, 1, 1, 2], [0, 0, 1, 1, 2, 2])
    assert len(set(merge.samples)) == SUBSAMPLE
    assert merge.to_reach == 2.0


def test_a_component_changed_twice_is_the_better_ones() -> None:
    """A component that both changed comes from the parent with the better mean score."""
    better = artifact(1, "bda", [1.0] * 8, 0)
    merge = draw(held(artifact(0, "aaa", [0.1] * 8), better, artifact(2, "cea", [0.5] * 8, 0)), [1, 2])
    assert merge is None, "no component was changed on one side only"
    merge = draw(held(artifact(0, "aaa", [0.1] * 8), better, artifact(2, "cac", [0.5] * 8, 0)), [1, 2])
    assert merge is not None
    assert merge.text == {"c0": "b", "c1": "d", "c2": "c"}


@pytest.mark.parametrize(
    "artifacts",
    [
        held(SEED, LEFT),
        held(SEED, LEFT, artifact(2, "bc", [1.0] * 8, 1)),
        held(artifact(0, "aa", [1.0] * 8), LEFT, RIGHT),
        held(SEED, LEFT, artifact(2, "ba", [1.0] * 8, 0)),
        held(SEED, LEFT, fg.Artifact(2, RIGHT.value, (0,), 0.5, {0: 1.0, 3: 0.0})),
        held(artifact(3, "xy", [0.1]), LEFT, RIGHT),
    ],
    ids=["too few", "ancestor", "better ancestor", "same change", "few samples in common", "ancestor not held"],
)
def test_there_is_nothing_to_cross(artifacts: dict[int, fg.Artifact]) -> None:
    assert draw(artifacts, [1, 2]) is None


def test_a_cross_is_made_once() -> None:
    first, cursor = Merges().draw(held(SEED, LEFT, RIGHT), [1, 2], 5, random.Random(0))
    assert first is not None
    assert cursor.draw(held(SEED, LEFT, RIGHT), [1, 2], 5, random.Random(1)) == (None, cursor)


def test_ancestors_of_no_score_are_drawn_alike() -> None:
    """Ancestors with scores of 0 are drawn with equal weights; the published implementation fails here."""
    merge = draw(held(artifact(0, "aa", [0.0] * 8), LEFT, RIGHT), [1, 2])
    assert merge is not None


def test_an_accepted_child_makes_a_cross_due_and_an_accepted_cross_takes_one_off() -> None:
    """Each accepted child makes a merge due, and an accepted merge takes one off; the seed counts for nothing."""
    grown, cursor = Merges().count(held(SEED), 1)
    assert (grown, cursor.due) == (False, 0)
    grown, cursor = cursor.count(held(SEED, LEFT, RIGHT), 1)
    assert (grown, cursor.due) == (True, 2)
    _, cursor = cursor.draw(held(SEED, LEFT, RIGHT), [1, 2], 5, random.Random(0))
    merged = artifact(3, "bc", [1.0] * 8, 1, 2)
    grown, cursor = cursor.count(held(SEED, LEFT, RIGHT, merged), 1)
    assert (grown, cursor.due, cursor.accepted) == (False, 1, 1)
    grown, cursor = cursor.count(held(SEED, LEFT, RIGHT, merged, artifact(4, "ba", [1.0] * 8, 0)), 1)
    assert (grown, cursor.due) == (True, 1), "as many as may be have been accepted: no further one becomes due"
