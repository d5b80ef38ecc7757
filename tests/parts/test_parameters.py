"""Requirements on parameters that types cannot express."""

from __future__ import annotations

import pytest

import flashgraph as fg
from flashgraph.parts.parameters import at_least, between, one_of, require

MODE, SIZE, SHARE = fg.Param("mode", "fast"), fg.Param("size", 3), fg.Param("share", 0.5)
RULES = (one_of(MODE, "fast", "slow"), at_least(SIZE, 1), between(SHARE, 0, 1))


def checked(**values: object) -> None:
    ctx: fg.Draw = fg.Draw(None, None, None, {"mode": "fast", "size": 3, "share": 0.5, **values})  # type: ignore[arg-type]
    require(ctx, *RULES)


def test_right_values_pass() -> None:
    checked(mode="slow", size=1, share=1)


def test_all_wrong_values_are_reported_together() -> None:
    """One error names all wrong values, each with the value found, the one expected and the fix."""
    with pytest.raises(fg.DataError) as caught:
        checked(mode="slwo", size=0, share=-0.1)
    assert str(caught.value) == (
        "parameter 'mode': found 'slwo', expected one of fast, slow.\nFix: did you mean 'slow'?\n"
        "parameter 'size': found 0, expected 1 or more.\nFix: --set size=3\n"
        "parameter 'share': found -0.1, expected a number from 0 to 1.\nFix: --set share=0.5"
    )
