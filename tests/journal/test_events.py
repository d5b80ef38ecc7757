"""The journal keeps every event of a run, and readers follow them."""

from __future__ import annotations

import shutil
import sqlite3
import zlib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import flashgraph as fg
from flashgraph.run import events as ev
from flashgraph.run.cause import Cause
from flashgraph.run.journal import JournalError
from flashgraph.run.journal.happened import FIELDS, StoredEvent, packed, unpacked
from flashgraph.run.journal.reading import StoredRun
from tests.journal.damage import FEW
from tests.journal.small import held, small_run
from tests.journal.test_migration import as_of

EXTRA = ("Account", "Served", "SampleUsed")


@pytest.fixture(scope="module")
def ended(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, fg.Result]:
    folder = tmp_path_factory.mktemp("events") / "run"
    return folder, small_run(folder, schedule="pipelined", budget=fg.Budget(proposals=20))


def test_the_journal_has_the_events_of_the_run(ended: tuple[Path, fg.Result]) -> None:
    """Kinds, numbers and times are those of the result's own events, except those of the stopped turn."""
    folder, result = ended
    with StoredRun.open(folder) as run:
        found = [event for event in run.events() if event.kind not in EXTRA]
        assert [event.number for event in run.events()] == list(range(len(list(run.events()))))
    started = [(e.call, e.job, e.role) for e in result.events if isinstance(e, ev.CallStarted)]
    assert [tuple(e.fields[n] for n in ("call", "job", "role")) for e in found if e.kind == "CallStarted"] == started
    admitted = [(e.pool, e.artifact, e.score) for e in result.events if isinstance(e, ev.Admitted)]
    assert [tuple(e.fields[n] for n in ("pool", "artifact", "score")) for e in found if e.kind == "Admitted"] == [
        (pool, artifact, score if score is None else round(score, 6)) for pool, artifact, score in admitted
    ]
    assert found[-1].kind == "RunEnded"
    assert [e.fields["call"] for e in found if e.kind == "CallEnded"] == [
        e.call for e in result.events if isinstance(e, ev.CallEnded)
    ]
    assert found[-1].fields["status"] == result.status


def test_a_job_names_its_sample_and_the_account_its_reserve(ended: tuple[Path, fg.Result]) -> None:
    with StoredRun.open(ended[0]) as run:
        events = list(run.events())
    jobs = {e.fields["job"]: e.fields["stage"] for e in events if e.kind == "JobStarted"}
    sampled = [e for e in events if e.kind == "SampleUsed"]
    assert {jobs[e.fields["job"]] for e in sampled} >= {"rollout", "trial", "validate"}
    assert {e.fields["split"] for e in sampled} == {"train", "val"}
    accounts = [e.fields for e in events if e.kind == "Account"]
    assert accounts
    assert all(set(account["used"]) == set(account["reserved"]) for account in accounts)
    with StoredRun.open(ended[0]) as run:
        assert accounts[-1]["used"]["tokens"] == run.spend().tokens


def test_changes_of_a_pool_lead_to_its_artifacts(ended: tuple[Path, fg.Result]) -> None:
    with StoredRun.open(ended[0]) as run:
        changes = run.changes("frontier")
        assert run.changes("frontier", since=changes[3].version) == changes[4:]
        last = {change.artifact: change for change in changes}
        assert {a.id: dict(a.scores) for a in run.artifacts()} == {id: c.scores for id, c in last.items()}
        assert [c.artifact for c in changes if c.kind == "admit"] == [a.id for a in run.artifacts()]


def test_one_call(ended: tuple[Path, fg.Result]) -> None:
    with StoredRun.open(ended[0]) as run:
        for call in list(run.calls(last=3)):
            assert run.call(call.id) == call
        assert run.call(10**6) is None


@pytest.mark.parametrize("since", [0, 1, 7, 63, 500])
def test_events_since_a_number(since: int, ended: tuple[Path, fg.Result]) -> None:
    with StoredRun.open(ended[0]) as run:
        every = list(run.events())
        assert list(run.events(since=since)) == every[since:]
        assert list(run.events(since=len(every))) == []


def test_following_an_ended_run_gives_all_of_it(ended: tuple[Path, fg.Result]) -> None:
    with StoredRun.open(ended[0]) as run:
        assert [event for new in run.follow(since=3) for event in new] == list(run.events(since=3))


def test_following_a_run_until_it_is_killed(tmp_path: Path) -> None:
    """The requests without an answer are known while the run lasts."""
    with held(tmp_path / "run") as process, StoredRun.open(tmp_path / "run") as run:
        following = run.follow(poll=0.01)
        events = list(next(following))
        asked = {e.fields["call"] for e in events if e.kind == "CallStarted"}
        answered = {e.fields["call"] for e in events if e.kind == "CallEnded"}
        assert len(asked - answered) == run.spend().unanswered > 0
        process.kill()
        process.wait()
        assert [event for new in following for event in new] == []


def test_a_resumed_run_continues_the_numbers(tmp_path: Path) -> None:
    small_run(tmp_path / "run", budget=FEW)
    with StoredRun.open(tmp_path / "run") as run:
        before = list(run.events())
    small_run(tmp_path / "run", resume=True)
    with StoredRun.open(tmp_path / "run") as run:
        every = list(run.events())
    assert every[: len(before)] == before
    assert [event.number for event in every] == list(range(len(every)))
    assert "Reopened" in {event.kind for event in every[len(before) :]}


def test_a_journal_of_an_older_schema_tells_what_it_has(ended: tuple[Path, fg.Result], tmp_path: Path) -> None:
    """Calls and admissions are derived from rows, before and after the migration."""
    folder = Path(shutil.copytree(ended[0], tmp_path / "run"))
    with StoredRun.open(folder) as run:
        calls = {e.fields["call"] for e in run.events() if e.kind == "CallEnded"}
    as_of(folder, 4)
    with StoredRun.open(folder) as run:
        old = list(run.events())
        assert {e.fields["call"] for e in old if e.kind == "CallEnded"} == calls
        assert list(run.events(since=5)) == old[5:]
    small_run(folder, schedule="pipelined", budget=fg.Budget(proposals=30), resume=True)
    with StoredRun.open(folder) as run:
        every = list(run.events())
    assert every[: len(old)] == old
    assert "Created" in {event.kind for event in every[len(old) :]}


@pytest.mark.parametrize("data", [b"", b"no", zlib.compress(b"[1]"), zlib.compress(b'[["Unknown", 0]]')])
def test_a_damaged_chunk_is_named(data: bytes, ended: tuple[Path, fg.Result], tmp_path: Path) -> None:
    folder = Path(shutil.copytree(ended[0], tmp_path / "run"))
    with sqlite3.connect(folder / "journal.db") as db:
        db.execute("UPDATE events SET data = ? WHERE first = 0", (data,))
    db.close()
    with StoredRun.open(folder) as run, pytest.raises(JournalError, match="table events, row 0"):
        list(run.events())


@given(st.lists(st.builds(ev.JobEnded, st.floats(0, 1e6), st.integers(0), st.text(), st.just("failed"), st.floats(0, 9),
                          st.sampled_from(Cause), st.text())))  # fmt: skip
def test_chunks_are_read_as_written(events: list[ev.Event]) -> None:
    found = [StoredEvent.of(number, row) for number, row in enumerate(unpacked(packed(events)))]
    assert len(found) == len(events)
    for was, now in zip(events, found, strict=True):
        expected = {name: getattr(was, name) for name in ("at", *FIELDS["JobEnded"])}
        assert now.kind == "JobEnded"
        assert now.at == pytest.approx(expected.pop("at"), abs=1e-6)
        assert now.fields["job"] == expected["job"]
        assert tuple(now.fields) == FIELDS["JobEnded"]
