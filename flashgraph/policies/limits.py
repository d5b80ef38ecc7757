"""Limits of an endpoint: how many requests may be out at once, and how many requests and tokens a minute.

Queueing is ours: what waits here can still be re-ordered, dropped as stale or cancelled, what waits in a server cannot.
So a limit is to be as large as keeps the server busy, and no larger.  Every rule is a pure function of what happened
and when, so that a run which is told again decides alike.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any, Literal

import attrs

from flashgraph.errors import DataError
from flashgraph.graph.spec import Flaw
from flashgraph.llm.protocol import Load

__all__ = ["Bucket", "Level", "Limits", "adaptive", "fixed", "parse_limits", "steered"]

BURST_SECONDS = 1.0
"""How much of a rate may be used at once: a second's share.  A larger burst would break a provider's count over any
window that begins after it."""


@attrs.frozen
class Level:
    """A limit at one moment, and what led there.

    ``credit`` are answers that count towards the next growth, ``ceiling`` is where growth turns from doubling to steps
    of one; ``cut_at`` is when it was last cut, ``peak`` from where, ``rounds`` how many round trips a step near there
    takes, ``quiet_until`` until when answers say nothing; ``full`` says that every slot has been in use since the last
    reading of the server, ``told`` that there has been one, ``reason`` why the limit last changed.
    """

    limit: int
    credit: float = 0.0
    ceiling: float = math.inf
    cut_at: float = -math.inf
    peak: int = 0
    rounds: int = 1
    quiet_until: float = -math.inf
    full: bool = False
    told: bool = False
    reason: str = ""


@attrs.frozen
class Limits:
    """A fixed limit of ``most`` requests, and the rates; the base of those that move.

    ``rpm`` and ``tpm`` are requests and tokens (of prompts and replies) a minute.  The methods return the level after
    what they are told; ``used`` counts the slots in use at that moment, with the one that is told of.
    """

    most: int
    rpm: float | None = attrs.field(default=None, kw_only=True)
    tpm: float | None = attrs.field(default=None, kw_only=True)

    def begin(self) -> Level:
        """The level at the start of a run."""
        return Level(self.most)

    def granted(self, level: Level, used: int) -> Level:
        """A request was sent."""
        return level

    def answered(self, level: Level, used: int, sent_at: float, now: float) -> Level:
        """A request was answered well."""
        return level

    def throttled(self, level: Level, used: int, sent_at: float, now: float) -> Level:
        """A request was answered with "too many requests"."""
        return level

    def read(self, level: Level, used: int, load: Load | None, now: float) -> Level:
        """The server said how full it is; None: it could not be asked."""
        return level

    @property
    def reads(self) -> bool:
        """Whether `read` has any use for what a server says."""
        return False

    @property
    def stated(self) -> Mapping[str, float]:
        """The rates a minute that were given, by kind (`flashgraph.policies.rates.COUNTED`)."""
        return {of: rate for of, rate in (("requests", self.rpm), ("tokens", self.tpm)) if rate is not None}

    def learns(self, of: str) -> bool:
        """Whether an API is followed in what it says of its rate of this kind: not where a rate was given, which then
        is how to get by with an API that is wrong about itself."""
        return (self.rpm if of == "requests" else self.tpm) is None

    def flaw(self) -> Flaw | None:
        """What keeps every request from being sent, if anything does."""
        fix = "limit=8 has 8 requests out at once"
        if not _is_whole(self.most):
            return Flaw(f"limit={self.most!r}", "a whole number from 1", fix)
        for name, rate in (("rpm", self.rpm), ("tpm", self.tpm)):
            if rate is not None and not (isinstance(rate, int | float) and rate > 0):
                return Flaw(f"{name}={rate!r}", "a number over 0", f"{name}=60 lets one a second pass, or leave it out")
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
    """For an API whose limit nobody knows: slow start, additive increase, multiplicative decrease.

    It grows only by answers that came while every slot was in use: an idle connection proves nothing.  Below the
    ceiling each such answer adds one, which doubles the limit every round trip; above it a whole round of them does,
    and where it was cut before it takes twice as many rounds each time that it is cut there again, up to ``patience``:
    an API whose limit does not change is not asked about it for ever.
    Only a 429 cuts it, to ``cut`` of what was in use.  More 429s of requests that were sent before the cut are old
    news, but none of them opens a place: until ``cooldown`` seconds after, the limit follows what is in use, and
    answers do not count.
    """

    start: int = attrs.field(kw_only=True)
    cut: float = attrs.field(default=0.8, kw_only=True)
    cooldown: float = attrs.field(default=5.0, kw_only=True)
    patience: int = attrs.field(default=32, kw_only=True)

    def begin(self) -> Level:
        return Level(min(self.start, self.most))

    def answered(self, level: Level, used: int, sent_at: float, now: float) -> Level:
        if used < level.limit or now < level.quiet_until or level.limit >= self.most:
            return level
        rounds = level.rounds if self._is_near(level.limit, level.peak) else 1
        credit = level.credit + (1.0 if level.limit < level.ceiling else 1.0 / (level.limit * rounds))
        grown = int(credit + 1e-9)
        if not grown:
            return attrs.evolve(level, credit=credit)
        limit = min(level.limit + grown, self.most)
        return attrs.evolve(level, limit=limit, credit=credit - grown, reason="every slot was in use")

    def throttled(self, level: Level, used: int, sent_at: float, now: float) -> Level:
        if sent_at <= level.cut_at or now < level.quiet_until:
            limit = max(1, min(level.limit, used - 1))
            return attrs.evolve(level, limit=limit, reason="more 429s of the same time")
        limit = max(1, min(level.limit - 1, int(self.cut * used)))
        return attrs.evolve(
            level,
            peak=used,
            rounds=min(2 * level.rounds, self.patience) if self._is_near(used, level.peak) else 1,
            limit=limit,
            credit=0.0,
            ceiling=float(limit),
            cut_at=now,
            quiet_until=now + self.cooldown,
            reason="429, too many requests",
        )

    def _is_near(self, limit: int, peak: int) -> bool:
        return peak - 1 <= limit <= 1.1 * peak + 1

    def flaw(self) -> Flaw | None:
        return super().flaw() or _start(self.start)

    def _shown(self) -> str:
        return f"adaptive({self.start}..{self.most})"


@attrs.frozen
class Steered(Limits):
    """For a server that says how many requests wait in it, as vLLM does: its queue is kept short and never empty.

    While nothing waits and every slot was in use, the limit grows: it doubles until a queue has been seen once, and
    then rises by ``queue`` a reading.  Of more than ``queue`` waiting requests, all but half of ``queue`` are too many:
    the limit is what is in use without them, and stays that while they leave, however often they are seen.  A server
    whose cache is above ``cache`` is not given more, since it would throw out what it has begun.  One that has
    never said anything is taken to hold ``blind`` requests; of one that has, a missing reading changes nothing.
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
            unknown = attrs.evolve(level, full=False, limit=blind, reason="the server does not say how full it is")
            return level if level.told else unknown
        was, level = level, attrs.evolve(level, full=False, told=True)
        if load.waiting > self.queue:
            limit = max(1, min(was.limit, used - (load.waiting - self.queue // 2)))
            return attrs.evolve(level, limit=limit, ceiling=float(limit), reason=f"{load.waiting} wait in the server")
        if load.waiting > 0:
            return attrs.evolve(level, ceiling=min(was.ceiling, float(was.limit)))
        if not was.full or load.cache > self.cache or was.limit >= self.most:
            return level
        step = was.limit if was.limit < was.ceiling else self.queue
        limit = min(was.limit + step, self.most)
        return attrs.evolve(level, limit=limit, reason="none waits in the server, and every slot was in use")

    def flaw(self) -> Flaw | None:
        return super().flaw() or _start(self.start)

    def _shown(self) -> str:
        return f"steered({self.start}..{self.most})"


@attrs.define
class Bucket:
    """A rate as a bucket that fills steadily: ``filled`` was in it at ``at``.

    It may go into debt by one request, since what a request takes is known only when it is answered.

    Looking at it changes nothing: sums of floats come out alike however often somebody has looked.
    """

    per_minute: float
    least: float
    """What has to be in it for a request to be sent."""
    filled: float = attrs.field(init=False)
    at: float = attrs.field(default=0.0, kw_only=True)

    def __attrs_post_init__(self) -> None:
        self.filled = self.capacity

    @property
    def capacity(self) -> float:
        return max(self.least, self.per_minute / 60 * BURST_SECONDS)

    def holds(self, now: float) -> float:
        """What is in it."""
        return min(self.capacity, self.filled + (now - self.at) * self.per_minute / 60)

    def follow(self, per_minute: float, left: float, now: float) -> None:
        """Fill at another rate from now on, and hold no more than ``left``."""
        self.filled, self.at, self.per_minute = min(self.holds(now), left), now, per_minute
        self.filled = min(self.filled, self.capacity)

    def due(self, amount: float) -> float:
        """When it will hold ``amount``; infinity where that is more than it ever does."""
        if amount > self.capacity:
            return math.inf
        return self.at + max(0.0, amount - self.filled) * 60 / self.per_minute

    def has(self, amount: float, now: float) -> bool:
        """Whether it holds ``amount``.  By `due`, and not by `holds`, which may say a hair less at that very moment:
        who has waited for it would be told to wait, and not for how long."""
        return self.due(amount) <= now

    def take(self, amount: float, now: float) -> None:
        """Take ``amount`` out; a negative one is put back."""
        self.filled, self.at = min(self.capacity, self.holds(now) - amount), now


def fixed(most: int, *, rpm: float | None = None, tpm: float | None = None) -> Limits:
    """At most ``most`` requests at once."""
    return Limits(most, rpm=rpm, tpm=tpm)


def adaptive(most: int = 512, *, start: int = 16, rpm: float | None = None, tpm: float | None = None) -> Limits:
    """As many requests at once as an API takes without answering 429, between 1 and ``most``."""
    return Adaptive(most, start=start, rpm=rpm, tpm=tpm)


def steered(most: int = 1024, *, start: int = 32, rpm: float | None = None, tpm: float | None = None) -> Limits:
    """As many requests at once as leave a short queue in a server that says how many wait, between 1 and ``most``."""
    return Steered(most, start=start, rpm=rpm, tpm=tpm)


Kind = Literal["fixed", "adaptive", "steered"]
NUMBER = r"[0-9.e+-]+"
FORM = re.compile(rf"(fixed|adaptive|steered)\((?:(\d+)\.\.)?(\d+)\)((?:, (?:rpm|tpm)={NUMBER})*)")


def parse_limits(text: str) -> Limits:
    """The limits that ``str`` has written.  Raises `DataError` for anything else."""
    found = FORM.fullmatch(text)
    if found is None:
        raise DataError(f"limits {text!r}: expected fixed(32), adaptive(16..512) or steered(32..1024), and rates")
    kind, start, most, rates = found.groups()
    given = {name: float(value) for name, value in re.findall(rf"(rpm|tpm)=({NUMBER})", rates)}
    if kind == "fixed":
        return fixed(int(most), rpm=given.get("rpm"), tpm=given.get("tpm"))
    made = adaptive if kind == "adaptive" else steered
    return made(int(most), start=int(start or 1), rpm=given.get("rpm"), tpm=given.get("tpm"))
