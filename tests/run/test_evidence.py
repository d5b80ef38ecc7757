"""Contenders under virtual time: they add evidence for artifacts of a pool, and the champion follows from it."""

from __future__ import annotations

from typing import Any

import flashgraph as fg
from flashgraph.policies.champion import Best, Proven
from flashgraph.policies.schedule import Schedule
from flashgraph.run import events as ev
from flashgraph.run.machine import Machine
from flashgraph.sim.clock import run_virtually
from flashgraph.testing import check_invariants, settle
from tests.run.kit import Virtually, of
from tests.run.racing import SIZE, TASK, passes, race, slowly


def raced(virtually: Virtually, schedule: Any = "pipelined", **options: Any) -> tuple[fg.Result, Machine]:
    """Return the result of a race, checked against the invariants."""
    budget = fg.Budget(calls=100_000)

    async def main() -> tuple[fg.Result, Machine]:
        models = {"judge": slowly}
        async with fg.open_run(
            race(**options), TASK, models=models, schedule=schedule, budget=budget, settle=settle
        ) as run:
            result = await run.wait()
            check_invariants(result.events, run.machine.plan, budget)
            return result, run.machine

    result: tuple[fg.Result, Machine] = virtually(main)
    return result


def test_evidence_makes_no_artifact(virtually: Virtually) -> None:
    """Evidence adds scores to an admitted artifact and makes none; the pool's version rises."""
    result, machine = raced(virtually)
    added = of(result, ev.EvidenceAdded)
    assert added
    assert len(result.artifacts) == 6
    assert {e.artifact for e in added} <= {a.id for a in result.artifacts}
    changes = [type(e) for e in result.events if isinstance(e, ev.Admitted | ev.Confirmed | ev.EvidenceAdded)]
    assert machine.pools["frontier"].version == len(changes)
    kinds = {c.kind for c in machine.pools["frontier"].changes(0)}
    assert "evidence" in kinds


def test_every_score_is_of_its_own_artifact(virtually: Virtually) -> None:
    """Every score belongs to its own artifact, on the samples that it was sent out on."""
    result, _ = raced(virtually)
    for artifact in result.artifacts:
        text = artifact.value["text"]
        assert artifact.scores == {i: passes(text, i) for i in artifact.scores}
        assert artifact.evidence is not None
        assert artifact.evidence.tried == len(artifact.scores)
        assert artifact.evidence.of == SIZE


def test_the_champion_is_tried_on_all(virtually: Virtually) -> None:
    """The champion has full evidence before a race ends."""
    result, _ = raced(virtually)
    assert result.best is not None
    assert result.best.evidence is not None
    assert result.best.evidence.complete


def test_a_champion_that_is_proven(virtually: Virtually) -> None:
    """Each change of the champion names the better one on common samples; a stricter rule changes it less often."""

    def changes(rule: Any) -> list[int | None]:
        result, _ = raced(virtually, Schedule("one", window=4, champion=rule))
        champions = [e.artifact for e in of(result, ev.ChampionChanged)]
        return [b for a, b in zip([None, *champions], champions, strict=False) if a != b]

    often, seldom = changes(Best()), changes(Proven(0.99))
    assert len(seldom) <= len(often)
    assert seldom[0] == 0


def test_both_event_loops_race_alike() -> None:
    """I14: both event loops give equal events."""
    logs = [raced(lambda main, b=b: run_virtually(main, backend=b))[0].events for b in ("trio", "asyncio")]  # type: ignore[misc]
    assert logs[0] == logs[1]


def test_evidence_for_a_retracted_artifact_goes_nowhere(virtually: Virtually) -> None:
    """Evidence for a retracted artifact goes nowhere: its items are orphans, like descendants."""
    result, _ = raced(virtually, late="amend", share=0.25)
    retracted = {e.artifact: e.at for e in of(result, ev.Retracted)}
    assert all(e.at <= retracted.get(e.artifact, e.at) for e in of(result, ev.EvidenceAdded))
