"""Deadlock freedom, both ways: what `check` passes never stalls, what it refuses for capacity stalls where it can."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from flashgraph.graph.check_shape import ASSUMED_WINDOW
from flashgraph.testing.deadlock import Ring, rings
from flashgraph.testing.proof import Share

PAGE = (Path(__file__).parents[2] / "docs" / "deadlock.md").read_text()


@pytest.mark.parametrize("ring", rings(2), ids=str)
def test_a_ring_stalls_where_it_can_be_full(ring: Ring) -> None:
    """A stall is found in some order exactly where the items fill the ring; what is not refused has none."""
    found = ring.explore()
    assert found.whole or found.stall
    assert (found.stall is not None) == (ring.window * ring.width >= ring.holds)
    assert ring.refused or found.stall is None


@pytest.mark.parametrize("width", [1, 2])
def test_check_refuses_what_the_rings_call_refused(width: int) -> None:
    """The rule that the rings are held against is the one of `check`, for the window that it assumes."""
    ring = Ring(ASSUMED_WINDOW, width, 2, 2, 1, ASSUMED_WINDOW * width)
    assert not ring.refused
    assert ring.graph(ring.needed).check() == ()
    assert [problem.code for problem in ring.graph(ring.needed - 1).check()] == ["cycle-capacity"]


def test_the_page_reports_the_share() -> None:
    """The figures of docs/deadlock.md for small rings are measured here, those for larger ones by the proof."""
    small = Share.of(rings(2))
    assert f"| 2 | {small.rings} | {small.refused} | {small.stalled} | {small.alone} of {small.alone_refused} |" in PAGE
    assert re.search(r"\| 6 \| \d+ \| \d+ \| \d+ \| (\d+) of \1 \|", PAGE)
