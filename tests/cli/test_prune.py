"""``flashgraph prune``: what it removes, what it keeps, and that it asks first."""

from __future__ import annotations

import json
import shutil
import sqlite3
from pathlib import Path

import click
import pytest

import flashgraph as fg
from tests.journal.small import held, small_run

from .conftest import Cli


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with three runs that ended 1, 2 and 40 days ago; the oldest was killed."""
    parent = tmp_path_factory.mktemp("prune")
    small_run(parent / "new", budget=fg.Budget(proposals=1))
    for name, days in (("new", 1), ("middle", 2), ("old", 40)):
        if name != "new":
            shutil.copytree(parent / "new", parent / name)
        db = sqlite3.connect(parent / name / "journal.db")
        when = f"strftime('%Y-%m-%dT%H:%M:%S+00:00', 'now', '-{days} days')"
        db.execute(f"UPDATE sessions SET opened = {when}, closed = {when}")
        if name == "old":
            db.execute("UPDATE sessions SET closed = NULL, status = NULL, reason = NULL")
        db.commit()
        db.close()
    return parent


@pytest.fixture
def runs(made: Path, cli: Cli, tmp_path: Path) -> Path:
    """The same as ``runs/`` in the working directory."""
    shutil.copytree(made, tmp_path / "runs")
    return tmp_path / "runs"


def there(runs: Path) -> list[str]:
    return sorted(entry.name for entry in runs.iterdir())


@pytest.mark.parametrize(
    ("options", "left"),
    [
        (["--keep", "1"], ["new"]),
        (["--keep", "0"], []),
        (["--older-than", "36h"], ["new"]),
        (["--older-than", "4w"], ["middle", "new"]),
        (["--status", "killed"], ["middle", "new"]),
        (["--status", "killed", "--status", "budget", "--keep", "2"], ["middle", "new"]),
        (["--status", "budget", "--older-than", "30d"], ["middle", "new", "old"]),
        (["--status", "killed", "--keep", "3"], ["middle", "new", "old"]),
    ],
)
def test_what_fulfils_all_goes(cli: Cli, runs: Path, options: list[str], left: list[str]) -> None:
    """Every run that matches all options is removed and named."""
    ended = cli("prune", *options, "--yes")
    assert (ended.code, ended.err) == (0, "")
    assert there(runs) == left
    for name in {"new", "middle", "old"} - set(left):
        assert f"removed: runs/{name}\n" in ended.out
    if len(left) == 3:
        assert ended.out == "nothing to remove in runs\n"


def test_it_is_asked_first(cli: Cli, runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The command lists the runs and their size and asks; a refusal or a missing terminal changes nothing."""
    asked: list[str] = []

    def answer(said: bool) -> None:
        def confirm(question: str, err: bool) -> bool:
            asked.append(question)
            return said

        monkeypatch.setattr("click.confirm", confirm)

    answer(False)
    ended = cli("prune", "--keep", "1")
    assert ended.code == 1
    assert ended.err == "nothing was changed; --yes skips the question\n"
    assert [line.split()[0] for line in ended.out.splitlines()[1:]] == ["middle", "old"]
    assert asked[0].startswith("\nRemove 2 runs (0.")
    assert len(there(runs)) == 3

    def nobody(question: str, err: bool) -> bool:
        raise click.Abort

    monkeypatch.setattr("click.confirm", nobody)
    assert cli("prune", "--keep", "1").code == 1
    assert len(there(runs)) == 3
    answer(True)
    assert cli("prune", "--keep", "1").code == 0
    assert there(runs) == ["new"]


def test_a_running_run_is_never_removed(cli: Cli, runs: Path) -> None:
    """A run that is still going is never removed; a dead one is."""
    with held(runs / "held"):
        cli("prune", "--keep", "0", "--yes")
        assert there(runs) == ["held"]
        ended = cli("prune", "--vacuum", "held", "--yes")
        assert ended.code == 1
        assert ended.err == "error: runs/held: the run is active.\nFix: wait for its end, or stop it.\n"
    assert json.loads(cli("runs", "--json").out)[0]["status"] == "killed"
    cli("prune", "--status", "killed", "--yes")
    assert there(runs) == []


def test_unreadable_runs_and_foreign_files(cli: Cli, runs: Path) -> None:
    """An unreadable journal is removed; files of other programs stay."""
    (runs / "old" / "journal.db").write_bytes(b"nothing that SQLite knows" * 100)
    (runs / "old" / "notes.md").write_text("mine")
    (runs / "no-run").mkdir()
    ended = cli("prune", "--status", "unreadable", "--yes")
    assert ended.out.splitlines()[-1] == "removed: runs/old; kept files of other programs: notes.md"
    assert there(runs) == ["middle", "new", "no-run", "old"]


def test_vacuum(cli: Cli, runs: Path) -> None:
    """After ``--vacuum`` the run is smaller, keeps its artifacts and cannot be resumed."""
    before = json.loads(cli("show", "new", "--json").out)["artifact"]
    ended = cli("prune", "--vacuum", "new", "--yes")
    assert ended.code == 0
    assert ended.out.startswith("runs/new/journal.db: 0.1 MB -> 0.")
    assert json.loads(cli("show", "new", "--json").out)["artifact"] == before
    with pytest.raises(fg.FlashgraphError):
        small_run(runs / "new", resume=True)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ([], "give at least one of --keep N, --older-than 30d and --status killed"),
        (["--older-than", "soon"], "found 'soon', expected a number with the unit m, h, d or w, e.g. 30d"),
        (["--status", "running"], "'running' is not one of"),
        (["--vacuum", "new", "--keep", "1"], "--vacuum RUN takes none of --keep, --older-than and --status"),
    ],
)
def test_wrong_options(cli: Cli, runs: Path, options: list[str], said: str) -> None:
    """Wrong options are usage errors and remove nothing."""
    ended = cli("prune", *options, "--yes")
    assert (ended.code, said in ended.err) == (2, True)
    assert len(there(runs)) == 3


def test_a_link_among_the_runs(cli: Cli, runs: Path, made: Path) -> None:
    """A symbolic link is neither counted nor removed."""
    (runs / "link").symlink_to(made / "old")
    ended = cli("prune", "--keep", "0", "--yes")
    assert ended.code == 0
    assert "runs/link: skipped, because it is a symbolic link" in ended.err
    assert there(runs) == ["link"]
    assert (made / "old" / "journal.db").exists()


def test_a_folder_that_is_a_link(cli: Cli, runs: Path) -> None:
    """Nothing is removed through it; the folder itself may be named."""
    runs.rename("elsewhere")
    Path("runs").symlink_to("elsewhere")
    ended = cli("prune", "--keep", "0", "--yes")
    assert (ended.code, ended.out) == (1, "")
    assert f"Fix: flashgraph prune {Path('elsewhere').resolve()}" in ended.err
    assert there(Path("elsewhere"))
    assert cli("prune", "elsewhere", "--keep", "0", "--yes").code == 0
    assert not list(Path("elsewhere").glob("*/journal.db"))
