"""Times and counts in words."""

from __future__ import annotations

from flashgraph.observe.words import clock, counted, with_article


def test_clock() -> None:
    """A time has minutes, and hours if it is long enough."""
    assert [clock(s) for s in (0, 61.9, 3599, 3661)] == ["0:00", "1:01", "59:59", "1:01:01"]


def test_counted() -> None:
    """One is singular, and thousands have a separator."""
    assert [counted(n, "call") for n in (0, 1, 1234)] == ["0 calls", "1 call", "1,234 calls"]


def test_with_article() -> None:
    """The article follows the noun's first letter."""
    assert [with_article(n) for n in ("Minibatch", "Attempt")] == ["a Minibatch", "an Attempt"]
