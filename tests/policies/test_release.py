"""Release rules: how many members each waits for."""

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


@given(
    st.sampled_from(
        [everyone(), fraction(0.5, least=9), fraction(0.3), fraction(1.0), count(3), sampled(24, share=0.67)]
    ),
    SIZES,
)
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


# ---- a random part of a group ----------------------------------------------------------------------------

STRATA = st.lists(st.sampled_from([0, 1]), min_size=1, max_size=40)


@given(st.integers(1, 60), st.integers(1, 100), SIZES)
def test_sampled_sends_so_many_and_waits_for_a_share_of_those(members: int, percent: int, size: int) -> None:
    """At most the whole of a smaller group; the share is of what is sent, and exactly its ceiling (I8)."""
    rule = sampled(members, share=percent / 100)
    sent = min(members, size)
    assert rule.sends(size) == sent
    assert least(rule, size) == rule.needs(size) == math.ceil(percent * sent / 100)


@given(st.sampled_from([everyone(), fraction(0.3), count(2), deadline(5), decided(bool)]), SIZES)
def test_the_other_rules_send_all(rule: All, size: int) -> None:
    """Which of them go on early is another matter."""
    assert rule.sends(size) == size


@pytest.mark.parametrize("rule", [sampled(0), sampled(1.5), sampled(4, share=0.0), sampled(4, share=1.1)])  # type: ignore[arg-type]
def test_parts_that_cannot_be(rule: All) -> None:
    """No members, a part of one, no share, more than all."""
    assert rule.flaw() is not None
    assert sampled(1, share=1.0).flaw() is None
    assert str(sampled(24, share=0.5)) == "sampled(24, 0.5)"


@given(STRATA, st.integers(1, 40), st.integers(0, 99))
def test_drawn_gives_different_places(strata: list[int], members: int, seed: int) -> None:
    """So many as are asked for, or all there are; the same for the same stream."""
    found = drawn(strata, members, random.Random(seed))
    assert len(set(found)) == len(found) == min(members, len(strata))
    assert set(found) <= set(range(len(strata)))
    assert found == drawn(strata, members, random.Random(seed))


@given(STRATA, st.integers(1, 40), st.integers(0, 99))
def test_how_many_of_a_stratum_are_drawn_is_no_chance(strata: list[int], members: int, seed: int) -> None:
    """Only which of them: then the estimate from a part of each is unbiased.  Of what tells candidates apart there are
    at least as many as its share of all."""
    counts = [Counter(strata[p] for p in drawn(strata, members, random.Random(s))) for s in (0, seed)]
    assert counts[0] == counts[1]
    share = strata.count(0) / len(strata)
    assert counts[0][0] >= math.floor(min(members, len(strata)) * share)


def test_every_member_of_a_stratum_is_drawn_as_often() -> None:
    """Within four standard deviations over 2,000 draws."""
    strata, draws, stream = [0, 1] * 10, 2000, random.Random(3)
    found = Counter(place for _ in range(draws) for place in drawn(strata, 8, stream))
    for stratum in (0, 1):
        places = [p for p in range(20) if strata[p] == stratum]
        mean = sum(found[p] for p in places) / len(places)
        spread = math.sqrt(mean * (1 - mean / draws))
        assert all(abs(found[p] - mean) < 4 * spread for p in places)
    assert found[0] > found[1]
