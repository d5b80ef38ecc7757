"""Watch a journal's files during a run, and notice if they are taken away."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import attrs

__all__ = ["Watched"]


@attrs.define
class _File:
    path: Path
    number: tuple[int, int]
    size: int


class Watched:
    """Check that the files are still those that were opened, and that none has become shorter.

    SQLite keeps writing, without an error, to a file that was deleted or truncated.
    """

    def __init__(self, path: Path, whole: Callable[[], bool]) -> None:
        self._path = path
        self._whole = whole
        """Returns whether the last write can be read."""
        self._files: dict[Path, _File] = {}
        self._lock = path.with_name("lock")
        self._held = _number(self._lock)

    def unlocked(self) -> bool:
        """Return whether the run's lock was deleted or replaced, so that another process may take the run."""
        return self._held is not None and _number(self._lock) != self._held

    def wrong(self) -> str:
        """Return what is wrong with the files, in words; empty if nothing is."""
        log = self._path.with_name(f"{self._path.name}-wal")
        for path in (self._path, log):
            known = self._files.get(path)
            try:
                found = os.stat(path, follow_symlinks=False)
            except OSError as error:
                if known is None:
                    continue  # the first write creates the log
                return f"{path.name} was deleted or moved ({error.strerror})"
            if known is None:
                self._files[path] = _File(path, (found.st_dev, found.st_ino), found.st_size)
                continue
            if known.number != (found.st_dev, found.st_ino):
                return f"another file has replaced {path.name}"
            # Another program may make SQLite copy the log into the journal: it becomes shorter, and nothing is lost.
            if found.st_size < known.size and (path != log or not self._whole()):
                return f"{path.name} was truncated from {known.size:,} to {found.st_size:,} bytes"
            known.size = found.st_size
        return ""


def _number(path: Path) -> tuple[int, int] | None:
    """Return the device and inode numbers of a file; None if there is no file."""
    try:
        found = os.stat(path, follow_symlinks=False)
    except OSError:
        return None
    return found.st_dev, found.st_ino
