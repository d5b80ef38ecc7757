"""The scheduler as a state machine under test: the bugs it has found, and its report."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import run_state_machine_as_test

import flashgraph as fg
from flashgraph.run.cause import Cause, End
from flashgraph.run.flow import Flow
from flashgraph.run.queues import EdgeQueue
from flashgraph.testing import InvariantViolation, SchedulerMachine, Shape, Step, again, schedules, shapes
from flashgraph.testing.graphs import build
from flashgraph.testing.hand import Hand, no_pause, plan_by_hand
from flashgraph.testing.moves import Move
from flashgraph.testing.shape import Fan
from tests.proof.recount import Recount

PLAYED = settings(
    deadline=None,
    max_examples=25,
    stateful_step_count=25,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)


def test_the_scheduler_under_all_that_can_happen() -> None:
    """I1 to I10, I13 and I15 hold after every step of event loop, servers, clock and faults."""

    class Proved(SchedulerMachine):
        oracle = Recount

    run_state_machine_as_test(Proved, settings=PLAYED)


@settings(PLAYED, max_examples=25)
@given(shape=shapes(), schedule=schedules(), seed=st.integers(0, 5))
def test_every_prefix_of_the_turns_makes_the_same_machine(shape: Shape, schedule: fg.Schedule, seed: int) -> None:
    """I13: for every k, replaying the first k turns on a fresh machine gives the same machine."""
    hand = Hand(plan_by_hand(build(shape, no_pause), schedule), seed=seed, oracle=Recount)
    hand.finish()
    hand.replay()


def test_a_job_that_ends_without_its_request_frees_its_slot() -> None:
    """I9, found by this machine: in lockstep a job's result waits for the jobs before it.

    Its slot must not wait, because they may need it for their second request.
    """
    shape = Shape((Step(calls=2, workers=2),), rounds=1)
    shape = Shape((Step(several=2), Step(calls=2, workers=2)), rounds=1, latency="zero")
    hand = again(shape, fg.lockstep(), limit=1)
    hand.play(Move("go", 1))
    hand.play(Move("go", 2))
    hand.play(Move("go", 3))
    hand.play(Move("answer", 3))
    hand.play(Move("go", 3))
    hand.play(Move("fail", 4))
    hand.finish()
    assert hand.machine.status == End("completed", Cause.DONE, "the sources have nothing to emit")


def test_a_round_that_only_late_items_kept_open_takes_no_place_in_the_window() -> None:
    """I4: a round with only late items open leaves its window to others.

    The results of the inner groups are filtered, and the amendment completes the outer group late.
    """
    inner = Fan(3, Step(), (), Step(drop=0.3), release=0.2, late="amend")
    shape = Shape((Fan(2, Step(fail=0.3), (inner,), Step()), Step(), Step()), latency="zero", salt=548)
    hand = again(shape, fg.pipelined(1, focus=0.0))
    hand.finish()
    hand.replay()


def test_a_kill_loses_only_what_was_not_written() -> None:
    """I13: a run that is resumed from any of its last turns reaches its end."""
    shape = Shape((Fan(3, Step(calls=1), (), Step(), 0.5, "cancel"),), rounds=2)
    for lost in range(6):
        hand = again(shape, fg.pipelined(2), limit=2)
        for _ in range(5):
            hand.play(hand.moves()[0])
        hand.play(Move("kill", lost))
        hand.finish()
        hand.replay()
        assert hand.machine.status is not None


def test_an_overlooked_wake_up_is_reported_with_its_graph_and_a_line_to_repeat_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A scheduler that misses free capacity of an edge is reported.

    The report has the smallest graph, the log and the moves, and these moves repeat the violation.
    """
    put = Flow.put

    def forgets(self: Flow, item: Any) -> bool:
        return item.loops.get(item.edge, 0) < 1 and put(self, item)

    monkeypatch.setattr(Flow, "put", forgets)
    with pytest.raises(InvariantViolation) as caught:
        run_state_machine_as_test(
            SchedulerMachine,
            settings=settings(
                PLAYED,
                max_examples=1000,
                derandomize=True,
                database=None,
                phases=(Phase.generate, Phase.shrink),
                report_multiple_bugs=False,
            ),
        )
    report = "\n".join(caught.value.__notes__)
    assert "I9" in str(caught.value)
    assert "The graph:\nsource (" in report
    assert "loop " in report
    line = next(line for line in report.splitlines() if line.startswith("again("))
    names = {**vars(__import__("flashgraph.testing").testing), "fg": fg}
    with pytest.raises(InvariantViolation, match="I9"):
        eval(line, names)  # the line that a user would paste


def test_a_queue_without_a_bound_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    """I2: the recount does not rely on the queue's own bound."""
    monkeypatch.setattr(EdgeQueue, "full", property(lambda self: False))
    hand = again(Shape((Step(workers=1, capacity=1),), rounds=6), fg.pipelined(8))
    with pytest.raises(InvariantViolation, match="I2"):
        hand.finish()
