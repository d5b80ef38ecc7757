"""A missing end of a journal is noticed and reported, and its spending stays counted."""

from __future__ import annotations

import logging
import os
import shutil
import sqlite3
import struct
from collections.abc import Callable
from pathlib import Path

import pytest

import flashgraph as fg
from flashgraph.observe.records import Summary
from flashgraph.observe.runs import head
from flashgraph.run.journal import JournalError
from flashgraph.run.journal.losses import find_loss
from flashgraph.run.journal.mark import read_mark
from flashgraph.run.journal.reading import StoredRun
from flashgraph.run.journal.wal import lost_commits
from tests.journal.kit import SCENARIOS, Finished, here, rows, session
from tests.journal.test_migration import as_of

CYCLIC = SCENARIOS["cyclic"]
FRAME, PAGE = 24, 4096


@pytest.fixture(scope="module")
def killed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that was killed after 60 commits, so that most of its journal is in the log."""
    folder = tmp_path_factory.mktemp("losses") / "one" / "run"
    session(CYCLIC, folder, schedule="lockstep", kill_at=60)
    return folder


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Finished:
    """The undisturbed run."""
    return here(CYCLIC, tmp_path_factory.mktemp("alone") / "one" / "run", schedule="lockstep")


@pytest.fixture
def run(killed: Path, tmp_path: Path) -> Path:
    """A copy of the killed run."""
    return Path(shutil.copytree(killed.parent, tmp_path / "one")) / "run"


def log(folder: Path) -> Path:
    return folder / "journal.db-wal"


def flipped(path: Path, place: int, bit: int = 0) -> None:
    data = bytearray(path.read_bytes())
    data[place] ^= 1 << bit
    path.write_bytes(data)


def frames(folder: Path) -> int:
    return (log(folder).stat().st_size - 32) // (FRAME + PAGE)


def inside(share: float, offset: int) -> Callable[[Path], None]:
    """Return a function that flips one bit of the frame at ``share`` of the log."""
    return lambda folder: flipped(log(folder), 32 + int(frames(folder) * share) * (FRAME + PAGE) + offset)


def cut(share: float) -> Callable[[Path], None]:
    return lambda folder: os.truncate(log(folder), int(log(folder).stat().st_size * share))


def last_frame(folder: Path) -> None:
    flipped(log(folder), 32 + (frames(folder) - 1) * (FRAME + PAGE) + FRAME + 100)


DAMAGES: dict[str, Callable[[Path], None]] = {
    "a page": inside(0.4, FRAME + 1000),
    "a page's number": inside(0.4, 1),
    "a salt": inside(0.5, 9),
    "a checksum": inside(0.6, 17),
    "the end of a transaction": inside(0.5, 7),
    "the last frame": last_frame,
    "the header's salt": lambda folder: flipped(log(folder), 17),
    "the header's checksum": lambda folder: flipped(log(folder), 29),
    "the header's page size": lambda folder: flipped(log(folder), 10),
    "cut short": cut(0.5),
    "cut within a frame": cut(0.333),
    "emptied": cut(0.0),
    "deleted": lambda folder: log(folder).unlink(),
}
NAMED = pytest.mark.parametrize("damage", DAMAGES.values(), ids=list(DAMAGES))


@NAMED
def test_a_log_that_is_damaged(
    damage: Callable[[Path], None], run: Path, alone: Finished, caplog: pytest.LogCaptureFixture
) -> None:
    """Damage is shown while the run is stopped, logged when it resumes, and its spending counts."""
    was = read_mark(run / "journal.db")
    assert was is not None
    assert find_loss(run / "journal.db") is None
    damage(run)
    with StoredRun.open(run) as stored:
        loss, kept = stored.loss, rows(run, "SELECT count(*) FROM turns")[0][0]
        assert loss is not None
        assert (loss.turns, loss.mark) == (kept, was)
        said = f"it ends at turn {kept} and was at turn {was.turns}: {was.turns - kept} turns and their "
        assert said in "\n".join(head(stored))
    assert said in Summary.read(run).damage
    with caplog.at_level(logging.WARNING, "flashgraph"):
        then = here(CYCLIC, run, schedule="lockstep")
    assert said in caplog.text
    assert then.status == "completed"
    # All earlier spending counts, and repeated work counts again.
    assert then.pools == alone.pools
    assert then.spent.calls >= alone.spent.calls + loss.spent(loss.counted).get("calls", 0) - 2
    caplog.clear()
    with StoredRun.open(run) as stored:
        assert stored.loss is None
        assert said in "\n".join(head(stored))
        assert stored.spend().calls == then.spent.calls


def test_a_loss_is_said_once(run: Path, caplog: pytest.LogCaptureFixture) -> None:
    """The next session reports nothing, and counts the loss as the last one did."""
    inside(0.4, FRAME + 5)(run)
    then = here(CYCLIC, run, schedule="lockstep")
    caplog.clear()
    again = here(CYCLIC, run, schedule="lockstep")
    assert again.spent == then.spent
    assert "missing" not in caplog.text


@pytest.mark.parametrize("limit", [30, 50])
def test_a_budget_is_not_given_back(limit: int, killed: Path, run: Path) -> None:
    """The limit includes what the missing turns spent."""
    was = read_mark(run / "journal.db")
    assert was is not None
    inside(0.1, FRAME + 5)(run)
    done = here(CYCLIC, run, schedule="lockstep", budget=fg.Budget(calls=int(was.spent["calls"]) + limit))
    assert done.status == "budget"
    assert done.spent.calls <= was.spent["calls"] + limit
    assert rows(run, "SELECT how FROM tests") == [("rolled back",)]


def test_without_a_mark_it_has_to_be_accepted(run: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Without a mark, as in a copied database, the spending is unknown: the loss must be accepted.  The log is kept."""
    (run / "journal.db.mark").unlink()
    inside(0.4, FRAME + 5)(run)
    data = log(run).read_bytes()
    with pytest.raises(JournalError, match=r"its log is damaged: at least \d+ commits after turn \d+ are missing"):
        here(CYCLIC, run, schedule="lockstep")
    assert log(run).read_bytes() == data
    done = here(CYCLIC, run, schedule="lockstep", accept_changes=True)
    assert done.status == "completed"
    assert "its log is damaged" in caplog.text
    assert (run / "journal.db-wal.damaged").read_bytes() == data


def test_a_kill_is_no_damage(run: Path, caplog: pytest.LogCaptureFixture) -> None:
    """No damage is reported for a mark one commit behind, for the rest of an older log, or for a finished run."""
    assert find_loss(run / "journal.db") is None
    assert here(CYCLIC, run, schedule="lockstep").status == "completed"
    assert find_loss(run / "journal.db") is None
    assert "missing" not in caplog.text


def test_the_rest_of_an_older_log(tmp_path: Path) -> None:
    """After a restart of the log, frames of its last use remain at its end; they are not a loss."""
    path = tmp_path / "journal.db"
    db = sqlite3.connect(path)
    db.execute("PRAGMA journal_mode = WAL")
    db.execute("CREATE TABLE things (x)")
    for number in range(40):
        with db:
            db.execute("INSERT INTO things VALUES (?)", ("x" * 3000,))
        if number == 20:
            db.execute("PRAGMA wal_checkpoint(FULL)")
        if number == 25:
            shutil.copy(path, tmp_path / "copy.db")
            shutil.copy(f"{path}-wal", tmp_path / "copy.db-wal")
    assert lost_commits(path) == 0
    assert lost_commits(tmp_path / "copy.db") == 0
    flipped(tmp_path / "copy.db-wal", 32 + FRAME + 5)
    assert lost_commits(tmp_path / "copy.db") in (4, 5)
    db.close()
    assert lost_commits(path) == 0


@pytest.mark.parametrize("kind", ["text", "empty", "flipped", "another journal's", "binary"])
def test_a_mark_that_is_none(kind: str, run: Path) -> None:
    """An invalid mark is ignored."""
    mark = run / "journal.db.mark"
    data = mark.read_bytes()
    match kind:
        case "flipped":
            flipped(mark, 40, 2)
        case "another journal's":
            session(CYCLIC, run.parents[1] / "other" / "run", schedule="lockstep", kill_at=70)
            mark.write_bytes((run.parents[1] / "other" / "run" / "journal.db.mark").read_bytes())
        case "text":
            mark.write_text("dear diary")
        case "binary":
            mark.write_bytes(struct.pack("256I", *range(256)))
        case _:
            mark.write_bytes(b"")
    assert mark.read_bytes() != data
    assert find_loss(run / "journal.db") is None
    assert here(CYCLIC, run, schedule="lockstep").status == "completed"


@pytest.mark.parametrize("kind", ["at", "body", "chain", "gone", "swapped"])
def test_the_chain_of_turns(kind: str, run: Path) -> None:
    """An altered turn is named, even if it is a valid turn."""
    db = sqlite3.connect(run / "journal.db")
    db.execute({
        "at": "UPDATE turns SET at = at + 0.001 WHERE seq = 7",
        "body": "UPDATE turns SET body = replace(body, '\"sign\":[', '\"sign\": [') WHERE seq = 7",
        "chain": "UPDATE turns SET chain = '0123456789abcdef' WHERE seq = 7",
        "gone": "DELETE FROM turns WHERE seq = 6",
        "swapped": "UPDATE turns SET seq = CASE seq WHEN 7 THEN 1000 ELSE 7 END WHERE seq IN (7, 8)",
    }[kind])  # fmt: skip
    db.commit()
    db.close()
    with pytest.raises(JournalError, match=r"table turns, row (7|8|1000): it was changed, or turns before it are"):
        here(CYCLIC, run, schedule="lockstep")


def test_a_journal_without_checksums(run: Path) -> None:
    """A journal of an older version is resumed, and its new turns are chained."""
    as_of(run, 2)
    db = sqlite3.connect(run / "journal.db")
    db.execute("DELETE FROM meta WHERE key = 'id'")
    db.commit()
    db.close()
    with StoredRun.open(run) as stored:
        assert (stored.loss, stored.status) == (None, "killed")
    assert here(CYCLIC, run, schedule="lockstep", budget=fg.Budget(seconds=40)).status in ("budget", "completed")
    assert here(CYCLIC, run, schedule="lockstep").status == "completed"
    chains = [chain for (chain,) in rows(run, "SELECT chain FROM turns ORDER BY seq")]
    assert chains[0] is None
    assert chains[-1] is not None
    db = sqlite3.connect(run / "journal.db")
    db.execute("UPDATE turns SET at = at + 1 WHERE seq = (SELECT max(seq) FROM turns)")
    db.commit()
    db.close()
    with pytest.raises(JournalError, match="it was changed"):
        here(CYCLIC, run, schedule="lockstep")
