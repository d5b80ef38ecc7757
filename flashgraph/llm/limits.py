"""Limits of an endpoint: how many requests may be in flight, and how many requests and tokens a minute.

Requests queue on our side, where they can be reordered, dropped as stale or cancelled; in a server they cannot.  So a
limit should be just large enough to keep the server busy.  Every rule is a pure function of events and their times, so
that a replay makes the same decisions.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any, Literal

import attrs

from flashgraph.errors import DataError, Flaw
from flashgraph.llm.probes import ROUNDING, Sample, between, makes_more
from flashgraph.llm.protocol import Load

__all__ = ["Level", "Limits", "adaptive", "fixed", "parse_limits", "steered"]

DOUBLE = 2.0
FINE = 1.25
"""Factors of a trial's limit: at first, and once the server's order of magnitude is known."""

STEPS = 32
"""Above the ceiling that a 429 has set, the limit rises by 1/32 of itself, but at least by one."""

UNSEEN = Sample(0)


@attrs.frozen
class Level:
    """A limit at one moment, and its history.

    The growth: ``credit`` counts answers towards the next step.  At ``ceiling`` growth changes from doubling to single
    steps.  ``peak`` is the number in use before the last cut, at ``cut_at``; near it a step takes ``rounds`` round
    trips.  Answers before ``quiet_until`` are ignored.  ``reason`` is that of the last change.

    The server's queue: ``full`` says that every slot was in use since the last reading, ``was_read`` that there was a
    reading.

    The trials: ``full_at`` is when every slot was last in use.  ``known`` is the throughput at the best limit,
    ``sample`` the measurements at this one.  ``stride`` is the ratio of a trial's limit to the known one.  ``down``
    says that the next trial is of a smaller limit; it begins after ``waits`` round trips.
    """

    limit: int
    credit: float = 0.0
    ceiling: float = math.inf
    cut_at: float = -math.inf
    peak: int = 0
    rounds: int = 1
    quiet_until: float = -math.inf
    full: bool = False
    was_read: bool = False
    reason: str = ""
    full_at: float = -math.inf
    known: Sample | None = None
    sample: Sample = UNSEEN
    stride: float = DOUBLE
    down: bool = False
    waits: int = 1


@attrs.frozen
class Limits:
    """A fixed limit of ``most`` requests, and the rates; the base class of moving limits.

    ``rpm`` and ``tpm`` are requests and tokens (of prompts and replies) a minute.  The methods return the level after
    an event; ``used`` counts the slots in use at that moment, including that of the event.
    """

    most: int
    rpm: float | None = attrs.field(default=None, kw_only=True)
    tpm: float | None = attrs.field(default=None, kw_only=True)

    def begin(self) -> Level:
        """Return the level at the start of a run."""
        return Level(self.most)

    def granted(self, level: Level, used: int) -> Level:
        """Return the level after a request was sent."""
        return level

    def answered(self, level: Level, used: int, sent_at: float, now: float, tokens: float = 0.0) -> Level:
        """Return the level after a request got a good reply of that many tokens."""
        return level

    def cancelled(self, level: Level, used: int, sent_at: float, now: float) -> Level:
        """Return the level after a request was cancelled without an answer."""
        return level

    def throttled(self, level: Level, used: int, sent_at: float, now: float, among: int = 0) -> Level:
        """Return the level after a 429; ``among`` slots were in use when its request was sent."""
        return level

    def read(self, level: Level, used: int, load: Load | None, now: float) -> Level:
        """Return the level after a reading of the server's load; None if the reading failed."""
        return level

    @property
    def reads(self) -> bool:
        """Return whether `read` uses readings of the server's load."""
        return False

    @property
    def stated(self) -> Mapping[str, float]:
        """Return the given rates a minute, by kind (`flashgraph.llm.rates.COUNTED`)."""
        return {of: rate for of, rate in (("requests", self.rpm), ("tokens", self.tpm)) if rate is not None}

    def learns(self, of: str) -> bool:
        """Return whether the API's own statements of this rate are followed.

        They are not if a rate was given, so that a user can correct an API that is wrong.
        """
        return (self.rpm if of == "requests" else self.tpm) is None

    def flaw(self) -> Flaw | None:
        """Return the mistake that would prevent every request, or None."""
        fix = "limit=8 allows 8 requests in flight"
        if not _is_whole(self.most):
            return Flaw(f"limit={self.most!r}", "a whole number from 1", fix)
        for name, rate in (("rpm", self.rpm), ("tpm", self.tpm)):
            if rate is not None and not (isinstance(rate, int | float) and rate > 0):
                return Flaw(f"{name}={rate!r}", "a number over 0", f"{name}=60 allows one a second, or leave it out")
        return None

    def __str__(self) -> str:
        rates = [f"{name}={value!r}" for name, value in (("rpm", self.rpm), ("tpm", self.tpm)) if value is not None]
        return ", ".join([self._shown(), *rates])

    def _shown(self) -> str:
        return f"fixed({self.most})"


def _is_whole(number: Any) -> bool:
    return isinstance(number, int) and not isinstance(number, bool) and number >= 1


def _start(start: Any) -> Flaw | None:
    return None if _is_whole(start) else Flaw(f"start={start!r}", "a whole number from 1", "start=16, or leave it out")


@attrs.frozen
class Adaptive(Limits):
    """For an API with an unknown limit, above which it answers 429, or queues silently.

    Only events at moments when every slot is in use count, because an idle connection proves nothing.

    **Growth.**  Each accepted request adds one; a cancelled one adds its share of the usual time.  The limit grows so
    until it is ``stride`` times the one with known throughput.  There a sample of answers has to show that throughput
    is higher (`flashgraph.llm.probes`).  If it is, the limit grows further, by larger strides.  If not, the limit
    returns to the point where throughput stopped rising, its ceiling.  From then on a smaller and a larger limit are
    tried in turn, each after some round trips.  Their number doubles, up to ``patience``, whenever neither is better.

    **Refusals.**  A 429 cuts the limit to ``cut`` of the slots in use, now or when its request was sent, because others
    may have been cancelled since.  That is its ceiling; above it a step takes a round trip.  Each further cut near
    the same point doubles the round trips of a step there, up to ``patience``.  More 429s for requests from before the
    cut do not cut again, but none of them frees a slot.  For ``cooldown`` seconds after a cut, nothing else counts.
    """

    start: int = attrs.field(kw_only=True)
    cut: float = attrs.field(default=0.8, kw_only=True)
    cooldown: float = attrs.field(default=5.0, kw_only=True)
    patience: int = attrs.field(default=32, kw_only=True)

    def begin(self) -> Level:
        limit = min(self.start, self.most)
        return Level(limit, sample=Sample(limit))

    def answered(self, level: Level, used: int, sent_at: float, now: float, tokens: float = 0.0) -> Level:
        level = _seen(level, used, now)
        if level.full_at != now:
            return level
        limit = level.limit
        if sent_at > level.sample.since:
            level = attrs.evolve(level, sample=level.sample.with_answer(tokens, now - sent_at))
            if level.sample.is_precise:
                level = self._judged(level)
        return self._let_in(level, 1.0) if level.limit == limit else level

    def cancelled(self, level: Level, used: int, sent_at: float, now: float) -> Level:
        level = _seen(level, used, now)
        known = level.known
        if level.full_at != now or known is None or not known.seconds:
            return level
        return self._let_in(level, min(1.0, (now - sent_at) * known.count / known.seconds))

    def _let_in(self, level: Level, share: float) -> Level:
        """Count an accepted request: the limit grows, or a trial of another one begins."""
        if self._awaits_sample(level):
            return level
        down = level.limit >= self.most or (level.down and level.limit > 1)
        slow = down or level.limit >= level.ceiling
        trips = max(level.waits, level.rounds if self._is_near(level.limit, level.peak) else 1)
        credit = level.credit + (share / (level.limit * trips) if slow else share)
        if credit < 1 - ROUNDING:
            return attrs.evolve(level, credit=credit)
        if down:
            limit = max(1, int(level.limit / level.stride))
            return _moved(level, limit, credit=0.0, reason="trying a smaller limit")
        if slow and not level.peak:
            return attrs.evolve(level, credit=0.0, ceiling=math.inf)
        limit = min(level.limit + (max(1, level.limit // STEPS) if slow else 1), self._bound(level))
        return _moved(level, limit, credit=credit - 1, reason="every slot was busy")

    def _awaits_sample(self, level: Level) -> bool:
        if level.known is None or level.limit < level.known.limit:
            return True
        return level.known.limit < level.limit >= self._bound(level)

    def _bound(self, level: Level) -> int:
        """Return how far the limit may grow before throughput there is measured."""
        known = level.limit if level.known is None else level.known.limit
        return min(self.most, max(known + 1, int(known * level.stride)))

    def _judged(self, level: Level) -> Level:
        """Compare throughput at this limit with the known one, and begin another sample."""
        sample, known = level.sample, level.known
        level = attrs.evolve(level, sample=Sample(sample.limit, sample.since))
        if known is None or sample.limit == known.limit:
            return attrs.evolve(level, known=sample)
        if sample.limit > known.limit:
            return self._judged_larger(level, known, sample) if sample.limit >= self._bound(level) else level
        if makes_more(sample, known):
            waits = min(2 * level.waits, self.patience)
            reason = f"throughput is lower with {sample.limit}"
            return _settled(level, known.limit, reason, known=known, down=False, waits=waits, stride=FINE)
        limit = between(sample, known)
        if limit == sample.limit:
            return attrs.evolve(level, known=sample, waits=1)
        reason = f"throughput is no higher with {known.limit}"
        return _settled(level, limit, reason, known=None, down=False, waits=1, stride=FINE)

    def _judged_larger(self, level: Level, known: Sample, sample: Sample) -> Level:
        if makes_more(known, sample):
            return attrs.evolve(level, known=sample, waits=1, stride=min(DOUBLE, level.stride**2))
        limit = between(known, sample)
        # The first limit may be far too large, so the way down is as steep as the way up.
        stride = level.stride if limit == min(self.start, self.most) else FINE
        reason = f"throughput is no higher with {sample.limit}"
        return _settled(level, limit, reason, known=None, down=True, stride=stride)

    def throttled(self, level: Level, used: int, sent_at: float, now: float, among: int = 0) -> Level:
        if sent_at <= level.cut_at or now < level.quiet_until:
            limit = level.limit if used > level.limit else max(1, level.limit - 1)
            return _moved(level, limit, reason="more 429s for earlier requests")
        used = max(used, among)
        limit = max(1, min(level.limit - 1, int(self.cut * used)))
        rounds = min(2 * level.rounds, self.patience) if self._is_near(used, level.peak) else 1
        level = attrs.evolve(
            level, peak=used, rounds=rounds, cut_at=now, quiet_until=now + self.cooldown, full_at=-math.inf
        )
        return _settled(level, limit, "429 (too many requests)", known=None, down=False, stride=FINE)

    def _is_near(self, limit: int, peak: int) -> bool:
        return peak - 1 <= limit <= 1.1 * peak + 1

    def flaw(self) -> Flaw | None:
        return super().flaw() or _start(self.start)

    def _shown(self) -> str:
        return f"adaptive({self.start}..{self.most})"


def _seen(level: Level, used: int, now: float) -> Level:
    """Record that every slot is in use, if so; requests sent from then on are sampled."""
    if used < level.limit or now < level.quiet_until or level.full_at == now:
        return level
    sample = level.sample if level.sample.since < math.inf else attrs.evolve(level.sample, since=now)
    return attrs.evolve(level, full_at=now, sample=sample)


def _moved(level: Level, limit: int, **changes: Any) -> Level:
    """Return the level at another limit; requests sent before every slot is in use are not part of its sample."""
    if limit == level.limit:
        return attrs.evolve(level, **changes)
    return attrs.evolve(level, limit=limit, sample=Sample(limit, math.inf), **changes)


def _settled(level: Level, limit: int, reason: str, **changes: Any) -> Level:
    """Return the level at a limit that is its ceiling from now on."""
    return _moved(level, limit, credit=0.0, ceiling=float(limit), reason=reason, **changes)


@attrs.frozen
class Steered(Limits):
    """For a server that reports its queue, as vLLM does: the queue is kept short and never empty.

    While the queue is empty and every slot was in use, the limit grows.  It doubles until a queue is seen, and then
    rises by ``queue`` a reading.  If more than ``queue`` requests are queued, all but half of ``queue`` are too many.
    The limit becomes the number in use without them, and keeps it while they leave, however often they are seen.

    A server whose cache use is above ``cache`` gets no more, because it would evict work in progress.  A server that
    never reported anything gets ``blind`` requests; for others, a missing reading changes nothing.
    """

    start: int = attrs.field(kw_only=True)
    queue: int = attrs.field(default=4, kw_only=True)
    cache: float = attrs.field(default=0.95, kw_only=True)
    blind: int = attrs.field(default=128, kw_only=True)

    @property
    def reads(self) -> bool:
        return True

    def begin(self) -> Level:
        return Level(min(self.start, self.most))

    def granted(self, level: Level, used: int) -> Level:
        return level if level.full or used < level.limit else attrs.evolve(level, full=True)

    def read(self, level: Level, used: int, load: Load | None, now: float) -> Level:
        if load is None:
            blind = min(self.blind, self.most)
            unknown = attrs.evolve(level, full=False, limit=blind, reason="the server does not report its load")
            return level if level.was_read else unknown
        was, level = level, attrs.evolve(level, full=False, was_read=True)
        if load.waiting > self.queue:
            limit = max(1, min(was.limit, used - (load.waiting - self.queue // 2)))
            return attrs.evolve(level, limit=limit, ceiling=float(limit), reason=f"{load.waiting} queued in the server")
        if load.waiting > 0:
            return attrs.evolve(level, ceiling=min(was.ceiling, float(was.limit)))
        if not was.full or load.cache > self.cache or was.limit >= self.most:
            return level
        step = was.limit if was.limit < was.ceiling else self.queue
        limit = min(was.limit + step, self.most)
        return attrs.evolve(level, limit=limit, reason="server queue empty, every slot was busy")

    def flaw(self) -> Flaw | None:
        return super().flaw() or _start(self.start)

    def _shown(self) -> str:
        return f"steered({self.start}..{self.most})"


def fixed(most: int, *, rpm: float | None = None, tpm: float | None = None) -> Limits:
    """Allow ``most`` requests in flight."""
    return Limits(most, rpm=rpm, tpm=tpm)


def adaptive(most: int = 512, *, start: int = 16, rpm: float | None = None, tpm: float | None = None) -> Limits:
    """Allow as many requests in flight as an API takes without a 429, between 1 and ``most``."""
    return Adaptive(most, start=start, rpm=rpm, tpm=tpm)


def steered(most: int = 1024, *, start: int = 32, rpm: float | None = None, tpm: float | None = None) -> Limits:
    """Allow as many requests in flight as keep a server's reported queue short, between 1 and ``most``."""
    return Steered(most, start=start, rpm=rpm, tpm=tpm)


Kind = Literal["fixed", "adaptive", "steered"]
NUMBER = r"[0-9.e+-]+"
FORM = re.compile(rf"(fixed|adaptive|steered)\((?:(\d+)\.\.)?(\d+)\)((?:, (?:rpm|tpm)={NUMBER})*)")


def parse_limits(text: str) -> Limits:
    """Return the limits that ``str`` wrote as ``text``.  Raises `DataError` for anything else."""
    found = FORM.fullmatch(text)
    if found is None:
        raise DataError(f"limits {text!r}: expected fixed(32), adaptive(16..512) or steered(32..1024), and rates")
    kind, start, most, rates = found.groups()
    given = {name: float(value) for name, value in re.findall(rf"(rpm|tpm)=({NUMBER})", rates)}
    if kind == "fixed":
        return fixed(int(most), rpm=given.get("rpm"), tpm=given.get("tpm"))
    made = adaptive if kind == "adaptive" else steered
    return made(int(most), start=int(start or 1), rpm=given.get("rpm"), tpm=given.get("tpm"))
