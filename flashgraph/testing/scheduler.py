"""The scheduler as a state machine under test: Hypothesis plays the event loop, the servers, the clock and the faults.

`SchedulerMachine` draws a graph and a schedule, then the events of the run one by one.  It checks the invariants after
every step.  A failing example is shrunk to the smallest graph and the fewest events.  Its report holds that graph as
text, the log around the violation, and one line that repeats it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, ClassVar

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

import flashgraph as fg
from flashgraph.errors import FlashgraphError
from flashgraph.testing.drawing import drawing, schedule_line, tail
from flashgraph.testing.graphs import build
from flashgraph.testing.hand import Hand, Oracle, no_pause, plan_by_hand
from flashgraph.testing.moves import Move
from flashgraph.testing.shape import Shape
from flashgraph.testing.strategies import moving_limits, schedules, shapes

__all__ = ["SchedulerMachine", "again"]

ANY = st.integers(0, 1000)


def again(
    shape: Shape,
    schedule: fg.Schedule,
    played: Sequence[Sequence[Move]] = (),
    *,
    limit: int = 2,
    limits: Sequence[str] = (),
    budget: fg.Budget | None = None,
    oracle: Callable[[], Oracle] | None = None,
) -> Hand:
    """Repeat a failing example, as the last line of its report does."""
    hand = Hand(plan_by_hand(build(shape, no_pause), schedule, limit, limits=limits), budget=budget, oracle=oracle)
    for moves in played:
        hand.play(*moves)
    return hand


class SchedulerMachine(RuleBasedStateMachine):
    """A Hypothesis state machine over a run by hand.

    Jobs advance and end, calls are answered, cancellations take effect and timers fire, several at one moment.  Jobs
    and calls fail, calls are throttled or find their endpoint down, and servers report their load.  The run is drained,
    stopped, or killed and resumed.

    Run it with `hypothesis.stateful.run_state_machine_as_test`, or as ``SchedulerMachine.TestCase``.
    """

    oracle: ClassVar[type[Oracle] | None] = None
    """The class of the `Oracle` that each run is compared with."""

    hand: Hand
    broken = False

    @initialize(
        shape=shapes(),
        schedule=schedules(),
        limit=st.sampled_from([1, 2, 7]),
        limits=st.one_of(st.just(()), moving_limits()),
        budget=st.builds(
            fg.Budget,
            evaluations=st.one_of(st.none(), st.integers(1, 12)),
            calls=st.one_of(st.none(), st.integers(1, 12)),
        ),
    )
    def begin(
        self, shape: Shape, schedule: fg.Schedule, limit: int, limits: tuple[str, ...], budget: fg.Budget
    ) -> None:
        self.shape, self.schedule, self.limit, self.limits = shape, schedule, limit, limits
        self.budget = budget
        self.played: list[tuple[Move, ...]] = []
        self._try()

    @precondition(lambda self: self._has("go"))
    @rule(which=ANY)
    def a_job_goes_on(self, which: int) -> None:
        self._one_of(self._of("go"), which)

    @precondition(lambda self: self._has("answer"))
    @rule(which=ANY)
    def a_call_is_answered(self, which: int) -> None:
        self._one_of(self._of("answer"), which)

    @precondition(lambda self: self._has("go", "answer"))
    @rule(which=st.lists(ANY, min_size=2, max_size=4))
    def several_at_one_moment(self, which: list[int]) -> None:
        found = self._of("go", "answer")
        chosen = {m.number: m for m in (found[w % len(found)] for w in which)}
        self._try(*chosen.values())

    @precondition(lambda self: self._has("cancelled"))
    @rule(which=ANY)
    def a_cancellation_arrives(self, which: int) -> None:
        self._one_of(self._of("cancelled"), which)

    @precondition(lambda self: self._has("timer"))
    @rule()
    def a_timer_goes_off(self) -> None:
        self._try(Move("timer"))

    @precondition(lambda self: self.hand.faults())
    @rule(which=ANY)
    def something_fails(self, which: int) -> None:
        self._one_of(self.hand.faults(), which)

    @precondition(lambda self: self.hand.loads())
    @rule(which=ANY)
    def a_server_says_how_full_it_is(self, which: int) -> None:
        self._one_of(self.hand.loads(), which)

    @rule(rarely=st.integers(0, 4), lost=st.integers(0, 3))
    def it_is_killed_and_resumed(self, rarely: int, lost: int) -> None:
        if rarely == 4:
            self._try(Move("kill", lost))

    @precondition(lambda self: not self.hand.over)
    @rule(rarely=st.integers(0, 9), kind=st.sampled_from(["drain", "stop"]))
    def it_is_asked_to_end(self, rarely: int, kind: Any) -> None:
        if rarely == 9:
            self._try(Move(kind))

    def teardown(self) -> None:
        """Let the rest happen in order, then replay the whole run."""
        if hasattr(self, "hand") and not self.broken:
            self._hold(self.hand.finish)
            self._hold(self.hand.replay)

    def _of(self, *kinds: str) -> list[Move]:
        return [move for move in self.hand.moves() if move.kind in kinds]

    def _has(self, *kinds: str) -> bool:
        return bool(self._of(*kinds))

    def _one_of(self, moves: list[Move], which: int) -> None:
        self._try(moves[which % len(moves)])

    def _try(self, *moves: Move) -> None:
        if not moves:
            self._hold(self._open)
            return
        self.played.append(moves)
        self._hold(lambda: self.hand.play(*moves))

    def _open(self) -> None:
        self.hand = again(
            self.shape, self.schedule, limit=self.limit, limits=self.limits, budget=self.budget, oracle=self.oracle
        )

    def _hold(self, act: Any) -> None:
        try:
            act()
        except (AssertionError, FlashgraphError, LookupError) as error:
            self.broken = True
            error.add_note(self.report())
            raise

    def report(self) -> str:
        """Return the graph, the log so far, and the line that repeats the example."""
        hand = getattr(self, "hand", None)
        events = hand.events if hand is not None else []
        moves = hand.played if hand is not None else self.played
        oracle = self.oracle
        imported = f", `from {oracle.__module__} import {oracle.__name__}`" if oracle is not None else ""
        budget = repr(self.budget).replace("Budget(", "fg.Budget(")
        passed = f", oracle={oracle.__name__}" if oracle is not None else ""
        return (
            f"\nThe graph:\n{drawing(build(self.shape))}\n\nThe log so far:\n{tail(events)}\n\n"
            f"To repeat it, with `from flashgraph.testing import *`{imported} and `import flashgraph as fg`:\n"
            f"again({self.shape!r}, {schedule_line(self.schedule)}, {list(moves)!r}, limit={self.limit}, "
            f"limits={self.limits!r}, budget={budget}{passed})"
        )
