"""Limits: pure rules that process requests one by one."""

from __future__ import annotations

import math

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flashgraph.errors import DataError
from flashgraph.llm.limits import Level, Limits, adaptive, fixed, parse_limits, steered
from flashgraph.llm.probes import Sample
from flashgraph.llm.protocol import Load


def answers(limits: Limits, level: Level, count: int, used: int | None = None, at: float = 100.0) -> Level:
    """Return the level after ``count`` good answers, each while ``used`` slots (all by default) were in use."""
    for _ in range(count):
        level = limits.answered(level, level.limit if used is None else used, at - 1, at)
    return level


def cancels(limits: Limits, level: Level, count: int, seconds: float) -> Level:
    """Return the level after ``count`` requests were cancelled, each after ``seconds``, while every slot was in use."""
    for _ in range(count):
        level = limits.cancelled(level, level.limit, 100.0 - seconds, 100.0)
    return level


def knowing(level: Level, seconds: float = 2.0) -> Level:
    """Return the level with a known throughput at its limit: each answer takes ``seconds``."""
    sample = Sample(level.limit)
    for _ in range(6):
        sample = sample.with_answer(50.0, seconds)
    return attrs.evolve(level, known=sample, sample=Sample(level.limit, math.inf))


def tried(limits: Limits, level: Level, seconds: float, at: float = 1000.0) -> Level:
    """Return the level after a sample of its limit.

    Six answers arrive, each after ``seconds``, to requests that were sent while all slots were in use.
    """
    level = limits.cancelled(level, level.limit, at, at)
    for number in range(1, 7):
        now = at + number * (seconds + 1)
        level = limits.answered(level, level.limit, now - seconds, now, 50.0)
    return level


def test_a_fixed_limit_stays() -> None:
    """No event changes it."""
    limits = fixed(8)
    level = limits.begin()
    assert limits.answered(level, 8, 0, 1) == limits.throttled(level, 8, 0, 1) == level
    assert limits.cancelled(level, 8, 0, 1) == limits.read(limits.granted(level, 8), 8, Load(0, 9), 1) == level
    assert level.limit == 8
    assert not limits.reads


def test_at_first_it_has_to_be_seen_what_the_server_makes() -> None:
    """The first six answers measure throughput; until then, no answer or cancelled request raises the limit."""
    limits = adaptive(100, start=4)
    level = cancels(limits, answers(limits, limits.begin(), 5), 50, seconds=9.0)
    assert level.limit == 4
    assert answers(limits, level, 1).limit == 5


def test_slow_start_doubles_every_round_trip() -> None:
    """Each answer while every slot is in use adds one, up to twice the limit with known throughput."""
    limits = adaptive(100, start=4)
    level = answers(limits, knowing(limits.begin()), 4)
    assert (level.limit, level.reason) == (8, "every slot was busy")
    assert answers(limits, level, 1000).limit == 8
    assert answers(limits, tried(limits, level, 2.0), 1000).limit == 16
    assert answers(limits, knowing(attrs.evolve(level, limit=64)), 1000).limit == 100


def test_a_cancelled_request_counts_for_the_time_that_it_ran() -> None:
    """It counts as a share of the usual time of an answer, at most one; one cancelled at once counts nothing."""
    limits = adaptive(100, start=4)
    level = knowing(limits.begin(), seconds=2.0)
    assert cancels(limits, level, 2, seconds=0.5).limit == 4
    assert cancels(limits, level, 4, seconds=0.5).limit == 5
    assert cancels(limits, level, 3, seconds=60.0).limit == 7
    assert cancels(limits, level, 1000, seconds=0.0).limit == 4
    assert limits.cancelled(level, 3, 0.0, 100.0) == level, "a slot was free"
    assert limits.cancelled(knowing(limits.begin(), seconds=0.0), 4, 0.0, 100.0).limit == 4


def test_a_server_that_makes_no_more_gets_no_more() -> None:
    """If twice as many requests take twice as long, the server queues.

    The limit returns, and a smaller one is tried next.
    """
    limits = adaptive(100, start=4)
    level = answers(limits, knowing(attrs.evolve(limits.begin(), limit=8)), 8)
    back = tried(limits, level, 4.0)
    assert (back.limit, back.ceiling, back.reason) == (8, 8, "throughput is no higher with 16")
    assert (back.known, back.down, back.stride) == (None, True, 1.25)
    lower = answers(limits, knowing(back), 8)
    assert (lower.limit, lower.reason) == (6, "trying a smaller limit")
    assert answers(limits, lower, 1000).limit == 6, "it waits for a sample"


@pytest.mark.parametrize(("seconds", "limit"), [(3.0, 17), (3.01, 11), (3.3, 10), (3.5, 9), (4.0, 8), (9.0, 8)])
def test_the_limit_is_where_throughput_stops_rising(seconds: float, limit: int) -> None:
    """The limit grows further if throughput rises by a third of the limit's rise, else it settles at the bend."""
    limits = adaptive(100, start=4)
    level = answers(limits, knowing(attrs.evolve(limits.begin(), limit=8)), 8)
    assert tried(limits, level, seconds).limit == limit


def test_a_smaller_limit_that_makes_as_much_is_kept() -> None:
    """A still smaller one is tried after one round trip."""
    limits = adaptive(100, start=4)
    level = knowing(attrs.evolve(limits.begin(), limit=40, ceiling=40.0, down=True, stride=1.25, waits=4))
    lower = answers(limits, level, 160)
    kept = tried(limits, lower, 1.6)
    assert [lower.limit, kept.limit, kept.waits] == [32, 32, 1]
    assert answers(limits, kept, 31).limit == 25
    between = tried(limits, lower, 1.68)
    assert (between.limit, between.down, between.reason) == (34, False, "throughput is no higher with 40")


def test_a_smaller_limit_that_makes_less_is_given_up() -> None:
    """The next trial is of a larger limit, after twice the time."""
    limits = adaptive(100, start=4)
    level = knowing(attrs.evolve(limits.begin(), limit=40, ceiling=40.0, down=True, stride=1.25, waits=4))
    back = tried(limits, answers(limits, level, 160), 2.0)
    assert (back.limit, back.waits, back.reason) == (40, 8, "throughput is lower with 32")
    assert answers(limits, back, 40 * 8 - 1).limit == 40
    assert answers(limits, back, 40 * 8 + 20).limit == 50, "each answer adds one again, up to a quarter more"


def test_a_first_limit_that_is_far_too_large_is_halved() -> None:
    """The way down is as steep as the way up, until throughput falls."""
    limits = adaptive(100, start=16)
    level = tried(limits, answers(limits, knowing(limits.begin(), 8.0), 16), 16.0)
    found = [level.limit]
    for seconds in (4.0, 2.0, 2.0):
        level = answers(limits, knowing(level, 8.0 * level.limit / 16), level.limit * level.waits)
        found.append(level.limit)
        level = tried(limits, level, seconds)
    assert (found, level.limit, level.stride) == ([16, 8, 4, 2], 4, 1.25)


def test_after_a_trial_that_succeeds_the_next_is_larger() -> None:
    """Trials rise by a quarter, then a half, then double, so that a larger server is found soon."""
    limits = adaptive(1000, start=4)
    level = knowing(attrs.evolve(limits.begin(), limit=64, stride=1.25))
    found = []
    for _ in range(4):
        level = answers(limits, level, 1000)
        found.append(level.limit)
        level = tried(limits, level, 2.0)
    assert found[:2] == [80, 125]
    assert found[3] == 2 * found[2]


def test_trials_become_rare() -> None:
    """There are thirty-two round trips between trials when no other limit has been better for long."""
    limits = adaptive(100, start=4)
    level, found = knowing(attrs.evolve(limits.begin(), limit=4, ceiling=4.0, stride=1.25, down=True)), []
    for _ in range(7):
        level = tried(limits, answers(limits, level, 4 * level.waits), 2.0)
        level = tried(limits, answers(limits, level, 4 * level.waits + 1), 3.0)
        level = knowing(level)
        found.append(level.waits)
    assert (level.limit, found) == (4, [2, 4, 8, 16, 32, 32, 32])


def test_at_the_most_a_smaller_limit_is_tried() -> None:
    """A larger limit is not allowed there."""
    limits = adaptive(10, start=10)
    level = answers(limits, knowing(limits.begin()), 10)
    assert (level.limit, level.reason) == (5, "trying a smaller limit")
    assert tried(limits, level, 2.0).limit == 10
    one = adaptive(1, start=1)
    assert answers(one, knowing(one.begin()), 1000).limit == 1


def test_a_sample_is_of_requests_that_were_sent_when_every_slot_was_in_use() -> None:
    """Earlier requests had fewer beside them, and those in a trial of a smaller limit had more."""
    limits = adaptive(100, start=4)
    level = answers(limits, knowing(limits.begin()), 4, at=50.0)
    assert answers(limits, level, 100, at=50.5).sample.count == 0, "this is when they are, and all were sent before"
    assert limits.answered(answers(limits, level, 1, at=50.5), 8, 50.6, 52.0, 9.0).sample.count == 1
    assert limits.answered(answers(limits, level, 1, at=50.5), 7, 50.6, 52.0, 9.0).sample.count == 0


def test_a_cut_forgets_what_was_known() -> None:
    """Throughput must be measured again before the limit grows; a trial in progress is abandoned."""
    limits = adaptive(100, start=40)
    level = attrs.evolve(knowing(limits.begin()), down=True, waits=8, stride=2.0)
    cut = limits.throttled(level, 40, sent_at=9.0, now=10.0)
    assert (cut.limit, cut.known, cut.down, cut.stride) == (32, None, False, 1.25)
    assert answers(limits, cut, 1000).limit == 32


def test_large_limits_rise_by_a_part_of_them() -> None:
    """Above a cut they rise by 1/32 a round trip."""
    limits = adaptive(1000, start=300)
    level = knowing(limits.throttled(limits.begin(), 300, sent_at=9.0, now=10.0))
    assert level.limit == 240
    assert answers(limits, level, 240).limit == 247


def test_an_idle_endpoint_does_not_grow() -> None:
    """Answers while a slot was free prove nothing."""
    limits = adaptive(100, start=4)
    assert answers(limits, limits.begin(), 50, used=3).limit == 4


def test_only_a_429_cuts() -> None:
    """It cuts to four fifths of the slots in use; from there growth is by one a round trip."""
    limits = adaptive(100, start=40)
    level = knowing(limits.throttled(limits.begin(), 40, sent_at=9.0, now=10.0))
    assert (level.limit, level.ceiling, level.reason) == (32, 32, "429 (too many requests)")
    assert answers(limits, level, 31).limit == 32
    assert answers(limits, level, 32).limit == 33


def test_answers_in_the_cooldown_do_not_count() -> None:
    """They were sent before the cut, or to a server that is still full."""
    limits = adaptive(100, start=40)
    level = knowing(limits.throttled(limits.begin(), 40, sent_at=9.0, now=10.0))
    assert limits.cancelled(level, 32, 9.0, 14.9) == level
    assert answers(limits, level, 500, at=14.9).limit == 32
    assert answers(limits, level, 500, at=15.0).limit > 32


def test_one_cut_for_all_429s_of_one_time_but_none_opens_a_place() -> None:
    """A burst of sixty is one mistake; the slot of each refused request stays closed."""
    limits = adaptive(200, start=100)
    level, used = limits.begin(), 100
    for _ in range(60):
        level = limits.throttled(level, used, sent_at=9.0, now=10.0)
        used -= 1
    assert (level.limit, used) == (40, 40)
    later = limits.throttled(level, 40, sent_at=20.0, now=21.0)
    assert later.limit == 32


def test_429s_of_requests_from_before_the_cut_are_old_news() -> None:
    """After the cooldown too, none of them frees a slot, and none causes a cut."""
    limits = adaptive(100, start=40)
    level = limits.throttled(limits.begin(), 40, sent_at=9.0, now=10.0)
    for sent_at in (9.5, 10.0):
        assert limits.throttled(level, 32, sent_at=sent_at, now=20.0).limit == 31
        assert limits.throttled(level, 40, sent_at=sent_at, now=20.0).limit == 32
    assert limits.throttled(level, 30, sent_at=10.5, now=20.0).limit == 24


def test_a_cut_takes_one_off_at_least() -> None:
    """More may be in flight than the limit allows, after the limit has fallen."""
    level = adaptive(100, start=40).throttled(Level(40), 60, sent_at=9.0, now=10.0)
    assert (level.limit, level.peak, level.cut_at, level.quiet_until, level.credit) == (39, 60, 10.0, 15.0, 0.0)
    assert adaptive(100, start=1).throttled(Level(1), 1, sent_at=9.0, now=10.0).limit == 1


def test_a_cut_is_from_what_was_in_use_when_the_request_was_sent() -> None:
    """Most of them may have been cancelled since, which says nothing about the API."""
    limits = adaptive(100, start=90)
    level = limits.throttled(limits.begin(), 25, 9.0, 10.0, 90)
    assert (level.limit, level.peak) == (72, 90)
    assert limits.throttled(level, 24, 9.0, 10.0, 90).limit == 71, "of the others of the same time, each takes one"
    assert limits.throttled(limits.begin(), 90, 9.0, 10.0, 25).limit == 72


@pytest.mark.parametrize(("again_at", "rounds"), [(38, 1), (39, 2), (41, 2), (45, 2), (46, 1), (80, 1)])
def test_where_it_was_cut_before_it_grows_more_slowly(again_at: int, rounds: int) -> None:
    """A cut is near an earlier one from one below it to a tenth and one above it."""
    limits = adaptive(100, start=40)
    first = limits.throttled(limits.begin(), 40, sent_at=9.0, now=10.0)
    again = limits.throttled(attrs.evolve(first, limit=again_at), again_at, sent_at=19.0, now=20.0)
    assert (first.rounds, again.rounds) == (1, rounds)
    at_peak = knowing(attrs.evolve(again, limit=again.peak))
    assert answers(limits, at_peak, again.peak * rounds - 1).limit == again.peak
    assert answers(limits, at_peak, again.peak * rounds).limit == again.peak + max(1, again.peak // 32)
    # Far below it a step takes one round trip, as always.
    far = knowing(attrs.evolve(again, limit=20, ceiling=20.0))
    assert answers(limits, far, 19).limit == 20
    assert answers(limits, far, 20).limit == 21


def test_patience_has_an_end() -> None:
    """A step takes at most thirty-two rounds, however often there are cuts."""
    limits = adaptive(100, start=40)
    level, found = limits.begin(), []
    for moment in range(8):
        level = limits.throttled(attrs.evolve(level, limit=40), 40, sent_at=10.0 * moment + 9, now=10.0 * moment + 10)
        found.append(level.rounds)
    assert found == [1, 2, 4, 8, 16, 32, 32, 32]


@pytest.mark.parametrize("limits", [adaptive(9, start=4), steered(9, start=4)])
def test_more_in_use_than_the_limit_is_full_as_well(limits: Limits) -> None:
    """The limit may have fallen since they were sent."""
    level = knowing(attrs.evolve(limits.begin(), limit=4))
    grown = limits.read(limits.granted(limits.answered(level, 7, 0.0, 1.0), 7), 7, Load(7, 0), 1.0)
    assert grown.limit > 4


@pytest.mark.parametrize("limits", [adaptive(9, start=9), steered(9, start=9)])
def test_at_the_most_nothing_changes(limits: Limits) -> None:
    """No change is reported either."""
    level = limits.begin()
    assert limits.answered(level, 9, 0.0, 1.0).reason == ""
    read = limits.read(limits.granted(level, 9), 9, Load(9, 0), 1.0)
    assert (read.limit, read.reason) == (9, "")


def test_what_the_limits_begin_with() -> None:
    """The initial limits are the documented defaults, and only steered ones read the server's load."""
    assert [str(limits) for limits in (adaptive(), steered())] == ["adaptive(16..512)", "steered(32..1024)"]
    assert [limits.begin().limit for limits in (adaptive(), adaptive(5), steered(), steered(5))] == [16, 5, 32, 5]
    assert [limits.reads for limits in (fixed(1), adaptive(), steered())] == [False, False, True]


@pytest.mark.parametrize("waiting", [5, 6, 7, 22, 23, 63])
def test_of_a_long_queue_all_but_two_are_taken_off(waiting: int) -> None:
    """A queue of at most four stays; the earlier limit is where growth becomes slow."""
    limits = steered(1000, start=64)
    level = limits.read(limits.begin(), 64, Load(20, waiting), 1)
    assert (level.limit, level.ceiling) == (64 - waiting + 2, 64 - waiting + 2)
    assert limits.read(limits.begin(), 64, Load(20, 90), 1).limit == 1
    assert limits.read(limits.begin(), 90, Load(20, 7), 1).limit == 64
    for short in (1, 4):
        level = limits.read(limits.begin(), 64, Load(20, short), 1)
        assert (level.limit, level.ceiling) == (64, 64)
        assert limits.read(attrs.evolve(limits.begin(), ceiling=30.0), 64, Load(20, short), 1).ceiling == 30


def test_a_queue_in_the_server_steers() -> None:
    """An empty queue lets a full limit grow, a short one keeps it, and a long one cuts all but half of a short one."""
    limits = steered(1000, start=32)
    assert limits.reads
    full = limits.granted(limits.begin(), 32)
    assert limits.read(limits.begin(), 20, Load(20, 0), 1).limit == 32  # some slots were free
    grown = limits.read(full, 32, Load(32, 0), 1)
    assert grown.limit == 64
    assert limits.read(limits.granted(grown, 64), 64, Load(61, 3), 2).limit == 64
    cut = limits.read(limits.granted(grown, 64), 64, Load(44, 20), 2)
    assert (cut.limit, cut.reason) == (46, "20 queued in the server")
    # Once that point is known, steps are small.
    assert limits.read(limits.granted(cut, 46), 46, Load(46, 0), 3).limit == 50


def test_a_queue_that_is_seen_again_is_cut_once() -> None:
    """While the excess leaves, or the server repeats its report, the limit stays where the cut has set it."""
    limits = steered(1000, start=64)
    cut = limits.read(limits.granted(limits.begin(), 64), 64, Load(44, 20), 2)
    assert limits.read(cut, 64, Load(44, 20), 3).limit == cut.limit == 46
    assert limits.read(cut, 56, Load(44, 12), 4).limit == 46
    assert limits.read(cut, 46, Load(44, 2), 5).limit == 46
    # More requests were queued meanwhile.
    assert limits.read(cut, 46, Load(44, 12), 5).limit == 36


def test_above_what_was_once_too_much_steps_stay_small() -> None:
    """The limit does not double again."""
    limits = steered(1000, start=32)
    level = attrs.evolve(limits.begin(), limit=50, ceiling=46.0, full=True)
    assert limits.read(level, 50, Load(50, 0), 1).limit == 54


def test_a_full_cache_gets_no_more() -> None:
    """The server would evict work in progress."""
    limits = steered(1000, start=32)
    assert limits.read(limits.granted(limits.begin(), 32), 32, Load(32, 0, 0.97), 1).limit == 32
    assert limits.read(limits.granted(limits.begin(), 32), 32, Load(32, 0, 0.95), 1).limit == 64


def test_a_server_that_says_nothing_is_taken_to_hold_128() -> None:
    """It is not vLLM, or its metrics are off."""
    limits = steered(1000)
    level = limits.read(limits.begin(), 0, None, 1)
    assert (level.limit, level.reason) == (128, "the server does not report its load")
    assert steered(50).read(limits.begin(), 0, None, 1).limit == 50


def test_a_reading_that_is_missing_changes_nothing() -> None:
    """A busy server may fail to answer, once or for long: its last report is the best information."""
    limits = steered(1000, start=32)
    level = limits.read(limits.granted(limits.begin(), 32), 32, Load(28, 4), 1)
    assert level.limit == 32
    full = limits.granted(level, 32)
    assert limits.read(full, 32, None, 2) == full
    assert limits.read(limits.read(full, 32, None, 2), 32, Load(32, 0), 3).limit == 36
    # A server that reports late is steered as if it always had.
    late = limits.read(limits.read(limits.begin(), 32, None, 1), 128, Load(44, 84), 2)
    assert (late.limit, limits.read(late, 128, None, 3).limit) == (46, 46)


@given(
    limits=st.sampled_from([adaptive(9, start=3), adaptive(1, start=1), steered(9, start=2), steered(300)]),
    events=st.lists(
        st.tuples(st.sampled_from(["answered", "cancelled", "throttled", "read", "none"]), st.integers(0, 400))
    ),
)
def test_never_below_one_and_never_above_the_most(limits: Limits, events: list[tuple[str, int]]) -> None:
    """I4 holds for any events in any order."""
    level, now = limits.begin(), 0.0
    for what, number in events:
        now += number / 50
        used = min(number, level.limit)
        level = limits.granted(level, used)
        if what == "answered":
            level = limits.answered(level, used, now - number / 100, now, number)
        elif what == "cancelled":
            level = limits.cancelled(level, used, now - number / 100, now)
        elif what == "throttled":
            level = limits.throttled(level, max(1, used), now - number / 100, now)
        else:
            level = limits.read(level, used, Load(used, number) if what == "read" else None, now)
        assert 1 <= level.limit <= limits.most


@pytest.mark.parametrize(
    "limits",
    [
        fixed(3),
        fixed(1, rpm=500),
        fixed(2, rpm=2000 / 60, tpm=1e-05),
        adaptive(),
        adaptive(9, start=2, tpm=2e5),
        steered(),
        steered(7, start=1, rpm=0.5),
    ],
)
def test_limits_as_text(limits: Limits) -> None:
    """A journal stores them to the last digit, so that a replay waits for the same events."""
    assert parse_limits(str(limits)) == limits


@pytest.mark.parametrize("text", ["32", "adaptive", "fixed(x)", "fixed(1), usd=3", "limit(3)"])
def test_other_texts_are_refused(text: str) -> None:
    """The error lists the valid forms."""
    with pytest.raises(DataError, match="expected fixed"):
        parse_limits(text)


@pytest.mark.parametrize(
    ("limits", "found", "expected"),
    [
        (fixed(0), "limit=0", "a whole number from 1"),
        (fixed(-3), "limit=-3", "a whole number from 1"),
        (fixed(True), "limit=True", "a whole number from 1"),
        (adaptive("8"), "limit='8'", "a whole number from 1"),  # type: ignore[arg-type]  # what is to be found
        (adaptive(8, start=0), "start=0", "a whole number from 1"),
        (steered(8, start=0), "start=0", "a whole number from 1"),
        (fixed(8, rpm=0), "rpm=0", "a number over 0"),
        (steered(8, tpm="9"), "tpm='9'", "a number over 0"),  # type: ignore[arg-type]  # what is to be found
    ],
)
def test_limits_that_let_nothing_pass(limits: Limits, found: str, expected: str) -> None:
    """A run with such limits would never send a request (I9)."""
    flaw = limits.flaw()
    assert flaw is not None
    assert (flaw.found, flaw.expected) == (found, expected)


@pytest.mark.parametrize("limits", [fixed(1), fixed(2, rpm=0.5, tpm=9), adaptive(), steered(4, start=9)], ids=str)
def test_limits_that_can_be_used(limits: Limits) -> None:
    """Limits start at one request, and rates may be any positive number."""
    assert limits.flaw() is None
