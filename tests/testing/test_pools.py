"""`check_pool` reports a pool that breaks its protocol, and passes one that does not."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import attrs
import pytest

import flashgraph as fg
from flashgraph.testing import PoolViolation, check_pool


@attrs.frozen
class Kept:
    """A sound pool, which keeps every number."""

    artifacts: Mapping[int, fg.Artifact] = attrs.field(factory=dict)

    def apply(self, event: fg.PoolEvent[Any]) -> Kept:
        rest = {i: a for i, a in self.artifacts.items() if i != event.artifact}
        if event.kind != "retract":
            rest[event.artifact] = fg.Artifact(event.artifact, event.value, event.parents, provisional=event.partial)
        return attrs.evolve(self, artifacts=dict(sorted(rest.items())))

    def best(self) -> fg.Artifact | None:
        return next(iter(self.artifacts.values()), None)

    def best_line(self) -> Kept:
        return self


def events() -> list[fg.PoolEvent[Any]]:
    """Return an early release, an admission, the first one's amendment, and an early release without amendment."""
    early, amended = fg.PoolEvent("admit", 0, [1], (), True), fg.PoolEvent("amend", 0, [3])
    return [early, fg.PoolEvent("admit", 1, [2]), amended, fg.PoolEvent("admit", 2, [4], (), True)]


class InPlace(Kept):
    """A pool whose `apply` changes its value in place."""

    def apply(self, event: fg.PoolEvent[Any]) -> Kept:
        after = super().apply(event)
        self.artifacts.update(after.artifacts)  # type: ignore[attr-defined]
        return after


class ChangesEvents(Kept):
    def apply(self, event: fg.PoolEvent[Any]) -> Kept:
        event.value.append(0)
        return super().apply(event)


class KeepsRetracted(Kept):
    def apply(self, event: fg.PoolEvent[Any]) -> Kept:
        return self if event.kind == "retract" else super().apply(event)


class Raises(Kept):
    def apply(self, event: fg.PoolEvent[Any]) -> Kept:
        if event.kind == "amend":
            raise KeyError(event.artifact)
        return super().apply(event)


class Renumbers(Kept):
    def apply(self, event: fg.PoolEvent[Any]) -> Kept:
        return attrs.evolve(self, artifacts={7: fg.Artifact(7, event.value)})


class BestElsewhere(Kept):
    def best(self) -> fg.Artifact | None:
        return fg.Artifact(0, "another")


class BestCounts(Kept):
    """A pool whose `best` changes from call to call."""

    turns = itertools.count()

    def best(self) -> fg.Artifact | None:
        held = list(self.artifacts.values())
        return held[next(self.turns) % len(held)] if held else None


class IgnoresAmend(Kept):
    def apply(self, event: fg.PoolEvent[Any]) -> Kept:
        return self if event.kind == "amend" else super().apply(event)


class Nan(Kept):
    def apply(self, event: fg.PoolEvent[Any]) -> Kept:
        after = super().apply(event)
        return Nan({i: attrs.evolve(a, score=math.nan) for i, a in after.artifacts.items()})


class OtherFocus(Kept):
    def best_line(self) -> Any:
        return Kept(self.artifacts)


class Bare(Kept):
    def apply(self, event: fg.PoolEvent[Any]) -> Any:
        return attrs.evolve(self, artifacts={event.artifact: event.value})


class Unequal:
    """A pool that does not compare by value."""

    def __init__(self) -> None:
        self.artifacts: dict[int, fg.Artifact] = {}

    def apply(self, event: fg.PoolEvent[Any]) -> Unequal:
        return Unequal()

    def best(self) -> None:
        return None

    def best_line(self) -> Unequal:
        return self


class Bestless:
    apply = artifacts = best_line = None


def counting() -> Callable[[], Kept]:
    """Return a class of pools that share a counter."""
    numbers: Iterator[int] = iter(range(10**9))

    class Counts(Kept):
        def apply(self, event: fg.PoolEvent[Any]) -> Kept:
            after = super().apply(event)
            changed = {i: attrs.evolve(a, score=float(next(numbers))) for i, a in after.artifacts.items()}
            return attrs.evolve(self, artifacts=changed)

    return Counts


@pytest.mark.parametrize(
    ("factory", "message"),
    [
        (InPlace, r"event 0 \(admit artifact 0\): apply changed the value it was called on"),
        (ChangesEvents, r"event 0 \(admit artifact 0\): apply changed the event's value"),
        (KeepsRetracted, r"event 4 \(retract artifact 2\): the retracted artifact is still in artifacts"),
        (Raises, r"event 2 \(amend artifact 0\): apply raised KeyError: 0"),
        (Renumbers, r"artifacts has the numbers \[7\]; \[7\] are wrong or were never admitted"),
        (BestElsewhere, r"best\(\) is Artifact\(id=0, value='another'.*which artifacts does not hold"),
        (BestCounts, r"event 1 .*: best\(\) is Artifact.*, and called again Artifact"),
        (IgnoresAmend, r"event 2 \(amend artifact 0\): the artifact is still provisional"),
        (Nan, r"event 0 .*: the score of the artifacts \[0\] is nan"),
        (OtherFocus, r"best_line\(\) is a Kept with the artifacts \[\]"),
        (Bare, r"artifacts is \{0: \[1\]\}"),
        (Unequal, r"a new pool: a copy of a Unequal is not equal to it"),
        (Bestless, r"a new pool: a Bestless has no best"),
        (counting(), r"applied again to the same value, it gives .*score=1"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_a_broken_protocol_is_reported(factory: Callable[[], Any], message: str) -> None:
    """A broken protocol is reported with the event, what was found, what was expected and the fix."""
    with pytest.raises(PoolViolation, match=message) as caught:
        check_pool(factory, events())
    assert "expected: " in str(caught.value)
    assert "fix:      " in str(caught.value)


def test_a_pool_that_keeps_to_it_passes() -> None:
    """A sound pool passes; the returned value has no provisional artifact left."""
    assert {i: a.value for i, a in check_pool(Kept, events()).artifacts.items()} == {0: [3], 1: [2]}
