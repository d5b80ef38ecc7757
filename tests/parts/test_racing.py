"""Successive halving."""

from __future__ import annotations

from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st

import flashgraph as fg
from flashgraph.parts import Attempt, Finalists, PairedRace, Race


def members(scores: Sequence[float | None]) -> list[fg.Member[Attempt]]:
    values = [None if score is None else Attempt(place, score, "") for place, score in enumerate(scores)]
    return [fg.Member(place, "failed" if v is None else "arrived", v) for place, v in enumerate(values)]


@given(st.integers(1, 12), st.integers(1, 4), st.integers(1, 5), st.data())
def test_the_race_ends_with_the_best(count: int, width: int, rungs: int, data: st.DataObject) -> None:
    """With scores that always agree, the finalists are the best texts; no rung has more work than twice the first."""
    worth = data.draw(st.permutations(range(count)))
    texts = tuple({"instruction": str(number)} for number in worth)
    race: Race | Finalists = Race(texts, (0.0,) * count, tuple(tuple(range(2**r)) for r in range(rungs)), width)
    rounds = 0
    while isinstance(race, Race):
        assert width <= len(race.texts) or len(race.texts) == count
        work, rounds = race.work(), rounds + 1
        race = race.halved(members([float(each.text["instruction"]) for each in work]), (0.0, 12.0))
    best = sorted(worth)[-width:]
    assert [int(text["instruction"]) for text in race.texts] == [number for number in worth if number in best]
    assert rounds <= rungs


def test_of_equally_good_texts_the_first_stay() -> None:
    texts = tuple({"instruction": name} for name in "abc")
    assert Race(texts, (0.0,) * 3, ((0,),), 2).halved(members([1.0, 1.0, 1.0]), (0.0, 1.0)) == Finalists(texts[:2])


def test_a_failed_attempt_has_the_least_score() -> None:
    texts = tuple({"instruction": name} for name in "ab")
    race = Race(texts, (0.0,) * 2, ((0,),), 1)
    assert race.halved(members([None, -1.0]), (-2.0, 0.0)) == Finalists(texts[1:])


def test_a_text_that_enough_others_beat_is_dropped() -> None:
    """Over twelve samples one text always fails, and three always succeed; the length costs too little to matter."""
    texts = [{"instruction": "x " * number} for number in range(1, 5)]
    race = PairedRace.of(texts, (tuple(range(12)), tuple(range(12, 24))), 3, 0.2, 0.001)
    found = race.compared(members([0.0] * 12 + [1.0] * 36), (0.0, 1.0))
    assert found == Finalists(tuple(texts[1:]))


def test_a_difference_of_one_sample_proves_nothing() -> None:
    """All are left, until the last block, and then the best means win."""
    texts = [{"instruction": name} for name in "abc"]
    race = PairedRace.of(texts, ((0,), (1,)), 1, 0.2, 0.0)
    second = race.compared(members([0.0, 1.0, 0.0]), (0.0, 1.0))
    assert isinstance(second, PairedRace)
    assert second.texts == race.texts
    assert second.compared(members([0.0, 1.0, 0.0]), (0.0, 1.0)) == Finalists((texts[1],))


def test_length_decides_between_equals() -> None:
    texts = [{"instruction": "a long text"}, {"instruction": "short"}]
    race = PairedRace.of(texts, ((0, 1),), 1, 0.2, 0.01)
    assert race.compared(members([1.0] * 4), (0.0, 1.0)) == Finalists((texts[1],))
