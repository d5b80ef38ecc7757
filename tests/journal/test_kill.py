"""I13 by force: processes are killed with SIGKILL, resumed, killed while they resume, and resumed again.

Lockstep ends with the pools of a run that was never killed, to the last score.  Pipelined, where the moment decides
what overlaps, every invariant holds on the log over all sessions.  Either way nothing that was seen to be admitted is
lost or doubled, and no finished call is paid again: the server writes down what it answers.
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
from flashgraph.testing.graphs import Shape, build
from flashgraph.testing.runs import TASK
from flashgraph.testing.strategies import schedules, shapes
from tests.journal.kit import SCENARIOS, Finished, Scenario, admitted, proven, session, sound

SMALL = pytest.mark.parametrize("name", ["gepa", "ace", "cyclic"])
LARGE = pytest.mark.parametrize("name", ["large gepa", "large ace", "large cyclic"])
OUT = 12
"""Requests that are out at once at most: four of each of three roles."""
BOTH = ["lockstep", "pipelined"]
SCHEDULES = pytest.mark.parametrize("schedule", BOTH)


@pytest.fixture
def fresh(tmp_path: Path) -> Iterator[Path]:
    """A folder for a run, in a folder of its own."""
    yield tmp_path / "run"
    shutil.rmtree(tmp_path, ignore_errors=True)


@functools.cache
def undisturbed(name: str, schedule: str, virtual: bool = True) -> Finished:
    """The same run without a kill, with its number of commits."""
    with tempfile.TemporaryDirectory() as folder:
        return finished(SCENARIOS[name], Path(folder) / "run", schedule, virtual=virtual)


def finished(scenario: Scenario, folder: Path, schedule: str | fg.Schedule, *, virtual: bool = True) -> Finished:
    """Go on with a run to its end."""
    done: Finished = session(scenario, folder, schedule=schedule, virtual=virtual).value
    return done


def killed(scenario: Scenario, folder: Path, schedule: str | fg.Schedule, **kill: float) -> bool:
    """A session that is killed, unless it ends before: the journal is whole, and what was admitted is still there."""
    before = admitted(folder)
    ended = session(scenario, folder, schedule=schedule, **kill)  # type: ignore[arg-type]
    sound(folder)
    assert admitted(folder)[: len(before)] == before
    return ended.killed


def holds(scenario: Scenario, folder: Path, schedule: str, *, virtual: bool = True) -> None:
    """The run, gone on with to its end, is as good as one that was never killed."""
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
    """Kill a run after each ``step``-th of its commits in turn; every other time also while it is resumed."""
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
    """I13, the quick part: a few of the moments that the slow tests go through."""
    commits = undisturbed(name, schedule).commits
    assert after_each_commit(name, schedule, fresh.parent, step=commits // 2) >= 3


@pytest.mark.slow
@SMALL
@SCHEDULES
@pytest.mark.parametrize("virtual", [True, False], ids=["virtual time", "real time"])
def test_every_commit(name: str, schedule: str, virtual: bool, fresh: Path) -> None:
    """I13: after every journal write in turn.  In real time commits go together, and calls are out at the kill.

    How many go together is the machine's affair, but requests wait for a commit and only so many are out at once.
    """
    kills = after_each_commit(name, schedule, fresh.parent, step=1, virtual=virtual)
    whole = undisturbed(name, schedule)
    assert kills >= (whole.commits - 1 if virtual else whole.spent.calls // OUT)


def test_there_are_many_commits() -> None:
    """What `test_every_commit` goes through is more than 200 kills, in virtual time alone."""
    commits = [undisturbed(name, schedule).commits for name in ("gepa", "ace", "cyclic") for schedule in BOTH]
    assert sum(commits) - len(commits) >= 200, commits


@SCHEDULES
def test_within_transactions(schedule: str, fresh: Path) -> None:
    """I13: a transaction that was cut off has not been; what nobody could see was not done."""
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
    """I13: a run all of whose sessions are killed gets to its end all the same, and is the same."""
    chain(name, schedule, fresh, longest=50)


def chain(name: str, schedule: str, folder: Path, longest: int, virtual: bool = True) -> int:
    """Kill session after session until one is not killed: in virtual time each after 3 to ``longest`` commits, in real
    time, where a run has as many commits as the machine is fast, after so many answers."""
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

    By the time that it is killed, a session has had up to ``OUT - 1`` answers more than it was to have: with an eighth
    of the run's for the most, three of them never get to its end.
    """
    longest = 60 if virtual else undisturbed(name, schedule).spent.calls // 8
    assert chain(name, schedule, fresh, longest=longest, virtual=virtual) >= 3


@SCHEDULES
def test_from_outside(schedule: str, fresh: Path) -> None:
    """I13: at moments that the process does not choose, with calls in flight, in real time."""
    from_outside("cyclic", schedule, fresh, longest=0.5)


def from_outside(name: str, schedule: str, folder: Path, longest: float, seed: int = 0) -> int:
    moments, kills = random.Random(f"{name} {schedule} {seed}"), 0
    # Longer with every kill, for the machine on which a session needs seconds to begin.
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
    """A generated graph, killed some times: all invariants over all sessions; and lockstep is the same."""
    roles = {s.llm: _echo for s in build(shape).spec.stages if s.llm is not None}
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
