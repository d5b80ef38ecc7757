"""The throughput of a server at one limit."""

from __future__ import annotations

import statistics
from collections.abc import Sequence

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from flashgraph.llm.probes import Sample, between, makes_more


def sample(answers: Sequence[tuple[float, float]], limit: int = 8) -> Sample:
    """Return a sample of answers: the tokens and the seconds of each."""
    taken = Sample(limit)
    for tokens, seconds in answers:
        taken = taken.with_answer(tokens, seconds)
    return taken


LENGTHS = (40, 300, 700, 90, 1500, 260, 480, 35)


def at(limit: int, wait: float, step: float, lengths: Sequence[int] = LENGTHS) -> Sample:
    """Return a sample at a limit where each reply waits ``wait`` seconds and then takes a step for each token."""
    return sample([(length, wait + step * length) for length in lengths], limit)


@given(
    st.lists(st.tuples(st.floats(1, 5000), st.floats(0.1, 300)), min_size=3, max_size=20),
    st.floats(0, 5000),
)
def test_the_line_is_that_of_least_squares(answers: list[tuple[float, float]], tokens: float) -> None:
    """The fit equals least squares unless its slope or intercept is negative."""
    lengths, seconds = zip(*answers, strict=True)
    assume(statistics.pstdev(lengths) > 1)
    slope, intercept = statistics.linear_regression(lengths, seconds)
    assume(slope >= 0 and intercept >= 0)
    assert sample(answers).time(tokens) == pytest.approx(intercept + slope * tokens, rel=1e-6, abs=1e-6)


def test_the_line_never_says_less_than_nothing() -> None:
    """Longer replies are not faster, an empty one takes no negative time, and equal lengths give no slope."""
    assert sample([(10, 4.0), (20, 3.0), (30, 2.0)]).time(500) == 3.0
    assert sample([(10, 1.0), (20, 3.0), (30, 5.0)]).time(0) == 0.0
    assert sample([(10, 1.0), (20, 3.0), (30, 5.0)]).time(20) == 3.0
    assert sample([(50, 1.0), (50, 3.0)]).time(900) == 2.0
    assert sample([(0, 1.0), (0, 3.0)]).time(900) == 2.0


def test_six_answers_that_a_line_explains_are_enough() -> None:
    """Five are not enough."""
    assert at(64, 0.5, 0.01, LENGTHS[:6]).is_precise
    assert not at(64, 0.5, 0.01, LENGTHS[:5]).is_precise
    assert not at(4, 0.5, 0.01, LENGTHS[:5]).is_precise


def test_as_many_answers_as_slots_are_enough() -> None:
    """Their scatter does not matter."""
    scattered = [(50.0, seconds) for seconds in (1.0, 9.0) * 6]
    assert not sample(scattered[:11], 12).is_precise
    assert sample(scattered, 12).is_precise


@pytest.mark.parametrize(("scatter", "precise"), [(0.06, True), (0.34, True), (0.36, False)])
def test_the_mean_has_to_be_known_to_seven_hundredths(scatter: float, precise: bool) -> None:
    """The bound is one standard error of the residuals: with 26 answers, 1/4.9 of their scatter."""
    taken = sample([(50.0, 1 + scatter * sign) for sign in (-1, 1) * 13], 100)
    assert taken.is_precise == precise


def test_a_server_with_free_slots_makes_more() -> None:
    """More requests may slow each other down a little, and replies may have any lengths."""
    assert makes_more(at(64, 0.0, 0.0112), at(128, 0.0, 0.0144))
    assert makes_more(at(64, 0.0, 0.0112, [2000, 3000]), at(128, 0.0, 0.0144, [10, 20]))
    assert makes_more(at(16, 0.5, 0.01), at(32, 0.5, 0.01))


def test_a_full_server_does_not() -> None:
    """Requests queue, or all are slower."""
    free, waiting = at(128, 0.0, 0.0144), at(256, 6.1, 0.0144)
    assert not makes_more(free, waiting)
    assert not makes_more(free, at(160, 0.0, 0.018))
    assert between(free, waiting) == 128


@pytest.mark.parametrize(("small", "large", "slots"), [(96, 192, 128), (110, 220, 128), (100, 125, 102), (16, 32, 20)])
def test_between_a_free_server_and_a_full_one(small: int, large: int, slots: int) -> None:
    """The limit comes near to the number of slots."""
    step = 0.008 + 0.00005 * slots
    waits = at(large, (large / slots - 1) * step * statistics.mean(LENGTHS), step)
    assert between(at(small, 0.0, 0.008 + 0.00005 * small), waits) == pytest.approx(slots, rel=0.1)


def test_instant_answers() -> None:
    """A server that takes no time has more throughput with more requests."""
    assert makes_more(sample([(5.0, 0.0)] * 6, 8), sample([(5.0, 0.0)] * 6, 16))
