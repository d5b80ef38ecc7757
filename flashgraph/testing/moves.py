"""The events that can happen next in a run by hand."""

from __future__ import annotations

from typing import Literal

import attrs

__all__ = ["Move"]


@attrs.frozen
class Move:
    """One event of a run.

    - ``"go"``: the function of job ``number`` advances to its next request or its result.
    - ``"answer"``: the request of job ``number`` gets its reply.
    - ``"cancelled"``: the cancellation of job ``number`` takes effect.
    - ``"timer"``: the next timer fires.

    Faults:

    - ``"fail"``: the function of job ``number`` raises.
    - ``"break"``: its request fails.
    - ``"throttle"``: its request gets a 429.
    - ``"outage"``: its request finds the endpoint down while another one is up.
    - ``"load"``: the endpoints report ``number`` requests in their queues.
    - ``"stop"`` and ``"drain"``: the run is stopped or drained.
    - ``"kill"``: the run is killed before its last ``number`` turns are durable, and resumed.
    """

    kind: Literal[
        "go", "answer", "cancelled", "timer", "fail", "break", "throttle", "outage", "load", "stop", "drain", "kill"
    ]
    number: int = 0

    def __repr__(self) -> str:
        return f"Move({self.kind!r}, {self.number})" if self.number else f"Move({self.kind!r})"
