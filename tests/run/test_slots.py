"""Endpoints and their slots, request by request."""

from __future__ import annotations

import heapq
import math
from collections import Counter
from collections.abc import Sequence
from typing import Any

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flashgraph.llm.limits import Limits, adaptive, fixed, steered
from flashgraph.llm.probes import Sample
from flashgraph.llm.protocol import Load, Quota
from flashgraph.llm.rates import Rate
from flashgraph.run.jobs import Call, Job
from flashgraph.run.slots import Endpoint, Slots


def call(number: int = 0, sent_at: float = 0.0, service: str = "service", tokens: float = 0.0) -> Call:
    return Call(number, Job(number, "stage", "stage", 0.0), "role", service, {}, started_at=sent_at, tokens=tokens)


def sending(limits: Limits, count: int, now: float = 0.0) -> Endpoint:
    """Return an endpoint with that many requests in flight."""
    endpoint = Endpoint("one", limits)
    for _ in range(count):
        endpoint.take()
        endpoint.sent(10.0, now)
    return endpoint


def test_room_is_what_the_limit_leaves() -> None:
    """Slots that started jobs hold count like requests in flight."""
    endpoint = Endpoint("one", fixed(3))
    assert [endpoint.room(0.0), endpoint.used, endpoint.in_flight] == [3, 0, 0]
    endpoint.take()
    assert endpoint.sent(10.0, 0.0) == 266.0
    endpoint.take()
    assert [endpoint.room(0.0), endpoint.used, endpoint.in_flight, endpoint.taken_under] == [1, 2, 1, 3]
    assert endpoint.opens_at(0.0) == math.inf


def test_a_limit_that_fell_below_what_is_out_leaves_no_room() -> None:
    """A limit that fell below the requests in flight leaves no room, and time alone makes none."""
    endpoint = sending(adaptive(9, start=4), 4)
    endpoint.ended(call(), "throttled", (0, 0), None, 1.0)
    assert (endpoint.level.limit, endpoint.used, endpoint.room(1.0)) == (3, 3, 0)
    assert endpoint.opens_at(1.0) == math.inf
    rated = sending(adaptive(9, start=6, rpm=120), 6)
    rated.ended(call(), "throttled", (0, 0), None, 1.0)
    rated.level = rated.limits.throttled(rated.level, 4, 0.0, 1.0)
    assert (rated.level.limit, rated.used, rated.room(1.0), rated.opens_at(1.0)) == (3, 5, 0, math.inf)


def test_requests_a_minute() -> None:
    """Two requests a second: both of this second at once, the third after another 0.5 s. A job that holds a slot
    already counts.
    """
    endpoint = sending(fixed(9, rpm=120), 1)
    assert endpoint.room(0.0) == 1
    endpoint.take()
    assert endpoint.room(0.0) == 0
    assert endpoint.opens_at(0.0) == pytest.approx(0.5)
    endpoint.sent(10.0, 0.0)
    assert endpoint.room(0.25) == 0
    assert endpoint.opens_at(0.25) == pytest.approx(0.5)
    assert endpoint.room(0.5) == 1
    assert endpoint.room(1.0) == 2
    assert endpoint.opens_at(1.0) == math.inf


def test_a_slow_rate_lets_one_through_at_a_time() -> None:
    """Thirty requests a minute: one, and the next after 2 s. For a rate of tokens, the rest must be at least one."""
    endpoint = sending(fixed(9, rpm=30), 0)
    assert endpoint.room(0.0) == 1
    endpoint.take()
    endpoint.sent(10.0, 0.0)
    assert (endpoint.room(1.9), endpoint.opens_at(1.9)) == (0, 2.0)
    tokens = Endpoint("one", fixed(9, tpm=30))
    assert tokens.room(0.0) == 9
    tokens.buckets["tokens"].take(0.5, 0.0)
    assert (tokens.room(0.9), tokens.opens_at(0.9), tokens.room(1.0)) == (0, 1.0, 9)


def test_of_a_high_rate_each_slot_takes_one() -> None:
    """Seven a second, with three sent and two slots held, leave two."""
    endpoint = sending(fixed(9, rpm=420), 3)
    endpoint.take()
    endpoint.take()
    assert (endpoint.room(0.0), endpoint.used) == (2, 5)


def test_the_average_reply_follows_the_last_ones() -> None:
    """The average reply moves by an eighth of each reply's difference, whole or not."""
    endpoint = sending(fixed(9), 2)
    endpoint.ended(call(), "done", (40, 100), None, 0.0)
    endpoint.ended(call(), "done", (40, 100), None, 0.0)
    assert endpoint.reply_tokens == 236.5 + (100 - 236.5) / 8


def test_tokens_a_minute() -> None:
    """A request takes its prompt and an average reply from the rate. The difference is given back with the answer, and
    later replies are expected to be like the last ones.
    """
    endpoint = Endpoint("one", fixed(9, tpm=60_000))
    endpoint.take()
    assert endpoint.sent(44.0, 0.0) == 300.0
    assert endpoint.room(0.0) == 8
    assert endpoint.buckets["tokens"].holds(0.0) == 700.0
    endpoint.ended(call(tokens=300.0), "done", (40, 96), None, 0.0)
    assert endpoint.buckets["tokens"].holds(0.0) == 864.0
    assert endpoint.reply_tokens == 256 + (96 - 256) / 8
    endpoint.take()
    endpoint.sent(1_000.0, 0.0)
    assert endpoint.buckets["tokens"].holds(0.0) == pytest.approx(864 - 1236)
    assert endpoint.room(0.0) == 0
    assert endpoint.opens_at(0.0) == pytest.approx(0.373)
    assert endpoint.room(endpoint.opens_at(0.0)) == 8


@given(
    rates=st.sampled_from([{"tpm": 1e5}, {"tpm": 1.5e8}, {"rpm": 7}, {"rpm": 1_234.5}, {"rpm": 777, "tpm": 1e7}]),
    now=st.floats(0, 2e5),
    size=st.floats(0, 1e7),
    held=st.integers(0, 2),
)
def test_it_opens_when_it_has_said(rates: dict[str, float], now: float, size: float, held: int) -> None:
    """I9: an endpoint opens at the moment that it named, also late in a long run, or the run would wait forever."""
    endpoint = Endpoint("one", fixed(10**7, **rates))
    while endpoint.room(now) and endpoint.used < 30:
        endpoint.take()
        endpoint.sent(size, now)
    for _ in range(held):
        endpoint.take()
    opens = endpoint.opens_at(now)
    assert endpoint.room(now) or not math.isfinite(opens) or endpoint.room(opens)


def test_a_slow_rate_does_not_say_when_there_is_more_than_it_holds() -> None:
    """With a bucket of one and a held slot that will take it, time alone makes no room."""
    endpoint = Endpoint("one", fixed(9, rpm=30))
    endpoint.take()
    assert (endpoint.room(0.0), endpoint.opens_at(0.0), endpoint.room(1e6)) == (0, math.inf, 0)


def test_what_was_taken_for_a_request_that_is_cut_off_stays_taken() -> None:
    """The tokens of a cancelled request stay taken; those of a throttled one are given back."""
    cut_off, turned_away = (Endpoint("one", fixed(9, tpm=60_000)) for _ in range(2))
    for endpoint, how in ((cut_off, "cancelled"), (turned_away, "throttled")):
        endpoint.take()
        endpoint.ended(call(tokens=endpoint.sent(44.0, 0.0)), how, (0, 0), None, 0.0)
        assert endpoint.reply_tokens == 256
    assert (cut_off.buckets["tokens"].holds(0.0), turned_away.buckets["tokens"].holds(0.0)) == (700.0, 1000.0)


@pytest.mark.parametrize(
    ("how", "limit"), [("done", 5), ("cancelled", 5), ("failed", 4), ("lost", 4), ("throttled", 3)]
)
def test_answers_cancelled_requests_and_429s_say_something_of_the_limit(how: str, limit: int) -> None:
    """Answers, cancelled requests and 429s move a steered limit while every slot was in use."""
    endpoint = sending(adaptive(9, start=4), 4)
    known = Sample(4).with_answer(5.0, 1.0)
    endpoint.level = attrs.evolve(endpoint.level, known=known)
    endpoint.ended(call(sent_at=1.0), how, (10, 5), None, 2.0)
    assert endpoint.level.limit == limit
    assert (endpoint.used, endpoint.in_flight) == (3, 3)


def test_a_limit_is_told_of_the_tokens_of_replies() -> None:
    """A limit gets the tokens of replies that the server has counted."""
    endpoint = sending(adaptive(9, start=4), 4)
    endpoint.ended(call(sent_at=1.0), "done", (10, 5), None, 3.0)
    assert (endpoint.level.sample.tokens, endpoint.level.sample.seconds) == (5.0, 2.0)


def test_that_every_slot_was_in_use_is_noted_as_the_last_is_given_away() -> None:
    """The state "every slot in use" is noted, which lets a steered limit grow."""
    assert not sending(steered(9, start=3), 2).level.full
    assert sending(steered(9, start=3), 3).level.full


@pytest.mark.parametrize(("pause", "seconds"), [(None, 1.0), (7.5, 7.5)])
def test_an_endpoint_that_turns_all_away_is_left_alone(pause: float | None, seconds: float) -> None:
    """An endpoint that throttled two requests in a row, with none in flight, gets no request for its named pause, or
    for 1 s.
    """
    endpoint = sending(fixed(3), 2)
    endpoint.ended(call(), "throttled", (0, 0), pause, 4.0)
    assert endpoint.room(4.0) == 2
    endpoint.ended(call(), "throttled", (0, 0), pause, 4.0)
    assert endpoint.room(4.0) == 0
    assert endpoint.opens_at(4.0) == 4.0 + seconds
    assert endpoint.room(4.0 + seconds) == 3
    assert endpoint.opens_at(4.0 + seconds) == math.inf


def test_one_that_answers_in_between_is_asked_on() -> None:
    """An endpoint that answers in between, or still works on a request, is used at once."""
    answering, working = sending(fixed(3), 3), sending(fixed(3), 3)
    for how in ("throttled", "done", "throttled"):
        answering.ended(call(), how, (0, 0), None, 4.0)
    for _ in range(2):
        working.ended(call(), "throttled", (0, 0), None, 4.0)
    assert (answering.room(4.0), working.room(4.0)) == (3, 2)


def test_one_that_is_down_is_left_alone_ever_longer() -> None:
    """An endpoint that is down rests for 10 s, doubled after each failed trial, up to 120 s."""
    endpoint, now = Endpoint("one", fixed(3)), 5.0
    rests: list[float] = []
    for _ in range(6):
        assert endpoint.failed(call(sent_at=now), now + 1)
        now = endpoint.opens_at(now + 1)
        rests.append(now - endpoint.down_at)
        assert (endpoint.room(now - 0.1), endpoint.room(now)) == (0, 1)
    assert rests == [10, 20, 40, 80, 120, 120]


def test_one_that_is_down_is_tried_by_a_single_request() -> None:
    """An endpoint that was down gets a single request; the next one waits for the answer, however long it takes."""
    endpoint = Endpoint("one", fixed(3))
    endpoint.failed(call(sent_at=0.0), 1.0)
    endpoint.take()
    assert endpoint.room(50.0) == 0
    assert endpoint.opens_at(5.0) == math.inf


def test_what_was_out_when_it_went_down_says_nothing_more() -> None:
    """Requests in flight when it went down change nothing: neither a failure nor an answer."""
    endpoint = Endpoint("one", fixed(3))
    assert not endpoint.recovered(call(sent_at=0.0))
    assert endpoint.failed(call(sent_at=0.0), 2.0)
    assert not endpoint.failed(call(sent_at=2.0), 3.0)
    assert not endpoint.recovered(call(sent_at=2.0))
    assert (endpoint.up, endpoint.failures) == (False, 1)
    assert endpoint.recovered(call(sent_at=2.5))
    assert (endpoint.up, endpoint.room(20.0)) == (True, 3)


def sent(endpoint: Endpoint, at: float, size: float = 10.0) -> Call:
    """Return a request that is sent to an endpoint."""
    made = call(sent_at=at)
    made.size = size
    endpoint.take()
    made.tokens = endpoint.sent(size, at)
    made.by_then = endpoint.total
    return made


def ended(endpoint: Endpoint, request: Call, quotas: list[Quota], now: float, how: str = "done") -> dict[str, Rate]:
    """Return the new rates after an answer with these quotas."""
    return endpoint.ended(request, how, (10, 256), None, now, quotas)


def told(left: float, *, limit: float = 240, of: Any = "requests") -> list[Quota]:
    """Return the quotas of an API with a rate a minute and a bucket."""
    return [Quota(of, limit, left, 60 * (limit - left) / limit)]


def test_an_endpoint_learns_its_rate() -> None:
    """An endpoint learns its rate from an answer, and from then on lets that many through, with a second's share at
    once.
    """
    endpoint = Endpoint("one", adaptive())
    assert ended(endpoint, sent(endpoint, 0.0), told(230), 1.0) == {"requests": Rate(240, 60)}
    assert (endpoint.room(1.0), endpoint.opens_at(1.0)) == (4, math.inf)
    later = [sent(endpoint, 1.0) for _ in range(4)]
    assert (endpoint.room(1.0), endpoint.opens_at(1.0)) == (0, 1.25)
    assert ended(endpoint, later[0], told(229), 1.1) == {}


def test_what_was_sent_since_is_gone_of_what_was_left() -> None:
    """A quota is the rest when its request was let in: thirty requests were sent since, and two have come back."""
    endpoint = Endpoint("one", fixed(99))
    first = sent(endpoint, 0.0)
    for _ in range(30):
        sent(endpoint, 0.25)
    ended(endpoint, first, told(40), 0.5)
    assert endpoint.buckets["requests"].per_minute == 240 * 12 / 24
    ended(endpoint, sent(endpoint, 0.5), told(40), 0.5)
    assert endpoint.buckets["requests"].per_minute == 240


def test_no_more_is_in_the_bucket_than_is_left() -> None:
    """A bucket holds no more than the quota leaves: nothing, if more was sent since."""
    endpoint = Endpoint("one", fixed(99))
    ended(endpoint, sent(endpoint, 0.0), told(2.5), 0.0)
    assert endpoint.room(0.0) == 1, "a second's share of a quarter of the rate"
    first = sent(endpoint, 0.0)
    for _ in range(5):
        sent(endpoint, 0.0)
    ended(endpoint, first, told(3), 0.0)
    assert endpoint.buckets["requests"].holds(0.0) <= 0


def test_the_answer_to_the_later_request_is_believed() -> None:
    """The answer to the later request counts; an older one that comes after it changes nothing."""
    endpoint = Endpoint("one", adaptive())
    old, new = sent(endpoint, 0.0), sent(endpoint, 5.0)
    ended(endpoint, new, told(12), 6.0)
    slow = endpoint.buckets["requests"].per_minute
    ended(endpoint, old, told(230), 6.0)
    assert endpoint.buckets["requests"].per_minute == slow < 240


def test_a_stated_rate_is_kept_to() -> None:
    """A stated rate is kept. One of tokens also covers prompts and replies; other rates come from the API."""
    endpoint = Endpoint("one", adaptive(tpm=6000))
    said = [*told(230), *told(1, limit=10, of="tokens"), *told(1, limit=10, of="completion_tokens")]
    assert ended(endpoint, sent(endpoint, 0.0), said, 0.0) == {"requests": Rate(240, 60)}
    assert {of: bucket.per_minute for of, bucket in endpoint.buckets.items()} == {"tokens": 6000, "requests": 240}


def test_what_says_nothing_of_a_rate_changes_nothing() -> None:
    """A quota with all of its limit left shows no rate: its time span is unknown."""
    endpoint = Endpoint("one", adaptive())
    assert ended(endpoint, sent(endpoint, 0.0), told(240), 0.0) == {}
    assert endpoint.buckets == {}


def test_prompts_and_replies_with_rates_of_their_own() -> None:
    """Rates of prompts and replies count their own parts: the expected ones when a request is sent, the real ones
    after.
    """
    endpoint = Endpoint("one", fixed(9))
    said = [*told(30_000, limit=60_000, of="prompt_tokens"), *told(3000, limit=6000, of="completion_tokens")]
    learned = ended(endpoint, sent(endpoint, 0.0), said, 0.0)
    assert learned == {"prompt_tokens": Rate(60_000, 60), "completion_tokens": Rate(6000, 60)}
    prompts, replies = endpoint.buckets["prompt_tokens"], endpoint.buckets["completion_tokens"]
    assert (prompts.holds(0.0), replies.holds(0.0)) == (1000, 100)
    asked = sent(endpoint, 0.0, size=400.0)
    assert (prompts.holds(0.0), replies.holds(0.0)) == (600, 100 - 256)
    assert endpoint.room(0.0) == 0
    assert endpoint.opens_at(0.0) == pytest.approx(1.57)
    endpoint.ended(asked, "done", (390, 50), None, 0.0)
    assert (prompts.holds(0.0), replies.holds(0.0)) == (610, 50)


@pytest.mark.parametrize(
    ("said", "limit"),
    [(told(0), 16), (told(265, limit=6000, of="tokens"), 16), (told(267, limit=6000, of="tokens"), 12), ([], 12)],
)
def test_a_429_for_want_of_a_rate_says_nothing_of_how_many_may_be_out(said: list[Quota], limit: int) -> None:
    """A 429 for lack of a rate does not cut the limit: less is left than the request and its reply needed."""
    endpoint = Endpoint("one", adaptive())
    ended(endpoint, sent(endpoint, 0.0), [*told(200), *told(5000, limit=6000, of="tokens")], 1.0)
    requests = [sent(endpoint, 1.0) for _ in range(16)]
    ended(endpoint, requests[0], said, 2.0, how="throttled")
    assert endpoint.level.limit == limit


class Api:
    """An API with a rate a minute, by a bucket or by windows, that states the rest when it lets a request in."""

    def __init__(self, limit: int, left: float, windowed: bool) -> None:
        self.limit, self.left, self.windowed, self.at = limit, left, windowed, 0.0

    def asked(self, now: float) -> tuple[bool, list[Quota]]:
        if not self.windowed:
            self.left = min(self.limit, self.left + (now - self.at) * self.limit / 60)
        elif now // 60 > self.at // 60:
            self.left = self.limit
        self.at = now
        good = self.left >= 1
        self.left -= good
        reset = 60 - now % 60 if self.windowed else 60 * (self.limit - self.left) / self.limit
        return good, [Quota("requests", self.limit, math.floor(self.left), reset)]


def asked(
    limits: Limits, api: Api, latencies: Sequence[float], until: float
) -> tuple[Endpoint, list[tuple[float, bool]]]:
    """Use an endpoint as often as it has room. Return when each request was sent after the rate was learned, and
    whether it was let in.
    """
    endpoint, sends, number, now = Endpoint("one", limits), list[tuple[float, bool]](), 0, 0.0
    flying: list[tuple[float, int, bool, list[Quota], Call]] = []
    while now < until:
        while endpoint.room(now) > 0:
            request, (good, said) = sent(endpoint, now), api.asked(now)
            ends = now + (latencies[number % len(latencies)] if good else 0.05)
            heapq.heappush(flying, (ends, number, good, said, request))
            number += 1
            if endpoint.rates:
                sends.append((now, good))
        now = min(endpoint.opens_at(now), flying[0][0] if flying else math.inf)
        while flying and flying[0][0] <= now:
            _, _, good, said, request = heapq.heappop(flying)
            endpoint.ended(request, "done" if good else "throttled", (10, 5), None, now, said)
    return endpoint, sends


@given(
    limit=st.integers(2, 1000),
    left=st.floats(0, 1),
    latencies=st.lists(st.floats(0.1, 30), min_size=1, max_size=9),
    windowed=st.booleans(),
    most=st.integers(1, 64),
)
def test_a_learned_rate_is_never_exceeded_beyond_the_burst(
    limit: int, left: float, latencies: list[float], windowed: bool, most: int
) -> None:
    """A learned rate is never exceeded. In any time span, no more is sent than refills, plus a second's share; whatever
    the order and duration of answers, and the use before.
    """
    endpoint, sends = asked(fixed(most), Api(limit, left * limit, windowed), latencies, 100.0)
    rate = endpoint.rates["requests"].per_minute / 60 if endpoint.rates else math.inf
    for i, (begin, _) in enumerate(sends):
        for j, (end, _) in enumerate(sends[i:], 1):
            assert j <= rate * (end - begin) + max(1.0, rate) + 1e-3


@pytest.mark.parametrize("windowed", [False, True])
@pytest.mark.parametrize("left", [1.0, 0.5, 0.0])
def test_what_an_api_lets_through_is_used(windowed: bool, left: float) -> None:
    """All that an API lets through is used, however it counts and however much is left at first; later nothing is
    throttled.
    """
    _, sends = asked(adaptive(), Api(240, 240 * left, windowed), [2.0, 9.0, 4.0], 360.0)
    warm = [good for at, good in sends if 120 <= at < 360]
    assert all(warm)
    assert len(warm) >= 0.95 * 4 * 240


def shared(*, seed: int = 0, most: int = 2) -> Slots:
    """Return slots with a service of two endpoints; another service has only the second one."""
    limits = {"small": fixed(most), "large": fixed(most)}
    return Slots(limits, {"both": {"small": 1.0, "large": 3.0}, "own": {"large": 1.0}}, seed)


def test_work_is_shared_by_weight() -> None:
    """Work is shared in proportion to weight, drawn from the seed and the count of draws; without a choice nothing is
    drawn.
    """
    slots = shared(most=100_000)
    chosen = [slots.choose("both", 0.0) for _ in range(2000)]
    found = Counter(endpoint.name for endpoint in chosen if endpoint)
    assert 0.2 < found["small"] / 2000 < 0.3
    assert slots.draws == {"both": 2000, "own": 0}
    again, other = shared(most=100_000), shared(seed=1, most=100_000)
    assert [e and e.name for e in chosen[:50]] == [getattr(again.choose("both", 0.0), "name", "") for _ in range(50)]
    assert [e and e.name for e in chosen[:50]] != [getattr(other.choose("both", 0.0), "name", "") for _ in range(50)]
    assert slots.choose("own", 0.0) is slots.endpoints["large"]
    assert slots.draws["own"] == 0


def test_who_has_no_room_is_not_chosen() -> None:
    """An endpoint without room is not chosen; none is if none has room."""
    slots = shared()
    for _ in range(2):
        slots.endpoints["large"].take()
    assert slots.room("both", 0.0)
    assert not slots.room("own", 0.0)
    assert {getattr(slots.choose("both", 0.0), "name", "") for _ in range(20)} == {"small"}
    assert slots.choose("own", 0.0) is None
    slots.endpoints["small"].take()
    slots.endpoints["small"].take()
    assert slots.choose("both", 0.0) is None
    assert slots.limits == {"small": 2, "large": 2}


def test_one_that_was_down_is_tried_first() -> None:
    """An endpoint that was down is tried first, as soon as it may be."""
    slots = shared()
    slots.endpoints["small"].failed(call(), 1.0)
    assert slots.others_up("both", "small")
    assert not slots.others_up("both", "large")
    assert shared().others_up("both", "large")
    assert not slots.others_up("own", "large")
    assert {getattr(slots.choose("both", 2.0), "name", "") for _ in range(20)} == {"large"}
    assert {getattr(slots.choose("both", 11.0), "name", "") for _ in range(20)} == {"small"}
    assert slots.next_opening(2.0) == 11.0
    assert slots.next_opening(11.0) is None
    assert Slots({}, {}, 0).next_opening(0.0) is None


def test_what_an_endpoint_says_is_for_its_own_limit() -> None:
    """The load that an endpoint states changes its own limit only."""
    slots = Slots({"one": steered(9, start=4), "two": steered(9, start=4)}, {"service": {"one": 1.0, "two": 1.0}}, 0)
    for _ in range(4):
        slots.endpoints["one"].take()
        slots.endpoints["one"].sent(10.0, 0.0)
    slots.read("one", Load(4, 5), 1.0)
    assert slots.limits == {"one": 1, "two": 4}
    assert slots.in_flight == {"one": 4, "two": 0}


def test_what_waits_goes_by_rank() -> None:
    """Waiting calls go by rank, then by number; a ranked-again call moves, and a withdrawn one is gone."""
    slots = shared()
    calls = [call(number, service="both") for number in range(4)]
    for waiting, rank in zip(calls, (3, 1, 1, 2), strict=True):
        slots.wait(waiting, (rank,))
    assert slots.first("both") == ((1,), calls[1])
    assert slots.first("own") is None
    slots.wait(calls[1], (5,))
    assert slots.first("both") == ((1,), calls[2])
    slots.withdraw(calls[2])
    assert not slots.is_waiting(calls[2])
    assert slots.first("both") == ((2,), calls[3])
    slots.withdraw(calls[3])
    slots.withdraw(calls[3])
    assert slots.first("both") == ((3,), calls[0])
    slots.withdraw(calls[0])
    assert slots.is_waiting(calls[1])
    assert slots.first("both") == ((5,), calls[1])
    slots.withdraw(calls[1])
    assert slots.first("both") is None


def test_services_that_share_an_endpoint_stand_together() -> None:
    """Services that share an endpoint are grouped, also through a third one; all others are alone."""
    limits = {name: fixed(1) for name in "abcd"}
    services = {"first": {"a": 1.0}, "second": {"b": 1.0}, "alone": {"d": 1.0}, "joins": {"a": 1.0, "b": 1.0, "c": 1.0}}
    assert set(map(frozenset, Slots(limits, services, 0).sharing)) == {
        frozenset({"first", "second", "joins"}),
        frozenset({"alone"}),
    }
