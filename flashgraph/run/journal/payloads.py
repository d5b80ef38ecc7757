"""The long texts of a journal, stored under their hashes; each is verified, and their size is bounded.

The bound matters because a few kilobytes may inflate to gigabytes.
"""

from __future__ import annotations

import hashlib
import os
import sqlite3
import zlib
from pathlib import Path

from flashgraph.run.journal.columns import blob, damaged, select, word
from flashgraph.run.journal.store import JournalError

__all__ = ["LONGEST", "Payloads", "named"]

LONGEST = 64 * 2**20
"""Maximum length in bytes of one text in a journal."""
RATIO = 100
"""All texts of a journal together have at most `LONGEST` bytes plus this many times the size of its files."""
REMEMBERED = 16 * 2**20
"""Bytes of texts that are cached."""


def named(data: bytes) -> str:
    """Return the name (a hash) of a text, given as UTF-8."""
    return hashlib.sha256(data).hexdigest()[:32]


class Payloads:
    """Read texts by name.  Raises `JournalError` for one that is damaged, too long or missing."""

    def __init__(self, db: sqlite3.Connection, path: Path) -> None:
        self._db, self._path = db, path
        self._known: dict[str, tuple[str, int]] = {}
        self._size = 0
        self._seen: dict[str, int] = {}
        self._total = 0

    def _allowed(self) -> int:
        """Return the maximum number of bytes for all texts of this journal."""
        files = (self._path.with_name(f"{self._path.name}{end}") for end in ("", "-wal"))
        return LONGEST + RATIO * sum(os.stat(file).st_size for file in files if file.exists())

    def __call__(self, name: str) -> str:
        if name not in self._known:
            sql = "SELECT hash, data FROM payloads WHERE hash = ?"
            found = next(select(self._db, self._path, "payloads", (word, blob), sql, name), None)
            if found is None:
                raise JournalError(
                    f"{self._path}: the journal could not be read: the text {name} is missing.\n"
                    "Fix: use a copy of the run's folder; `sqlite3 FILE .recover` may save parts."
                )
            self._keep(name, self._inflate_text(name, found[1]))
        return self._known[name][0]

    def _inflate_text(self, name: str, data: bytes) -> str:
        most = min(LONGEST, max(self._allowed() - self._total, self._seen.get(name, 0)))
        inflating = zlib.decompressobj()
        try:
            text = inflating.decompress(data, most + 1)
        except zlib.error as error:
            raise damaged(self._path, "payloads", name, error) from error
        if len(text) > most:
            raise damaged(self._path, "payloads", name, f"its text is longer than {most:,} bytes")
        if not inflating.eof or named(text) != name:
            raise damaged(self._path, "payloads", name, "its text does not match its hash")
        if name not in self._seen:
            self._seen[name] = len(text)
            self._total += len(text)
        try:
            return text.decode(errors="surrogatepass")
        except UnicodeDecodeError as error:
            raise damaged(self._path, "payloads", name, error) from error

    def _keep(self, name: str, text: str) -> None:
        while self._known and self._size + len(text) > REMEMBERED:
            _, size = self._known.pop(next(iter(self._known)))
            self._size -= size
        self._known[name] = (text, len(text))
        self._size += len(text)
