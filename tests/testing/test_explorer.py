"""All interleavings of tiny runs, and races that only some of them show."""

from __future__ import annotations

import math

import pytest

import flashgraph as fg
from flashgraph.run.items import GatherState, Item
from flashgraph.testing import Ending, Fan, InvariantViolation, Loop, Shape, Step, build, explore, no_pause
from flashgraph.testing.explorer import Explored
from flashgraph.testing.hand import plan_by_hand
from tests.proof.proof import TINY

ONE = Step()


def explored(shape: Shape, window: int = 2, states: int = 20_000, faults: int = 0) -> Explored:
    plan = plan_by_hand(build(shape, no_pause), fg.pipelined(window, focus=0.0), 2)
    return explore(plan, states=states, faults=faults)


@pytest.mark.parametrize(("rounds", "stages"), [(1, 1), (2, 1), (2, 2), (3, 1)])
def test_chains_have_the_computed_number_of_interleavings(rounds: int, stages: int) -> None:
    """Concurrent rounds through ``k`` stages have (n k)! / (k!)^n orders; each order of admission ends in another
    state."""
    found = explored(Shape((ONE,) * (stages - 1), rounds=rounds), window=rounds)
    assert found.whole
    assert found.stall is None
    assert found.interleavings == math.factorial(rounds * stages) // math.factorial(stages) ** rounds
    assert found.ends == math.factorial(rounds)


@pytest.mark.parametrize("name", ["amended groups", "cancelled members", "two loops", "repairs"])
def test_no_interleaving_breaks_an_invariant(name: str) -> None:
    """No order in which jobs, calls and cancellations end breaks I1 to I10 or I15."""
    found = TINY[name].explore(states=150)
    assert found.stall is None
    assert found.interleavings > 1


def test_a_bounded_walk_says_so() -> None:
    """A walk that its bound ended says so."""
    assert "stopped at the bound" in str(explored(Shape((Fan(3, ONE, (), ONE),), rounds=2), states=10))


def test_a_race_that_needs_one_order_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """A late member that is counted twice shows only if one ends after the release and another one after it.

    The error holds the path there.
    """
    record = GatherState.record

    def twice(self: GatherState, index: int, member: fg.Member[object], item: Item | None) -> None:
        self.ended += self.released
        record(self, index, member, item)

    monkeypatch.setattr(GatherState, "record", twice)
    explored(Shape((), Ending(2, ONE, 0.5, "amend"), rounds=1))
    with pytest.raises(InvariantViolation, match=r"I8: group .* was amended while its members") as caught:
        explored(Shape((), Ending(3, ONE, 0.3, "amend"), rounds=1))
    assert "The path there: [(Move('go', 1),)" in "\n".join(caught.value.__notes__)


def test_faults_are_walked_too() -> None:
    """With one fault allowed there are more paths, and no invariant is broken."""
    shape = Shape((Loop(1, ONE, ONE),), rounds=1)
    assert explored(shape, faults=1).interleavings > explored(shape).interleavings
