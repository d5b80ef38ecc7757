"""Release rules: how many members each one waits for."""

from __future__ import annotations

import math
import random
from collections import Counter
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flashgraph.graph.ports import Group, Member
from flashgraph.policies.release import All, count, deadline, decided, drawn, everyone, fraction, sampled

SIZES = st.integers(0, 200)


def group(size: int, there: Sequence[int]) -> Group[str, int]:
    """Return a group whose first members have arrived."""
    arrived = (Member(place, "arrived", value) for place, value in enumerate(there))
    return Group("origin", (*arrived, *(Member[int](place) for place in range(len(there), size))))


def least(rule: All, size: int, elapsed: float = 0.0) -> int:
    """Return the smallest number of arrivals that releases a group of ``size``."""
    return next(n for n in range(size + 1) if rule.ready(group(size, [1] * n), n, elapsed))


@given(SIZES)
def test_everyone(size: int) -> None:
    """The rule waits for all members, and for none of an empty group."""
    assert least(everyone(), size) == size


@given(st.integers(1, 100), SIZES)
def test_fraction_is_the_ceiling_of_its_share(percent: int, size: int) -> None:
    """It is exactly ceil(share * size), also if rounding errors would make it one more (I8)."""
    assert least(fraction(percent / 100), size) == math.ceil(percent * size / 100)


@pytest.mark.parametrize(("share", "size", "members"), [(0.67, 3, 3), (0.66, 3, 2), (0.25, 4, 1), (0.07, 100, 7)])
def test_fraction_at_its_boundaries(share: float, size: int, members: int) -> None:
    """Of three members, a share of 0.67 is three, and 0.66 is two."""
    assert least(fraction(share), size) == members


@given(st.integers(1, 50), SIZES)
def test_count_is_at_most_the_group(members: int, size: int) -> None:
    """All members of a smaller group are enough."""
    assert least(count(members), size) == min(members, size)


@pytest.mark.parametrize(("size", "members"), [(0, 0), (8, 8), (20, 20), (30, 20), (40, 20), (100, 50)])
def test_fraction_with_a_least(size: int, members: int) -> None:
    """It waits for half of a large group, 20 members of a smaller one, all members of a small one."""
    rule = fraction(0.5, least=20)
    assert (least(rule, size), str(rule)) == (members, "fraction(0.5, least=20)")


@given(
    st.sampled_from(
        [everyone(), fraction(0.5, least=9), fraction(0.3), fraction(1.0), count(3), sampled(24, share=0.67)]
    ),
    SIZES,
)
def test_what_a_rule_needs_is_when_it_releases(rule: All, size: int) -> None:
    """`needs` is the number of arrivals that releases a group: `lacks` counts down from it."""
    assert rule.needs(size) == least(rule, size)


def test_deadline_needs_time_and_one_member() -> None:
    """Before its time the rule waits for all members, after it for one."""
    rule = deadline(30)
    assert rule.deadline() == 30
    assert not rule.ready(group(3, [1, 1]), 2, 29.9)
    assert rule.ready(group(3, [1, 1]), 2, 30.0)
    assert rule.ready(group(3, [1, 1]), 2, 30.0 - 1e-12)
    assert rule.ready(group(3, [1]), 1, 31.0)
    assert not rule.ready(group(3, []), 0, 99.0)
    assert rule.ready(group(3, [1, 1, 1]), 3, 0.0)


def test_only_a_deadline_has_a_time() -> None:
    """Other rules are called only when a member arrives."""
    assert [r.deadline() for r in (everyone(), fraction(0.5), count(1), decided(lambda so_far: True))] == [None] * 4


def test_decided_sees_the_group_so_far() -> None:
    """The predicate gets the group so far; a full group is released without it."""
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
    """A group that is ready stays ready with more members, and a full one always is."""
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
    """Numbers with which a rule would never or always release are flaws."""
    flaw = rule.flaw()
    assert flaw is not None
    assert flaw.found == found


@pytest.mark.parametrize(
    "rule", [everyone(), fraction(1), fraction(0.001), fraction(0.5, least=2), count(1), count(7), deadline(0.1)]
)
def test_right_rules_have_no_flaw(rule: All) -> None:
    """The boundary values have no flaw."""
    assert rule.flaw() is None


def test_rules_are_values() -> None:
    """Rules with equal numbers are equal."""
    assert everyone() == everyone()
    assert {fraction(0.5), fraction(0.5, least=1), count(2), count(2)} == {fraction(0.5), count(2)}


def test_text() -> None:
    """The text of a rule is how it is written."""
    rules = [everyone(), fraction(0.67), count(2), deadline(30), decided(max)]  # type: ignore[arg-type]
    assert list(map(str, rules)) == ["all", "fraction(0.67)", "count(2)", "deadline(30s)", "decided(max)"]


# ---- a random part of a group ----------------------------------------------------------------------------

STRATA = st.lists(st.sampled_from([0, 1]), min_size=1, max_size=40)


@given(st.integers(1, 60), st.integers(1, 100), SIZES)
def test_sampled_sends_so_many_and_waits_for_a_share_of_those(members: int, percent: int, size: int) -> None:
    """It sends at most a whole group, and waits for exactly the ceiling of the share of the members sent (I8)."""
    rule = sampled(members, share=percent / 100)
    sent = min(members, size)
    assert rule.sends(size) == sent
    assert least(rule, size) == rule.needs(size) == math.ceil(percent * sent / 100)


@given(st.sampled_from([everyone(), fraction(0.3), count(2), deadline(5), decided(bool)]), SIZES)
def test_the_other_rules_send_all(rule: All, size: int) -> None:
    """A rule that releases early still sends all members."""
    assert rule.sends(size) == size


@pytest.mark.parametrize("rule", [sampled(0), sampled(1.5), sampled(4, share=0.0), sampled(4, share=1.1)])  # type: ignore[arg-type]
def test_wrong_samples(rule: All) -> None:
    """No members, part of a member, a share of 0 and a share above 1 are flaws."""
    assert rule.flaw() is not None
    assert sampled(1, share=1.0).flaw() is None
    assert str(sampled(24, share=0.5)) == "sampled(24, 0.5)"


@given(STRATA, st.integers(1, 40), st.integers(0, 99))
def test_drawn_gives_different_places(strata: list[int], members: int, seed: int) -> None:
    """It returns different indices, as many as asked for or all, and the same for equal streams."""
    found = drawn(strata, members, random.Random(seed))
    assert len(set(found)) == len(found) == min(members, len(strata))
    assert set(found) <= set(range(len(strata)))
    assert found == drawn(strata, members, random.Random(seed))


@given(STRATA, st.integers(1, 40), st.integers(0, 99))
def test_the_count_of_each_stratum_is_fixed(strata: list[int], members: int, seed: int) -> None:
    """Only the choice within a stratum is random, so that the estimate is unbiased; stratum 0 gets its share."""
    counts = [Counter(strata[p] for p in drawn(strata, members, random.Random(s))) for s in (0, seed)]
    assert counts[0] == counts[1]
    share = strata.count(0) / len(strata)
    assert counts[0][0] >= math.floor(min(members, len(strata)) * share)


def test_every_member_of_a_stratum_is_drawn_as_often() -> None:
    """Over 2,000 draws each count is within four standard deviations of its stratum's mean."""
    strata, draws, stream = [0, 1] * 10, 2000, random.Random(3)
    found = Counter(place for _ in range(draws) for place in drawn(strata, 8, stream))
    for stratum in (0, 1):
        places = [p for p in range(20) if strata[p] == stratum]
        mean = sum(found[p] for p in places) / len(places)
        spread = math.sqrt(mean * (1 - mean / draws))
        assert all(abs(found[p] - mean) < 4 * spread for p in places)
    assert found[0] > found[1]
