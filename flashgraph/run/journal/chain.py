"""A chain of checksums over a journal's turns: each covers its turn and the checksum before it."""

from __future__ import annotations

import hashlib

__all__ = ["linked"]


def linked(before: str, seq: int, at: float, body: str) -> str:
    """Return the checksum of turn ``seq``; ``before`` is the previous turn's checksum, "" for the first turn."""
    return hashlib.sha256(f"{before}\n{seq}\n{float(at)!r}\n{body}".encode()).hexdigest()[:16]
