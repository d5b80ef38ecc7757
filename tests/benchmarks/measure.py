"""One simulated run of GEPA and its measures.

Scores are the world's true ones (the expected score on its held-out split) of the run's champion at each moment. The
run's own reported scores are kept too.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import anyio
import attrs

import flashgraph as fg
from flashgraph.run import events as ev
from flashgraph.sim.clock import run_virtually
from flashgraph.sim.model import SimModel
from flashgraph.sim.profiles import PROFILES

from .worlds import FAMILY, KindWorld

__all__ = ["Measured", "Point", "measure"]


@attrs.frozen
class Point:
    """The state of a run at a moment: seconds, calls and tokens so far, scores of its champion, and its artifacts.

    The scores are the true one and the reported one. ``pool`` counts the artifacts that the pool has had.
    """

    at: float
    calls: int
    tokens: float
    score: float
    accepted: int
    reported: float = 0.0


@attrs.frozen
class Measured:
    """``curve`` has a point for each change of the pool."""

    minutes: float
    curve: tuple[Point, ...]
    proposals: int
    accepted: int
    calls: int
    wasted: int
    """Cancelled calls, and calls of rounds that ended because an item was discarded as stale."""
    use: float
    """Tokens a second, over the server's capacity with every slot busy."""
    sweeps: float = 0.0
    """Validations of a whole split."""
    reported: float = 0.0
    """The score of the champion in the run's result."""
    interval: tuple[float, float] = (0.0, 1.0)
    """Its interval at the 95 % level."""
    last: float = 0.0
    """The true score of the champion in the run's result."""

    @property
    def final(self) -> float:
        return self.curve[-1].score if self.curve else 0.0

    def score_at(self, seconds: float) -> float:
        return next((p.score for p in reversed(self.curve) if p.at <= seconds), 0.0)

    @property
    def mean(self) -> float:
        """The mean score over the run's time, as seen by a user at a random moment."""
        ends = [p.at for p in self.curve[1:]] + [self.minutes * 60]
        return sum(p.score * (end - p.at) for p, end in zip(self.curve, ends, strict=True)) / (self.minutes * 60)

    @property
    def fall(self) -> float:
        """The largest fall of the champion's true score below an earlier one."""
        highest, fall = 0.0, 0.0
        for point in self.curve:
            highest = max(highest, point.score)
            fall = max(fall, highest - point.score)
        return fall

    def score_after(self, calls: int) -> float:
        return next((p.score for p in reversed(self.curve) if p.calls <= calls), 0.0)

    def score_with(self, tokens: float) -> float:
        return next((p.score for p in reversed(self.curve) if p.tokens <= tokens), 0.0)

    def reached(self, score: float) -> Point | None:
        """Return where ``score`` was first reached."""
        return next((p for p in self.curve if p.score >= score), None)

    def time_to(self, score: float) -> float | None:
        """Return the seconds until ``score`` was first reached."""
        point = self.reached(score)
        return None if point is None else point.at


def measure(
    world: KindWorld | int,
    schedule: str,
    *,
    minutes: float,
    settings: Mapping[str, Any] | None = None,
    params: Mapping[str, Any] | None = None,
    profile: str = "vllm",
    slots: int | None = None,
    seed: int = 0,
    graph: Any = "gepa",
) -> Measured:
    """Run GEPA on a world for that many simulated minutes; ``slots`` replace those of the profile.

    A whole number is the plain world of hidden rules with that seed.
    """
    made = KindWorld(FAMILY["rules"], world) if isinstance(world, int) else world
    server = PROFILES[profile] if slots is None else attrs.evolve(PROFILES[profile], slots=slots)
    model = SimModel(server, made.answer, seed=made.seed + 1000 * seed)
    curve: list[Point] = []
    known: dict[Any, float] = {}

    def true(candidate: Mapping[str, str]) -> float:
        key = tuple(candidate.values())
        if key not in known:
            known[key] = made.true_score(candidate)
        return known[key]

    async def watched() -> fg.Result:
        async with fg.open_run(
            graph,
            made.task(),
            models={"task": model, "reflection": model},
            schedule=schedule,
            settings=settings,
            params=params,
            seed=seed,
            budget=fg.Budget(seconds=minutes * 60),
            settle=anyio.wait_all_tasks_blocked,
        ) as run:
            calls = accepted = 0
            async for event in run:
                calls += isinstance(event, ev.CallStarted)
                accepted += isinstance(event, ev.Admitted)
                if isinstance(event, CHANGES):
                    best = run.machine.pools["frontier"].best
                    tokens = model.engine.tokens
                    curve.append(Point(event.at, calls, tokens, true(best.value), accepted, best.score or 0.0))
            return run.result

    result = run_virtually(watched)
    assert result.best is not None
    evidence = getattr(result.best, "evidence", None)
    return Measured(
        minutes=minutes,
        curve=tuple(curve),
        proposals=result.spent.proposals,
        accepted=max(0, len(result.artifacts) - 1),
        calls=result.spent.calls,
        wasted=_wasted(result.events),
        use=model.engine.tokens / (model.profile.capacity * result.spent.seconds),
        sweeps=sum(isinstance(e, ev.JobEnded) and (e.stage, e.how) == ("validate", "done") for e in result.events)
        / made.kind.val,
        reported=evidence.estimate if evidence is not None else result.best.score or 0.0,
        interval=(0.0, 1.0) if evidence is None else evidence.interval,
        last=true(result.best.value),
    )


CHANGES = (ev.Admitted, ev.Confirmed, ev.EvidenceAdded, ev.Retracted)


def _wasted(events: Sequence[ev.Event]) -> int:
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
