"""Find damage in SQLite's write-ahead log: committed transactions that SQLite silently skips.

SQLite reads the log up to the first frame with a wrong checksum, and takes that for the log's end.  After a crash that
is right.  But if committed frames of the same log follow, the wrong frame is damaged, and they are lost.

Format: https://www.sqlite.org/fileformat2.html#the_write_ahead_log
"""

from __future__ import annotations

import struct
import sys
from array import array
from pathlib import Path
from typing import BinaryIO

__all__ = ["lost_commits"]

MAGIC = 0x377F0682
HEADER, FRAME = 32, 24
MASK = 0xFFFFFFFF


def lost_commits(journal: Path) -> int:
    """Return how many committed transactions of a journal's log SQLite would skip; 0 if there is no log.

    No process may have the journal open.  Raises OSError when the log cannot be read.
    """
    try:
        file = journal.with_name(f"{journal.name}-wal").open("rb")
    except FileNotFoundError:
        return 0
    with file:
        header = file.read(HEADER)
        if len(header) < HEADER:
            return 0
        magic, _, size, _, *salts, one, two = struct.unpack(">8I", header)
        sums = _summed(header[:24], (0, 0), bool(magic & 1))
        whole = magic & ~1 == MAGIC and sums == (one, two) and 512 <= size <= 65536
        if not whole:
            return _commits(file, _page_size(journal), None)
        while True:
            frame, page = file.read(FRAME), file.read(size)
            if len(page) < size:
                return 0
            _, _, *own, one, two = struct.unpack(">6I", frame)
            sums = _summed(frame[:8] + page, sums, bool(magic & 1))
            if own != salts or sums != (one, two):
                return _commits(file, size, salts)


def _commits(file: BinaryIO, size: int, salts: list[int] | None) -> int:
    """Return how many of the remaining frames end a transaction of this log.

    Without ``salts``, because the header is damaged, the first frame tells which log it is.
    """
    found = 0
    while len(frame := file.read(FRAME)) == FRAME:
        _, ends, *own, _, _ = struct.unpack(">6I", frame)
        salts = own if salts is None else salts
        found += ends != 0 and own == salts
        file.seek(size, 1)
    return found


def _summed(data: bytes, before: tuple[int, int], big: bool) -> tuple[int, int]:
    words = array("I", data)
    if big != (sys.byteorder == "big"):
        words.byteswap()
    one, two = before
    for first, second in zip(words[::2], words[1::2], strict=True):
        one = (one + first + two) & MASK
        two = (two + second + one) & MASK
    return one, two


def _page_size(journal: Path) -> int:
    try:
        with journal.open("rb") as file:
            size: int = struct.unpack(">H", file.read(18)[16:])[0]
    except (OSError, struct.error):
        return 4096
    return 65536 if size == 1 else size if size >= 512 else 4096
