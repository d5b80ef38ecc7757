"""Orders: of the items in a queue, and of the members that a scatter sends out."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import attrs

from flashgraph.errors import Flaw

__all__ = ["Discriminative", "QueueOrder", "discriminative", "fifo", "freshest", "priority"]


@attrs.frozen
class QueueOrder:
    """An order of a queue: the item with the smallest ``key(value, newest stamp)`` leaves first; ties by age."""

    name: str = "fifo"
    by: Callable[[Any], Any] | None = None

    def key(self, value: Any, version: int) -> Any:
        if self.by is not None:
            return self.by(value)
        return -version if self.name == "freshest" else 0

    def flaw(self) -> Flaw | None:
        if self.name != "priority" or callable(self.by):
            return None
        return Flaw(f"priority({self.by!r})", "a function from the item to a sortable key", "pass such a function")

    def __str__(self) -> str:
        return self.name


@attrs.frozen
class Discriminative:
    """Members that passed in each of the last ``window`` gathered groups go last (FlashEvolve, mechanism 4).

    ``passed`` judges a gathered value.  Members are identified by their index in the scatter, or by ``key``.
    """

    window: int = 3
    passed: Callable[[Any], bool] = attrs.field(default=lambda value: bool(value.passed))
    key: Callable[[Any], Any] | None = None

    def arrange(self, members: Sequence[Any], streaks: Mapping[Any, int]) -> list[int]:
        """Return the indices of ``members`` in sending order; ``streaks`` counts the latest passes in a row."""
        last = self.strata(members, streaks)
        return sorted(range(len(members)), key=lambda i: last[i])

    def strata(self, members: Sequence[Any], streaks: Mapping[Any, int]) -> tuple[int, ...]:
        """Return 1 for each member that would go last, else 0; `fg.sampled` draws members by these strata."""
        return tuple(int(streaks.get(self.identity(i, m), 0) >= self.window) for i, m in enumerate(members))

    def identity(self, index: int, member: Any) -> Any:
        return index if self.key is None else self.key(member)

    def flaw(self) -> Flaw | None:
        if isinstance(self.window, int) and self.window >= 1:
            return None
        return Flaw(f"window={self.window!r}", "a whole number from 1", "discriminative(window=3)")

    def __str__(self) -> str:
        return f"discriminative({self.window})"


def fifo() -> QueueOrder:
    """Take the oldest item first; the default."""
    return QueueOrder()


def freshest() -> QueueOrder:
    """Take the item made from the newest version first."""
    return QueueOrder("freshest")


def priority(by: Callable[[Any], Any]) -> QueueOrder:
    """Take the item with the smallest ``by(value)`` first."""
    return QueueOrder("priority", by)


def discriminative(
    window: int = 3,
    *,
    passed: Callable[[Any], bool] | None = None,
    key: Callable[[Any], Any] | None = None,
) -> Discriminative:
    """Send first the members that still tell candidates apart, because some recent groups failed on them.

    ``passed`` returns whether a gathered value passed; it defaults to the value's ``passed``. ``key`` identifies
    members across groups; it defaults to their index in the scatter.
    """
    return Discriminative(window, passed, key) if passed is not None else Discriminative(window, key=key)
