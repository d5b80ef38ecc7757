"""A journal's files while a run writes them: whether somebody has taken them away."""

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
    """Looks whether the files are those that were opened, and none has become shorter.

    SQLite writes on to a file that has no name any more, and to one that was cut short, and says nothing.
    """

    def __init__(self, path: Path, whole: Callable[[], bool]) -> None:
        self._path = path
        self._whole = whole
        """Whether what was written last can be read."""
        self._files: dict[Path, _File] = {}

    def wrong(self) -> str:
        """Return what is wrong with the files, in words; empty where nothing is."""
        log = self._path.with_name(f"{self._path.name}-wal")
        for path in (self._path, log):
            known = self._files.get(path)
            try:
                found = os.stat(path, follow_symlinks=False)
            except OSError as error:
                if known is None:
                    continue  # the log is made by the first write
                return f"{path.name} was deleted or moved ({error.strerror})"
            if known is None:
                self._files[path] = _File(path, (found.st_dev, found.st_ino), found.st_size)
                continue
            if known.number != (found.st_dev, found.st_ino):
                return f"another file is in the place of {path.name}"
            # The log becomes shorter, and nothing is lost, where another program has SQLite copy it into the journal.
            if found.st_size < known.size and (path != log or not self._whole()):
                return f"{path.name} was cut short, from {known.size:,} to {found.st_size:,} bytes"
            known.size = found.st_size
        return ""
