"""How fast endpoints answer, to estimate the tokens of a cancelled request."""

from __future__ import annotations

import attrs

__all__ = ["Pace"]


@attrs.define(eq=False)
class Pace:
    """Tokens and seconds of the requests that were answered, by endpoint."""

    _seen: dict[str, tuple[float, float]] = attrs.field(factory=dict)

    def answered(self, endpoint: str, tokens: int, seconds: float) -> None:
        """Count a reply of that many ``tokens``, which took that many ``seconds``."""
        before = self._seen.get(endpoint, (0.0, 0.0))
        self._seen[endpoint] = (before[0] + tokens, before[1] + seconds)

    def cut_off(self, endpoint: str, prompt: float, seconds: float, most: int | None = None) -> tuple[int, int]:
        """Estimate the tokens of prompt and reply of a request that was cancelled after that many ``seconds``.

        The reply counts as the tokens that others got in that time, at most ``most``; none if nothing was answered yet.
        """
        tokens, took = self._seen.get(endpoint, (0.0, 0.0))
        reply = seconds * tokens / took if took > 0 else 0.0
        return round(prompt), round(reply if most is None else min(reply, most))
