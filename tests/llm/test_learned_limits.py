"""An adaptive limit finds a server's capacity, however many requests are cancelled (`tests.llm.served`)."""

from __future__ import annotations

from statistics import mean

import attrs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flashgraph.llm.limits import adaptive

from .served import Work, served

MIXES = st.builds(
    Work,
    slots=st.sampled_from([16, 24, 50, 90, 128, 200]),
    queues=st.booleans(),
    cancelled=st.sampled_from([0.0, 0.5, 0.8, 0.9, 0.95]),
    group=st.sampled_from([1, 20, 70]),
    slowdown=st.sampled_from([0.0, 2e-5, 5e-5]),
    mean=st.sampled_from([500.0, 700.0]),
    sigma=st.sampled_from([0.3, 0.9, 1.2]),
    noise=st.sampled_from([0.0, 0.1]),
    seed=st.integers(0, 99),
)


@settings(max_examples=10)
@given(MIXES)
def test_most_of_a_server_is_used_from_the_third_minute_on(work: Work) -> None:
    """At least 85 % is used, and an API that answers 429 refuses at most 1 % of the requests."""
    found = served(adaptive(), work, until=240.0)
    assert found.use >= 0.85
    assert found.refused <= max(2, 0.01 * found.sent)


@settings(max_examples=5)
@given(MIXES, st.sampled_from([0.0, 0.5]))
def test_a_server_that_queues_is_not_given_much_more_than_it_can_do(work: Work, cancelled: float) -> None:
    """The limit is at most three times the slots on average, if at most half of the requests are cancelled singly."""
    work = attrs.evolve(work, queues=True, cancelled=cancelled, group=1)
    found = served(adaptive(), work, until=240.0)
    assert mean(found.limits) <= 3 * work.slots


@pytest.mark.parametrize("queues", [True, False])
def test_a_server_that_takes_four_at_once(queues: bool) -> None:
    """That is less than the initial limit, which is found to be too large."""
    found = served(adaptive(), Work(4, queues=queues, cancelled=0.5, seed=3), warm=240.0, until=600.0)
    assert found.use >= 0.85
    assert mean(found.limits) <= 8
