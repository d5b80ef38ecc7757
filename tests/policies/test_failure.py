"""Failure rules of groups."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flashgraph.policies.failure import FailAbove, fail_above, missing


@given(st.integers(0, 50))
def test_missing_never_fails_a_group(size: int) -> None:
    """A group does not fail even if every member failed."""
    assert not any(missing().fails(failed, size) for failed in range(size + 1))


@pytest.mark.parametrize(
    ("share", "size", "bearable"), [(0.0, 5, 0), (0.2, 5, 1), (0.2, 4, 0), (0.5, 4, 2), (0.99, 3, 2), (1.0, 3, 3)]
)
def test_fail_above_at_its_boundary(share: float, size: int, bearable: int) -> None:
    """A share of exactly ``share`` is tolerated, one member more is not."""
    rule = fail_above(share)
    assert not rule.fails(bearable, size)
    assert bearable == size or rule.fails(bearable + 1, size)


@given(st.floats(0, 1), st.integers(0, 50))
def test_more_failures_never_save_a_group(share: float, size: int) -> None:
    """A group that fails also fails with more failures."""
    fails = [fail_above(share).fails(failed, size) for failed in range(size + 1)]
    assert fails == sorted(fails)
    assert not fails[0]


@pytest.mark.parametrize("share", [-0.1, 1.1, 20, float("nan")])
def test_flaws(share: float) -> None:
    """A share outside 0 to 1 is a flaw."""
    flaw = fail_above(share).flaw()
    assert flaw is not None
    assert flaw.found == f"fail_above({share!r})"


@pytest.mark.parametrize(("rule", "text"), [(missing(), "missing"), (fail_above(0.2), "fail_above(0.2)")])
def test_text(rule: FailAbove, text: str) -> None:
    """The text of a rule is how it is written, and these rules have no flaw."""
    assert str(rule) == text
    assert rule.flaw() is None
