"""Pools score partial and failed groups, and hand out a champion."""

from __future__ import annotations

from statistics import fmean
from typing import Any

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

import flashgraph as fg
from flashgraph.graph.ports import Group, Member
from flashgraph.parts.ace.checkpoints import Checkpoints, Snapshot
from flashgraph.parts.archive import Archive
from flashgraph.parts.evaluation import Attempt, Candidate
from flashgraph.parts.gepa.pareto import ParetoFrontier
from flashgraph.parts.islands.pool import Entrant, Islands, Settings
from flashgraph.policies.champion import proven
from flashgraph.run.pools import PoolState

SCORES = st.lists(st.sampled_from([0.0, 0.5, 1.0]), min_size=2, max_size=12)
MANY = st.lists(st.sampled_from([0.0, 0.25, 0.5, 1.0]), min_size=10, max_size=16)
"""Enough samples for a prior to count."""


def group(origin: Any, scores: list[float | str]) -> Group[Any, Any]:
    """Return a group with scores; ``"failed"`` and ``"open"`` members have none."""
    members = [_member(i, score) for i, score in enumerate(scores)]
    return Group(origin, tuple(members))


def _member(index: int, score: float | str) -> Member[Any]:
    if isinstance(score, float):
        return Member(index, "arrived", Attempt(index, score, "out"))
    return Member(index, "failed" if score == "failed" else "open")


def kinds(size: int) -> list[tuple[Any, Any]]:
    """Return each pool, for a task with bounds from 0 to 1, and the origin of a group for it."""
    task = fg.Task("t", [1], [1], score=lambda sample, output: fg.Score(0))
    snapshot = Snapshot({"playbook": "x"}, 0, "val", tuple(range(size)))
    entrant = Entrant({"program": "x = 1"}, 0, size, Settings(islands=1))
    return [(p.for_task(task), o) for p, o in ((Archive(), "x"), (Checkpoints(), snapshot), (Islands(), entrant))]


@given(SCORES, st.sets(st.integers(0, 11)))
def test_a_failed_sample_has_the_least_score(scores: list[float], failed: set[int]) -> None:
    """In every pool a failed sample has the least score, and an open one has none."""
    given: list[float | str] = ["failed" if i in failed else score for i, score in enumerate(scores)]
    if all(score == "failed" for score in given):
        return
    for pool, origin in kinds(len(scores)):
        artifact = pool.apply(fg.PoolEvent("admit", 0, group(origin, given))).artifacts[0]
        assert artifact.evidence is not None
        assert artifact.evidence.failed == given.count("failed")
        assert artifact.score == pytest.approx(fmean(0.0 if s == "failed" else float(s) for s in given))
        part = pool.apply(fg.PoolEvent("admit", 0, group(origin, [*given, "open"]), (), True)).artifacts[0]
        assert part.score == pytest.approx(artifact.score)
        assert (part.evidence.tried, part.evidence.of) == (len(scores), len(scores) + 1)


def champion(pool: Any, *rows: tuple[Any, list[float | str]]) -> int:
    """Return the champion under the rule of ``pipelined`` after these admissions."""
    state = PoolState("pool", pool, proven())
    for origin, scores in rows:
        state.admit(group(origin, scores), (), frozenset(), False, 0, 0.0)
    assert state.best is not None
    return state.best.id


def test_a_handful_of_checks_is_the_objective_itself() -> None:
    """With few checks a slightly better program is the best; if the checks are a sample, that is not proven."""
    better: dict[int, list[float | str]] = {1: [0.505], 40: [1.0, 0.01] * 20}
    for size, best in ((1, 1), (40, 0)):
        _, _, (islands, entrant) = kinds(size)
        other = attrs.evolve(entrant, text={"program": "y = 2\n" * 30})
        assert champion(islands, (entrant, [0.5] * size), (other, better[size])) == best


def test_a_handful_of_checks_has_no_interval() -> None:
    """With few checks, the score of a good parent's child is exact, and not a matter of luck."""
    _, _, (islands, entrant) = kinds(1)
    for number, score in enumerate((0.75, 0.9)):
        other = attrs.evolve(entrant, text={"program": f"x = {number}\n" * (1 + 30 * number)})
        islands = islands.apply(fg.PoolEvent("admit", number, group(other, [score]), tuple(range(number))))
    known = islands.artifacts[1].evidence
    assert (known.mean, known.estimate, known.interval) == (0.9, 0.9, (0.9, 0.9))


def test_online_the_newest_snapshot_is_handed_out() -> None:
    """Online the newest snapshot is handed out, because no two windows share a sample."""
    windows = [Snapshot({"playbook": str(i)}, i, "train", (2 * i, 2 * i + 1)) for i in range(3)]
    rows: list[tuple[Any, list[float | str]]] = [(w, [1.0 - w.step / 4, 0.5]) for w in windows]
    assert champion(Checkpoints(), *rows) == 2


@given(MANY, MANY, st.sampled_from([2.0, 64.0, 0.25]))
def test_estimates_are_in_the_tasks_unit(parents: list[float], scores: list[float], unit: float) -> None:
    """Scores from 0 to 64 are weighed like scores from 0 to 1."""
    size = min(len(parents), len(scores))

    def made(scale: float) -> Any:
        pool: Any = ParetoFrontier(bounds=(0.0, scale))
        for number, row in enumerate((parents, scores)):
            values: list[float | str] = [scale * score for score in row[:size]]
            text = Candidate({"text": str(number)}, size)
            pool = pool.apply(fg.PoolEvent("admit", number, group(text, values), tuple(range(number))))
        return pool.artifacts[1].evidence

    one, other = made(1.0), made(unit)
    assert (other.mean, other.estimate) == (unit * one.mean, unit * one.estimate)
    assert other.variance == unit**2 * one.variance
    assert other.prior == (unit * one.prior[0], unit**2 * one.prior[1])
