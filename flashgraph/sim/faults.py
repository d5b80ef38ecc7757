"""What goes wrong with model servers, at chosen rates: which request is hit is a hash of it, not of the hour."""

from __future__ import annotations

import hashlib
import math
from collections import Counter
from collections.abc import Mapping

import anyio
import attrs

from flashgraph.errors import DataError, did_you_mean

__all__ = ["KINDS", "Bucket", "Faults"]

KINDS: Mapping[str, str] = {
    "429": "refused at once as one too many, with Retry-After",
    "500": "failed at once",
    "stall": "answered late",
    "reset": "the connection is reset in the place of an answer",
    "cut": "the connection is closed in the middle of the answer",
    "truncated": "half of the text, with the finish reason `length`",
    "malformed": "status 200 with a body that is no JSON",
}


@attrs.define(eq=False)
class Faults:
    """``rates`` maps `KINDS` to shares of the requests.  A request that comes again draws again: a retry can succeed.

    Raises `DataError` for unknown kinds, and for rates that are no shares or sum to more than 1.
    """

    rates: Mapping[str, float] = attrs.field(factory=dict)
    seed: int = 0
    _seen: Counter[bytes] = attrs.field(factory=Counter, init=False, repr=False)

    def __attrs_post_init__(self) -> None:
        for kind, rate in self.rates.items():
            if kind not in KINDS:
                raise DataError(f"fault {kind!r}: no such kind.\nFix: {did_you_mean(kind, list(KINDS))}")
            if not 0 <= rate <= 1:
                raise DataError(f"fault {kind!r}: found the rate {rate:g}, expected a share from 0 to 1.")
        if sum(self.rates.values()) > 1:
            raise DataError(f"faults: the rates sum to {sum(self.rates.values()):g}, expected at most 1.")

    def drawn(self, request: bytes) -> str | None:
        """The fault of this request, if any."""
        if not self.rates:
            return None
        digest = hashlib.sha256(request).digest()
        self._seen[digest] += 1
        key = repr((self.seed, digest, self._seen[digest])).encode()
        draw = int.from_bytes(hashlib.sha256(key).digest()[:8], "big") / 2**64
        for kind, rate in self.rates.items():
            if draw < rate:
                return kind
            draw -= rate
        return None


class Bucket:
    """A rate limit as providers keep it: a bucket of a minute's worth that fills steadily."""

    def __init__(self, per_minute: float) -> None:
        self._most = per_minute
        self._left = per_minute
        self._since: float | None = None

    def wanting(self, amount: float) -> float:
        """Seconds until there will be ``amount`` (at most a whole bucket); 0 if it is there."""
        now = anyio.current_time()
        if self._since is not None:
            self._left = min(self._most, self._left + (now - self._since) * self._most / 60)
        self._since = now
        return max(0.0, min(amount, self._most) - self._left) * 60 / self._most

    def said(self, of: str) -> dict[str, str]:
        """The headers in which OpenAI tells of it: the limit, what is left, and how long until all is there again."""
        self.wanting(0.0)
        reset = (self._most - self._left) * 60 / self._most
        return {
            f"x-ratelimit-limit-{of}": f"{self._most:.0f}",
            f"x-ratelimit-remaining-{of}": str(max(0, math.floor(self._left))),
            f"x-ratelimit-reset-{of}": f"{reset * 1000:.0f}ms" if reset < 1 else f"{reset // 60:.0f}m{reset % 60:.3f}s",
        }

    def take(self, amount: float) -> None:
        """Take it, also where that leaves less than nothing."""
        self._left -= amount
