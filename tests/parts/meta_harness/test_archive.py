"""The archive is complete, its frontiers fit their definition, and code is identity."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import flashgraph as fg
from flashgraph.graph.ports import Member
from flashgraph.parts.meta_harness import OVERALL, FailedProgram, HarnessArchive
from flashgraph.parts.meta_harness.standing import dominates
from tests.parts.meta_harness.kit import admit, code, group

POINT = st.tuples(st.sampled_from([-1.0, 0.0, 0.5, 1.0]), st.integers(0, 3))
VALUES = st.fixed_dictionaries(
    {"a": st.lists(POINT, min_size=1, max_size=3), "b": st.lists(POINT, min_size=1, max_size=3)}
)
ADMISSIONS = st.lists(
    st.one_of(
        st.builds(FailedProgram, st.just("iteration 1"), st.just("propose"), st.just("empty")),
        st.builds(group, st.integers(0, 6), VALUES),
        st.builds(group, st.integers(0, 6), VALUES, st.integers(1, 4)),
    ),
    max_size=12,
)


def filled(admissions: list[Any]) -> HarnessArchive:
    archive = HarnessArchive()
    for value in admissions:
        archive = admit(archive, value)
    return archive


@given(ADMISSIONS)
def test_everything_is_archived(admissions: list[Any]) -> None:
    """Failures and duplicates are archived too, under their number and as artifacts; later ones change none of them."""
    archive = HarnessArchive()
    for number, value in enumerate(admissions):
        before = dict(archive.entries)
        archive = admit(archive, value)
        assert {i: e for i, e in archive.entries.items() if i != number} == before
        assert list(archive.artifacts) == list(range(number + 1))


@given(ADMISSIONS)
def test_frontiers_are_the_undominated(admissions: list[Any]) -> None:
    """A frontier holds exactly the scored programs that no other scored program dominates, by data set and overall."""
    archive = filled(admissions)
    scored = [e for e in archive.entries.values() if e.status == "scored"]
    for name in ("a", "b", OVERALL):
        front = archive.frontier(name)
        for entry in scored:
            beaten = any(dominates(other.points[name], entry.points[name]) for other in scored)
            assert (entry.id in front) == (not beaten)
        assert set(front) <= {e.id for e in scored}


@given(ADMISSIONS)
def test_best_is_the_most_accurate_and_then_the_cheapest(admissions: list[Any]) -> None:
    """The best is on the overall frontier, and a confirmed program beats any provisional one."""
    archive = filled(admissions)
    best = archive.best()
    scored = archive.scored()
    if not scored:
        assert best is None or archive.entries[best.id].status == "provisional"
        return
    assert best is not None
    assert best.id in archive.frontier()
    top = max((e.points[OVERALL][0], -e.points[OVERALL][1]) for e in scored)
    assert (best.value.points[OVERALL][0], -best.value.points[OVERALL][1]) == top
    assert best.score == top[0]


@given(ADMISSIONS)
def test_identity_is_the_code(admissions: list[Any]) -> None:
    """Code is evaluated under one number, and its copies under any name are duplicates."""
    entries = filled(admissions).entries.values()
    first: dict[str, int] = {}
    for entry in entries:
        if entry.identity:
            assert entry.same_as == first.get(entry.identity)
            assert (entry.status == "duplicate") == (entry.identity in first)
            first.setdefault(entry.identity, entry.id)


@given(VALUES, st.integers(1, 6))
def test_amending_equals_admitting_at_once(values: Any, known: int) -> None:
    """Admitting a part of the predictions and amending the rest equals admitting all at once."""
    whole = admit(HarnessArchive(), group(1, values))
    part = admit(HarnessArchive(), group(1, values, known))
    amended = part.apply(fg.PoolEvent("amend", 0, group(1, values, amendment=True)))
    assert amended == whole


@given(ADMISSIONS)
def test_a_narrowed_view_shows_the_best(admissions: list[Any]) -> None:
    """`focus` points at the best entry and keeps the rest readable."""
    archive = filled(admissions)
    narrowed, best = archive.best_line(), archive.best()
    assert narrowed.entries == archive.entries
    assert narrowed.line == (None if best is None else best.id)
    assert list(narrowed.artifacts) == ([best.id] if best is not None else list(archive.artifacts))


def test_a_retracted_program_is_gone() -> None:
    """A provisional program whose evidence stays incomplete can be retracted, and only so removed."""
    archive = admit(HarnessArchive(), group(1, {"a": [(1.0, 5), (1.0, 5)]}, 1))
    assert archive.entries[0].status == "provisional"
    assert not archive.apply(fg.PoolEvent("retract", 0, group(1, {"a": [(1.0, 5)]}))).entries


def test_failed_predictions() -> None:
    """A failed prediction scores 0 with its reason; a program whose predictions all failed is failed, not scored 0."""
    some = admit(HarnessArchive(), group(1, {"a": [(1.0, 10), (-1.0, 30)]}))
    entry = some.entries[0]
    assert (entry.status, entry.accuracy, entry.marks["a"].failures, entry.marks["a"].characters) == (
        "scored",
        0.5,
        1,
        20.0,
    )
    entry = admit(some, group(2, {"a": [(-1.0, 10), (-1.0, 30)]})).entries[1]
    assert (entry.status, entry.step, entry.accuracy) == ("failed", "predict", None)
    assert entry.reason == "all 2 predictions failed, the first with: it broke"


def test_a_failed_request_counts_as_a_failed_prediction() -> None:
    """If a prediction's stage failed, the prediction is a failure with the stage's reason."""
    whole = group(1, {"a": [(1.0, 10), (1.0, 10)]})
    members = (whole.members[0], Member[Any](1, "failed", None, "RequestFailed: 500"))
    entry = admit(HarnessArchive(), fg.Group(whole.origin, members)).entries[0]
    assert [(p.index, p.score, p.failure) for p in entry.predictions] == [(0, 1.0, ""), (1, 0.0, "RequestFailed: 500")]


def test_every_data_set_counts_the_same() -> None:
    """Overall accuracy and cost are means over data sets, not over samples."""
    entry = admit(HarnessArchive(), group(1, {"a": [(1.0, 8)], "b": [(0.0, 4), (0.0, 4), (0.0, 4)]})).entries[0]
    assert entry.points[OVERALL] == (0.5, 6.0)


@given(VALUES, st.integers(1, 6))
def test_evidence_of_an_entry(values: Any, known: int) -> None:
    """An entry's evidence has the mean over data sets; for a part, the number tried of all."""
    entry = admit(HarnessArchive(), group(1, values)).entries[0]
    total = sum(len(points) for points in values.values())
    assert entry.evidence is not None
    assert (entry.evidence.tried, entry.evidence.of) == (total, total)
    if entry.accuracy is not None:
        assert entry.evidence.mean == pytest.approx(entry.accuracy)
        assert entry.evidence.failed == entry.marks[OVERALL].failures
    part = admit(HarnessArchive(), group(1, values, known)).entries[0]
    assert part.evidence is not None
    assert (part.evidence.tried, part.evidence.of) == (min(known, total), total)


def test_texts_of_an_entry() -> None:
    """The held-out test gets the program and its learned state."""
    entry = admit(HarnessArchive(), group(3, {"a": [(1.0, 8)]})).entries[0]
    assert entry.text == {"program": code(3), "state:a": "state"}
