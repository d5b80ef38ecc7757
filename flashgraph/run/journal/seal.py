"""Whether a run was started by this user on this machine: how it was started carries a seal that only they can make.

A folder may come from anybody, and says which code is run and where a key is sent when it is resumed.  The seal is an
HMAC under a key of the user's own, which lies in ``~/.local/state/flashgraph/key`` (or below ``XDG_STATE_HOME``).
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
"""The key of the ``meta`` table below which the seal of the key ``order`` is."""

SIZE = 32


def seal(order: str) -> str:
    """Return the seal of a run's ``order``, the text that its journal holds; empty where no key can be kept."""
    key = _key(make=True)
    return "" if key is None else _made(key, order)


def is_own(journal: Path) -> bool:
    """Return whether a journal's ``order`` was written by this user on this machine.  Raises `JournalError`."""
    with closing(connect(journal, readonly=True)) as db:
        found = dict(fetched(db, journal, "meta", "SELECT key, value FROM meta WHERE key IN ('order', ?)", SEAL))
    key, order, said = _key(make=False), found.get("order"), found.get(SEAL)
    if key is None or not isinstance(order, str) or not isinstance(said, str):
        return False
    return hmac.compare_digest(_made(key, order).encode(), said.encode(errors="replace"))


def _made(key: bytes, order: str) -> str:
    return hmac.new(key, b"flashgraph order\0" + order.encode(errors="surrogatepass"), hashlib.sha256).hexdigest()


def _key(*, make: bool) -> bytes | None:
    """The user's key; None where there is none, or where others may have read or written it."""
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
    """Make the key, whole, unless there is one: of processes that start together one makes it for all."""
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
