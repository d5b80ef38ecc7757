"""Release rules of gathering edges: when a group is released before all its members have arrived.

Without an early release, a group is released when every member has ended.  `fraction` is the paper's speculative
completion (FlashEvolve, mechanism 3).
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Sequence
from typing import Any

import attrs

from flashgraph.errors import Flaw
from flashgraph.graph.ports import Group

__all__ = ["All", "count", "deadline", "decided", "everyone", "fraction", "sampled"]


@attrs.frozen
class All:
    """Wait for every member."""

    def ready(self, group: Group[Any, Any], arrived: int, elapsed: float) -> bool:
        """Return whether ``group`` may be released now.

        ``arrived`` is the number of members that have arrived, ``elapsed`` the seconds since the scatter.
        """
        return arrived >= group.size

    def needs(self, size: int) -> int:
        """Return how many members of a group of ``size`` are enough; ``size`` if their number does not decide."""
        return size

    def sends(self, size: int) -> int:
        """Return how many members of a group of ``size`` are sent out."""
        return size

    def deadline(self) -> float | None:
        """Return the seconds after the scatter at which to call `ready` again; None for a rule without a timer."""
        return None

    def flaw(self) -> Flaw | None:
        return None

    def __str__(self) -> str:
        return "all"


@attrs.frozen
class Fraction(All):
    share: float
    least: int

    def ready(self, group: Group[Any, Any], arrived: int, elapsed: float) -> bool:
        return arrived >= self.needs(group.size)

    def needs(self, size: int) -> int:
        # The slack covers rounding errors: as floats, 0.07 * 100 > 7, and its ceiling would be 8.
        return max(math.ceil(self.share * size - 1e-9), min(self.least, size))

    def flaw(self) -> Flaw | None:
        if not 0 < self.share <= 1:
            return Flaw(f"fraction({self.share!r})", "a share over 0 and at most 1", "fraction(0.5) waits for half")
        if not isinstance(self.least, int) or self.least < 1:
            fix = "fraction(0.5, least=20) waits for half of the members, but at least 20"
            return Flaw(f"fraction({self.share:g}, least={self.least!r})", "a whole number from 1", fix)
        return None

    def __str__(self) -> str:
        return f"fraction({self.share:g})" if self.least == 1 else f"fraction({self.share:g}, least={self.least})"


@attrs.frozen
class Count(All):
    members: int

    def ready(self, group: Group[Any, Any], arrived: int, elapsed: float) -> bool:
        return arrived >= self.needs(group.size)

    def needs(self, size: int) -> int:
        return min(self.members, size)

    def flaw(self) -> Flaw | None:
        if isinstance(self.members, int) and self.members >= 1:
            return None
        return Flaw(f"count({self.members!r})", "a whole number from 1", "count(1) releases with the first member")

    def __str__(self) -> str:
        return f"count({self.members})"


@attrs.frozen
class Sampled(All):
    members: int
    share: float

    def ready(self, group: Group[Any, Any], arrived: int, elapsed: float) -> bool:
        return arrived >= self.needs(group.size)

    def needs(self, size: int) -> int:
        return math.ceil(self.share * self.sends(size) - 1e-9)

    def sends(self, size: int) -> int:
        return min(self.members, size)

    def flaw(self) -> Flaw | None:
        if not isinstance(self.members, int) or self.members < 1:
            return Flaw(f"sampled({self.members!r})", "a whole number from 1", "sampled(24) tries 24 members")
        if 0 < self.share <= 1:
            return None
        fix = "sampled(24, share=0.67) releases with two thirds of them"
        return Flaw(f"sampled({self.members}, share={self.share!r})", "a share over 0 and at most 1", fix)

    def __str__(self) -> str:
        return f"sampled({self.members}, {self.share:g})"


@attrs.frozen
class Deadline(All):
    seconds: float

    def ready(self, group: Group[Any, Any], arrived: int, elapsed: float) -> bool:
        # The slack covers rounding errors in the timer's sum.
        return arrived >= group.size or (arrived > 0 and elapsed >= self.seconds - 1e-9)

    def deadline(self) -> float | None:
        return self.seconds

    def flaw(self) -> Flaw | None:
        if self.seconds > 0:
            return None
        return Flaw(f"deadline({self.seconds!r})", "seconds over 0", "deadline(30) releases after 30 s")

    def __str__(self) -> str:
        return f"deadline({self.seconds:g}s)"


@attrs.frozen
class Decided(All):
    predicate: Any

    def ready(self, group: Group[Any, Any], arrived: int, elapsed: float) -> bool:
        return arrived >= group.size or bool(self.predicate(group))

    def flaw(self) -> Flaw | None:
        if callable(self.predicate):
            return None
        return Flaw(
            f"decided({self.predicate!r})",
            "a function that takes the group so far and returns a bool",
            "pass a function",
        )

    def __str__(self) -> str:
        return f"decided({getattr(self.predicate, '__name__', 'predicate')})"


RARER = 2.5
"""Members that all recent groups passed are drawn this many times less often: they tell little, but may fail again.
"""


def drawn(strata: Sequence[int], members: int, stream: random.Random) -> list[int]:
    """Return the indices of ``members`` members: a random part of each stratum, `RARER` times less often from stratum
    1.
    """
    due: dict[int, float] = {}
    for stratum in sorted(set(strata)):
        places = [place for place, own in enumerate(strata) if own == stratum]
        stream.shuffle(places)
        each = (RARER if stratum else 1.0) / len(places)
        due.update({place: (rank + 0.5) * each for rank, place in enumerate(places)})
    # Ties go to the smaller stratum. If they went by index, the first members would be drawn more often.
    return sorted(due, key=lambda place: (due[place], strata[place], place))[:members]


def everyone() -> All:
    """Wait for every member (``all`` in settings); the default."""
    return All()


def fraction(share: float, *, least: int = 1) -> All:
    """Release with ``ceil(share * size)`` members, but at least ``least``, or all members of a smaller group.

    Use ``least`` for small groups: the mean of a few members is noise, whatever share of the group they are.
    """
    return Fraction(share, least)


def count(members: int) -> All:
    """Release with ``members`` members, or with all members of a smaller group."""
    return Count(members)


def sampled(members: int, *, share: float = 1.0) -> All:
    """Send out ``members`` random members of a group, and release with ``share`` of those.

    The other members are not sent. On a scatter with ``order=fg.discriminative()``, members are drawn by strata
    (`Group.strata`), from which `flashgraph.evidence.weigh` estimates the whole group's mean without bias.
    """
    return Sampled(members, share)


def deadline(seconds: float) -> All:
    """Release ``seconds`` after the scatter with the members that have arrived, or later with the first one."""
    return Deadline(seconds)


def decided(predicate: Callable[[Group[Any, Any]], bool]) -> All:
    """Release once ``predicate(group)`` is true, for instance because the open members cannot change the outcome.

    In ``group``, members that have not ended have the state ``"open"``.
    """
    return Decided(predicate)
