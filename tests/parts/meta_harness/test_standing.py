"""The bound that stops a clear loser is sound."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from flashgraph.parts.meta_harness import HarnessArchive
from flashgraph.parts.meta_harness.standing import beaten
from tests.parts.meta_harness.kit import admit, group, predictions

SCORES = st.tuples(st.sampled_from([0.0, 0.5, 1.0]), st.integers(0, 3))
VALUES = st.fixed_dictionaries(
    {"a": st.lists(SCORES, min_size=3, max_size=3), "b": st.lists(SCORES, min_size=2, max_size=2)}
)


@given(st.lists(VALUES, max_size=4), VALUES, st.integers(0, 5))
def test_a_hopeless_candidate_never_reaches_a_frontier(rivals: list[Any], values: Any, known: int) -> None:
    """A candidate that is hopeless on partial predictions is on no frontier with all of its real ones."""
    archive = HarnessArchive()
    for number, rival in enumerate(rivals):
        archive = admit(archive, group(number, rival))
    made = predictions(values, archive.rivals())
    if len(made[:known]) < len(made) and beaten(made[:known]):
        after = admit(archive, group(99, values))
        assert all(len(archive.entries) not in after.frontier(name) for name in ("a", "b", "overall"))


def test_a_clear_loser_is_seen() -> None:
    """Two wrong answers out of three cannot beat a cheaper program with two right ones."""
    rival = admit(HarnessArchive(), group(1, {"a": [(1.0, 10), (1.0, 10), (0.0, 10)]}))
    losing = predictions({"a": [(0.0, 20), (0.0, 20), (1.0, 20)]}, rival.rivals())
    assert not beaten(losing[:1])
    assert beaten(losing[:2])


def test_a_cheap_loser_is_not_stopped() -> None:
    """A wrong answer that cost nothing settles nothing, because less context can also reach the frontier."""
    rival = admit(HarnessArchive(), group(1, {"a": [(1.0, 10), (1.0, 10)]}))
    assert not beaten(predictions({"a": [(0.0, 1), (0.0, 1)]}, rival.rivals()))


def test_without_rivals_nothing_is_hopeless() -> None:
    """Without rivals nothing is hopeless, so the baselines always finish."""
    assert not beaten(predictions({"a": [(0.0, 9), (0.0, 9)]}))
