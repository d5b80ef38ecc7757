"""I13 by force: processes are killed with SIGKILL, resumed, killed during the resume, and resumed again.

A lockstep run ends with the pools of a run that was never killed, to the last score.  In a pipelined run, where timing
decides what overlaps, every invariant holds on the log over all sessions.  In both, no visible admission is lost or
doubled, and no finished call is paid again, as the server's log of answers shows.
"""

from __future__ import annotations

import functools
import random
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

import flashgraph as fg
from flashgraph.testing.graphs import build
from flashgraph.testing.runs import TASK
from flashgraph.testing.shape import Shape
from flashgraph.testing.strategies import schedules, shapes
from tests.journal.kit import SCENARIOS, Finished, Scenario, admitted, proven, session, sound

SMALL = pytest.mark.parametrize("name", ["gepa", "ace", "cyclic"])
LARGE = pytest.mark.parametrize("name", ["large gepa", "large ace", "large cyclic"])
OUT = 12
"""The maximum number of requests in flight: four for each of three roles."""
BOTH = ["lockstep", "pipelined"]
SCHEDULES = pytest.mark.parametrize("schedule", BOTH)


@pytest.fixture
def fresh(tmp_path: Path) -> Iterator[Path]:
    """A path for a run, inside an empty folder."""
    yield tmp_path / "run"
    shutil.rmtree(tmp_path, ignore_errors=True)


@functools.cache
def undisturbed(name: str, schedule: str, virtual: bool = True) -> Finished:
    """Return the same run without a kill, with its number of commits."""
    with tempfile.TemporaryDirectory() as folder:
        return finished(SCENARIOS[name], Path(folder) / "run", schedule, virtual=virtual)


def finished(scenario: Scenario, folder: Path, schedule: str | fg.Schedule, *, virtual: bool = True) -> Finished:
    """Resume a run to its end."""
    done: Finished = session(scenario, folder, schedule=schedule, virtual=virtual).value
    return done


def killed(scenario: Scenario, folder: Path, schedule: str | fg.Schedule, **kill: float) -> bool:
    """Run a session that is killed unless it ends first; check that the journal is intact and no admission is lost."""
    before = admitted(folder)
    ended = session(scenario, folder, schedule=schedule, **kill)  # type: ignore[arg-type]
    sound(folder)
    assert admitted(folder)[: len(before)] == before
    return ended.killed


def holds(scenario: Scenario, folder: Path, schedule: str, *, virtual: bool = True) -> None:
    """Resume the run to its end, and check that it equals one that was never killed."""
    before = admitted(folder)
    done = finished(scenario, folder, schedule, virtual=virtual)
    alone = undisturbed(scenario.name, schedule, virtual)
    assert (done.status, done.reason) == (alone.status, alone.reason)
    if schedule == "lockstep":
        assert done.pools == alone.pools
    assert admitted(folder)[: len(before)] == before
    sound(folder)
    proven(folder)


def after_each_commit(name: str, schedule: str, folder: Path, step: int, virtual: bool = True) -> int:
    """Kill a run after every ``step``-th of its commits in turn; every other time kill its resume too."""
    kills = 0
    for number in range(1, undisturbed(name, schedule, virtual).commits + 1, step):
        mine = folder / str(number) / "run"
        kills += killed(SCENARIOS[name], mine, schedule, kill_at=number, virtual=virtual)
        if number % 2:
            kills += killed(SCENARIOS[name], mine, schedule, kill_at=1 + number % 5, virtual=virtual)
        holds(SCENARIOS[name], mine, schedule, virtual=virtual)
        shutil.rmtree(mine.parent)
    return kills


@SMALL
@SCHEDULES
def test_some_commits(name: str, schedule: str, fresh: Path) -> None:
    """I13, the quick part: some of the moments of the slow tests."""
    commits = undisturbed(name, schedule).commits
    assert after_each_commit(name, schedule, fresh.parent, step=commits // 2) >= 3


@pytest.mark.slow
@SMALL
@SCHEDULES
@pytest.mark.parametrize("virtual", [True, False], ids=["virtual time", "real time"])
def test_every_commit(name: str, schedule: str, virtual: bool, fresh: Path) -> None:
    """I13: after every journal write in turn.  In real time commits are combined, and calls are in flight at the kill.

    How many are combined depends on the machine, but requests wait for a commit, and their number in flight is bounded.
    """
    kills = after_each_commit(name, schedule, fresh.parent, step=1, virtual=virtual)
    whole = undisturbed(name, schedule)
    assert kills >= (whole.commits - 1 if virtual else whole.spent.calls // OUT)


def test_there_are_many_commits() -> None:
    """`test_every_commit` makes more than 200 kills, in virtual time alone."""
    commits = [undisturbed(name, schedule).commits for name in ("gepa", "ace", "cyclic") for schedule in BOTH]
    assert sum(commits) - len(commits) >= 200, commits


@SCHEDULES
def test_within_transactions(schedule: str, fresh: Path) -> None:
    """I13: an interrupted transaction has no effect, and nobody saw one."""
    scenario, kills = SCENARIOS["cyclic"], 0
    while killed(scenario, fresh, schedule, kill_inside=120 + 7 * kills):
        kills += 1
        assert kills < 40, "the run does not come forward"
    assert kills >= 2
    holds(scenario, fresh, schedule)


@pytest.mark.slow
@SMALL
@SCHEDULES
def test_every_statement(name: str, schedule: str, fresh: Path) -> None:
    """I13: within transactions, at random statements."""
    moments = random.Random(f"{name} {schedule}")
    for number in range(30):
        mine = fresh.parent / str(number) / "run"
        killed(SCENARIOS[name], mine, schedule, kill_inside=moments.randint(1, 400))
        killed(SCENARIOS[name], mine, schedule, kill_inside=moments.randint(1, 60))
        holds(SCENARIOS[name], mine, schedule)
        shutil.rmtree(mine.parent)


@SMALL
@SCHEDULES
def test_chains(name: str, schedule: str, fresh: Path) -> None:
    """I13: a run whose sessions are all killed still ends, with the same result."""
    chain(name, schedule, fresh, longest=50)


def chain(name: str, schedule: str, folder: Path, longest: int, virtual: bool = True) -> int:
    """Kill session after session until one ends first; return how many were killed.

    In virtual time each is killed after 3 to ``longest`` commits.  In real time, where the number of commits depends on
    the machine, each is killed after some answers.
    """
    moments, kills = random.Random(f"{name} {schedule}"), 0

    def kill() -> dict[str, int]:
        return {"kill_at": moments.randint(3, longest)} if virtual else {"kill_answered": moments.randint(1, longest)}

    while killed(SCENARIOS[name], folder, schedule, virtual=virtual, **kill()):
        kills += 1
        assert kills < 400, "the run does not come forward"
    holds(SCENARIOS[name], folder, schedule, virtual=virtual)
    return kills


@pytest.mark.slow
@LARGE
@SCHEDULES
@pytest.mark.parametrize("virtual", [True, False], ids=["virtual time", "real time"])
def test_long_chains(name: str, schedule: str, virtual: bool, fresh: Path) -> None:
    """I13: a larger run that is killed again and again, at random commits.

    A killed session has received up to ``OUT - 1`` answers more than planned.  With an eighth of the run's answers at
    most, three sessions never reach its end.
    """
    longest = 60 if virtual else undisturbed(name, schedule).spent.calls // 8
    assert chain(name, schedule, fresh, longest=longest, virtual=virtual) >= 3


@SCHEDULES
def test_from_outside(schedule: str, fresh: Path) -> None:
    """I13: kills at moments that the process does not choose, with calls in flight, in real time."""
    from_outside("cyclic", schedule, fresh, longest=0.5)


def from_outside(name: str, schedule: str, folder: Path, longest: float, seed: int = 0) -> int:
    moments, kills = random.Random(f"{name} {schedule} {seed}"), 0
    # The time grows with every kill, for a machine on which a session needs seconds to begin.
    while killed(
        SCENARIOS[name], folder, schedule, kill_after=moments.uniform(0.15, longest) * 1.02**kills, virtual=False
    ):
        kills += 1
        assert kills < 400, "the run does not come forward"
    holds(SCENARIOS[name], folder, schedule, virtual=False)
    return kills


@pytest.mark.slow
@LARGE
@SCHEDULES
@pytest.mark.parametrize("seed", range(3))
def test_random_moments(name: str, schedule: str, seed: int, fresh: Path) -> None:
    """I13: a larger run, killed from outside again and again."""
    from_outside(name, schedule, fresh, longest=0.9, seed=seed)


GENERATED = settings(
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.function_scoped_fixture],
    phases=[Phase.explicit, Phase.reuse, Phase.generate],
)
KILLS = st.lists(st.integers(1, 12), min_size=1, max_size=4)


def generated(shape: Shape, schedule: fg.Schedule, kills: list[int], parent: Path) -> None:
    """Kill a run of a generated graph some times; check all invariants over all sessions, and equality in lockstep."""
    roles = {s.model: _echo for s in build(shape).spec.stages if s.model is not None}
    scenario = Scenario("generated", lambda: build(shape), TASK, roles, fg.Budget(calls=100_000))
    with tempfile.TemporaryDirectory(dir=parent) as one, tempfile.TemporaryDirectory(dir=parent) as other:
        folder = Path(one) / "run"
        for number in kills:
            killed(scenario, folder, schedule, kill_at=number)
        done = finished(scenario, folder, schedule)
        proven(folder)
        assert done.status == "completed", done.reason
        if schedule.serial:
            assert done.pools == finished(scenario, Path(other) / "run", schedule).pools


def _echo(messages: object) -> str:
    return "ok"


@settings(GENERATED, max_examples=4, derandomize=True)
@given(shape=shapes(), schedule=schedules(), kills=KILLS)
def test_generated_graphs(shape: Shape, schedule: fg.Schedule, kills: list[int], tmp_path: Path) -> None:
    """I13 on generated graphs, schedules, latencies, faults and kills: the quick part."""
    generated(shape, schedule, kills, tmp_path)


@pytest.mark.slow
@settings(GENERATED, max_examples=80)
@given(shape=shapes(), schedule=schedules(), kills=KILLS)
def test_many_generated_graphs(shape: Shape, schedule: fg.Schedule, kills: list[int], tmp_path: Path) -> None:
    """I13 on generated graphs, schedules, latencies, faults and kills."""
    generated(shape, schedule, kills, tmp_path)
