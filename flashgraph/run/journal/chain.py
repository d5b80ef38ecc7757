"""A chain of checksums over a journal's turns: each is of its turn and of the one before it."""

from __future__ import annotations

import hashlib

__all__ = ["linked"]


def linked(before: str, seq: int, at: float, body: str) -> str:
    """Return the checksum of turn number ``seq``, which follows the one with the checksum ``before`` ("": none)."""
    return hashlib.sha256(f"{before}\n{seq}\n{float(at)!r}\n{body}".encode()).hexdigest()[:16]
