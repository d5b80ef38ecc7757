"""Where runs are: finding one by its name, and whether a process has it."""

from __future__ import annotations

import os
from pathlib import Path

import filelock

from flashgraph.errors import DataError, did_you_mean
from flashgraph.run.journal.keeper import JOURNAL
from flashgraph.run.journal.private import LOOK

__all__ = ["RUNS", "find_journal", "find_run", "is_held", "runs_in"]

RUNS = Path("runs")
"""The folder that runs are kept in when nothing else is said."""

LOCK = "lock"


def runs_in(parent: Path) -> list[Path]:
    """The folders of the runs below ``parent``, by name.  Raises `DataError` where it is no folder."""
    if not parent.is_dir():
        raise DataError(
            f"{parent}: no such folder of runs.\nFix: give the folder that holds the runs' folders, or start a run: "
            "flashgraph run GRAPH --task FILE."
        )
    return sorted(entry for entry in parent.iterdir() if (entry / JOURNAL).is_file())


def find_run(name: str | Path, parent: Path = RUNS) -> Path:
    """The folder of a run, given as a path (to it or to its journal) or as its name below ``parent``.

    Raises `DataError` with what there is when there is no such run.
    """
    path = Path(name)
    if path.name == JOURNAL and path.is_file():
        return path.parent
    places = tuple(dict.fromkeys((path, parent / path)))
    for folder in places:
        if (folder / JOURNAL).is_file():
            return folder
    near = path.parent if path.parent != Path() else parent
    known = [run.name for run in runs_in(near)] if near.is_dir() else []
    lists = f"flashgraph runs {near}" if near != RUNS else "flashgraph runs"
    raise DataError(
        f"run {str(name)!r}: no such run; there is no {JOURNAL} in {' or '.join(map(str, places))}. "
        f"In {near}: {did_you_mean(path.name, known)}\nFix: give the folder of a run; {lists!r} lists them."
    )


def find_journal(name: str | Path) -> Path:
    """The journal of a run: of one that is given as a file ``journal-1.db``, from before it began anew, that file.

    Raises `DataError` as `find_run` does.
    """
    path = Path(name)
    if path.match("journal-*.db") and path.is_file():
        return path
    return find_run(name) / JOURNAL


def is_held(folder: Path) -> bool:
    """Whether a process (this one too) works on the run in ``folder``; False where nobody can tell.  Writes nothing."""
    path = folder / LOCK
    # Shared, and on the file opened for reading: readers do not take each other for the run, and a folder that is
    # read-only can be asked about too.  It is the lock that `filelock` takes, where the system has it.
    try:
        opened = os.open(path, LOOK)
    except OSError:  # there is none, or it may not be read
        return False
    try:
        import fcntl

        fcntl.flock(opened, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except (ImportError, OSError):
        return _cannot_be_taken(path)
    finally:
        os.close(opened)
    return False


def _cannot_be_taken(path: Path) -> bool:
    lock = filelock.FileLock(path)
    try:
        lock.acquire(timeout=0)
    except filelock.Timeout:
        return True
    except OSError:  # this file system has no locks
        return False
    lock.release()
    return False
