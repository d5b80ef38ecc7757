"""One simulated run of GEPA and what is read off it.

Scores are the world's true ones (the expected score on its held-out split) of the artifact that the pool would hand
out, at each moment; validation scores would flatter whoever validates more candidates.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import anyio
import attrs

import flashgraph as fg
from flashgraph.run import events as ev
from flashgraph.sim.model import SimModel
from flashgraph.sim.profiles import PROFILES
from flashgraph.sim.virtual import run_virtually
from flashgraph.sim.world import World

__all__ = ["Measured", "measure"]


@attrs.frozen
class Measured:
    """``curve`` holds (seconds, calls, true score) each time the pool changed."""

    minutes: float
    curve: tuple[tuple[float, int, float], ...]
    proposals: int
    accepted: int
    calls: int
    wasted: int
    """Calls that were cut off, and calls of rounds that ended because an item was discarded as stale."""
    use: float
    """Tokens a second over what the server makes with every slot busy."""

    @property
    def final(self) -> float:
        return self.curve[-1][2] if self.curve else 0.0

    def score_at(self, seconds: float) -> float:
        return max((c for c in self.curve if c[0] <= seconds), key=lambda c: c[0], default=(0, 0, 0.0))[2]

    def score_after(self, calls: int) -> float:
        return max((c for c in self.curve if c[1] <= calls), key=lambda c: c[1], default=(0, 0, 0.0))[2]

    def time_to(self, score: float) -> float | None:
        """Seconds until ``score`` was reached for the first time."""
        return next((at for at, _, reached in self.curve if reached >= score), None)


def measure(
    world: int,
    schedule: str,
    *,
    minutes: float,
    settings: Mapping[str, Any] | None = None,
    profile: str = "vllm",
    seed: int = 0,
) -> Measured:
    """Run GEPA on a world for so many simulated minutes."""
    made = World(seed=world)
    model = SimModel(PROFILES[profile], made.answer, seed=world)
    curve: list[tuple[float, int, float]] = []
    known: dict[str, float] = {}

    async def watched() -> fg.Result:
        async with fg.open_run(
            "gepa",
            made.task(),
            models={"task": model, "reflection": model},
            schedule=schedule,
            settings=settings,
            seed=seed,
            budget=fg.Budget(seconds=minutes * 60),
            settle=anyio.wait_all_tasks_blocked,
        ) as run:
            calls = 0
            async for event in run:
                calls += isinstance(event, ev.CallStarted)
                if isinstance(event, ev.Admitted | ev.Confirmed | ev.Retracted):
                    best = run.machine.pools["frontier"].value.best()
                    text = best.value["instruction"]
                    if text not in known:
                        known[text] = made.true_score(text)
                    curve.append((event.at, calls, known[text]))
            return run.result

    result = run_virtually(watched)
    return Measured(
        minutes=minutes,
        curve=tuple(curve),
        proposals=result.spent.proposals,
        accepted=max(0, len(result.artifacts) - 1),
        calls=result.spent.calls,
        wasted=_wasted(result.events),
        use=model.engine.tokens / (model.profile.capacity * result.spent.seconds),
    )


def _wasted(events: tuple[ev.Event, ...]) -> int:
    round_of: dict[int, int] = {}
    job_round: dict[int, int] = {}
    stale: set[int] = set()
    for event in events:
        if isinstance(event, ev.Created):
            round_of[event.item] = event.round
        elif isinstance(event, ev.JobStarted) and event.item is not None:
            job_round[event.job] = round_of[event.item]
        elif isinstance(event, ev.Ended) and event.how == "discarded":
            stale.add(round_of[event.item])
    ended = [e for e in events if isinstance(e, ev.CallEnded)]
    return sum(e.how == "cancelled" or job_round.get(e.job) in stale for e in ended)
