"""Snapshots of a machine: frozen copies of its state that later turns do not change."""

from __future__ import annotations

import copy

import attrs
import pytest

import flashgraph as fg
from flashgraph.run.cause import Cause, End
from flashgraph.run.snapshot import MachineSnapshot
from flashgraph.testing import Fan, Hand, Shape, Step, build, no_pause
from flashgraph.testing.hand import plan_by_hand

SHAPE = Shape((Fan(3, Step(calls=2, workers=2), (), Step(), 0.6, "amend"),), rounds=3)


def hand() -> Hand:
    """Return a run by hand with scattered groups, calls and late members."""
    return Hand(plan_by_hand(build(SHAPE, no_pause), fg.pipelined(3, focus=0.0), 1))


def test_later_turns_do_not_change_a_snapshot() -> None:
    """It cannot be assigned to, and it stays the same while the run continues to its end."""
    run = hand()
    taken: list[tuple[MachineSnapshot, MachineSnapshot]] = []
    while not run.over:
        found = run.machine.snapshot()
        taken.append((found, copy.deepcopy(found)))
        run.play(run.moves()[0])
    assert all(found == before for found, before in taken)
    assert any(found.places for found, _ in taken)
    assert any(found.ranks for found, _ in taken)
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        taken[0][0].at = 1.0  # type: ignore[misc]


def test_equal_runs_have_equal_snapshots() -> None:
    """Two machines with the same moves have equal snapshots after each; another move makes another snapshot."""
    one, other = hand(), hand()
    while not one.over:
        assert one.machine.snapshot() == other.machine.snapshot()
        move = one.moves()[0]
        one.play(move)
        assert one.machine.snapshot() != other.machine.snapshot()
        other.play(move)
    assert one.machine.snapshot().status == other.machine.snapshot().status == one.machine.status


def test_it_says_how_the_run_ends() -> None:
    """A drained run shows its end before it has ended, and a stopped one too."""
    run = hand()
    run.play(run.moves()[0])
    assert (run.machine.snapshot().draining, run.machine.snapshot().stopping) == (None, None)
    ends = [End("stopped", Cause.CALLER, "drained"), End("cancelled", Cause.CALLER, "stopped")]
    run.machine.drain(ends[0])
    run.machine.stop(ends[1])
    seen = run.machine.snapshot()
    assert (seen.status, seen.draining, seen.stopping) == (None, *ends)
