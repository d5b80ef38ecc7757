"""What follows from what an API says of its rates, and how a rate is kept to."""

from __future__ import annotations

import math

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flashgraph.llm.protocol import Quota
from flashgraph.llm.rates import TIMES, Bucket, Rate, amount, learned, used_up, worded

AT_ONCE = 0.0


def quota(limit: float, left: float, reset: float | None, seconds: float | None = None) -> Quota:
    return Quota("requests", limit, left, reset, seconds)


@pytest.mark.parametrize(
    ("said", "rate"),
    [
        (quota(240, 232, 2.0), Rate(240, 60)),
        (quota(60, 0.5, 59.5), Rate(60, 60)),
        (quota(200, 199, 432), Rate(200, 3600)),  # a limit for a day, of which little is used
        (quota(200, 100, 43_200), Rate(200, 86_400)),
        (quota(10, 8, 0.2), Rate(10, 1)),
        (quota(10_000, 9_950, 0.3), None),  # a limit for a minute, of which next to nothing is used
        (quota(240, 240, 0.0), None),
        (quota(240, 200, None), None),
        (quota(240, 0, 66.0), Rate(240, 60)),  # a debt, perhaps
        (quota(240, 0, 99.0), Rate(240, 3600)),
        (quota(240, 100, 100_000), None),
        (quota(720, 717, None, 60), Rate(720, 60)),
        (quota(720, 0, None, 60), Rate(720, 60)),
    ],
)  # fmt: skip
def test_the_shortest_time_that_all_may_be_there_again_in(said: Quota, rate: Rate | None) -> None:
    """Unless the API says the time itself, or nothing that counts."""
    assert learned(None, said) == rate


def test_what_was_learned_before_holds() -> None:
    """Until the limit is another one, or the time turns out to be longer."""
    known = Rate(200, 3600)
    for said in (quota(200, 199, 432), quota(200, 150, 30), quota(300, 300, 0.0), quota(200, 0, 80_000)):
        assert learned(known, said) is known
    assert learned(known, quota(200, 150, 4000)) == Rate(200, 86_400)
    assert learned(known, quota(300, 200, 432)) == Rate(300, 3600)
    assert learned(known, quota(300, 290, 32)) == Rate(300, 60)


@given(
    limit=st.integers(1, 10**6),
    seconds=st.sampled_from(list(TIMES)),
    used=st.lists(st.floats(0, 1), min_size=1, max_size=20),
    windowed=st.booleans(),
)
def test_a_rate_is_never_taken_for_lower_than_it_is(
    limit: int, seconds: float, used: list[float], windowed: bool
) -> None:
    """Whether an API counts as a bucket that fills or by windows, and whatever was used: nobody is slowed down below
    what the API lets through; and of a bucket, once most of it was used, the rate is right."""
    rate: Rate | None = None
    for share in used:
        reset = seconds * (1 - share) if windowed else seconds * share
        rate = learned(rate, quota(limit, limit * (1 - share), reset))
        assert rate is None or rate.seconds <= seconds
    if not windowed and max(used) > 0.9 and min(1 - share for share in used) > 0:
        assert rate == Rate(limit, seconds)


def test_the_pace() -> None:
    """The rate, above a tenth of the limit; less below, down to a quarter."""
    rate = Rate(240, 60)
    assert [rate.pace(left) for left in (240, 24, 12, 6, 3, 0, -5)] == [240, 240, 120, 60, 60, 60, 60]


def test_the_pace_of_what_is_estimated() -> None:
    """Up to twice the rate while more is left than half: the API counts less than we do."""
    rate = Rate(6000, 60)
    assert [rate.pace(left, estimated=True) for left in (6000, 4500, 3000, 600, 300)] == [
        12_000,
        9000,
        6000,
        6000,
        3000,
    ]


def test_what_was_saved_up_of_a_limit_for_a_day() -> None:
    """It can be used within minutes; what comes back of it is all that is left in the end."""
    rate = Rate(1440, 86_400)
    assert rate.per_minute == 1
    assert [rate.pace(left) for left in (1440, 100, 1, 0.05)] == [1440, 100, 1, 0.5]


@given(st.builds(Rate, st.floats(0.1, 1e7), st.sampled_from(list(TIMES))), st.floats(-1e7, 1e7))
def test_a_pace_is_above_nothing_and_no_higher_than_the_rate_and_what_is_left(rate: Rate, left: float) -> None:
    """So that a run goes on, and by no more than what there is."""
    assert 0 < rate.pace(left) <= max(rate.per_minute, left)
    assert rate.pace(left) >= rate.per_minute / 4 * (1 - 1e-9)
    assert math.isfinite(rate.pace(left))


def test_whether_a_rate_is_used_up() -> None:
    """For a request that needs more than is left of it; of a rate that is not known nobody can say."""
    rates = {"tokens": Rate(6000, 60)}
    said = [Quota("requests", 60, 0, 60), Quota("tokens", 6000, 14, 59)]
    assert used_up(said, rates, (1.0, 10.0, 5.0))
    assert not used_up(said, rates, (1.0, 10.0, 4.0))
    assert not used_up(said, {}, (1.0, 10.0, 5.0))


def test_what_each_rate_counts() -> None:
    """Of a request with a prompt of 10 tokens and a reply of 5."""
    found = {of: amount(of, (1.0, 10.0, 5.0)) for of in ("requests", "tokens", "prompt_tokens", "completion_tokens")}
    assert found == {"requests": 1, "tokens": 15, "prompt_tokens": 10, "completion_tokens": 5}


def test_a_rate_in_words() -> None:
    """With the time's name, where it has one."""
    assert worded("requests", 200, 86_400) == "200 requests a day"
    assert worded("prompt_tokens", 150_000.0, 60.0) == "150,000 prompt tokens a minute"
    assert worded("tokens", 0.5, 90) == "0.5 tokens in 90 s"


def test_a_bucket_fills_steadily_and_bursts_no_longer_than_a_second() -> None:
    """600 a minute are ten a second: ten at once, and then one each tenth of a second."""
    bucket = Bucket(600, 1.0)
    for _ in range(10):
        bucket.take(1, AT_ONCE)
    assert bucket.holds(0) == 0
    assert bucket.due(1) == pytest.approx(0.1)
    assert bucket.holds(0.1) == pytest.approx(1)
    assert bucket.holds(60) == 10


def test_a_full_bucket_waits_for_nothing() -> None:
    """Nor does one that holds less than is asked for wait longer than that takes."""
    bucket = Bucket(600, 1.0)
    assert [bucket.due(5), bucket.due(10)] == [0.0, 0.0]
    bucket.take(9.5, 2.0)
    assert bucket.due(1) == pytest.approx(2.05)
    bucket.take(-40, 2.0)
    assert bucket.holds(2.0) == 10


def test_a_slow_rate_still_lets_one_through() -> None:
    """Three a minute: one, and the next after twenty seconds."""
    bucket = Bucket(3, 1.0)
    bucket.take(1, AT_ONCE)
    assert bucket.due(1) == pytest.approx(20)


def test_debt_is_paid_off() -> None:
    """What a request took more than was expected delays the next one; what it took less is given back."""
    bucket = Bucket(60_000, 1.0)
    bucket.take(3000, AT_ONCE)
    assert bucket.due(1) == pytest.approx(2.001)
    bucket.take(-2500, AT_ONCE)
    assert bucket.holds(0) == 500


@given(st.lists(st.tuples(st.floats(0, 50), st.floats(0.1, 5)), max_size=30))
def test_looking_into_a_bucket_changes_nothing(takes: list[tuple[float, float]]) -> None:
    """I13: a run that is told again looks at other moments than it did."""
    one, other, now = Bucket(100, 1.0), Bucket(100, 1.0), 0.0
    for taken, wait in takes:
        other.holds(now + wait / 3)
        now += wait
        one.take(taken, now)
        other.take(taken, now)
    assert attrs.asdict(one) == attrs.asdict(other)
