"""Faults of model servers, at chosen rates. A hash of the request decides which one is hit, so time plays no part."""

from __future__ import annotations

import hashlib
import math
from collections import Counter
from collections.abc import Mapping
from functools import cached_property

import anyio
import attrs

from flashgraph.errors import DataError, did_you_mean
from flashgraph.llm.rates import Bucket

__all__ = ["KINDS", "Faults", "RateLimit"]

KINDS: Mapping[str, str] = {
    "429": "refused at once as one request too many, with Retry-After",
    "500": "failed at once",
    "stall": "answered late",
    "reset": "the connection is reset instead of an answer",
    "cut": "the connection is closed in the middle of the answer",
    "truncated": "half of the text, with the finish reason `length`",
    "malformed": "status 200 with a body that is not JSON",
}


@attrs.define(eq=False)
class Faults:
    """``rates`` maps `KINDS` to shares of the requests. A repeated request draws again, so a retry can succeed.

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
        """Return the fault of this request, if any."""
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


class RateLimit:
    """A rate limit as providers implement it: a bucket that holds a minute's worth and fills steadily.

    ``used`` is what other clients had taken from it before the first request.
    """

    def __init__(self, per_minute: float, used: float = 0.0) -> None:
        self._per_minute, self._used = per_minute, used

    @cached_property
    def _bucket(self) -> Bucket:
        bucket = Bucket(self._per_minute, self._per_minute, at=anyio.current_time())
        bucket.take(self._used, bucket.at)
        return bucket

    def wanting(self, amount: float) -> float:
        """Return the seconds until the bucket holds ``amount`` (at most a whole bucket); 0 if it does now."""
        return max(0.0, self._bucket.due(min(amount, self._per_minute)) - anyio.current_time())

    def headers(self, of: str) -> dict[str, str]:
        """Return OpenAI's headers for it: the limit, the rest, and the time until the bucket is full."""
        limit, now = self._per_minute, anyio.current_time()
        left, reset = self._bucket.holds(now), max(0.0, self._bucket.due(limit) - now)
        return {
            f"x-ratelimit-limit-{of}": f"{limit:.0f}",
            f"x-ratelimit-remaining-{of}": str(max(0, math.floor(left))),
            f"x-ratelimit-reset-{of}": f"{reset * 1000:.0f}ms" if reset < 1 else f"{reset // 60:.0f}m{reset % 60:.3f}s",
        }

    def take(self, amount: float) -> None:
        """Take ``amount``, even if that leaves less than nothing."""
        self._bucket.take(amount, anyio.current_time())
