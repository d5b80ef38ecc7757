"""Release rules: how many members each waits for."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flashgraph.graph.ports import Group, Member
from flashgraph.policies.release import All, count, deadline, decided, everyone, fraction

SIZES = st.integers(0, 200)


def group(size: int, there: Sequence[int]) -> Group[str, int]:
    """A group of which the first members have arrived."""
    arrived = (Member(place, "arrived", value) for place, value in enumerate(there))
    return Group("origin", (*arrived, *(Member[int](place) for place in range(len(there), size))))


def least(rule: All, size: int, elapsed: float = 0.0) -> int:
    """The smallest number of arrivals with which a group of ``size`` is released."""
    return next(n for n in range(size + 1) if rule.ready(group(size, [1] * n), n, elapsed))


@given(SIZES)
def test_everyone(size: int) -> None:
    """All members, and none of an empty group."""
    assert least(everyone(), size) == size


@given(st.integers(1, 100), SIZES)
def test_fraction_is_the_ceiling_of_its_share(percent: int, size: int) -> None:
    """Exactly ceil(share * size), where binary fractions would make it one more (I8)."""
    assert least(fraction(percent / 100), size) == math.ceil(percent * size / 100)


@pytest.mark.parametrize(("share", "size", "members"), [(0.67, 3, 3), (0.66, 3, 2), (0.25, 4, 1), (0.07, 100, 7)])
def test_fraction_at_its_boundaries(share: float, size: int, members: int) -> None:
    """Two thirds of three are two only when the share says no more than that."""
    assert least(fraction(share), size) == members


@given(st.integers(1, 50), SIZES)
def test_count_is_at_most_the_group(members: int, size: int) -> None:
    """A smaller group is waited for whole."""
    assert least(count(members), size) == min(members, size)


@pytest.mark.parametrize(("size", "members"), [(0, 0), (8, 8), (20, 20), (30, 20), (40, 20), (100, 50)])
def test_fraction_with_a_least(size: int, members: int) -> None:
    """Half of a large group, twenty of a smaller one, all of a small one."""
    rule = fraction(0.5, least=20)
    assert (least(rule, size), str(rule)) == (members, "fraction(0.5, least=20)")


@given(st.sampled_from([everyone(), fraction(0.5, least=9), fraction(0.3), fraction(1.0), count(3)]), SIZES)
def test_what_a_rule_needs_is_when_it_releases(rule: All, size: int) -> None:
    """`needs` is what `lacks` counts down from."""
    assert rule.needs(size) == least(rule, size)


def test_deadline_needs_time_and_one_member() -> None:
    """Before its time all members, after it any, never none."""
    rule = deadline(30)
    assert rule.deadline() == 30
    assert not rule.ready(group(3, [1, 1]), 2, 29.9)
    assert rule.ready(group(3, [1, 1]), 2, 30.0)
    assert rule.ready(group(3, [1, 1]), 2, 30.0 - 1e-12)
    assert rule.ready(group(3, [1]), 1, 31.0)
    assert not rule.ready(group(3, []), 0, 99.0)
    assert rule.ready(group(3, [1, 1, 1]), 3, 0.0)


def test_only_a_deadline_has_a_time() -> None:
    """The other rules are asked when a member arrives."""
    assert [r.deadline() for r in (everyone(), fraction(0.5), count(1), decided(lambda so_far: True))] == [None] * 4


def test_decided_sees_what_is_there() -> None:
    """The predicate gets the group as it is so far; a full one needs no predicate."""
    seen: list[Group[Any, Any]] = []

    def three(so_far: Group[Any, Any]) -> bool:
        seen.append(so_far)
        return bool(sum(so_far.values) >= 3)

    rule, groups = decided(three), [group(4, [1, 1]), group(4, [1, 2])]
    assert [rule.ready(g, 2, 0.0) for g in groups] == [False, True]
    assert seen == groups
    assert decided(lambda so_far: False).ready(group(2, [1, 1]), 2, 0.0)


@given(SIZES, st.floats(0, 100), st.sampled_from([everyone(), fraction(0.3), count(3), deadline(5)]))
def test_more_members_never_hold_a_group_back(size: int, elapsed: float, rule: All) -> None:
    """Once ready, a group stays ready; a full one always is."""
    ready = [rule.ready(group(size, [1] * n), n, elapsed) for n in range(size + 1)]
    assert ready == sorted(ready)
    assert ready[-1]


@pytest.mark.parametrize(
    ("rule", "found"),
    [
        (fraction(0), "fraction(0)"),
        (fraction(1.01), "fraction(1.01)"),
        (fraction(0.5, least=0), "fraction(0.5, least=0)"),
        (fraction(0.5, least=1.5), "fraction(0.5, least=1.5)"),  # type: ignore[arg-type]
        (fraction(float("nan")), "fraction(nan)"),
        (count(0), "count(0)"),
        (count(2.5), "count(2.5)"),  # type: ignore[arg-type]
        (deadline(0), "deadline(0)"),
        (deadline(-1), "deadline(-1)"),
        (decided(3), "decided(3)"),  # type: ignore[arg-type]
    ],
)
def test_flaws(rule: All, found: str) -> None:
    """What could never or always release is a flaw."""
    flaw = rule.flaw()
    assert flaw is not None
    assert flaw.found == found


@pytest.mark.parametrize(
    "rule", [everyone(), fraction(1), fraction(0.001), fraction(0.5, least=2), count(1), count(7), deadline(0.1)]
)
def test_right_rules_have_no_flaw(rule: All) -> None:
    """The boundaries that are right."""
    assert rule.flaw() is None


def test_rules_are_values() -> None:
    """Equal rules are equal, and known by what they are made of."""
    assert everyone() == everyone()
    assert {fraction(0.5), fraction(0.5, least=1), count(2), count(2)} == {fraction(0.5), count(2)}


def test_text() -> None:
    """Rules read as they are written."""
    rules = [everyone(), fraction(0.67), count(2), deadline(30), decided(max)]  # type: ignore[arg-type]
    assert list(map(str, rules)) == ["all", "fraction(0.67)", "count(2)", "deadline(30s)", "decided(max)"]
