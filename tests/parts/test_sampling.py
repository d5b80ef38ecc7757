"""Cursors of minibatches and of components."""

from __future__ import annotations

import random
from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

import flashgraph as fg
from flashgraph.parts.sampling import Epochs, RoundRobin


@given(st.integers(1, 5), st.integers(1, 12), st.integers(0, 9))
def test_an_epoch_shows_every_sample(minibatch: int, size: int, seed: int) -> None:
    """An epoch shows every sample, and samples that fill up the last minibatch at most one time more."""
    cursor, stream, seen = Epochs(), random.Random(seed), Counter[int]()
    for number in range(-(-size // minibatch)):
        batch, cursor = cursor.next(number, minibatch, size, stream)
        assert len(batch) == minibatch
        seen.update(batch)
    assert cursor.epoch == 0
    assert set(seen) == set(range(size))
    assert max(seen.values()) - min(seen.values()) <= 1


@given(st.integers(1, 4), st.integers(1, 4))
def test_further_minibatches_follow_without_a_new_shuffle(minibatch: int, count: int) -> None:
    """An emission's further minibatches are the next ones of the epoch; after its end come its first."""
    stream = random.Random(0)
    first, cursor = Epochs().next(0, minibatch, 8, stream)
    further = [cursor.next(0, minibatch, 8, stream, further=i)[0] for i in range(count + 8)]
    assert further[0] == first
    whole = len(cursor.ids) // minibatch
    assert all(batch == further[i % whole] for i, batch in enumerate(further))
    assert sum(further[:whole], ()) == cursor.ids


def test_components_take_turns_and_children_continue_their_parents() -> None:
    """Components take turns, and a child continues where the further of its parents is."""
    seed, child = fg.Artifact(0, {}), fg.Artifact(1, {}, (0,))
    turns = RoundRobin().joined({0: seed})
    places = []
    for _ in range(4):
        place, turns = turns.next(0, 3)
        places.append(place)
    assert places == [0, 1, 2, 0]
    turns = turns.joined({0: seed, 1: child})
    place, turns = turns.next(1, 3)
    assert place == 1
    assert turns.joined({0: seed, 1: child, 2: fg.Artifact(2, {}, (0, 1))}).next(2, 3)[0] == 2
    assert turns.next(0, 3)[0] == 1, "a child's turns are not its parent's"
