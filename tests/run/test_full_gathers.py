"""Groups that are released to a full queue wait for room, and keep their round and their place meanwhile."""

from __future__ import annotations

import pytest

import flashgraph as fg
from flashgraph.run import events as ev
from flashgraph.testing import Fan, Shape, Step
from tests.proof.properties import runs_to_the_end

SLOW = Step(workers=1, capacity=1)
"""A taker of the groups, whose queue is full for the second group."""


@pytest.mark.parametrize("salt", range(6))
def test_a_group_without_members_left_keeps_its_round(salt: int, virtual_backend: str) -> None:
    """I1, I4: a group whose members were all filtered keeps its round open until it is taken up."""
    shape = Shape((Fan(2, Step(drop=0.9), (), SLOW),), rounds=6, salt=salt)
    (done,) = runs_to_the_end(shape, fg.pipelined(6), virtual_backend, 2)
    released = [e for e in done.events if isinstance(e, ev.Released)]
    assert len(released) == 6
    assert any(not e.arrived for e in released)


@pytest.mark.parametrize("salt", range(6))
def test_a_group_in_a_group_is_waited_for(salt: int, virtual_backend: str) -> None:
    """I8: the outer group is released with all inner ones, also with those that waited for room."""
    shape = Shape((Fan(3, Step(), (Fan(2, Step(drop=0.7), (), SLOW),), Step()),), rounds=6, salt=salt)
    (done,) = runs_to_the_end(shape, fg.lockstep(), virtual_backend, 2)
    released = [e for e in done.events if isinstance(e, ev.Released) and e.size == 3]
    assert [e.arrived for e in released] == [3] * 6
