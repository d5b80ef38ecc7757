"""What the scheduler remembers of a pool's artifacts."""

from __future__ import annotations

from collections.abc import Mapping

import attrs

import flashgraph as fg
from flashgraph.run.pools import PoolState


@attrs.frozen
class Newest:
    """A pool that shows what it was told last; even numbers are candidates, odd ones are mere steps."""

    artifacts: Mapping[int, fg.Artifact] = attrs.field(factory=dict)

    def apply(self, event: fg.PoolEvent[int]) -> Newest:
        score = 1.0 if event.value % 2 == 0 else None
        return Newest({event.artifact: fg.Artifact(event.artifact, event.value, score=score)})

    def best(self) -> fg.Artifact | None:
        return next(iter(self.artifacts.values()), None)

    def focus(self) -> Newest:
        return self


def test_the_values_of_steps_that_no_view_shows_are_let_go() -> None:
    """Candidates keep theirs, and so does what is shown; versions and ids stay as they were."""
    pool = PoolState("newest", Newest())
    for value in range(5, 10):
        pool.admit(value, (), frozenset(), False, 0, 0.0)
    assert [r.last.value for r in pool.records.values()] == [None, 6, None, 8, 9]
    assert [c.artifact.value for c in pool.changes(0)] == [None, 6, None, 8, 9]
    assert [c.version for c in pool.changes(0)] == [1, 2, 3, 4, 5]
