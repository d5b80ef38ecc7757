"""Release rules of gathering edges: when a group may go on before all of its members are there.

A group that is not released early is released when every member has ended.  The paper's speculative completion
(FlashEvolve, mechanism 3) is `fraction`.
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
        """Whether ``group`` may be released as it is now.

        ``arrived`` counts the members that have arrived, ``elapsed`` is in seconds since the scatter.
        """
        return arrived >= group.size

    def needs(self, size: int) -> int:
        """How many members of a group of ``size`` will do, as far as their number alone can tell."""
        return size

    def sends(self, size: int) -> int:
        """How many members of a group of ``size`` are sent out."""
        return size

    def deadline(self) -> float | None:
        """Seconds after the scatter at which the rule should be asked again, if it depends on time."""
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
        # The small slack keeps ceil(0.07 * 100) at 7, where binary fractions would make it 8.
        return max(math.ceil(self.share * size - 1e-9), min(self.least, size))

    def flaw(self) -> Flaw | None:
        if not 0 < self.share <= 1:
            return Flaw(f"fraction({self.share!r})", "a share over 0 and at most 1", "fraction(0.5) waits for half")
        if not isinstance(self.least, int) or self.least < 1:
            fix = "fraction(0.5, least=20) waits for half, and for 20 if they are more"
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
        return Flaw(f"count({self.members!r})", "a whole number from 1", "count(1) goes on with the first member")

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
        fix = "sampled(24, share=0.67) goes on with two thirds of them"
        return Flaw(f"sampled({self.members}, share={self.share!r})", "a share over 0 and at most 1", fix)

    def __str__(self) -> str:
        return f"sampled({self.members}, {self.share:g})"


@attrs.frozen
class Deadline(All):
    seconds: float

    def ready(self, group: Group[Any, Any], arrived: int, elapsed: float) -> bool:
        # The slack: a timer's sum in floats may fall a hair short of the seconds.
        return arrived >= group.size or (arrived > 0 and elapsed >= self.seconds - 1e-9)

    def deadline(self) -> float | None:
        return self.seconds

    def flaw(self) -> Flaw | None:
        if self.seconds > 0:
            return None
        return Flaw(f"deadline({self.seconds!r})", "seconds over 0", "deadline(30) goes on after 30 s")

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
            f"decided({self.predicate!r})", "a function of the group so far that returns a bool", "pass a function"
        )

    def __str__(self) -> str:
        return f"decided({getattr(self.predicate, '__name__', 'predicate')})"


RARER = 2.5
"""How much less often a member is drawn that recent groups all passed: it tells little, but a change may break it."""


def drawn(strata: Sequence[int], members: int, stream: random.Random) -> list[int]:
    """Return the places of ``members`` members: a random part of each stratum, stratum 1 `RARER` times less densely."""
    due: dict[int, float] = {}
    for stratum in sorted(set(strata)):
        places = [place for place, own in enumerate(strata) if own == stratum]
        stream.shuffle(places)
        each = (RARER if stratum else 1.0) / len(places)
        due.update({place: (rank + 0.5) * each for rank, place in enumerate(places)})
    # Of two that are due at once the stratum decides: by their places, the first ones would be drawn more often.
    return sorted(due, key=lambda place: (due[place], strata[place], place))[:members]


def everyone() -> All:
    """``all``: wait for every member; the default."""
    return All()


def fraction(share: float, *, least: int = 1) -> All:
    """Go on with at least ``ceil(share * size)`` members, and no fewer than ``least`` (or the whole of a smaller
    group): a mean over a handful says little, whatever share of all it is."""
    return Fraction(share, least)


def count(members: int) -> All:
    """Go on with ``members`` members (or the whole of a smaller group)."""
    return Count(members)


def sampled(members: int, *, share: float = 1.0) -> All:
    """Send out a random part of a group, ``members`` of it, and go on with ``share`` of those.

    The rest is not tried.  On a scatter with ``order=fg.discriminative()`` the part is drawn by strata
    (`Group.strata`), from which `flashgraph.evidence.weigh` estimates the whole without bias.
    """
    return Sampled(members, share)


def deadline(seconds: float) -> All:
    """Go on ``seconds`` after the scatter with what is there, at least one member."""
    return Deadline(seconds)


def decided(predicate: Callable[[Group[Any, Any]], bool]) -> All:
    """Go on once ``predicate`` says of the group so far that the rest cannot change the outcome.

    Members that have not ended are ``"open"`` in it; one that has failed or gone missing will not arrive any more.
    """
    return Decided(predicate)
