"""Conformance of a user's own pool with the pure state machine `flashgraph.graph.ports.Pool`."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import flashgraph as fg
from flashgraph.graph.ports import Artifact

__all__ = ["PoolViolation", "check_pool"]


class PoolViolation(AssertionError):
    """A pool breaks the protocol; the text names the event, what was found, what was expected and the fix."""

    def __init__(self, number: int, event: fg.PoolEvent[Any] | None, found: str, expected: str, fix: str) -> None:
        where = "a new pool" if event is None else f"event {number} ({event.kind} artifact {event.artifact})"
        super().__init__(f"{where}: {found}\n    expected: {expected}\n    fix:      {fix}")


def check_pool(factory: Callable[[], Any], events: Iterable[fg.PoolEvent[Any]]) -> Any:
    """Apply ``events`` to a pool and check it against the protocol; return the last value.

    The checks after every event:

    - The value before it, and the event itself, are unchanged.
    - Applying the event again gives an equal value, even after other events; so does applying all events to a new pool.
    - `artifacts` holds `Artifact` values under their own numbers, in order, with scores that are numbers.
    - A retracted artifact is gone, an amended one is not provisional, and one that was never admitted does not appear.
    - `best` is one of the artifacts or None, the same each time.
    - `focus` is a view of the same type that shows nothing else.

    At the end every artifact that is still provisional is retracted, as the scheduler may do.  Events are numbered as
    the scheduler does: ``admit`` counts artifacts from 0.  Raises `PoolViolation`.
    """
    pool = _made(factory)
    applied: list[fg.PoolEvent[Any]] = []
    past: list[tuple[Any, fg.PoolEvent[Any], Any]] = []
    known: set[int] = set()
    _look(pool, 0, None, known)
    for number, event in enumerate(_retracting(events)):
        known.add(event.artifact)
        applied.append(event)
        before, shown, value = copy.deepcopy(pool), _shown(pool), copy.deepcopy(event)
        after = _applied(pool, number, event)
        _expect_numbers(after, number, event)
        if _shown(pool) != shown or pool != before:
            raise PoolViolation(
                number, event, f"apply changed the value it was called on, from {shown} to {_shown(pool)}",
                "an unchanged value, because items still read it as the view of an older version",
                "return a new value: attrs.evolve(self, artifacts={**self.artifacts, ...})",
            )  # fmt: skip
        if event != value:
            raise PoolViolation(
                number, event, "apply changed the event's value",
                "an unchanged value, because a resumed run applies it again",
                "copy the parts that you change",
            )  # fmt: skip
        twice, fresh = _applied(pool, number, event), _made(factory)
        for earlier, one in enumerate(applied):
            fresh = _applied(fresh, earlier, one)
        for other, how in (
            (twice, "applied again to the same value"),
            (fresh, "applied with all before to a new pool"),
        ):
            if other != after or _shown(other) != _shown(after):
                raise _impure(number, event, how, other, after)
        past.append((pool, event, after))
        pool = after
        _look(pool, number, event, known)
        if event.kind == "amend" and event.artifact in pool.artifacts and pool.artifacts[event.artifact].provisional:
            raise PoolViolation(
                number, event, "the artifact is still provisional",
                "an amendment, which has the full evidence, confirms or removes the artifact",
                "handle it like an admission, with provisional=event.partial; do not return self",
            )  # fmt: skip
        if event.kind == "retract" and event.artifact in pool.artifacts:
            raise PoolViolation(
                number, event, "the retracted artifact is still in artifacts",
                "no retracted artifact in any view, because its evidence will never be complete",
                'if event.kind == "retract", drop it: {i: a ... if i != event.artifact}',
            )  # fmt: skip
    _stir(past)
    return pool


def _stir(past: list[tuple[Any, fg.PoolEvent[Any], Any]]) -> None:
    """Apply some events many times, then every event again to its own value: state that a pool keeps outside of its
    value changes the results."""
    for turn, place in enumerate(sorted({round(part * (len(past) - 1) / 4) for part in range(5)} if past else ())):
        before, event, _ = past[place]
        for _ in range(64 << turn):
            _applied(before, place, event)
        for number, (value, applied, after) in enumerate(past):
            other = _applied(value, number, applied)
            if other != after or _shown(other) != _shown(after):
                how = f"applied to the same value after event {place} was applied {64 << turn} times"
                raise _impure(number, applied, how, other, after)


def _impure(number: int, event: fg.PoolEvent[Any], how: str, found: Any, first: Any) -> PoolViolation:
    return PoolViolation(
        number, event, f"{how}, it gives {_shown(found)}; it gave {_shown(first)}",
        "an equal value from the same events, or a resumed run would diverge",
        "make apply depend on self and the event alone (no clock, no random, no counter outside of the value), and "
        "compare by value (@attrs.frozen)",
    )  # fmt: skip


def _retracting(events: Iterable[fg.PoolEvent[Any]]) -> Iterable[fg.PoolEvent[Any]]:
    """Yield the events, then a retraction of everything that is still provisional."""
    last: dict[int, fg.PoolEvent[Any]] = {}
    for event in events:
        if event.kind != "evidence":  # an evidence event does not say whether more is to come
            last[event.artifact] = event
        yield event
    for event in last.values():
        if event.partial:
            yield fg.PoolEvent("retract", event.artifact, event.value)


def _made(factory: Callable[[], Any]) -> Any:
    pool = factory()
    for member in ("apply", "artifacts", "best"):
        if not hasattr(pool, member):
            raise PoolViolation(
                0, None, f"a {type(pool).__name__} has no {member}", "apply, artifacts and best", f"add {member}"
            )
    if copy.deepcopy(pool) != pool:
        raise PoolViolation(
            0, None, f"a copy of a {type(pool).__name__} is not equal to it",
            "a pool that compares by value, because an unchanged pool gets no new version",
            "@attrs.frozen, or __eq__",
        )  # fmt: skip
    return pool


def _applied(pool: Any, number: int, event: fg.PoolEvent[Any]) -> Any:
    try:
        return pool.apply(event)
    except Exception as error:
        raise PoolViolation(
            number, event, f"apply raised {type(error).__name__}: {error}",
            "a value for every event, also an amendment or a retraction of any admitted artifact",
            "return self if the event changes nothing",
        ) from error  # fmt: skip


def _expect_numbers(pool: Any, number: int, event: fg.PoolEvent[Any]) -> None:
    """Raise for a score that is nan, before values are compared: such a value is not equal to itself."""
    unknown = [
        i for i, a in _shown(pool).items() if isinstance(a, Artifact) and a.score is not None and math.isnan(a.score)
    ]
    if unknown:
        raise PoolViolation(
            number, event, f"the score of the artifacts {unknown} is nan, which is not equal to itself",
            "a number, or None without one", "give None if there is no mean, e.g. without members",
        )  # fmt: skip


def _shown(pool: Any) -> dict[int, Artifact]:
    return dict(pool.artifacts)


def _look(pool: Any, number: int, event: fg.PoolEvent[Any] | None, known: set[int]) -> None:
    """Check what a value shows."""
    held = pool.artifacts
    if not isinstance(held, Mapping) or any(not isinstance(a, Artifact) for a in held.values()):
        raise PoolViolation(
            number, event, f"artifacts is {held!r}", "a mapping from numbers to fg.Artifact", "{a.id: a for a in ...}"
        )
    wrong = [i for i, a in held.items() if a.id != i or i not in known]
    if wrong or list(held) != sorted(held):
        raise PoolViolation(
            number, event, f"artifacts has the numbers {list(held)}; {wrong} are wrong or were never admitted",
            "each artifact under its own number, event.artifact, in order of admission",
            "Artifact(event.artifact, ...), and dict(sorted(...)) after an amendment",
        )  # fmt: skip
    best = pool.best()
    others = [other for other in (pool.best() for _ in range(5)) if other != best]
    if others:
        raise PoolViolation(
            number, event, f"best() is {best}, and called again {others[0]}", "the same for the same value",
            "make best depend on self alone: no clock, no random, no counter outside of the value",
        )  # fmt: skip
    if best is not None and held.get(best.id) != best:
        raise PoolViolation(
            number, event, f"best() is {best}, which artifacts does not hold", "one of artifacts, or None",
            "max(self.artifacts.values(), key=..., default=None)",
        )  # fmt: skip
    line = pool.best_line() if hasattr(pool, "best_line") else pool
    if type(line) is not type(pool) or not set(line.artifacts) <= set(held):
        raise PoolViolation(
            number, event, f"best_line() is a {type(line).__name__} with the artifacts {list(line.artifacts)}",
            "the same kind of view, with some of the same artifacts",
            "attrs.evolve(self, artifacts=...), or return self",
        )  # fmt: skip
