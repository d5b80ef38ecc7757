"""Budgets: reservation, settlement and their bounds."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

import flashgraph as fg
from flashgraph.run.budget import Ledger, prompt_bound


@given(
    limit=st.integers(1, 50),
    steps=st.lists(st.tuples(st.floats(0, 20), st.floats(0, 1)), max_size=40),
)
def test_settled_and_reserved_never_exceed_the_limit(limit: int, steps: list[tuple[float, float]]) -> None:
    """I10: whoever asks `lacking` before reserving can never overshoot, whatever is settled meanwhile."""
    ledger = Ledger(fg.Budget(tokens=limit))
    waiting: list[tuple[int, float]] = []
    for amount, share in steps:
        if ledger.lacking({"tokens": amount}) is None:
            waiting.append((ledger.reserve({"tokens": amount}), amount * share))
        if len(waiting) > 3:
            reservation, spent = waiting.pop(0)
            ledger.settle(reservation, {"tokens": spent})
        assert ledger.settled["tokens"] + ledger.reserved["tokens"] <= limit * (1 + 1e-6)


def test_giving_a_reservation_back_spends_nothing() -> None:
    """What was never sent costs nothing."""
    ledger = Ledger(fg.Budget(calls=1))
    reservation = ledger.reserve({"calls": 1})
    assert ledger.lacking({"calls": 1}) == "calls"
    assert ledger.exhausted() == "calls"
    ledger.settle(reservation, {})
    assert ledger.lacking({"calls": 1}) is None
    assert ledger.remaining() == {"calls": 1}


def test_unlimited_amounts_are_counted() -> None:
    """Without a limit everything is affordable, and the account still adds up."""
    ledger = Ledger(fg.Budget())
    ledger.settle(ledger.reserve({"calls": 1, "usd": 5.0}), {"calls": 1, "usd": 2.0})
    assert (ledger.settled["calls"], ledger.settled["usd"]) == (1, 2.0)
    assert ledger.exhausted() is None


@pytest.mark.parametrize("value", [0, -1, "5", True])
def test_a_limit_is_a_number_over_zero(value: object) -> None:
    """Anything else is refused, naming the limit."""
    with pytest.raises(fg.DataError, match="budget: calls="):
        fg.Budget(calls=value)  # type: ignore[arg-type]  # the mistake under test


@given(st.lists(st.text(max_size=50), min_size=1, max_size=4))
def test_the_prompt_bound_is_one(contents: list[str]) -> None:
    """No byte-level tokenizer makes more tokens than bytes; each message adds its frame."""
    bound = prompt_bound([{"role": "user", "content": c} for c in contents])
    assert bound >= sum(len(c.encode()) for c in contents) + 16 * len(contents)
