"""Tests of what a user may not do, in this process: root may do everything."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

__all__ = ["as_nobody", "open_to_all"]

NOBODY = 65534


@contextmanager
def as_nobody() -> Iterator[None]:
    """Without root's rights; a user who is not root has none of them anyway."""
    root = os.geteuid() == 0
    if root:
        os.setegid(NOBODY)
        os.seteuid(NOBODY)
    try:
        yield
    finally:
        if root:
            os.seteuid(0)
            os.setegid(0)


def open_to_all(folder: Path) -> None:
    """Let nobody look into a test's own folder, and into those of pytest around it."""
    for path in (folder, *folder.parents):
        if path == Path(tempfile.gettempdir()):
            break
        path.chmod(0o755)
