"""`check_policy` reports a policy that breaks its protocol, and passes those of flashgraph."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import attrs
import pytest

import flashgraph as fg
from flashgraph.policies.control import DrainFirst, Waiting
from flashgraph.policies.failure import FailAbove
from flashgraph.policies.order import Discriminative, QueueOrder
from flashgraph.policies.release import All
from flashgraph.policies.staleness import Decision, Rule
from flashgraph.testing import PolicyViolation, check_policy


def patch(stale: fg.Stale[int]) -> fg.Verdict[int]:
    return fg.Verdict.patch(stale.value)


SOUND: list[Any] = [
    fg.accept(), fg.refresh(), fg.discard(above=2), fg.repair(patch, above=1, times=3),
    fg.discard(above=4) | fg.refresh(),
    fg.everyone(), fg.fraction(0.4), fg.count(2), fg.deadline(3.0), fg.decided(lambda group: len(group.values) > 2),
    fg.missing(), fg.fail_above(0.5), fg.drain_first(), fg.balanced(2.0), fg.fifo(), fg.freshest(),
    fg.priority(lambda value: value), fg.discriminative(2, passed=bool), fg.discriminative(key=lambda value: value),
]  # fmt: skip


@pytest.mark.parametrize("policy", SOUND, ids=lambda policy: type(policy).__name__)
def test_what_comes_with_flashgraph_passes(policy: Any) -> None:
    """Every policy of flashgraph passes, with options that users give."""
    check_policy(policy)


class DiscardsTheFresh(Rule):
    def decide(self, lag: int, repairs: int, *touched: Any) -> Decision:
        return Decision("discard")


class RepairsForEver(Rule):
    def decide(self, lag: int, repairs: int, *touched: Any) -> Decision:
        return Decision("repair", "rebase") if lag else Decision("accept")

    def repairers(self) -> tuple[Any, ...]:
        return ("rebase",)


class RepairsWithAStranger(RepairsForEver):
    def repairers(self) -> tuple[Any, ...]:
        return ()


class RefreshesInSecret(Rule):
    def decide(self, lag: int, repairs: int, *touched: Any) -> Decision:
        return Decision("refresh") if lag else Decision("accept")


class Undecided(Rule):
    turns = itertools.cycle("ab")

    def decide(self, lag: int, repairs: int, *touched: Any) -> Decision:
        return Decision("discard") if lag and next(self.turns) == "a" else Decision("accept")


class OddOnly(Rule):
    """A rule that discards odd lags only."""

    def decide(self, lag: int, repairs: int, *touched: Any) -> Decision:
        return Decision("discard" if lag % 2 else "accept")


class Says(Rule):
    """A rule that returns a text instead of a decision."""

    def decide(self, lag: int, repairs: int, *touched: Any) -> Any:
        return "accept"


class Raises(Rule):
    def decide(self, lag: int, repairs: int, *touched: Any) -> Decision:
        raise KeyError("boom")


class NeverReady(All):
    def ready(self, group: fg.Group[Any, Any], arrived: int, elapsed: float) -> bool:
        return False


class ReadyAtOnce(All):
    def ready(self, group: fg.Group[Any, Any], arrived: int, elapsed: float) -> bool:
        return True


class AsksInThePast(All):
    def deadline(self) -> float | None:
        return -1.0


class FailsSound(FailAbove):
    def fails(self, failed: int, size: int) -> bool:
        return True


class SavedByMore(FailAbove):
    def fails(self, failed: int, size: int) -> bool:
        return failed == 1


class Ties(DrainFirst):
    def rank(self, waiting: Waiting) -> tuple[Any, ...]:
        return (waiting.distance,)


class Incomparable(DrainFirst):
    def rank(self, waiting: Waiting) -> tuple[Any, ...]:
        return (waiting.age if waiting.late else str(waiting.age),)


class Idle(DrainFirst):
    def start(self, most: int) -> int:
        return 0


class Forgets(DrainFirst):
    def adjust(self, workers: Mapping[str, int], finished: Mapping[str, float]) -> dict[str, int]:
        return {"a": 1}


class Halves(DrainFirst):
    def adjust(self, workers: Mapping[str, int], finished: Mapping[str, float]) -> dict[str, int]:
        return {stage: count // 2 for stage, count in workers.items()}


class Wavers(QueueOrder):
    turns = itertools.count()

    def key(self, value: Any, version: int) -> Any:
        return next(self.turns)


class LosesOne(Discriminative):
    def arrange(self, members: Sequence[Any], streaks: Mapping[Any, int]) -> list[int]:
        return list(range(1, len(members)))


@pytest.mark.parametrize(
    ("policy", "message"),
    [
        (DiscardsTheFresh(), r"decide\(lag=0, repairs=0\) is discard"),
        (RepairsForEver(), "it repairs an item that was repaired a million times"),
        (RepairsWithAStranger(), r"decide\(lag=1, repairs=0\) repairs with 'rebase'"),
        (RefreshesInSecret(), r"decide\(lag=1, repairs=0\) refreshes"),
        (Undecided(), r"decide\(1, 0, .*\) is Decision.*, and then Decision"),
        (OddOnly(), "it discards at lag 1 and not at lag 2"),
        (Says(), r"decide\(lag=0\) is 'accept'\n    expected: a Decision"),
        (Raises(), r"it raised KeyError: 'boom' \(.*test_policies.py:\d+\)\n    expected: an answer"),
        (NeverReady(), "ready with all of 0 members is False"),
        (ReadyAtOnce(), "it releases a group of 1 before any member arrives"),
        (AsksInThePast(), r"deadline\(\) is -1\.0"),
        (FailsSound(), "a group of 0 fails without a failure"),
        (SavedByMore(), "of 2 members, 1 failures fail the group and more do not"),
        (Ties(), "two different items have equal ranks"),
        (Incomparable(), "ranks do not compare"),
        (Idle(), r"start\(1\) is 0"),
        (Forgets(), r"adjust names \['a'\]"),
        (Halves(), r"adjust\(.*\) is \{'a': 0"),
        (Wavers(), r"key\(1, 0\) is 0, and then 1"),
        (LosesOne(), r"arrange of 1 members is \[\]"),
        (fg.fraction(2.0), r"its own flaw\(\) is"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_a_broken_protocol_is_reported(policy: Any, message: str) -> None:
    """A broken protocol is reported with the policy, its arguments, what was found and what was expected."""
    with pytest.raises(PolicyViolation, match=message) as caught:
        check_policy(policy)
    assert str(caught.value).startswith(type(policy).__name__)


def test_an_object_that_is_no_policy() -> None:
    """A function is no policy."""
    with pytest.raises(TypeError, match="is no policy: expected a subclass of Rule, All"):
        check_policy(attrs.evolve)  # type: ignore[arg-type]
