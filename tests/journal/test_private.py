"""A run's folder and files are readable by its user alone, and no link in them is followed."""

from __future__ import annotations

import errno
import fcntl
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import filelock
import pytest

import flashgraph as fg
from flashgraph.errors import DataError
from flashgraph.observe.report import Report, claim_folder, file_name, new_folder
from flashgraph.run.journal import JournalError, Store
from flashgraph.run.journal.folders import is_held
from flashgraph.run.journal.private import write_text
from flashgraph.run.journal.reading import StoredRun
from flashgraph.run.journal.retention import remove, vacuum
from flashgraph.run.journal.store import connect
from tests.journal.rights import unprivileged
from tests.journal.small import WORLD, held, small_run

SEED = WORLD.task().seed
FEW = fg.Budget(proposals=1)


@pytest.fixture(params=[0o000, 0o022, 0o077])
def mask(request: pytest.FixtureRequest) -> Any:
    before = os.umask(request.param)
    yield
    os.umask(before)


def modes(folder: Path) -> dict[str, str]:
    """Return the permissions of a folder and of everything in it."""
    return {path.name: oct(path.lstat().st_mode & 0o777) for path in (folder, *folder.iterdir())}


@pytest.mark.usefixtures("mask")
def test_rights(tmp_path: Path) -> None:
    """Nobody else can read prompts and replies, whatever the umask, during the run and after it."""
    with held(tmp_path / "runs" / "run"):
        live = modes(tmp_path / "runs" / "run")
    assert {"journal.db", "journal.db-wal", "journal.db-shm", "journal.db.mark", "lock"} <= live.keys()
    assert live.pop("run") == "0o700"
    assert set(live.values()) == {"0o600"}
    folder = new_folder(tmp_path / "own" / "run")
    result = small_run(folder, budget=FEW)
    Report(result, SEED).write(folder)
    found = modes(folder)
    assert {"journal.db", "result.json", "events.jsonl", "best.json", "best-instruction.txt"} <= found.keys()
    assert found.pop("run") == "0o700"
    assert set(found.values()) == {"0o600"}


def test_a_folder_of_the_users_own_keeps_its_rights(tmp_path: Path) -> None:
    """An existing folder keeps its permissions, because it may be shared on purpose; the files in it are private."""
    (tmp_path / "out").mkdir(mode=0o755)
    small_run(claim_folder(tmp_path / "out"), budget=FEW)
    assert modes(tmp_path / "out") == {"out": "0o755"} | dict.fromkeys(
        ("journal.db", "journal.db.mark", "lock"), "0o600"
    )


@pytest.mark.parametrize("name", ["result.json", "events.jsonl", "best.json", "best-instruction.txt"])
def test_a_link_in_the_place_of_an_output(name: str, tmp_path: Path) -> None:
    """The link is replaced; its target does not change."""
    folder, outside = tmp_path / "run", tmp_path / "outside"
    result = small_run(folder, budget=FEW)
    outside.write_text("precious")
    (folder / name).symlink_to(outside)
    Report(result, SEED).write(folder)
    assert outside.read_text() == "precious"
    assert (folder / name).is_file()
    assert not (folder / name).is_symlink()


@pytest.mark.parametrize("name", ["journal.db", "journal.db-wal", "journal.db-shm", "lock"])
def test_a_link_in_the_place_of_a_file_of_the_journal(name: str, tmp_path: Path) -> None:
    """The run is neither started nor resumed through a link; the error names it."""
    folder, outside = tmp_path / "run", tmp_path / "outside"
    small_run(folder, budget=FEW)
    if (folder / name).exists():
        (folder / name).rename(outside)
    else:
        outside.write_text("precious")
    before = outside.read_bytes()
    (folder / name).symlink_to(outside)
    with pytest.raises(JournalError, match=r"symbolic link|Too many levels of symbolic links") as caught:
        small_run(folder, resume=True)
    assert name in str(caught.value)
    if name == "journal.db":
        with pytest.raises(JournalError, match="it is a symbolic link"):
            StoredRun.open(folder)
        with pytest.raises(JournalError, match="symbolic link"):
            small_run(folder)
    assert outside.read_bytes() == before


def test_what_is_no_file_at_all(tmp_path: Path) -> None:
    """A named pipe is refused, because opening it would block."""
    (tmp_path / "run").mkdir()
    os.mkfifo(tmp_path / "run" / "journal.db")
    with pytest.raises(JournalError, match="it is no plain file"):
        connect(tmp_path / "run" / "journal.db")
    with pytest.raises(JournalError, match="it is no plain file"):
        Store(tmp_path / "run" / "journal.db", create=True)


@pytest.mark.parametrize("act", [remove, vacuum])
def test_a_folder_that_is_a_link(act: Callable[[Path], Any], tmp_path: Path) -> None:
    """Nothing is deleted or changed through the link."""
    small_run(tmp_path / "elsewhere", budget=FEW)
    before = modes(tmp_path / "elsewhere")
    (tmp_path / "run").symlink_to("elsewhere")
    with pytest.raises(JournalError, match="it is a symbolic link") as caught:
        act(tmp_path / "run")
    assert str(tmp_path / "elsewhere") in str(caught.value)
    assert modes(tmp_path / "elsewhere") == before


def test_removing_takes_links_and_not_what_they_lead_to(tmp_path: Path) -> None:
    small_run(tmp_path / "run", budget=FEW)
    (tmp_path / "outside").write_text("precious")
    (tmp_path / "run" / "result.json").symlink_to(tmp_path / "outside")
    assert remove(tmp_path / "run") == ()
    assert (tmp_path / "outside").read_text() == "precious"


def test_a_file_is_written_at_once_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A full disk leaves the earlier file, and no temporary file."""
    write_text(tmp_path / "result.json", "old")

    def full(*words: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "replace", full)
    with pytest.raises(OSError, match="No space"):
        write_text(tmp_path / "result.json", "new")
    assert [path.name for path in tmp_path.iterdir()] == ["result.json"]
    assert (tmp_path / "result.json").read_text() == "old"


def test_a_text_with_half_a_character(tmp_path: Path) -> None:
    """A text that ends within a character is written."""
    write_text(tmp_path / "best.txt", "half \ud800")
    assert (tmp_path / "best.txt").read_text() == "half \\ud800"


@pytest.mark.parametrize(
    ("number", "said"),
    [
        (errno.ENOLCK, "--out with a folder on a local disk: this file system gives no locks"),
        (errno.EOPNOTSUPP, "--out with a folder on a local disk"),
        (errno.EROFS, "--out with a folder on a file system that may be written to"),
        (errno.ENOSPC, "make room on the disk"),
        (errno.EACCES, "give write permission to "),
        (errno.EMFILE, "allow more open files: ulimit -n"),
        (errno.EBADF, "--out with another folder, or see the permissions of "),
    ],
)
def test_why_a_folder_cannot_be_held(number: int, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each cause has its own fix."""

    def fails(*words: Any, **named: Any) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(filelock.FileLock, "acquire", fails)
    with pytest.raises(JournalError, match="the folder cannot be held: ") as caught:
        small_run(tmp_path / "run")
    assert f"Fix: {said}" in str(caught.value)


@pytest.mark.parametrize("kind", ["closed", "link", "pipe", "folder"])
def test_whether_a_run_goes_on_where_its_lock_is_odd(kind: str, tmp_path: Path) -> None:
    """Where the lock cannot be examined, the run counts as not held, and nobody waits."""
    lock = tmp_path / "lock"
    match kind:
        case "closed":
            lock.touch(mode=0o000)
        case "link":
            lock.symlink_to("elsewhere")
        case "pipe":
            os.mkfifo(lock)
        case _:
            lock.mkdir()
    with unprivileged():
        assert not is_held(tmp_path)


def test_whether_a_run_goes_on_where_there_are_no_locks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Reading works without locks, as on a network disk without a lock server."""
    small_run(tmp_path, budget=FEW)

    def fails(*words: Any) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", fails)
    assert not is_held(tmp_path)
    with StoredRun.open(tmp_path) as run:
        assert run.status == "budget"


@pytest.mark.parametrize("name", ["x" * 300, "é" * 300, "😀" * 100, "a/b" * 100])
def test_long_names(name: str, tmp_path: Path) -> None:
    """A name over the file system's 255 bytes is shortened, and names with the same beginning stay different."""
    assert len(file_name(name).encode()) <= 80
    assert file_name(name) == file_name(name) != file_name(f"{name}x")
    folder = new_folder(tmp_path / f"{file_name(name)}-{file_name(name)}-20260101-120000")
    write_text(folder / f"best-{file_name(name)}.txt", "text")


def test_a_folder_whose_name_is_too_long(tmp_path: Path) -> None:
    """The error names the cause."""
    for make in (claim_folder, new_folder):
        with pytest.raises(DataError, match="File name too long") as caught:
            make(tmp_path / ("x" * 300))
        assert "Fix: --out with a shorter name" in str(caught.value)
