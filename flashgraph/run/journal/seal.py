"""Seals that show whether this user on this machine started a run: only they can make the seal of its start options.

A folder may come from anybody, and it determines which code a resume runs and where it sends a key.  The seal is an
HMAC under a key of the user's own, in ``~/.local/state/flashgraph/key`` (or below ``XDG_STATE_HOME``).
"""

from __future__ import annotations

import hashlib
import hmac
import os
import secrets
import stat
from contextlib import closing, suppress
from pathlib import Path

from flashgraph.run.journal.private import FILE, LOOK, PLAIN
from flashgraph.run.journal.store import connect, fetched

__all__ = ["SEAL", "is_own", "seal"]

SEAL = "seal"
"""The key of the ``meta`` table for the seal of the value under ``order``."""

SIZE = 32


def seal(order: str) -> str:
    """Return the seal of a run's ``order``, given as the journal's text; empty if no key can be stored."""
    key = _key(make=True)
    return "" if key is None else _made(key, order)


def is_own(journal: Path) -> bool:
    """Return whether this user on this machine wrote a journal's ``order``.  Raises `JournalError`."""
    with closing(connect(journal, readonly=True)) as db:
        found = dict(fetched(db, journal, "meta", "SELECT key, value FROM meta WHERE key IN ('order', ?)", SEAL))
    key, order, said = _key(make=False), found.get("order"), found.get(SEAL)
    if key is None or not isinstance(order, str) or not isinstance(said, str):
        return False
    return hmac.compare_digest(_made(key, order).encode(), said.encode(errors="replace"))


def _made(key: bytes, order: str) -> str:
    return hmac.new(key, b"flashgraph order\0" + order.encode(errors="surrogatepass"), hashlib.sha256).hexdigest()


def _key(*, make: bool) -> bytes | None:
    """Return the user's key; None if there is none, or if other users may have read or written it."""
    try:
        state = Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state")
    except RuntimeError:  # a user without a home
        return None
    path = state / "flashgraph" / "key"
    if make:
        with suppress(OSError):
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            _write_once(path)
    try:
        opened = os.open(path, LOOK)
    except OSError:
        return None
    with open(opened, "rb") as file:
        found = os.fstat(opened)
        private = found.st_uid == os.geteuid() and not found.st_mode & 0o077
        key = file.read(SIZE) if private and stat.S_ISREG(found.st_mode) else b""
    return key if len(key) == SIZE else None


def _write_once(path: Path) -> None:
    """Create the key atomically unless it exists; of processes that start together, one creates it for all."""
    if path.exists():
        return
    new = path.with_name(f"key.{secrets.token_hex(8)}")
    opened = os.open(new, os.O_CREAT | os.O_EXCL | os.O_WRONLY | PLAIN, FILE)
    try:
        with open(opened, "wb") as file:
            file.write(secrets.token_bytes(SIZE))
        os.link(new, path)
    finally:
        new.unlink()
