"""Reference models of limits and rates: how a limit moves, what a bucket holds, and what an API's quotas imply.

A limit gets a generated list of happenings.  Times and rates have exact sums, so that reference models with whole
numbers and fractions must be equal, not just close.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from fractions import Fraction
from typing import Literal

import attrs
from hypothesis import strategies as st

from flashgraph.llm.limits import Level, Limits, adaptive, fixed, parse_limits, steered
from flashgraph.llm.protocol import Load, Quota
from flashgraph.llm.rates import Bucket, Rate, amount, learned, rate_text, used_up
from tests.proof.tried import Property, expect, refusal

__all__ = ["LIMITS", "Reference", "quotas", "reference"]


@attrs.define
class Reference:
    """A limit that never moves; the base of those that do.  ``used`` counts the slots in use, this one included."""

    most: int
    limit: int

    def granted(self, used: int) -> None: ...

    def answered(self, used: int, sent_at: float, now: float, tokens: float) -> None: ...

    def cancelled(self, used: int, sent_at: float, now: float) -> None: ...

    def throttled(self, used: int, sent_at: float, now: float, among: int) -> None: ...

    def read(self, used: int, load: Load | None) -> None: ...


Answer = tuple[Fraction, Fraction]
"""The tokens of a reply, and its seconds."""


def _mean(numbers: Sequence[Fraction]) -> Fraction:
    return sum(numbers, Fraction(0)) / len(numbers)


def _line(answers: Sequence[Answer]) -> tuple[Fraction, Fraction, Fraction]:
    """Return the line of least squares: a point on it, and its slope."""
    across, up = _mean([tokens for tokens, _ in answers]), _mean([seconds for _, seconds in answers])
    spread = sum(((tokens - across) ** 2 for tokens, _ in answers), Fraction(0))
    steep = sum(((tokens - across) * (seconds - up) for tokens, seconds in answers), Fraction(0))
    return across, up, steep / spread if spread else Fraction(0)


def _compared(small: Sequence[Answer], large: Sequence[Answer]) -> list[Fraction]:
    """Return the seconds of a reply of the same length in each."""
    length = _mean([tokens for tokens, _ in (*small, *large)])
    found = []
    for answers in (small, large):
        across, up, steep = _line(answers)
        if across:
            up += max(Fraction(0), min(steep, up / across)) * (length - across)
        found.append(up)
    return found


@attrs.define
class Adaptive(Reference):
    """The adaptive limit.

    It grows only while every slot is in use, and as far as throughput grows.  A cut takes a fifth of the slots in use,
    and nothing changes for five seconds after it.
    """

    first: int = 0
    credit: Fraction = Fraction(0)
    threshold: int | None = None
    """The limit after the last cut or trial, from which growth is slow."""
    peak: int = 0
    slowness: int = 1
    last_cut: float | None = None
    full: float | None = None
    """The time when every slot was last in use."""
    known: tuple[int, list[Answer]] | None = None
    answers: list[Answer] = attrs.field(factory=list)
    """Replies at this limit to requests that were sent after ``since`` (None: not yet)."""
    since: float | None = -1e9
    stride: Fraction = Fraction(2)
    falling: bool = False
    patience: int = 1

    def answered(self, used: int, sent_at: float, now: float, tokens: float) -> None:
        if not self._is_full(used, now):
            return
        before = self.limit
        if self.since is not None and sent_at > self.since:
            self.answers.append((Fraction(tokens), Fraction(now - sent_at)))
            if self._is_enough():
                self._judge()
        if self.limit == before:
            self._let_in(Fraction(1))

    def cancelled(self, used: int, sent_at: float, now: float) -> None:
        if self._is_full(used, now) and self.known is not None:
            usual = _mean([seconds for _, seconds in self.known[1]])
            if usual:
                self._let_in(min(Fraction(1), Fraction(now - sent_at) / usual))

    def _is_full(self, used: int, now: float) -> bool:
        quiet = self.last_cut is not None and now < self.last_cut + 5
        if used >= self.limit and not quiet and self.full != now:
            self.full = now
            if self.since is None:
                self.since = now
        return self.full == now

    def _is_enough(self) -> bool:
        count = len(self.answers)
        across, up, steep = _line(self.answers)
        missed = sum(((s - up - steep * (t - across)) ** 2 for t, s in self.answers), Fraction(0))
        return count >= 6 and (count >= self.limit or missed <= count * (count - 2) * (up * 7 / 100) ** 2)

    def _judge(self) -> None:
        seen, self.answers = self.answers, []
        if self.known is None or self.known[0] == self.limit:
            self.known = self.limit, seen
            return
        limit, known = self.known
        small, large = min(limit, self.limit), max(limit, self.limit)
        if self.limit == large < self._end():
            return
        times = _compared(*((known, seen) if limit == small else (seen, known)))
        rise = times[0] * large - times[1] * small
        if 3 * rise >= times[1] * (large - small) * (1 - Fraction(1, 10**8)):
            if self.limit == large:
                self.known, self.patience, self.stride = (large, seen), 1, min(Fraction(2), self.stride**2)
            else:
                self.falling, self.patience, self.stride = False, min(32, 2 * self.patience), Fraction(5, 4)
                self._set(large, large)
            return
        more = max(Fraction(0), rise / (times[1] * small))
        better = min(large, math.floor(small + small * more * 3 / 2 + Fraction(1, 10**9)))
        if self.limit == large:
            self.falling, self.known = True, None
            self.stride = self.stride if better == self.first else Fraction(5, 4)
            self._set(better, better)
        elif better == small:
            self.known, self.patience = (small, seen), 1
        else:
            self.falling, self.known, self.patience, self.stride = False, None, 1, Fraction(5, 4)
            self._set(better, better)

    def _end(self) -> int:
        """Return how far it may grow before there are replies."""
        assert self.known is not None
        return min(self.most, max(self.known[0] + 1, math.floor(self.known[0] * self.stride)))

    def _set(self, limit: int, threshold: int | None) -> None:
        if limit != self.limit:
            self.limit, self.answers, self.since = limit, [], None
        self.threshold, self.credit = threshold, Fraction(0)

    def _let_in(self, share: Fraction) -> None:
        if self.known is None or self.limit < self.known[0] or self._end() <= self.limit != self.known[0]:
            return
        falls = self.limit == self.most or (self.falling and self.limit > 1)
        slow = falls or (self.threshold is not None and self.limit >= self.threshold)
        near = self.limit >= self.peak - 1 and 10 * (self.limit - 1) <= 11 * self.peak
        self.credit += share / (self.limit * max(self.patience, self.slowness if near else 1)) if slow else share
        if self.credit < 1 - Fraction(1, 10**9):
            return
        if falls:
            self._set(max(1, math.floor(self.limit / self.stride)), self.threshold)
        elif slow and not self.peak:
            self.threshold, self.credit = None, Fraction(0)
        else:
            kept, step = self.credit - 1, max(1, self.limit // 32) if slow else 1
            self._set(min(self._end(), self.limit + step), self.threshold)
            self.credit = kept

    def throttled(self, used: int, sent_at: float, now: float, among: int) -> None:
        if self.last_cut is not None and (sent_at <= self.last_cut or now < self.last_cut + 5):
            kept = self.credit
            self._set(self.limit - (used <= self.limit and self.limit > 1), self.threshold)
            self.credit = kept
            return
        used = max(used, among)
        near = used >= self.peak - 1 and 10 * (used - 1) <= 11 * self.peak
        self.slowness = min(32, 2 * self.slowness) if near else 1
        self.peak, self.last_cut, self.full, self.known = used, now, None, None
        self.falling, self.stride = False, Fraction(5, 4)
        cut = max(1, min(self.limit - 1, 4 * used // 5))
        self._set(cut, cut)


@attrs.define
class Steered(Reference):
    """The steered limit: the server's queue has at most four requests, and never none."""

    threshold: int | None = None
    full: bool = False
    reported: bool = False

    def granted(self, used: int) -> None:
        self.full |= used >= self.limit

    def read(self, used: int, load: Load | None) -> None:
        if load is None:
            if not self.reported:
                self.limit, self.full = min(128, self.most), False
            return
        full, self.full, self.reported = self.full, False, True
        if load.waiting > 4:
            self.limit = max(1, min(self.limit, used - load.waiting + 2))
            self.threshold = self.limit
        elif load.waiting:
            self.threshold = self.limit if self.threshold is None else min(self.threshold, self.limit)
        elif full and load.cache <= 0.95 and self.limit < self.most:
            slow = self.threshold is not None and self.limit >= self.threshold
            self.limit = min(self.most, self.limit + (4 if slow else self.limit))


@attrs.frozen
class Kind:
    """The arguments of a limit."""

    name: Literal["fixed", "adaptive", "steered"]
    most: int
    start: int = 1
    rpm: float | None = None
    tpm: float | None = None

    def limits(self) -> Limits:
        match self.name:
            case "fixed":
                return fixed(self.most, rpm=self.rpm, tpm=self.tpm)
            case "adaptive":
                return adaptive(self.most, start=self.start, rpm=self.rpm, tpm=self.tpm)
            case "steered":
                return steered(self.most, start=self.start, rpm=self.rpm, tpm=self.tpm)

    def reference(self) -> Reference:
        match self.name:
            case "fixed":
                return Reference(self.most, self.most)
            case "adaptive":
                return Adaptive(self.most, min(self.start, self.most), min(self.start, self.most))
            case "steered":
                return Steered(self.most, min(self.start, self.most))


def reference(limits: Limits) -> Reference:
    """Return the reference model of a limit."""
    begin = limits.begin().limit
    if str(limits).startswith("adaptive"):
        return Adaptive(limits.most, begin, begin)
    return Steered(limits.most, begin) if str(limits).startswith("steered") else Reference(limits.most, begin)


RPM = st.sampled_from([None, None, 60.0, 120.0, 960.0, 1.5])
TPM = st.sampled_from([None, None, 6000.0, 61440.0])
KINDS = st.builds(
    Kind,
    st.sampled_from(["adaptive", "adaptive", "adaptive", "steered", "steered", "fixed"]),
    st.sampled_from([1, 2, 7, 20, 64, 512]),
    st.sampled_from([1, 2, 3, 8, 16, 40]),
    RPM,
    TPM,
)


@attrs.frozen
class Happening:
    """A happening at a limit.

    ``used`` is the number of slots in use, relative to the limit.  ``age`` is the time since the request was sent,
    ``after`` the time since the previous happening.  It happens ``times`` times, ``apart`` seconds between.  The reply
    has ``tokens``.  ``"busy"`` is a reading before which every slot was in use.  ``waiting`` is what a reading reports,
    or the slots in use when a throttled request was sent.
    """

    what: Literal["granted", "answered", "cancelled", "throttled", "read", "busy", "unread"]
    used: int = 0
    after: float = 0.25
    age: float = 0.5
    times: int = 1
    waiting: int = 0
    cache: float = 0.5
    apart: float = 0.0
    tokens: int = 50


HAPPENINGS = st.lists(
    st.builds(
        Happening,
        st.sampled_from(["granted", *3 * ["answered"], "cancelled", "throttled", "busy", "busy", "read", "unread"]),
        st.sampled_from([0, 0, 0, 0, -1, 1, -3, 9]),
        st.sampled_from([0.0, 0.25, 1.0, 4.75, 5.0, 6.0, 6.0]),
        st.sampled_from([0.0, 0.25, 0.5, 4.0, 7.0]),
        st.sampled_from([1, 1, 2, 5, 33]),
        st.sampled_from([0, 0, 0, 1, 3, 4, 5, 6, 40]),
        st.sampled_from([0.0, 0.5, 0.95, 0.96]),
        st.sampled_from([0.0, 0.0, 0.5, 4.0]),
        st.sampled_from([0, 50, 50, 400]),
    ),
    min_size=1,
    max_size=25,
)

TRIALS = st.lists(
    st.builds(
        lambda what, seconds, times, tokens: Happening(
            what, 0, 6.0, seconds, times, apart=seconds + 0.25, tokens=tokens
        ),
        st.sampled_from(["answered", "answered", "answered", "cancelled", "throttled"]),
        st.sampled_from([0.5, 1.0, 1.0, 1.25, 2.0, 4.0]),
        st.sampled_from([1, 8, 8, 20, 60]),
        st.sampled_from([50, 50, 60, 400]),
    ),
    min_size=1,
    max_size=25,
)
"""One reply after the other while every slot is in use, which is how a limit tries growth."""


def moves(kind: Kind, history: Sequence[Happening]) -> None:
    """I4: after every happening a limit is what its rule says, and within its bounds."""
    limits, said = kind.limits(), kind.reference()
    level, now = limits.begin(), 0.0
    expect(level.limit == said.limit, f"I4: {limits} begins at {level.limit}, expected {said.limit}")
    expect(limits.flaw() is None, f"I4: {limits} is said to have a flaw: {limits.flaw()}")
    expect(limits.reads == (kind.name == "steered"), f"I4: {limits} says of readings {limits.reads}")
    for happening in history:
        now += happening.after
        for number in range(happening.times):
            now += happening.apart if number else 0.0
            level = _both(limits, level, said, happening, now)
            where = f"{happening} at {now} of {history}"
            expect(level.limit == said.limit, f"I4: {limits} is {level.limit}, expected {said.limit} after {where}")
            expect(1 <= level.limit <= limits.most, f"I4: {limits} is {level.limit} after {where}")


def _both(limits: Limits, level: Level, said: Reference, happening: Happening, now: float) -> Level:
    """Apply one happening to a limit and its reference model; return the limit's new level."""
    used, sent_at = max(1, level.limit + happening.used), now - happening.age
    match happening.what:
        case "granted":
            said.granted(used)
            return limits.granted(level, used)
        case "answered":
            said.answered(used, sent_at, now, happening.tokens)
            return limits.answered(level, used, sent_at, now, happening.tokens)
        case "cancelled":
            said.cancelled(used, sent_at, now)
            return limits.cancelled(level, used, sent_at, now)
        case "throttled":
            said.throttled(used, sent_at, now, happening.waiting)
            return limits.throttled(level, used, sent_at, now, happening.waiting)
        case "read" | "busy" | "unread":
            if happening.what == "busy":
                said.granted(level.limit)
                level = limits.granted(level, level.limit)
            load = Load(used, happening.waiting, happening.cache) if happening.what != "unread" else None
            said.read(used, load)
            return limits.read(level, used, load, now)


def written(kind: Kind) -> None:
    """I4: the text of a limit parses to the same limit, with the stated rates."""
    limits = kind.limits()
    expect(parse_limits(str(limits)) == limits, f"I4: {limits!r} is written as {limits}")
    if kind.name != "fixed":
        begins = parse_limits(f"{kind.name}({kind.most})").begin().limit
        expect(begins == 1, f"I4: {kind.name}({kind.most}) begins at {begins}")
    for wrong in (f"{limits}!", f"broad({kind.most})", f"{kind.name}({kind.most}..)", f" {limits}", f"{kind.name}()"):
        told = refusal(lambda wrong=wrong: parse_limits(wrong))  # type: ignore[misc]
        expect(told is not None and repr(wrong) in told, f"I4: {wrong} is read as a limit")
    rates = {of: rate for of, rate in (("requests", kind.rpm), ("tokens", kind.tpm)) if rate is not None}
    expect(dict(limits.stated) == rates, f"I4: {limits} states {dict(limits.stated)}")
    follows = {of: limits.learns(of) for of in ("requests", "tokens", "prompt_tokens", "completion_tokens")}
    own = {of: (kind.rpm if of == "requests" else kind.tpm) is None for of in follows}
    expect(follows == own, f"I4: {limits} follows an API in {follows}")


WRONG: Sequence[Limits] = (
    fixed(0), fixed(-1), fixed(True), fixed(1.5), fixed(4, rpm=0.0), fixed(4, rpm=-1.0), fixed(4, tpm=0.0),  # type: ignore[arg-type]
    adaptive(0), adaptive(8, start=0), adaptive(8, start=True), steered(0), steered(8, start=0),
    steered(8, tpm=-2.0), adaptive(8, rpm="x"), steered(8, start=1.5),  # type: ignore[arg-type]
)  # fmt: skip
SOUND: Sequence[Limits] = (
    fixed(1), fixed(1, rpm=0.001, tpm=0.001), fixed(2, rpm=1), adaptive(1, start=1), steered(1, start=1), adaptive(),
    steered(), adaptive(8, start=9),
)  # fmt: skip


def flaws(place: int) -> None:
    """I4: a limit that would let nothing pass says so; omitted options have the defaults of the signatures."""
    as_said = adaptive(), steered(), adaptive(9), steered(9)
    spelled = adaptive(512, start=16), steered(1024, start=32), adaptive(9, start=16), steered(9, start=32)
    expect(as_said == spelled, f"I4: what is left out makes {as_said}")
    wrong, sound = WRONG[place % len(WRONG)], SOUND[place % len(SOUND)]
    expect(wrong.flaw() is not None, f"I4: {wrong!r} is said to be sound")
    expect(sound.flaw() is None, f"I4: {sound!r} is said to have a flaw: {sound.flaw()}")


# ---- buckets --------------------------------------------------------------------------------------------


@attrs.frozen
class Draught:
    """An action on a bucket ``after`` more seconds: take out, put back, or follow another rate."""

    what: Literal["take", "follow"]
    amount: float
    after: float
    rate: float = 60.0


def holds(rate: float, least: float, history: Sequence[Draught], asked: float) -> None:
    """I4: a bucket fills steadily up to the amount of one second (or ``least``), and may go into debt.

    It knows when it will hold an amount.
    """
    bucket, now, filled, start = Bucket(rate, least, at=1.0), 1.0, max(least, rate / 60), rate
    for draught in history:
        now += draught.after
        filled = min(max(least, rate / 60), filled + draught.after * rate / 60)
        if draught.what == "take":
            bucket.take(draught.amount, now)
            filled = min(filled - draught.amount, max(least, rate / 60))
        else:
            bucket.follow(draught.rate, draught.amount, now)
            rate = draught.rate
            filled = min(filled, draught.amount, max(least, rate / 60))
        of = f"a bucket of {start:g} a minute, at {now} of {history}"
        expect(bucket.holds(now) == filled, f"I4: {of} holds {bucket.holds(now)}, expected {filled}")
        later = min(max(least, rate / 60), filled + 0.5 * rate / 60)
        expect(bucket.holds(now + 0.5) == later, f"I4: {of} holds {bucket.holds(now + 0.5)} then, expected {later}")
        due, never = bucket.due(asked), asked > max(least, rate / 60)
        expect((due == math.inf) == never, f"I4: {of} holds {asked} from {due} on")
        expect(bucket.has(asked, now) == (filled >= asked), f"I4: {of} says that it holds {asked}, or that not")
        if not never and filled < asked:
            expect(bucket.has(asked, due), f"I4: {of} does not hold {asked} when it has said: {due}")
            before = bucket.holds(now + (due - now) * 15 / 16)
            expect(before < asked, f"I4: {of} holds {asked} before it has said: {due}")


# Rates are powers of two per second, and amounts are in 64ths, so that all sums are exact.
EXACT = st.sampled_from([7.5, 60.0, 120.0, 960.0])
DRAUGHTS = st.lists(
    st.builds(
        Draught,
        st.sampled_from(["take", "take", "take", "follow"]),
        st.sampled_from([0.0, 1.0, 0.25, 2.0, 5.0, -1.0, -4.0]),
        st.sampled_from([0.0, 0.25, 0.5, 1.0, 3.0]),
        EXACT,
    ),
    min_size=1,
    max_size=8,
)


# ---- what an API says of its rates ----------------------------------------------------------------------

LIMIT_TIMES = (1.0, 60.0, 3600.0, 86400.0)


def quotas(
    kinds: Sequence[str] = ("requests", "tokens", "prompt_tokens", "completion_tokens"),
) -> st.SearchStrategy[Quota]:
    """Return a strategy for the quotas that an API may report for one of its rates."""
    return st.builds(
        Quota,
        st.sampled_from(kinds),
        st.sampled_from([8.0, 240.0, 1000.0]),
        st.sampled_from([0.0, 1.0, 4.0, 7.0, 12.0, 24.0, 120.0, 239.0, 240.0, 1000.0]),
        st.sampled_from([None, 0.0, 0.004, 0.25, 1.0, 1.25, 2.0, 59.0, 60.0, 61.0, 75.0, 76.0, 4000.0, 1e5, 1e6]),
        seconds=st.sampled_from([None, None, None, 1.0, 60.0, 90.0]),
    )


def expected_rate(known: Rate | None, quota: Quota) -> Rate | None:
    """Return the rate for the shortest usual window that everything reported so far allows."""
    if known is not None and known.limit == quota.limit and quota.left == 0:
        return known
    time = quota.seconds
    if time is None:
        if quota.reset is None:
            return known
        reset = quota.reset if quota.left else quota.reset * 4 / 5
        if reset <= 1:
            telling = reset > 0 and reset * quota.limit <= 2 * (quota.limit - quota.left)
            fitting = [1.0] if telling else []
        else:
            fitting = [t for t in LIMIT_TIMES if t >= reset]
        if not fitting:
            return known
        time = fitting[0]
    if known is not None and known.limit == quota.limit:
        time = max(time, known.seconds)
    return Rate(quota.limit, time)


def learns(told: Sequence[Quota], needed: tuple[int, int, int]) -> None:
    """I4: a learned rate is the reported one, and a 429 belongs to a rate with too little left."""
    known: Rate | None = None
    for quota in told:
        said, expected = learned(known, quota), expected_rate(known, quota)
        expect(said == expected, f"I4: after {known}, {quota} teaches {said}, expected {expected}")
        known = said
        of: dict[str, Rate] = {quota.of: known} if known is not None else {}
        counted = {"requests": needed[0], "tokens": needed[1] + needed[2]}
        counted |= {"prompt_tokens": needed[1], "completion_tokens": needed[2]}
        expect(amount(quota.of, needed) == counted[quota.of], f"I4: {quota.of} of {needed}: {amount(quota.of, needed)}")
        up = known is not None and quota.left < counted[quota.of]
        expect(used_up([quota], of, needed) == up, f"I4: {quota} is used up by {needed}, or is not")
        expect(not used_up([quota], {}, needed), f"I4: a rate is used up of which nothing is known: {quota}")


def paces(limit: float, seconds: float, left: float, estimated: bool) -> None:
    """I4: as many requests are sent as the rate refills.

    More are sent if more has been saved up, or if the API counts less than flashgraph does.  Fewer are sent in the last
    tenth of a minute's amount, down to a quarter.
    """
    rate = Rate(limit, seconds)
    minute = limit * 60 / seconds
    expect(math.isclose(rate.per_minute, minute), f"I4: {rate} is {rate.per_minute} a minute")
    pace = minute
    if estimated and left > limit / 2:
        pace *= 2 * left / limit
    pace = max(pace, left)
    scarce = min(limit, minute) / 10
    if left < scarce:
        pace *= max(0.25, left / scarce)
    said = rate.pace(left, estimated=estimated)
    expect(math.isclose(said, pace), f"I4: {rate} with {left} left is sent {said} a minute, expected {pace}")


def says(of: str, limit: float, seconds: float) -> None:
    """The text of a rate has its kind, its number and its window."""
    said = rate_text(of, limit, seconds)
    times = {1.0: "a second", 60.0: "a minute", 3600.0: "an hour", 86400.0: "a day", 90.0: "in 90 s"}
    expect(said == f"{limit:,.12g} {of.replace('_', ' ')} {times[seconds].replace('an h', 'a h')}", f"it says {said}")


CUT_THERE_AGAIN = [
    Happening("throttled", after=9.0),
    Happening("answered", after=9.0, times=17),
    Happening("throttled", after=9.0),
    Happening("answered", after=9.0, times=400),
]
"""A limit is cut, returns to that level, is cut there again, and then returns more slowly."""

LIMITS: Mapping[str, Property] = {
    "model of limits": Property(
        ("I4",),
        moves,
        {"kind": KINDS, "history": st.one_of(HAPPENINGS, TRIALS)},
        40,
        known=[{"kind": Kind("adaptive", 40, start), "history": CUT_THERE_AGAIN} for start in (10, 11)],
    ),
    "limits as texts": Property(("I4",), written, {"kind": KINDS}, 8),
    "invalid limits": Property(("I4",), flaws, {"place": st.integers(0, len(WRONG) - 1)}, 6),
    "model of buckets": Property(
        ("I4",),
        holds,
        {
            "rate": EXACT,
            "least": st.sampled_from([1.0, 4.0]),
            "history": DRAUGHTS,
            "asked": st.sampled_from([0.25, 1.0, 3.0, 16.0, 17.0]),
        },
        20,
    ),
    "rates that an API reports": Property(
        ("I4",),
        learns,
        {
            "told": st.lists(quotas(), min_size=1, max_size=5),
            "needed": st.tuples(st.integers(1, 5), st.integers(0, 300), st.integers(0, 300)),
        },
        30,
    ),
    "model of pace": Property(
        ("I4",),
        paces,
        {
            "limit": st.sampled_from([8.0, 240.0, 1000.0]),
            "seconds": st.sampled_from([1.0, 60.0, 3600.0, 86400.0, 90.0]),
            "left": st.floats(0, 1000),
            "estimated": st.booleans(),
        },
        10,
    ),
    "rates in words": Property(
        ("I4",),
        says,
        {
            "of": st.sampled_from(["requests", "prompt_tokens"]),
            "limit": st.sampled_from([1.0, 240.0, 150_000.0]),
            "seconds": st.sampled_from([1.0, 60.0, 3600.0, 86400.0, 90.0]),
        },
        2,
    ),
}
