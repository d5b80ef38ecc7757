"""The bounds of an incomplete batch, and the soundness of giving up on it."""

from __future__ import annotations

import ast
import math
from pathlib import Path
from typing import Any

import anyio
import attrs
import numpy
import pytest
from hypothesis import given
from hypothesis import strategies as st

import flashgraph as fg
from flashgraph.errors import DataError
from flashgraph.graph.ports import Group, Member
from flashgraph.parts.evaluation import Attempt, Work, reachable
from flashgraph.parts.gepa import Proposal, settled

BOUNDS = st.sampled_from([(0.0, 1.0), (-2.0, 3.0), (float("-inf"), float("inf"))])
STATES = st.lists(st.sampled_from(["arrived", "open", "failed"]), min_size=1, max_size=6)


def batches(origin: Any, states: list[str], scores: list[float]) -> tuple[Group[Any, Attempt], Group[Any, Attempt]]:
    """Return a batch as it is, and as it is after all open members have arrived."""

    def member(index: int, state: Any) -> Member[Attempt]:
        there = Attempt(index, scores[index], "") if state == "arrived" else None
        return Member(index, state, there)

    now = tuple(map(member, range(len(states)), states))
    then = tuple(map(member, range(len(states)), ["arrived" if s == "open" else s for s in states]))
    return Group(origin, now), Group(origin, then)


@given(STATES, BOUNDS, st.data())
def test_reachable_bounds_hold(states: list[str], bounds: tuple[float, float], data: st.DataObject) -> None:
    """For any scores of open members, the sum stays within the reachable bounds; without open members it equals
    both."""
    scores = data.draw(st.lists(st.floats(*bounds, allow_nan=False), min_size=len(states), max_size=len(states)))
    scores = [max(-1e6, min(1e6, score)) for score in scores]
    now, then = batches("origin", states, scores)
    least, most = reachable(now, bounds)
    failed = fg.Task("t", [1], [1], score=lambda sample, output: fg.Score(0), bounds=bounds).least
    total = sum(failed if m.value is None else m.value.score for m in then.members)
    assert least <= total <= most
    if "open" not in states:
        assert least == total == most


@given(STATES, st.floats(0, 6), st.booleans(), st.data())
def test_the_gate_is_settled_for_good(states: list[str], to_beat: float, reaching: bool, data: st.DataObject) -> None:
    """If GEPA's gate settles before all trials arrive, its decision equals that on all of them."""
    some = st.sampled_from([0.0, 0.1, 0.2, 0.3, 0.5, 1.0])
    scores = data.draw(st.lists(some, min_size=len(states), max_size=len(states)))
    close = data.draw(st.sampled_from([to_beat, sum(scores), sum(reversed(scores))]))
    child = Proposal({"instruction": "x"}, "train", tuple(range(len(states))), close, reaching, (0.0, 1.0))
    now, then = batches(child, states, scores)
    if settled(now):
        assert child.passes(sum(a.score for a in now.values)) == child.passes(sum(a.score for a in then.values))


@pytest.mark.parametrize(("there", "decided"), [([0.0, 0.0], True), ([0.0, 1.0], False), ([1.0, 1.0], True)])
def test_the_gate_need_not_wait(there: list[float], decided: bool) -> None:
    """Two of three trials show that a sum of 1 is out of reach, or already exceeded."""
    child = Proposal({"instruction": "x"}, "train", (0, 1, 2), 1.0, False, (0.0, 1.0))
    now, _ = batches(child, ["arrived", "arrived", "open"], [*there, 0.0])
    assert settled(now) is decided


def test_a_score_outside_of_the_bounds_is_an_error() -> None:
    """The error names the task, the value and the fix; within other bounds the value is a score."""

    async def attempt(candidate: Any, sample: int, llm: Any) -> int:
        return sample

    def task(**options: Any) -> fg.Task[int, int]:
        return fg.Task("t", [1], [1], attempt=attempt, score=lambda sample, output: fg.Score(output), **options)

    with pytest.raises(DataError, match=r"task 't': the score of an output is 2; its bounds are 0 and 1\.\nFix: "):
        anyio.run(task().judge, 1, 2)
    assert anyio.run(task(bounds=(0, 2)).judge, 1, 2).value == 2
    with pytest.raises(DataError, match=r"bounds are \(1, 0\); expected \(least, greatest\)"):
        task(bounds=(1, 0))


def test_a_value_that_is_no_score() -> None:
    """A bare number is the usual mistake."""
    message = (
        r"task 't': score returned 0\.5, a value of type float; expected a fg\.Score\.\nFix: return fg\.Score\(0\.5\)"
    )
    with pytest.raises(DataError, match=message):
        anyio.run(fg.Task("t", [1], [1], score=lambda sample, output: 0.5).judge, 1, 2)
    with pytest.raises(DataError, match=r"Fix: return fg\.Score\(0\.5, feedback='no unit'\)"):
        anyio.run(fg.Task("t", [1], [1], score=lambda sample, output: (0.5, "no unit")).judge, 1, 2)


def scoring(value: Any, objectives: Any = None, **options: Any) -> fg.Task[int, int]:
    """Return a task with this score value, even if a `Score` would not accept it."""

    def score(sample: int, output: int) -> fg.Score:
        made = fg.Score(0.5)
        object.__setattr__(made, "value", value)
        object.__setattr__(made, "objectives", objectives or {})
        return made

    return fg.Task("t", [1], [1], score=score, **options)


NUMBERS = st.one_of(
    st.floats(),
    st.floats(width=32).map(numpy.float32),
    st.floats().map(numpy.float64),
    st.integers(),
    st.integers(-3, 3).map(numpy.int64),
    st.booleans(),
    st.fractions(-2, 2),
)


@given(NUMBERS, st.dictionaries(st.sampled_from("ab"), NUMBERS), BOUNDS)
def test_a_judged_score_is_finite_and_within_bounds(value: Any, objectives: Any, bounds: tuple[float, float]) -> None:
    """A judged score has plain floats; a number that is not finite or out of bounds is refused."""
    task = scoring(value, objectives, bounds=bounds)
    if not (all(map(math.isfinite, (value, *objectives.values()))) and bounds[0] <= float(value) <= bounds[1]):
        with pytest.raises(DataError, match=r"(?s)task 't': .*Fix: "):
            anyio.run(task.judge, 1, 2)
        return
    found = anyio.run(task.judge, 1, 2)
    assert found == fg.Score(float(value), objectives={name: float(number) for name, number in objectives.items()})
    assert {type(number) for number in (found.value, *found.objectives.values())} == {float}


@pytest.mark.parametrize("value", [None, "0.5", "high", [0.5, 0.5], 1j, float("nan"), 10**400])
def test_numbers_must_be_finite(value: Any) -> None:
    with pytest.raises(DataError, match=r"task 't': the score of an output is .*; expected a finite number\.\nFix: "):
        anyio.run(scoring(value, bounds=(-math.inf, math.inf)).judge, 1, 2)
    with pytest.raises(DataError, match=r"task 't': objective 'speed' of an output is .*; expected a finite number"):
        anyio.run(scoring(0.5, {"speed": value}).judge, 1, 2)


@pytest.mark.parametrize(
    ("bounds", "perfect", "least"),
    [
        ((0, 1), 1, 0),
        ((0, 100), 100, 0),
        ((-5, -1), -1, -5),
        ((0, math.inf), None, 0),
        ((-math.inf, 3), 3, 0),
        ((-math.inf, -3), -3, -3),
        ((-math.inf, math.inf), None, 0),
    ],
)
def test_perfect_and_least(bounds: tuple[float, float], perfect: float | None, least: float) -> None:
    """An attempt passes with its task's greatest score; without a greatest score none passes."""
    task = fg.Task("t", [1], [1], score=lambda sample, output: fg.Score(output), bounds=bounds)
    assert (task.perfect, task.least) == (perfect, least)
    for value in {least, perfect if perfect is not None else 1e9}:
        assert anyio.run(Attempt.judged, task, Work({}, "val", 0), value).passed is (value == perfect)


def test_attempts_of_older_journals() -> None:
    """Attempts of older journals have no ``passed``, and pass with a score of 1."""
    assert [Attempt(0, score, "").passed for score in (0.9, 1.0, 2.0)] == [False, True, True]
    assert attrs.evolve(Attempt(0, 0.0, "", passed=True), index=1).passed


def test_nobody_passes_judge_by() -> None:
    """Only `Task.judge` calls a task's `score`."""
    callers = [
        f"{path}:{node.lineno}"
        for path in Path(fg.__file__).parent.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call) and ast.unparse(node.func).endswith("task.score")
    ]
    assert not callers


@pytest.mark.parametrize("characters", [10, 20_000, 20_001, 3_000_000])
def test_the_kept_part_of_an_output_is_bounded(characters: int) -> None:
    """A long output and feedback are scored in full, and lose their middle afterwards."""
    seen: list[int] = []

    def score(sample: Any, output: str) -> fg.Score:
        seen.append(len(output))
        return fg.Score(0.5, feedback=output)

    task = fg.Task("long", train=[1], val=[1], score=score)
    kept = anyio.run(Attempt.judged, task, Work({}, "val", 0), "b" + "x" * (characters - 2) + "e")
    assert seen == [characters]
    for text in (kept.output, kept.feedback):
        assert (text[0], text[-1]) == ("b", "e")
        assert len(text) == characters if characters <= 20_000 else 20_000 < len(text) < 20_100
