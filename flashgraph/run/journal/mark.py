"""A mark beside a journal that records its length after each commit, so that a missing end is noticed later.

A write-ahead log that is damaged, truncated or undone by a power cut leaves a sound but shorter journal.  The spending
of the missing turns still counts.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import attrs
from attrs.validators import and_, deep_mapping, ge, instance_of

from flashgraph.run.journal.jsontext import dumped, loaded
from flashgraph.run.journal.private import FILE, LOOK, PLAIN

__all__ = ["Mark", "MarkFile", "read_mark"]

SIZE = 1024
COUNT = [instance_of(int), ge(0)]
AMOUNT: Any = and_(instance_of((int, float)), ge(0))


@attrs.frozen
class Mark:
    """The length of the journal ``id``: its ``turns`` and held-out ``tests``, and the ``chain`` of its last turn.

    ``spent`` is the most that the run can have spent by then, by limit: settled plus reserved.
    """

    id: str = attrs.field(validator=instance_of(str))
    turns: int = attrs.field(validator=COUNT)
    tests: int = attrs.field(validator=COUNT)
    chain: str = attrs.field(validator=instance_of(str))
    spent: Mapping[str, float] = attrs.field(validator=deep_mapping(instance_of(str), AMOUNT))

    def encoded(self) -> bytes:
        text = dumped(attrs.asdict(self))
        return f"{_sum(text)} {text}".ljust(SIZE - 1).encode() + b"\n"


class MarkFile:
    """The file beside a journal, created when the first mark is written."""

    def __init__(self, journal: Path) -> None:
        self._path = _beside(journal)
        self._file: int | None = None

    def write(self, mark: Mark) -> None:
        """Replace the last mark.  A failure is ignored, because the journal is what counts."""
        with suppress(OSError):
            if self._file is None:
                self._file = os.open(self._path, os.O_CREAT | os.O_WRONLY | PLAIN, FILE)
            os.lseek(self._file, 0, os.SEEK_SET)
            os.write(self._file, mark.encoded())

    def close(self) -> None:
        if self._file is not None:
            os.close(self._file)
            self._file = None


def read_mark(journal: Path) -> Mark | None:
    """Return the mark beside a journal; None if it is absent or damaged."""
    try:
        opened = os.open(_beside(journal), LOOK)
    except OSError:
        return None
    with open(opened, "rb") as file, suppress(ValueError, TypeError, OSError, AttributeError, RecursionError):
        said, _, text = file.read(2 * SIZE).decode().strip().partition(" ")
        if said == _sum(text):
            return Mark(**loaded(text))
    return None


def _beside(journal: Path) -> Path:
    return journal.with_name(f"{journal.name}.mark")


def _sum(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]
