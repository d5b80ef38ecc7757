"""A run that is killed at a certain moment and resumed, by hand."""

from __future__ import annotations

import pytest

import flashgraph as fg
from flashgraph.run import events as ev
from flashgraph.run.cause import Cause, End
from flashgraph.testing import Fan, Hand, InvariantViolation, Move, Shape, Step, build, no_pause, plan_by_hand
from tests.proof.deadlock import Ring


def test_a_job_that_was_being_cancelled_is_not_run_again() -> None:
    """A job that was killed before its cancellation arrived is cancelled after the kill, and makes no request: its item
    has ended.
    """
    shape = Shape((Fan(3, Step(calls=1), (), Step(), 0.3, "cancel"),), rounds=1)
    hand = Hand(plan_by_hand(build(shape, no_pause), fg.pipelined(1, focus=0.0), limit=3))
    while not any(job.cancelled for job in hand.machine.running):
        hand.play(next(move for move in hand.moves() if move.kind != "cancelled"))
    gone = {job.id for job in hand.machine.running if job.cancelled}
    hand.play(Move("kill"))
    running = {job.id: job for job in hand.machine.running}
    assert all(running[number].cancelled for number in gone)
    assert not any(job.cancelled for number, job in running.items() if number not in gone)
    hand.finish()
    assert hand.machine.status == End("completed", Cause.DONE, "the sources have nothing to emit")
    ended = {e.job: e.how for e in hand.events if isinstance(e, ev.JobEnded)}
    assert {ended[number] for number in gone} == {"cancelled"}
    hand.replay()


def test_the_first_stop_says_why() -> None:
    """A run that is being stopped keeps its first reason."""
    hand = Hand(plan_by_hand(build(Shape((Step(calls=1),)), no_pause), fg.pipelined(1, focus=0.0), limit=1))
    while not hand.machine.running:
        hand.play(hand.moves()[0])
    hand.machine.stop(End("cancelled", Cause.CALLER, "the first"))
    hand.machine.stop(End("failed", Cause.ERROR, "the second"))
    assert hand.machine.stopping
    hand.finish()
    assert hand.machine.status == End("cancelled", Cause.CALLER, "the first")


def test_a_stall_is_told(  # I9
) -> None:
    """A ring with less room than `check` demands ends with an error when nothing can run."""
    ring = Ring(window=4, width=2, times=2, stages=2, room=1, loop=1)
    assert ring.refused
    hand = Hand(
        plan_by_hand(
            ring.graph(), fg.pipelined(ring.window, focus=0.0), room={ring.back: ring.loop, "stage0->stage1": 1}
        )
    )
    with pytest.raises(InvariantViolation, match=r"I9: \d+ items are open and nothing can run"):
        hand.finish()
