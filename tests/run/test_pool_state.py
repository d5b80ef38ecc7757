"""The scheduler's record of a pool's artifacts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import attrs
import pytest

import flashgraph as fg
from flashgraph.run.pools import PoolState


@attrs.frozen
class Newest:
    """A pool that shows its last event; even numbers are candidates, odd ones artifacts without score."""

    artifacts: Mapping[int, fg.Artifact] = attrs.field(factory=dict)

    def apply(self, event: fg.PoolEvent[int]) -> Newest:
        score = 1.0 if event.value % 2 == 0 else None
        return Newest({event.artifact: fg.Artifact(event.artifact, event.value, score=score)})

    def best(self) -> fg.Artifact | None:
        return next(iter(self.artifacts.values()), None)

    def best_line(self) -> Newest:
        return self


def test_the_values_of_steps_that_no_view_shows_are_let_go() -> None:
    """Artifacts without score that no view shows lose their values; candidates keep theirs; versions and ids stay."""
    pool = PoolState("newest", Newest())
    for value in range(5, 10):
        pool.admit(value, (), frozenset(), False, 0, 0.0)
    assert [r.last.value for r in pool.records.values()] == [None, 6, None, 8, 9]
    assert [c.artifact.value for c in pool.changes(0)] == [None, 6, None, 8, 9]
    assert [c.version for c in pool.changes(0)] == [1, 2, 3, 4, 5]


@attrs.frozen
class InPlace(Newest):
    """A pool that changes the value it is called on, and returns it."""

    artifacts: Mapping[int, fg.Artifact] = attrs.field(factory=dict)

    def apply(self, event: fg.PoolEvent[int]) -> InPlace:
        held: Any = self.artifacts
        if event.kind == "retract":
            del held[event.artifact]
        else:
            held[event.artifact] = fg.Artifact(event.artifact, event.value)
        return self


@attrs.frozen
class Forgets(InPlace):
    """A pool that changes in place on a retraction."""

    def apply(self, event: fg.PoolEvent[int]) -> InPlace:
        if event.kind == "retract":
            return super().apply(event)
        made = fg.Artifact(event.artifact, event.value, provisional=event.partial)
        return attrs.evolve(self, artifacts={**self.artifacts, event.artifact: made})


@attrs.frozen
class Chooses(Newest):
    """A pool whose ``best`` returns ``choice``, or raises it."""

    artifacts: Mapping[int, fg.Artifact] = attrs.field(factory=dict)
    choice: Any = None

    def apply(self, event: fg.PoolEvent[int]) -> Chooses:
        held = {**self.artifacts, event.artifact: fg.Artifact(event.artifact, event.value), 9: fg.Artifact(9, 0)}
        return attrs.evolve(self, artifacts=held)

    def best(self) -> fg.Artifact | None:
        if isinstance(self.choice, Exception) and self.artifacts:
            raise self.choice
        return self.choice if self.artifacts else None


def test_a_pool_that_changes_itself_in_place_is_named() -> None:
    """A pool that changes itself in place is named: it would look unchanged, with a best that no event has shown."""
    with pytest.raises(
        fg.FlashgraphError, match=r"^pool 'mine': apply\(admit artifact 0\) changed the value it was called"
    ):
        PoolState("mine", InPlace()).admit(1, (), frozenset(), False, 0, 0.0)
    pool = PoolState("mine", Forgets())
    pool.admit(1, (), frozenset(), True, 0, 0.0)
    with pytest.raises(
        fg.FlashgraphError, match=r"apply\(retract artifact 0\) changed .* version 1: it had that artifact"
    ):
        pool.retract(0)


@pytest.mark.parametrize("choice", [7, fg.Artifact(1, 0), fg.Artifact(5, 0), fg.Artifact(9, 0)], ids=str)
def test_a_best_that_is_no_artifact_of_the_pool_is_named(choice: Any) -> None:
    """A best that is no artifact of the pool is named: a number, one it does not hold, or one of its own making."""
    with pytest.raises(fg.FlashgraphError, match=r"^pool 'mine': best\(\) returned .*; expected one of its artifacts"):
        PoolState("mine", Chooses(choice=choice)).admit(1, (), frozenset(), False, 0, 0.0)


def test_a_best_that_raises_is_named() -> None:
    """A best that raises is named, as an apply that raises."""
    with pytest.raises(fg.FlashgraphError, match=r"^pool 'mine': best\(\) raised KeyError: 'boom'"):
        PoolState("mine", Chooses(choice=KeyError("boom"))).admit(1, (), frozenset(), False, 0, 0.0)


class Forgetful(Chooses):
    """A pool whose methods return nothing."""

    def apply(self, event: Any) -> Any:
        pass

    def best_line(self) -> Any:
        raise KeyError("boom")


def test_an_apply_without_a_value_is_named() -> None:
    """An apply that forgets to return a value is named."""
    with pytest.raises(fg.FlashgraphError, match=r"^pool 'mine': apply\(admit artifact 0\) returned None; expected"):
        PoolState("mine", Forgetful(choice=None)).admit(1, (), frozenset(), False, 0, 0.0)


def test_a_best_line_that_raises_is_named() -> None:
    """A best line that raises is named, as a best that raises."""
    with pytest.raises(fg.FlashgraphError, match=r"^pool 'mine': best_line\(\) raised KeyError: 'boom'"):
        PoolState("mine", Forgetful(choice=None)).narrowed()


def test_the_best_is_the_newest_values() -> None:
    """The best is that of the newest value, computed once for each version."""
    pool = PoolState("newest", Newest())
    assert pool.best is None
    pool.admit(1, (), frozenset(), False, 0, 0.0)
    pool.admit(2, (), frozenset(), False, 0, 0.0)
    assert pool.best == fg.Artifact(1, 2, score=1.0)
