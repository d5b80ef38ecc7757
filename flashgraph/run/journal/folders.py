"""The folders of runs: find a run by name, and see whether a process holds it."""

from __future__ import annotations

import os
from pathlib import Path

import filelock

from flashgraph.errors import DataError, did_you_mean
from flashgraph.run.journal.keeper import JOURNAL
from flashgraph.run.journal.private import LOOK

__all__ = ["RUNS", "find_journal", "find_run", "is_held", "runs_in"]

RUNS = Path("runs")
"""The default folder of runs."""

LOCK = "lock"


def runs_in(parent: Path) -> list[Path]:
    """Return the folders of the runs below ``parent``, sorted by name.  Raises `DataError` unless it is a folder."""
    if not parent.is_dir():
        raise DataError(
            f"{parent}: no such folder of runs.\nFix: name the folder that holds the runs' folders, or start a run: "
            "flashgraph run GRAPH --task FILE."
        )
    return sorted(entry for entry in parent.iterdir() if (entry / JOURNAL).is_file())


def find_run(name: str | Path, parent: Path = RUNS) -> Path:
    """Return the folder of a run, given its path, its journal's path, or its name below ``parent``.

    Raises `DataError`, which lists similar names, when there is no such run.
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
        f"In {near}: {did_you_mean(path.name, known)}\nFix: name the folder of a run; {lists!r} lists them."
    )


def find_journal(name: str | Path) -> Path:
    """Return the journal of a run.  A file ``journal-1.db``, kept by a restart, is returned itself.

    Raises `DataError` as `find_run` does.
    """
    path = Path(name)
    if path.match("journal-*.db") and path.is_file():
        return path
    return find_run(name) / JOURNAL


def is_held(folder: Path) -> bool:
    """Return whether a process, this one included, holds the run in ``folder``; False if unknown.  Writes nothing."""
    path = folder / LOCK
    # A shared lock on a file opened for reading: readers do not mistake each other for the run, and read-only folders
    # work too.  `filelock` takes the same lock where the system has it.
    try:
        opened = os.open(path, LOOK)
    except OSError:  # missing, or not readable
        return False
    try:
        import fcntl

        fcntl.flock(opened, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except (ImportError, OSError):
        return _is_taken(path)
    finally:
        os.close(opened)
    return False


def _is_taken(path: Path) -> bool:
    lock = filelock.FileLock(path)
    try:
        lock.acquire(timeout=0)
    except filelock.Timeout:
        return True
    except OSError:  # this file system has no locks
        return False
    lock.release()
    return False
