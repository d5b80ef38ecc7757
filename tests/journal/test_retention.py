"""Remove runs, and shrink runs."""

from __future__ import annotations

from pathlib import Path

import attrs
import pytest

import flashgraph as fg
from flashgraph.run.journal import JournalError
from flashgraph.run.journal.reading import StoredRun
from flashgraph.run.journal.retention import remove, vacuum
from flashgraph.sim.world import UNSOLVED
from tests.journal.rights import unprivileged
from tests.journal.small import WORLD, held, small_run


def test_vacuum_keeps_artifacts_and_costs(tmp_path: Path) -> None:
    """Messages are dropped, the rest stays, and resuming is refused without harm."""
    folder = tmp_path / "run"
    small_run(folder)
    with StoredRun.open(folder) as run:
        before = (run.artifacts(), run.best(), run.spend(), run.curve(), run.status)
        calls, size = list(run.calls()), (folder / "journal.db").stat().st_size
    vacuum(folder)
    with StoredRun.open(folder) as run:
        assert (run.artifacts(), run.best(), run.spend(), run.curve(), run.status) == before
        assert list(run.calls()) == [attrs.evolve(c, messages=(), reply=None) for c in calls]
    assert (folder / "journal.db").stat().st_size < size * 0.7
    with pytest.raises(fg.FlashgraphError):
        small_run(folder, resume=True)
    with StoredRun.open(folder) as run:
        assert (run.artifacts(), run.best()) == before[:2]


def test_remove_leaves_what_is_not_the_runs(tmp_path: Path) -> None:
    """A folder with other files stays, with these files."""
    small_run(tmp_path / "run", budget=fg.Budget(proposals=1))
    (tmp_path / "run" / "best-instruction.txt").write_text("mine to remove")
    (tmp_path / "run" / "notes.md").write_text("the user's")
    assert remove(tmp_path / "run") == ("notes.md",)
    assert [p.name for p in (tmp_path / "run").iterdir()] == ["notes.md"]
    small_run(tmp_path / "other", budget=fg.Budget(proposals=1))
    assert remove(tmp_path / "other") == ()
    assert not (tmp_path / "other").exists()


def test_what_may_not_be_changed(tmp_path: Path) -> None:
    """Both name the obstacle, and the run stays readable."""
    folder = tmp_path / "run"
    small_run(folder)
    folder.chmod(0o555)
    (folder / "lock").chmod(0o666)
    (folder / "journal.db").chmod(0o444)
    with StoredRun.open(folder) as run:
        before = (list(run.calls()), run.artifacts())
    with unprivileged():
        with pytest.raises(JournalError, match=r"run: could not be removed completely: Permission denied"):
            remove(folder)
        with pytest.raises(JournalError, match=r"cannot be made smaller: attempt to write a readonly database"):
            vacuum(folder)
    (folder / "lock").chmod(0o400)
    with unprivileged():
        for act in (remove, vacuum):
            with pytest.raises(JournalError, match=r"the folder cannot be held: .*\nFix: give write permission"):
                act(folder)
    with StoredRun.open(folder) as run:
        assert (list(run.calls()), run.artifacts()) == before


def test_vacuum_keeps_long_texts_of_artifacts(tmp_path: Path) -> None:
    """Long texts of artifacts stay, although those of messages are dropped."""
    text = "a long text " * 40
    task = attrs.evolve(WORLD.task(), seed={"instruction": text})
    small_run(tmp_path / "run", task=task, budget=fg.Budget(proposals=1))
    vacuum(tmp_path / "run")
    with StoredRun.open(tmp_path / "run") as run:
        assert run.artifact(0).texts == {"instruction": text}
        assert all(c.reply is None for c in run.calls())


def test_a_run_that_goes_on_is_left_alone(tmp_path: Path) -> None:
    """Both refuse an active run, and do not change it."""
    with held(tmp_path / "held"):
        for act in (remove, vacuum):
            with pytest.raises(JournalError, match="the run is active"):
                act(tmp_path / "held")
        with StoredRun.open(tmp_path / "held") as run:
            assert run.status == "running"
            assert next(run.calls()).reply == UNSOLVED
