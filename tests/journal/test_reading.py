"""Read stored runs: finished ones, one that another process holds, and killed ones."""

from __future__ import annotations

import re
import shutil
import sqlite3
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import filelock
import pytest

import flashgraph as fg
from flashgraph.errors import DataError
from flashgraph.llm.limits import adaptive, fixed
from flashgraph.observe.runs import head
from flashgraph.run.journal import JournalError
from flashgraph.run.journal.folders import find_run, is_held, runs_in
from flashgraph.run.journal.reading import StoredRun
from flashgraph.run.result import texts_of
from flashgraph.sim.faults import RateLimit
from flashgraph.sim.world import UNSOLVED
from tests.journal.kit import SCENARIOS, session
from tests.journal.small import ANSWERED, held, judged_run, small_run
from tests.run.endpoints import Server, ran, requests


@pytest.fixture(scope="module")
def ended(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, fg.Result]:
    """The folder of a finished run, and the run's own result."""
    folder = tmp_path_factory.mktemp("reading") / "ended"
    return folder, small_run(folder)


@pytest.fixture(scope="module")
def overlapping(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, fg.Result]:
    """The same, with artifacts that were admitted on partial evidence."""
    folder = tmp_path_factory.mktemp("reading") / "overlapping"
    return folder, small_run(folder, schedule="pipelined", budget=fg.Budget(proposals=40))


# ---- a run that has ended --------------------------------------------------------------------------------


def test_header_status_and_sessions(ended: tuple[Path, fg.Result]) -> None:
    """A stored run tells its settings, its end and its sessions."""
    folder, result = ended
    with StoredRun.open(folder) as run:
        assert (run.name, run.header.graph, run.header.task, run.header.seed) == ("ended", "gepa", "world-1", 0)
        assert (run.status, run.reason) == (result.status, result.reason) == ("budget", "no proposals left")
        (session,) = run.sessions()
        assert session.closed is not None
        assert session.status == "budget"
        assert session.at == pytest.approx(result.spent.seconds, abs=0.5)
        assert run.limits() == {"proposals": 8}
        assert run.pools == ("frontier",)
        assert run.size() > 10_000


def test_spend_is_the_runs_own_account(ended: tuple[Path, fg.Result]) -> None:
    """Calls, tokens and money are as the ledger settled them; none are lost or unanswered."""
    folder, result = ended
    with StoredRun.open(folder) as run:
        spend = run.spend()
    assert (spend.calls, spend.tokens, spend.usd) == (result.spent.calls, result.spent.tokens, result.spent.usd)
    assert spend.prompt_tokens + spend.completion_tokens == spend.tokens
    assert (spend.failed, spend.lost, spend.unanswered) == (0, 0, 0)


@pytest.mark.parametrize("which", ["ended", "overlapping"])
def test_artifacts_are_those_of_the_result(which: str, request: pytest.FixtureRequest) -> None:
    """Every field, folded from admissions, confirmations and retractions, is equal; so is the best."""
    folder, result = request.getfixturevalue(which)
    with StoredRun.open(folder) as run:
        found = run.artifacts()
        assert run.artifacts("frontier") == found
        for stored, own in zip(found, result.artifacts, strict=True):
            assert stored.texts == texts_of(own.value)
            fields = ("pool", "id", "version", "parents", "score", "scores", "lag", "provisional", "retracted")
            for field in (*fields, "evidence"):
                assert getattr(stored, field) == getattr(own, field), field
        best = run.best()
        assert best is not None
        assert result.best is not None
        assert best.id == result.best.id
        assert run.best_score() == best.score == result.best.score
        assert run.accepted() == sum(not a.retracted for a in result.artifacts)
        assert run.artifact(best.id) == best


def test_a_journal_of_an_older_flashgraph_has_no_evidence(ended: tuple[Path, fg.Result], tmp_path: Path) -> None:
    """Scores are the pool's own, and the curve is that of the best confirmed ones."""
    folder = tmp_path / "old"
    shutil.copytree(ended[0], folder)
    as_of_schema_1(folder)
    with StoredRun.open(folder) as run:
        artifacts, best, curve = run.artifacts(), run.best(), run.curve()
        assert {a.evidence for a in artifacts} == {run.best_evidence()} == {None}
    assert best is not None
    assert best.score == sum(best.scores.values()) / len(best.scores)
    assert [point.score for point in curve] == sorted({point.score for point in curve})
    assert curve[-1].score == best.score


def as_of_schema_1(folder: Path) -> None:
    """Drop the tables that schema 2 added from a journal."""
    db = sqlite3.connect(folder / "journal.db")
    db.executescript("DROP TABLE standings; DROP TABLE champions; PRAGMA user_version = 1;")
    db.close()


def test_confirmed_retracted_and_provisional_artifacts(tmp_path: Path) -> None:
    """Each artifact has its last state; the best is confirmed, and the curve has confirmed scores only."""
    result = judged_run(tmp_path / "run")
    with StoredRun.open(tmp_path / "run") as run:
        found = {a.texts["text"]: a for a in run.artifacts()}
        assert {text: a.state for text, a in found.items()} == {"a": "confirmed", "b": "retracted", "c": "provisional"}
        assert {a.id: (a.provisional, a.retracted) for a in found.values()} == {
            a.id: (a.provisional, a.retracted) for a in result.artifacts
        }
        assert len(found["a"].scores) == 4
        assert len(found["c"].scores) == 1
        assert run.best() == found["a"]
        assert run.accepted() == 2
        assert [point.score for point in run.curve()] == [1.0]
        spend = run.spend()
        # The end cancelled three requests: the run's own account counts them.
        assert (spend.calls, spend.unanswered, result.spent.calls) == (12, 3, 12)


def test_lineage_leads_from_the_root_with_diffs(ended: tuple[Path, fg.Result]) -> None:
    """Each step's diff, applied to its parent's text, gives its own text."""
    with StoredRun.open(ended[0]) as run:
        best = run.best()
        assert best is not None
        steps = run.lineage(best)
    assert (steps[0].artifact.parents, steps[0].parent, steps[0].diff) == ((), None, ())
    assert steps[-1].artifact == best
    for before, step in pairwise(steps):
        assert step.parent == before.artifact
        assert step.parent.id in step.artifact.parents
        assert f"+{step.artifact.texts['instruction']}" in step.diff
        assert f"-{step.parent.texts['instruction']}" in step.diff


def test_the_curve_leads_to_the_champion(ended: tuple[Path, fg.Result]) -> None:
    """The curve starts at the seed's score, by calls and time; each point has the artifact and its evidence then."""
    with StoredRun.open(ended[0]) as run:
        curve = run.curve()
        assert curve[0].calls == 8
        assert curve[0].score == run.artifact(0).score
        assert curve[-1].score == run.best_score()
        best = run.best()
        assert best is not None
        assert (curve[-1].artifact, curve[-1].evidence) == (best.id, best.evidence)
        assert len({point.artifact for point in curve}) > 1
        assert curve[-1].calls <= run.spend().calls
    for before, after in pairwise(curve):
        assert (before.artifact, before.score) != (after.artifact, after.score)
        assert before.calls <= after.calls
        assert before.at <= after.at


def test_calls_in_order_and_the_newest(ended: tuple[Path, fg.Result]) -> None:
    """Calls have the texts that were sent and received."""
    folder, result = ended
    with StoredRun.open(folder) as run:
        calls = list(run.calls())
        assert len(calls) == result.spent.calls
        assert [c.id for c in calls] == sorted(c.id for c in calls)
        assert list(run.calls(last=3)) == calls[-3:]
        assert list(run.calls(last=10_000)) == calls
    first = calls[0]
    assert (first.role, first.how, first.reply, first.finish) == ("task", "done", UNSOLVED, "stop")
    assert [role for role, _ in first.messages] == ["system", "user"]
    assert first.messages[0][1] == "Answer as the rules say."


def test_failures_by_stage_and_reason(tmp_path: Path) -> None:
    """Failures are counted, the most frequent first."""

    def broken(messages: object) -> str:
        raise fg.RequestFailed("too long")

    small_run(tmp_path / "run", models={"task": broken, "reflection": broken})
    with StoredRun.open(tmp_path / "run") as run:
        (failure, *_) = run.failures()
        assert (failure.stage, failure.reason) == ("baseline", "RequestFailed: too long")
        assert failure.count == 8
        assert run.spend().failed == run.spend().calls == 8
        assert (run.best(), run.best_score(), run.accepted(), run.curve()) == (None, None, 0, ())
        with pytest.raises(DataError, match="pool 'frontier' has no artifact 0; none has been admitted"):
            run.artifact(0)


# ---- runs that go on, and killed ones --------------------------------------------------------------------


def test_requests_without_an_answer_are_counted_as_the_run_grows(
    tmp_path: Path, overlapping: tuple[Path, fg.Result]
) -> None:
    """A reader that counted before reads only new turns, and counts as one that has just been opened."""
    folder = tmp_path / "growing"
    shutil.copytree(overlapping[0], folder)
    with sqlite3.connect(folder / "journal.db") as db:
        turns = db.execute("SELECT * FROM turns ORDER BY seq").fetchall()
        db.execute("DELETE FROM turns")
    counts = []
    with StoredRun.open(folder) as old:
        for start in range(0, len(turns), 1 + len(turns) // 10):
            with sqlite3.connect(folder / "journal.db") as db:
                some = turns[start : start + 1 + len(turns) // 10]
                db.executemany(f"INSERT INTO turns VALUES ({', '.join('?' * len(turns[0]))})", some)
            with StoredRun.open(folder) as new:
                counts.append(new.spend().unanswered)
            assert old.spend().unanswered == counts[-1]
    assert max(counts) > 0
    assert counts[-1] == 0


def test_a_run_that_another_process_has(tmp_path: Path) -> None:
    """A run is readable while it is active and after a kill, and a copy is resumed elsewhere."""
    folder = tmp_path / "held"
    with held(folder) as process:
        with StoredRun.open(folder) as run:
            assert run.status == "running"
            assert run.reason.startswith(f"process {process.pid} on ")
            spend = run.spend()
            assert 0 < spend.calls <= ANSWERED
            assert spend.unanswered > 0
            assert run.artifact(0).score is not None
            assert is_held(folder)
        process.kill()
        process.wait()
        with StoredRun.open(folder) as run:
            assert run.status == "killed"
            before = run.spend()
            assert before.unanswered > 0
            assert before.lost == 0
    elsewhere = tmp_path / "elsewhere" / "copy"
    shutil.copytree(folder, elsewhere)
    result = small_run(elsewhere, resume=True)
    with StoredRun.open(elsewhere) as run:
        assert run.status == result.status == "budget"
        assert [s.status for s in run.sessions()] == [None, "budget"]
        after = run.spend()
        assert 0 < after.lost <= before.unanswered
        assert after.unanswered == 0
        assert after.calls == result.spent.calls
    with StoredRun.open(folder) as run:
        assert run.status == "killed"


def test_limits_are_those_of_the_last_session(tmp_path: Path) -> None:
    """An active run with a larger budget shows that budget."""
    small_run(tmp_path / "run", budget=fg.Budget(proposals=2))
    small_run(tmp_path / "run", budget=fg.Budget(proposals=4, calls=10_000), resume=True)
    with StoredRun.open(tmp_path / "run") as run:
        assert run.limits() == {"proposals": 4, "calls": 10_000}
        assert run.header.limits == {"proposals": 2}
        assert len(run.sessions()) == 2


def test_a_reader_holds_nothing_up(tmp_path: Path) -> None:
    """A run writes and ends while a reader has a snapshot open; the snapshot does not change."""
    small_run(tmp_path / "run", budget=fg.Budget(proposals=1))
    with StoredRun.open(tmp_path / "run") as run:
        with run.snapshot():
            before = run.spend()
            result = small_run(tmp_path / "run", budget=fg.Budget(proposals=3), resume=True)
            assert run.spend() == before
            assert len(run.sessions()) == 1
        assert run.spend().calls == result.spent.calls > before.calls
        assert len(run.sessions()) == 2


def test_a_snapshot_within_a_snapshot(tmp_path: Path) -> None:
    """Both show the moment of the outer one."""
    small_run(tmp_path / "run", budget=fg.Budget(proposals=1))
    with StoredRun.open(tmp_path / "run") as run:
        with run.snapshot():
            before = run.spend()
            with run.snapshot():
                small_run(tmp_path / "run", budget=fg.Budget(proposals=3), resume=True)
                assert run.spend() == before
            assert run.spend() == before
        assert run.spend().calls > before.calls


def test_a_run_that_was_killed_before_its_first_session(tmp_path: Path) -> None:
    """Its header is readable, and it has no sessions."""
    assert session(SCENARIOS["gepa"], tmp_path / "one" / "run", schedule="lockstep", kill_at=1).killed
    with StoredRun.open(tmp_path / "one" / "run") as run:
        assert (run.status, run.reason, run.sessions()) == ("killed", "", ())
        assert (run.spend().calls, run.seconds(), run.best()) == (0, 0.0, None)


def test_endpoints_that_were_down_and_up_again(tmp_path: Path) -> None:
    """Each endpoint has its calls; one that answered again is up, one that never did is down."""
    servers = [
        Server(9, fixed(4), name="a", down=(20, 60)), Server(9, fixed(4), name="b"),
        Server(9, fixed(4), name="c", down=(20, 1e9)),
    ]  # fmt: skip
    result = ran(requests(200), {"task": servers}, folder=tmp_path / "run")
    assert result.status == "completed"
    with StoredRun.open(tmp_path / "run") as run:
        found = {endpoint.name: endpoint for endpoint in run.endpoints()}
    assert {name: endpoint.down for name, endpoint in found.items()} == {"a": False, "b": False, "c": True}
    answered = {server.name: len(server.answered) for server in servers}
    assert all(found[name].calls >= count for name, count in answered.items())
    assert found["b"].calls == answered["b"]


def test_rates_that_an_endpoint_reports(tmp_path: Path) -> None:
    """Stored rates are in words, which `show` prints."""
    ran(requests(60), {"task": Server(99, adaptive(), rate=RateLimit(240))}, folder=tmp_path / "run")
    with StoredRun.open(tmp_path / "run") as run:
        (endpoint,) = run.endpoints()
        assert (endpoint.rates, endpoint.down) == (("240 requests a minute",), False)
        assert any("reports a rate limit of 240 requests a minute" in line for line in head(run))


@pytest.mark.parametrize("without_flock", [False, True])
def test_whether_a_folder_is_held(without_flock: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder counts as held by this process too, and also on systems without shared locks, such as Windows."""
    if without_flock:
        monkeypatch.setitem(sys.modules, "fcntl", None)
    lock = filelock.FileLock(tmp_path / "lock")
    assert not is_held(tmp_path)
    with lock:
        assert is_held(tmp_path)
    assert not is_held(tmp_path)
    lock.acquire(timeout=0)
    lock.release()


def test_readers_are_not_taken_for_the_run(ended: tuple[Path, fg.Result]) -> None:
    """Asking whether a folder is held does not hold it, and creates no file."""
    assert not is_held(ended[0])
    assert not is_held(ended[0])
    assert not is_held(ended[0].parent)
    assert not (ended[0].parent / "lock").exists()


def test_reading_loads_no_graph(ended: tuple[Path, fg.Result], tmp_path: Path) -> None:
    """A run is readable without its graph's file and its task."""
    code = (
        "import sys\nfrom flashgraph.run.journal.reading import StoredRun\n"
        f"run = StoredRun.open({str(ended[0])!r})\n"
        "print(run.best().score, any(name.startswith('flashgraph.algorithms') for name in sys.modules))"
    )
    said = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert said.stdout == f"{ended[1].best.score if ended[1].best else None} False\n"


# ---- errors ----------------------------------------------------------------------------------------------


def test_no_such_run(ended: tuple[Path, fg.Result], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The error names similar runs in the folder that was searched."""
    near = ended[0].parent / "endde"
    with pytest.raises(DataError, match="no such run") as raised:
        StoredRun.open(near)
    assert "did you mean 'ended'?" in str(raised.value)
    assert f"flashgraph runs {ended[0].parent}" in str(raised.value)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DataError, match="In runs: none exists") as raised:
        StoredRun.open("mine")
    assert "'flashgraph runs' lists them" in str(raised.value)


def test_where_a_run_is_found(ended: tuple[Path, fg.Result], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A run is found by its path, its journal's path, or its name in runs/."""
    shutil.copytree(ended[0], tmp_path / "runs" / "mine")
    monkeypatch.chdir(tmp_path)
    assert find_run("mine") == find_run("runs/mine") == find_run("runs/mine/journal.db") == Path("runs/mine")
    assert runs_in(Path("runs")) == [Path("runs/mine")]
    with pytest.raises(DataError, match="nowhere: no such folder of runs"):
        runs_in(tmp_path / "nowhere")


def test_no_such_artifact_or_pool(ended: tuple[Path, fg.Result]) -> None:
    """The error lists what exists."""
    with StoredRun.open(ended[0]) as run:
        most = len(run.artifacts()) - 1
        with pytest.raises(DataError, match=f"pool 'frontier' has no artifact 99; they are numbered 0 to {most}"):
            run.artifact(99)
        with pytest.raises(DataError, match="no pool 'front'; it has frontier"):
            run.artifact(0, "front")


def test_a_file_that_is_no_journal(tmp_path: Path) -> None:
    """A file that is not a journal, or a damaged one, is an error, and the file does not change."""
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "journal.db").write_bytes(b"not a database, but long enough to be read as one" * 100)
    with pytest.raises(JournalError, match="it is not an SQLite file"):
        StoredRun.open(tmp_path / "run")


def test_a_text_that_is_gone(ended: tuple[Path, fg.Result], tmp_path: Path) -> None:
    """A reader gets a note in place of the missing text, and all the rest."""
    shutil.copytree(ended[0], tmp_path / "run")
    db = sqlite3.connect(tmp_path / "run" / "journal.db")
    db.execute("DELETE FROM payloads")
    db.commit()
    db.close()
    with StoredRun.open(tmp_path / "run") as run:
        reply = next(run.calls()).reply
        assert reply is not None
        assert re.fullmatch(r"\(text [0-9a-f]{32} is not in the journal\)", reply)
        assert run.spend().calls == ended[1].spent.calls


def test_a_damaged_journal(ended: tuple[Path, fg.Result], tmp_path: Path) -> None:
    """A journal that can be opened but not read is an error."""
    shutil.copytree(ended[0], tmp_path / "run")
    with StoredRun.open(tmp_path / "run") as run:
        path = tmp_path / "run" / "journal.db"
        db = sqlite3.connect(path)
        db.execute("DROP TABLE failures")
        db.close()
        with pytest.raises(JournalError, match=r"table failures could not be read: .*no such table: failures"):
            run.failures()


def test_a_run_that_never_began(ended: tuple[Path, fg.Result], tmp_path: Path) -> None:
    """The error tells that the run was killed between the creation of its file and its header."""
    shutil.copytree(ended[0], tmp_path / "run")
    db = sqlite3.connect(tmp_path / "run" / "journal.db")
    db.execute("DELETE FROM meta")
    db.commit()
    db.close()
    with pytest.raises(JournalError, match="the run was killed before it began"):
        StoredRun.open(tmp_path / "run")
