"""Staleness rules: each at the boundary of its lag, and combinations."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flashgraph.policies.staleness import Decision, Rule, accept, discard, refresh, repair, without_overlap

LAGS = st.integers(0, 50)
SIMPLE = st.one_of(
    st.just(accept()),
    st.builds(discard, LAGS),
    st.builds(refresh, LAGS),
    st.builds(lambda above, times: repair("patch", above, times=times), LAGS, st.integers(1, 3)),
)
RULES = st.recursive(SIMPLE, lambda inner: st.builds(lambda a, b: a | b, inner, inner), max_leaves=5)


@given(LAGS, st.integers(0, 3))
def test_accept_takes_everything(lag: int, repairs: int) -> None:
    """Items pass at any lag."""
    assert accept().decide(lag, repairs) == Decision("accept")


@pytest.mark.parametrize(("rule", "kind"), [(discard(3), "discard"), (refresh(3), "refresh")])
def test_a_rule_acts_above_its_lag(rule: Rule, kind: str) -> None:
    """An item passes at a lag of ``above``, and does not at one more."""
    assert [rule.decide(lag, 0).kind for lag in (0, 3, 4, 99)] == ["accept", "accept", kind, kind]


def test_repair_acts_a_number_of_times() -> None:
    """An item that was repaired ``times`` times passes at any lag."""
    rule = repair("patch", above=1, times=2)
    assert rule.decide(1, 0) == Decision("accept")
    assert [rule.decide(2, repairs) for repairs in (0, 1, 2)] == [
        Decision("repair", "patch"),
        Decision("repair", "patch"),
        Decision("accept"),
    ]


def test_a_repair_stage_is_a_handle_or_a_name() -> None:
    """Both give the same decision."""
    handle = SimpleNamespace(name="patch")
    assert repair(handle).decide(1, 0) == repair("patch").decide(1, 0) == Decision("repair", "patch")
    assert repair(handle).repairers() == (handle,)


def test_defaults_act_on_every_stale_item() -> None:
    """Without ``above``, a lag of 1 is stale."""
    assert refresh().decide(0, 0).kind == "accept"
    assert refresh().decide(1, 0).kind == "refresh"
    assert repair("patch").decide(1, 0).kind == "repair"


def test_the_first_rule_that_does_not_accept_decides() -> None:
    """``a | b`` applies ``a`` first."""
    rule = discard(8) | repair("patch", above=2) | refresh()
    assert [rule.decide(lag, 0).kind for lag in (0, 1, 2, 3, 8, 9)] == [
        "accept", "refresh", "refresh", "repair", "repair", "discard",
    ]  # fmt: skip
    assert rule.decide(5, 1).kind == "refresh"
    assert rule.repairers() == ("patch",)
    assert rule.refreshes()
    assert not (discard(8) | accept()).refreshes()


@given(RULES, RULES, LAGS, st.integers(0, 3))
def test_a_combination_is_its_parts_in_order(a: Rule, b: Rule, lag: int, repairs: int) -> None:
    """``a`` decides unless it accepts."""
    first = a.decide(lag, repairs)
    assert (a | b).decide(lag, repairs) == (first if first.kind != "accept" else b.decide(lag, repairs))


@given(RULES, RULES, RULES, LAGS, st.integers(0, 3))
def test_combining_is_associative(a: Rule, b: Rule, c: Rule, lag: int, repairs: int) -> None:
    """Parentheses make no difference."""
    assert ((a | b) | c).decide(lag, repairs) == (a | (b | c)).decide(lag, repairs)


@given(RULES, st.integers(0, 3))
def test_what_is_not_stale_passes(rule: Rule, repairs: int) -> None:
    """Every rule accepts lag 0, so that lockstep never meets a stale item."""
    assert rule.decide(0, repairs).kind == "accept"


@given(RULES)
def test_within_a_graph_that_was_included(rule: Rule) -> None:
    """Repair stages get the prefix; nothing else changes."""
    inside = rule.renamed({name: f"part.{name}" for name in rule.repairers()})
    assert inside.repairers() == tuple(f"part.{name}" for name in rule.repairers())
    assert [inside.decide(lag, 0).kind for lag in range(5)] == [rule.decide(lag, 0).kind for lag in range(5)]


@pytest.mark.parametrize(
    ("rule", "found"),
    [
        (discard(-1), "above=-1"),
        (discard(1.5), "above=1.5"),  # type: ignore[arg-type]
        (discard("4"), "above='4'"),  # type: ignore[arg-type]
        (repair("patch", times=0), "times=0"),
        (repair("patch", -2), "above=-2"),
        (repair("patch", when="x"), "when='x'"),  # type: ignore[arg-type]
        (accept() | discard(-3), "above=-3"),
    ],
)
def test_flaws(rule: Rule, found: str) -> None:
    """A wrong number is a flaw, also inside a combination."""
    flaw = rule.flaw()
    assert flaw is not None
    assert flaw.found == found


@given(RULES)
def test_right_rules_have_no_flaw(rule: Rule) -> None:
    """Every lag from 0 is right."""
    assert rule.flaw() is None


def conflicts(item: str, view: str) -> bool:
    """Return whether two texts differ."""
    return item != view


@pytest.mark.parametrize(
    ("rule", "text"),
    [
        (accept(), "accept"),
        (discard(4), "discard(above=4)"),
        (refresh(), "refresh(above=0)"),
        (repair("patch", 2), "repair(patch, above=2)"),
        (repair("patch", times=2, when=conflicts), "repair(patch, above=0, times=2, when=conflicts)"),
        (discard(9) | repair("patch"), "discard(above=9) | repair(patch, above=0)"),
    ],
)
def test_text(rule: Any, text: str) -> None:
    """The text of a rule is how it is written."""
    assert str(rule) == text


def test_a_condition_limits_repair() -> None:
    """A repair rule with ``when`` acts on the stale items for which it is true, and does not call it for others."""
    asked = []

    def touched(when: Any) -> bool:
        asked.append(when)
        return bool(when("item", "view"))

    rule = repair("patch", above=1, when=lambda item, view: (item, view) == ("item", "view"))
    assert [rule.decide(lag, 0, touched).kind for lag in (1, 2)] == ["accept", "repair"]
    assert len(asked) == 1
    assert repair("patch", when=lambda item, view: False).decide(9, 0, touched).kind == "accept"
    assert (rule | discard(4)).decide(9, 1, touched).kind == "discard"


@given(st.integers(0, 20), st.integers(0, 3))
def test_without_overlap_only_refresh_is_left(lag: int, repairs: int) -> None:
    """If rounds do not overlap, nothing is stale, but a view can be old."""
    for rule in (accept(), discard(0), repair("patch"), discard(2) | repair("patch")):
        assert without_overlap(rule).decide(lag, repairs).kind == "accept"
    for rule in (refresh(2), refresh(2) | discard(9)):
        assert without_overlap(rule).decide(lag, repairs).kind == ("refresh" if lag > 2 else "accept")
        assert without_overlap(rule).refreshes()


def test_without_a_view_every_change_touches_the_item() -> None:
    """Conditions are called through ``touched``; without it, stale items are repaired."""
    rule = repair("patch", above=0, when=lambda item, view: False)
    assert rule.decide(1, 0) == Decision("repair", "patch")
    assert rule.decide(1, 0, lambda when: when("item", "view")) == Decision("accept")


@pytest.mark.parametrize("other", [1, "all", None, discard])
def test_only_rules_are_combined(other: Any) -> None:
    """A value that is no rule is a flaw of the combination, also inside another one."""
    flaw = (refresh() | (accept() | other)).flaw()
    assert flaw is not None
    assert flaw.expected == "another rule"
