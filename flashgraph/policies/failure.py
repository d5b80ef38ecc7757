"""Failure rules of gathering edges: the effect of failed members on their group."""

from __future__ import annotations

import attrs

from flashgraph.errors import Flaw

__all__ = ["FailAbove", "fail_above", "missing"]


@attrs.frozen
class FailAbove:
    """Fail the group if more than ``share`` of its members failed; otherwise failed members count as missing."""

    share: float = 1.0

    def fails(self, failed: int, size: int) -> bool:
        # The slack covers rounding errors: as floats, 0.57 * 100 < 57, but 57 failures of 100 are not above the share.
        return failed > self.share * size + 1e-9

    def flaw(self) -> Flaw | None:
        if 0 <= self.share <= 1:
            return None
        return Flaw(
            f"fail_above({self.share!r})", "a share from 0 to 1", "fail_above(0.2) tolerates a fifth of failures"
        )

    def __str__(self) -> str:
        return "missing" if self.share >= 1 else f"fail_above({self.share:g})"


def missing() -> FailAbove:
    """Release the group without its failed members; the default."""
    return FailAbove()


def fail_above(share: float) -> FailAbove:
    """Fail the group and its origin if more than ``share`` of the members failed."""
    return FailAbove(share)
