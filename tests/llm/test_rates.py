"""Rates inferred from an API's reports, and buckets that keep to a rate."""

from __future__ import annotations

import math

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flashgraph.llm.protocol import Quota
from flashgraph.llm.rates import TIMES, Bucket, Rate, amount, learned, rate_text, used_up

AT_ONCE = 0.0


def quota(limit: float, left: float, reset: float | None, seconds: float | None = None) -> Quota:
    return Quota("requests", limit, left, reset, seconds)


@pytest.mark.parametrize(
    ("said", "rate"),
    [
        (quota(240, 232, 2.0), Rate(240, 60)),
        (quota(60, 0.5, 59.5), Rate(60, 60)),
        (quota(200, 199, 432), Rate(200, 3600)),  # a daily limit, hardly used
        (quota(200, 100, 43_200), Rate(200, 86_400)),
        (quota(10, 8, 0.2), Rate(10, 1)),
        (quota(10_000, 9_950, 0.3), None),  # a limit for a minute, hardly used
        (quota(240, 240, 0.0), None),
        (quota(240, 200, None), None),
        (quota(240, 0, 66.0), Rate(240, 60)),  # perhaps a debt
        (quota(240, 0, 99.0), Rate(240, 3600)),
        (quota(240, 100, 100_000), None),
        (quota(720, 717, None, 60), Rate(720, 60)),
        (quota(720, 0, None, 60), Rate(720, 60)),
    ],
)  # fmt: skip
def test_the_shortest_time_that_all_may_be_there_again_in(said: Quota, rate: Rate | None) -> None:
    """It is inferred unless the API reports the window itself, or nothing useful."""
    assert learned(None, said) == rate


def test_what_was_learned_before_holds() -> None:
    """It holds until the limit changes, or the window turns out to be longer."""
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
    """Whether an API counts with a bucket or with windows, and whatever was used, the inferred rate is not too low.

    For a bucket it is exact once most of the limit was used.
    """
    rate: Rate | None = None
    for share in used:
        reset = seconds * (1 - share) if windowed else seconds * share
        rate = learned(rate, quota(limit, limit * (1 - share), reset))
        assert rate is None or rate.seconds <= seconds
    if not windowed and max(used) > 0.9 and min(1 - share for share in used) > 0:
        assert rate == Rate(limit, seconds)


def test_the_pace() -> None:
    """It is the rate above a tenth of the limit, and less below, down to a quarter."""
    rate = Rate(240, 60)
    assert [rate.pace(left) for left in (240, 24, 12, 6, 3, 0, -5)] == [240, 240, 120, 60, 60, 60, 60]


def test_the_pace_of_what_is_estimated() -> None:
    """It is up to twice the rate while more than half is left, because the API counts less than we do."""
    rate = Rate(6000, 60)
    assert [rate.pace(left, estimated=True) for left in (6000, 4500, 3000, 600, 300)] == [
        12_000,
        9000,
        6000,
        6000,
        3000,
    ]


def test_what_was_saved_up_of_a_limit_for_a_day() -> None:
    """It can be used within minutes; in the end only the refill is left."""
    rate = Rate(1440, 86_400)
    assert rate.per_minute == 1
    assert [rate.pace(left) for left in (1440, 100, 1, 0.05)] == [1440, 100, 1, 0.5]


@given(st.builds(Rate, st.floats(0.1, 1e7), st.sampled_from(list(TIMES))), st.floats(-1e7, 1e7))
def test_a_pace_is_above_nothing_and_no_higher_than_the_rate_and_what_is_left(rate: Rate, left: float) -> None:
    """A run continues, and uses no more than is available."""
    assert 0 < rate.pace(left) <= max(rate.per_minute, left)
    assert rate.pace(left) >= rate.per_minute / 4 * (1 - 1e-9)
    assert math.isfinite(rate.pace(left))


def test_whether_a_rate_is_used_up() -> None:
    """A rate is used up for a request that needs more than is left; for an unknown rate there is no answer."""
    rates = {"tokens": Rate(6000, 60)}
    said = [Quota("requests", 60, 0, 60), Quota("tokens", 6000, 14, 59)]
    assert used_up(said, rates, (1.0, 10.0, 5.0))
    assert not used_up(said, rates, (1.0, 10.0, 4.0))
    assert not used_up(said, {}, (1.0, 10.0, 5.0))


def test_what_each_rate_counts() -> None:
    """The example is a request with a prompt of 10 tokens and a reply of 5."""
    found = {of: amount(of, (1.0, 10.0, 5.0)) for of in ("requests", "tokens", "prompt_tokens", "completion_tokens")}
    assert found == {"requests": 1, "tokens": 15, "prompt_tokens": 10, "completion_tokens": 5}


def test_a_rate_in_words() -> None:
    """The window has its name, if it has one."""
    assert rate_text("requests", 200, 86_400) == "200 requests a day"
    assert rate_text("prompt_tokens", 150_000.0, 60.0) == "150,000 prompt tokens a minute"
    assert rate_text("tokens", 0.5, 90) == "0.5 tokens in 90 s"


def test_a_bucket_fills_steadily_and_bursts_no_longer_than_a_second() -> None:
    """600 a minute are 10 a second: 10 at once, and then 1 every 0.1 s."""
    bucket = Bucket(600, 1.0)
    for _ in range(10):
        bucket.take(1, AT_ONCE)
    assert bucket.holds(0) == 0
    assert bucket.due(1) == pytest.approx(0.1)
    assert bucket.holds(0.1) == pytest.approx(1)
    assert bucket.holds(60) == 10


def test_a_full_bucket_waits_for_nothing() -> None:
    """One with less than is needed waits only until that is refilled."""
    bucket = Bucket(600, 1.0)
    assert [bucket.due(5), bucket.due(10)] == [0.0, 0.0]
    bucket.take(9.5, 2.0)
    assert bucket.due(1) == pytest.approx(2.05)
    bucket.take(-40, 2.0)
    assert bucket.holds(2.0) == 10


def test_a_slow_rate_still_lets_one_through() -> None:
    """With three a minute, one passes at once and the next after 20 s."""
    bucket = Bucket(3, 1.0)
    bucket.take(1, AT_ONCE)
    assert bucket.due(1) == pytest.approx(20)


def test_debt_is_paid_off() -> None:
    """A request that takes more than expected delays the next one; one that takes less gives the rest back."""
    bucket = Bucket(60_000, 1.0)
    bucket.take(3000, AT_ONCE)
    assert bucket.due(1) == pytest.approx(2.001)
    bucket.take(-2500, AT_ONCE)
    assert bucket.holds(0) == 500


@given(st.lists(st.tuples(st.floats(0, 50), st.floats(0.1, 5)), max_size=30))
def test_looking_into_a_bucket_changes_nothing(takes: list[tuple[float, float]]) -> None:
    """I13: a replay reads the bucket at other moments than the run did."""
    one, other, now = Bucket(100, 1.0), Bucket(100, 1.0), 0.0
    for taken, wait in takes:
        other.holds(now + wait / 3)
        now += wait
        one.take(taken, now)
        other.take(taken, now)
    assert attrs.asdict(one) == attrs.asdict(other)
