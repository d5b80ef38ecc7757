"""The evidence of a pool's artifacts in a journal: stored, read, replayed, and resumed after a kill."""

from __future__ import annotations

import json
import math
import sqlite3
from pathlib import Path
from typing import Any

import attrs
import pytest

import flashgraph as fg
from flashgraph.errors import DataError
from flashgraph.graph.ports import Artifact
from flashgraph.parts import ParetoFrontier
from flashgraph.parts.evaluation import Attempt, Candidate, Work
from flashgraph.policies.champion import Proven, Title, proven
from flashgraph.policies.schedule import Schedule
from flashgraph.run import events as ev
from flashgraph.run.budget import Ledger
from flashgraph.run.journal.codec import Codec
from flashgraph.run.journal.header import fingerprint
from flashgraph.run.journal.keeper import JOURNAL
from flashgraph.run.journal.reading import StoredRun
from flashgraph.run.journal.reopening import carried
from flashgraph.run.journal.replay import replay
from flashgraph.run.journal.store import connect
from flashgraph.run.machine import Machine
from flashgraph.sim.clock import run_virtually, settle
from flashgraph.testing.hand import plan_by_hand
from tests.journal.kit import Scenario, admitted, rows, session, sound
from tests.journal.kit import proven as paid_once
from tests.run.racing import TASK, answer, race, slowly

RACE = Scenario("race", race, TASK, {"judge": answer}, fg.Budget(calls=100_000))


def evidence(folder: Path) -> list[Any]:
    return rows(folder, "SELECT artifact, score FROM admissions WHERE kind = 'evidence' ORDER BY version")


def raced(folder: Path, **options: Any) -> tuple[fg.Result, Machine]:
    """Run a stored race in virtual time; return its result and its machine."""

    async def main() -> tuple[fg.Result, Machine]:
        defaults: dict[str, Any] = {"schedule": "pipelined", "budget": fg.Budget(calls=100_000)}
        kept = {**defaults, **options}
        opened = fg.open_run(race(), TASK, models={"judge": slowly}, folder=folder, settle=settle, **kept)
        async with opened as run:
            return await run.wait(), run.machine

    return run_virtually(main)


def test_what_is_stored_stands_as_it_does_in_the_result(tmp_path: Path) -> None:
    """The stored scores have the evidence of the result, and the champion is the same."""
    result, machine = raced(tmp_path / "run")
    told = [e for e in result.events if isinstance(e, ev.EvidenceAdded)]
    assert told
    assert evidence(tmp_path / "run") == [(e.artifact, e.score) for e in told]
    with StoredRun.open(tmp_path / "run") as run:
        for stored, own in zip(run.artifacts(), result.artifacts, strict=True):
            assert (stored.id, stored.version, stored.scores) == (own.id, own.version, own.scores)
            assert stored.state == ("provisional" if own.provisional else "confirmed")
        best = run.best()
        assert best is not None
        assert result.best is not None
        assert best.id == result.best.id == machine.pools["frontier"].best.id  # type: ignore[union-attr]


def test_told_again_the_champion_is_the_same(tmp_path: Path) -> None:
    """A replay on a fresh machine ends with the same champion and the same state of its rule."""
    _, machine = raced(tmp_path / "run")
    fresh = Machine(machine.plan, Ledger(fg.Budget()), lambda event: None, 0, TASK)
    db = connect(tmp_path / "run" / JOURNAL, readonly=True)
    replay(db, tmp_path / "run" / JOURNAL, Codec.of_graph(machine.plan.checked), fresh)
    db.close()
    mine, other = machine.pools["frontier"], fresh.pools["frontier"]
    assert mine.best == other.best
    assert mine.title == other.title
    assert mine.value == other.value


def test_killed_and_resumed(tmp_path: Path) -> None:
    """I13: after kills before, during and after the evidence, no admission is lost and no answer is paid twice."""
    folder = tmp_path / "run"
    alone = session(RACE, tmp_path / "alone" / "run", schedule="pipelined").value
    assert evidence(tmp_path / "alone" / "run")
    for step in (3, 7, 5, 6):
        before = admitted(folder)
        assert session(RACE, folder, schedule="pipelined", kill_at=alone.commits * step // 24).killed
        sound(folder)
        assert admitted(folder)[: len(before)] == before
    before = admitted(folder)
    done = session(RACE, folder, schedule="pipelined").value
    assert (done.status, done.sessions) == ("completed", 5)
    assert evidence(folder)
    assert admitted(folder)[: len(before)] == before
    paid_once(folder)
    with StoredRun.open(folder) as run:
        for stored in run.artifacts():
            assert set(stored.scores) <= set(range(len(TASK.val)))
            assert stored.score is not None


def test_in_lockstep_a_killed_run_has_the_same_evidence(tmp_path: Path) -> None:
    """Every score is equal."""
    alone = session(RACE, tmp_path / "alone" / "run", schedule="lockstep").value
    folder = tmp_path / "killed" / "run"
    for step in (5, 9):
        assert session(RACE, folder, schedule="lockstep", kill_at=alone.commits * step // 24).killed
    assert session(RACE, folder, schedule="lockstep").value.pools == alone.pools


# ---- the header ------------------------------------------------------------------------------------------


class Mine:
    """A champion rule of the user's own."""

    def next(self, title: Title, artifacts: Any, choice: Artifact | None, changed: int) -> Title:
        return Title()


def champion(schedule: Schedule) -> tuple[str, str]:
    graph = race()
    _, functions, policies = fingerprint(plan_by_hand(graph, schedule))
    return policies["champion"], functions["champion"]


def test_the_fingerprint_has_the_rule_of_the_champion() -> None:
    """The fingerprint contains all numbers of the rule, and the source of a user's own rule."""
    rules = (Proven(0.9, 30), Proven(0.8, 30), Proven(0.9, 20))
    said = {champion(Schedule("one", champion=rule))[0] for rule in rules}
    assert said == {"proven(0.9, least=30)", "proven(0.8, least=30)", "proven(0.9, least=20)"}
    name, digest = champion(Schedule("one", champion=Mine()))
    assert name == "Mine"
    assert digest != champion(Schedule("one"))[1] == champion(fg.pipelined())[1]


def test_another_rule_of_the_champion_needs_leave(tmp_path: Path) -> None:
    """A changed rule is named; once accepted, the run resumes and keeps what was drawn under the old rule."""
    folder = tmp_path / "run"
    raced(folder, schedule=Schedule("one", window=8, champion=proven(0.9)), budget=fg.Budget(calls=20))
    with pytest.raises(DataError, match=r"champion: proven\(0.9.*\) -> best"):
        raced(folder, schedule=Schedule("one", window=8), resume=True)
    result, _ = raced(folder, schedule=Schedule("one", window=8), resume=True, accept_changes=True)
    assert result.status == "completed"


@pytest.mark.parametrize(("schedule", "asks"), [("lockstep", False), ("pipelined", True)])
def test_a_journal_from_before_there_were_rules(schedule: str, asks: bool, tmp_path: Path) -> None:
    """An old journal handed out the pool's own choice: lockstep resumes, any other rule must be accepted."""
    folder = tmp_path / "run"
    raced(folder, schedule=schedule, budget=fg.Budget(calls=20))
    with sqlite3.connect(folder / JOURNAL) as db:
        for key in ("policies", "functions"):
            (text,) = db.execute("SELECT value FROM meta WHERE key = ?", (key,)).fetchone()
            older = {name: value for name, value in json.loads(text).items() if name != "champion"}
            db.execute("UPDATE meta SET value = ? WHERE key = ?", (json.dumps(older), key))
    db.close()
    if asks:
        with pytest.raises(DataError, match="champion: best -> proven"):
            raced(folder, schedule=schedule, resume=True)
    assert raced(folder, schedule=schedule, resume=True, accept_changes=asks)[0].status == "completed"


# ---- pools that are made for their task ------------------------------------------------------------------


def careless() -> fg.Graph:
    """Build a graph with two candidates: ``a`` fails on 5 of 8 samples and is right on 3, ``b`` is right on 5."""
    graph = fg.Graph("careless")
    frontier = graph.pool("frontier", ParetoFrontier)

    @graph.source(rounds=2)
    def pick(ctx: fg.Draw[None]) -> Candidate:
        return Candidate({"text": "ab"[ctx.emission]}, 8)

    @graph.stage
    def judge(work: Work) -> Attempt:
        if work.text["text"] == "a" and work.index < 5:
            raise ValueError("cannot be scored")
        return Attempt(work.index, float(work.text["text"] == "a" or work.index < 5), "")

    graph.edge(pick, judge, scatter=Candidate.work)
    graph.edge(judge, frontier, gather=True)
    return graph


def test_beginning_anew_with_other_bounds(tmp_path: Path) -> None:
    """The old run is replayed with its own bounds, in which a failed sample counted as 0, and ``b`` was its best."""
    folder = tmp_path / "run"
    first = fg.run(careless(), TASK, models={}, schedule="lockstep", folder=folder)
    assert [artifact.score for artifact in first.artifacts] == [3 / 8, 5 / 8]
    unbounded = attrs.evolve(TASK, bounds=(-math.inf, math.inf))
    fg.run(careless(), unbounded, models={}, schedule="lockstep", folder=folder, resume=True, accept_changes=True)
    db = connect(folder / JOURNAL, readonly=True)
    assert carried(db, folder / JOURNAL).texts == {"text": "b"}
    db.close()
