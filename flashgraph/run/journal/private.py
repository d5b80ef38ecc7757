"""Make a run's folder and files private to the user, and never follow a symbolic link.

A run holds prompts, replies and samples, and a folder from elsewhere may contain links to other places.
"""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

__all__ = ["FILE", "LOOK", "PLAIN", "advice", "create", "make_folder", "regular", "write_text"]

FOLDER, FILE = 0o700, 0o600

PLAIN = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_CLOEXEC", 0)
"""Flags for opening any file: do not follow a link, where the system supports that."""
LOOK = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | PLAIN
"""Flags for reading a file that may turn out to be a named pipe, which would block."""

ADVICE = {
    errno.EACCES: "give write permission to {folder}",
    errno.EPERM: "give write permission to {folder}",
    errno.EROFS: "--out with a folder on a file system that may be written to",
    errno.ENOSPC: "make room on the disk",
    errno.EDQUOT: "make room within the disk quota",
    errno.ENAMETOOLONG: "--out with a shorter name",
    errno.ENOTDIR: "--out with another folder: a file stands in the way",
    errno.EISDIR: "--out with another folder: a folder stands in the way",
    errno.ELOOP: "--out with another folder: a symbolic link stands in the way",
    errno.EMFILE: "allow more open files: ulimit -n 4096",
    errno.ENFILE: "allow more open files, or close other programs",
    errno.ENOLCK: "--out with a folder on a local disk: this file system gives no locks (as NFS without a lock server)",
    errno.ENOSYS: "--out with a folder on a local disk: this file system has no locks",
    errno.EOPNOTSUPP: "--out with a folder on a local disk: this file system has no locks",
    errno.EIO: "see the system's log; the disk may have failed",
    errno.ESTALE: "mount the network disk again, or --out with a folder on a local disk",
}


def advice(error: OSError, folder: Path) -> str:
    """Return the remedy for an error of a folder or of a file in it."""
    return ADVICE.get(error.errno or 0, "--out with another folder, or see the permissions of {folder}").format(
        folder=folder
    )


def make_folder(folder: Path) -> None:
    """Create a run's folder, unless it exists, readable by its user alone.  Raises OSError."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    folder.mkdir(mode=FOLDER, exist_ok=True)


def create(path: Path) -> None:
    """Create an empty file, unless it exists, readable by its user alone.

    Raises OSError, also for a symbolic link.
    """
    os.close(os.open(path, os.O_CREAT | os.O_WRONLY | PLAIN, FILE))


def write_text(path: Path, text: str) -> None:
    """Write a text file, atomically replacing whatever has its name.  Raises OSError."""
    new = path.with_name(f".{path.name[:200]}.{os.getpid()}.new")
    new.unlink(missing_ok=True)
    try:
        opened = os.open(new, os.O_CREAT | os.O_EXCL | os.O_WRONLY | PLAIN, FILE)
        with open(opened, "w", encoding="utf-8", errors="backslashreplace") as file:
            file.write(text)
        new.replace(path)  # replaces a link, and does not follow it
    except BaseException:
        new.unlink(missing_ok=True)
        raise


def regular(path: Path) -> str:
    """Return what a path is other than a regular file, in words; empty for a regular file and for a missing one.

    Raises OSError for a folder that may not be searched.
    """
    try:
        mode = path.lstat().st_mode
    except FileNotFoundError:
        return ""
    if stat.S_ISREG(mode):
        return ""
    return "a symbolic link" if stat.S_ISLNK(mode) else "a folder" if stat.S_ISDIR(mode) else "no plain file"
