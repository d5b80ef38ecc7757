"""Failure rules of gathering edges: what a failed member means for its group."""

from __future__ import annotations

import attrs

from flashgraph.errors import Flaw

__all__ = ["FailAbove", "fail_above", "missing"]


@attrs.frozen
class FailAbove:
    """Fail the group when more than ``share`` of its members failed; below that they count as missing."""

    share: float = 1.0

    def fails(self, failed: int, size: int) -> bool:
        # The slack: 0.57 * 100 is a hair below 57 in binary fractions, and 57 failures are not more than that share.
        return failed > self.share * size + 1e-9

    def flaw(self) -> Flaw | None:
        if 0 <= self.share <= 1:
            return None
        return Flaw(f"fail_above({self.share!r})", "a share from 0 to 1", "fail_above(0.2) bears a fifth of failures")

    def __str__(self) -> str:
        return "missing" if self.share >= 1 else f"fail_above({self.share:g})"


def missing() -> FailAbove:
    """Failed members are missing from the group, which goes on; the default."""
    return FailAbove()


def fail_above(share: float) -> FailAbove:
    """The group fails, and with it its origin, when more than ``share`` of the members failed."""
    return FailAbove(share)
