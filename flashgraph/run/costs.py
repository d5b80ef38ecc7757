"""The costs of a run's model calls by stage and role."""

from __future__ import annotations

from collections.abc import Iterable

import attrs

from flashgraph.run.events import CallEnded, Event, JobStarted

__all__ = ["StageCost", "costs_in"]


@attrs.frozen
class StageCost:
    """The costs of one stage's calls to the model of one role.

    ``calls`` leaves out throttled requests.  ``usd`` counts calls whose price is unknown as 0.
    """

    stage: str
    role: str
    calls: int
    prompt_tokens: int
    completion_tokens: int
    usd: float


def costs_in(events: Iterable[Event]) -> tuple[StageCost, ...]:
    """Return the costs of the calls that have ended, by stage and role in the order of their names."""
    stages: dict[int, str] = {}
    found: dict[tuple[str, str], StageCost] = {}
    for event in events:
        if isinstance(event, JobStarted):
            stages[event.job] = event.stage
        elif isinstance(event, CallEnded):
            key = (stages.get(event.job, ""), event.role)
            known = found.get(key) or StageCost(*key, 0, 0, 0, 0.0)
            found[key] = StageCost(
                *key,
                known.calls + (event.how != "throttled"),
                known.prompt_tokens + event.prompt_tokens,
                known.completion_tokens + event.completion_tokens,
                known.usd + (event.usd or 0.0),
            )
    return tuple([found[key] for key in sorted(found)])
