"""Control policies: the order of waiting work, and worker counts that follow production rates."""

from __future__ import annotations

import itertools
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flashgraph.policies.control import Control, Waiting, balanced, drain_first, shortest_first

FIRST = Waiting("a", distance=1, round=0, version=3, late=False, age=5)


@pytest.mark.parametrize(
    "later",
    [
        Waiting("a", distance=2, round=0, version=9, late=False, age=0),
        Waiting("a", distance=1, round=0, version=2, late=False, age=0),
        Waiting("a", distance=1, round=0, version=3, late=False, age=6),
        Waiting("a", distance=1, round=0, version=9, late=True, age=0),
    ],
    ids=["farther from the pool", "older line", "younger", "late"],
)
def test_drain_first(later: Waiting) -> None:
    """The order is: nearest the pool, not late, newest line, oldest work."""
    assert drain_first().rank(FIRST) < drain_first().rank(later)


def test_drain_first_lets_late_members_end() -> None:
    """Late members go before stages further from the pool; else a busy server would never confirm an artifact."""
    late = Waiting("a", distance=0, round=0, version=0, late=True, age=9)
    assert drain_first().rank(late) < drain_first().rank(FIRST)


@pytest.mark.parametrize("control", [drain_first(), shortest_first()], ids=str)
def test_priority_of_a_server(control: Control) -> None:
    """The server's priority prefers the stage nearest the pool, and puts its late members before all other stages."""
    waiting = [Waiting("a", distance, 0, 0, late, 0) for distance in range(5) for late in (False, True)]
    told = [control.priority(work) for work in waiting]
    assert told == sorted(set(told))
    assert all(isinstance(number, int) for number in told)


def test_priority_of_a_server_by_balanced() -> None:
    """The server's priority distinguishes late work alone."""
    assert [balanced().priority(Waiting("a", d, 0, 0, late, 0)) for d in (1, 5) for late in (False, True)] == [
        0,
        1,
        0,
        1,
    ]


@pytest.mark.parametrize("control", [drain_first(), shortest_first()], ids=str)
def test_the_newest_line_goes_first(control: Control) -> None:
    """The newest line decides between equal work; policies are values."""
    assert control.rank(Waiting("a", 1, 0, 4, False, 9)) < control.rank(Waiting("a", 1, 0, 3, False, 2))
    assert {control, type(control)()} == {control}


def test_shortest_first() -> None:
    """One request goes before a group that lacks many, whatever is nearer the pool, and late members go last."""
    rank = shortest_first().rank
    one, many = Waiting("a", 9, 0, 0, False, 9, lacks=1), Waiting("b", 1, 0, 3, False, 1, lacks=50)
    assert rank(one) < rank(many) < rank(Waiting("b", 1, 0, 3, False, 1, lacks=math.inf))
    assert rank(many) < rank(Waiting("a", 1, 0, 3, True, 0, lacks=1))
    assert rank(Waiting("a", 1, 0, 3, False, 9, lacks=1)) < rank(one)


def test_balanced_serves_by_age() -> None:
    """Distance does not count, lateness does."""
    rank = balanced().rank
    assert rank(Waiting("a", 9, 0, 0, False, 1)) < rank(Waiting("a", 0, 0, 9, False, 2))
    assert rank(Waiting("a", 9, 0, 0, False, 9)) < rank(Waiting("a", 0, 0, 9, True, 2))


WAITING = st.builds(
    Waiting, st.just("a"), st.integers(0, 5), st.integers(0, 5), st.integers(0, 5), st.booleans(), st.integers(0, 99)
)


@given(
    st.lists(WAITING, unique_by=lambda w: w.age, max_size=8),
    st.sampled_from([drain_first(), balanced(), shortest_first()]),
)
def test_ranks_are_a_total_order(waiting: list[Waiting], control: object) -> None:
    """No two ranks are equal, so that the choice does not depend on the order of the candidates (I14)."""
    rank = control.rank  # type: ignore[attr-defined]
    assert all(rank(a) != rank(b) for a, b in itertools.combinations(waiting, 2))


def test_drain_first_leaves_workers_alone() -> None:
    """It starts with all workers and adjusts none."""
    control = drain_first()
    assert control.interval is None
    assert control.start(128) == 128
    assert control.adjust({"a": 3, "b": 1}, {"a": 100}) == {"a": 3, "b": 1}


def test_balanced_moves_one_step() -> None:
    """Below half the median rate a stage gains a worker, above twice the median it loses one; at the bounds none
    changes."""
    control = balanced()
    assert control.interval == 5.0
    assert [control.start(most) for most in (1, 8, 64)] == [1, 8, 8]
    workers = dict.fromkeys("abcde", 4)
    rates = {"a": 10, "b": 4, "c": 5, "d": 20, "e": 21}
    assert control.adjust(workers, rates) == {"a": 4, "b": 5, "c": 4, "d": 4, "e": 3}


def test_balanced_keeps_one_worker() -> None:
    """The fastest stage keeps its last worker; without stages nothing changes."""
    assert balanced().adjust({"a": 1, "b": 1, "c": 1}, {"a": 90, "b": 1, "c": 1})["a"] == 1
    assert balanced().adjust({}, {}) == {}


def test_a_stage_that_has_finished_nothing_gains_a_worker() -> None:
    """A stage at rate 0 gains a worker, unless all stages are at rate 0."""
    assert balanced().adjust({"a": 2, "b": 2, "c": 2}, {"a": 4, "b": 4}) == {"a": 2, "b": 2, "c": 3}
    assert balanced().adjust({"a": 2, "b": 2}, {}) == {"a": 2, "b": 2}


@given(st.dictionaries(st.sampled_from("abcdef"), st.tuples(st.integers(1, 20), st.integers(0, 100))))
def test_balanced_never_moves_further(stages: dict[str, tuple[int, int]]) -> None:
    """Each count changes by at most one, stays at least one, and no stage is added or lost (I3)."""
    workers = {s: w for s, (w, _) in stages.items()}
    adjusted = balanced().adjust(workers, {s: r for s, (_, r) in stages.items()})
    assert adjusted.keys() == workers.keys()
    assert all(abs(adjusted[s] - workers[s]) <= 1 and adjusted[s] >= 1 for s in workers)


@pytest.mark.parametrize("interval", [0, -1, 1e-18, math.nan, math.inf, "a", True])
def test_wrong_intervals(interval: Any) -> None:
    """An interval that adjusts endlessly at one moment is refused: nothing else would happen (I9)."""
    flaw = balanced(interval).flaw()
    assert flaw is not None
    assert (flaw.found, flaw.expected) == (f"interval={interval!r}", "seconds from 0.001")


@pytest.mark.parametrize(
    "control", [drain_first(), shortest_first(), balanced(), balanced(0.001), balanced(3)], ids=str
)
def test_controls_that_can_be_used(control: Control) -> None:
    """A policy that adjusts nothing has no interval."""
    assert control.flaw() is None


def test_text() -> None:
    """The text of a policy is how it is written."""
    controls = (drain_first(), balanced(2.0), shortest_first())
    assert tuple(map(str, controls)) == ("drain_first", "balanced", "shortest_first")
