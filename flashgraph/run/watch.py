"""What is seen of the endpoints while they work: how full they say they are, and how fast they answer."""

from __future__ import annotations

import logging

import anyio
import attrs

from flashgraph.llm.protocol import Load, Model

__all__ = ["Pace", "reading"]

ANSWER_SECONDS = 5.0
"""How long a server may take to say how full it is."""

_log = logging.getLogger("flashgraph")


@attrs.define(eq=False)
class Pace:
    """Tokens and seconds of the requests that were answered, by endpoint."""

    _seen: dict[str, tuple[float, float]] = attrs.field(factory=dict)

    def answered(self, endpoint: str, tokens: int, seconds: float) -> None:
        before = self._seen.get(endpoint, (0.0, 0.0))
        self._seen[endpoint] = (before[0] + tokens, before[1] + seconds)

    def cut_off(self, endpoint: str, prompt: float, seconds: float, most: int | None = None) -> tuple[int, int]:
        """About how many tokens of prompt and reply a request has cost that was cut off after so many ``seconds``: what
        others have had in that time, at most ``most``; no reply where nothing was answered yet."""
        tokens, took = self._seen.get(endpoint, (0.0, 0.0))
        reply = seconds * tokens / took if took > 0 else 0.0
        return round(prompt), round(reply if most is None else min(reply, most))


async def reading(model: Model) -> Load | None:
    """How full the server of a model says it is; None where it does not say."""
    ask = getattr(model, "load", None)
    if ask is None:
        return None
    try:
        with anyio.fail_after(ANSWER_SECONDS):
            load: Load | None = await ask()
            return load
    except Exception as error:  # whatever a user's model does: its run goes on without the reading
        _log.info("%s does not say how full it is: %s: %s", model.name, type(error).__name__, error)
        return None
