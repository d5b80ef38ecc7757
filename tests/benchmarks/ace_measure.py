"""One simulated run of ACE and its measures.

Scores are the world's true ones (expected on its held-out split). Validation scores would favour a run that validates
more snapshots.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from statistics import mean
from typing import Any

import anyio
import attrs

import flashgraph as fg
from flashgraph.run import events as ev
from flashgraph.sim.clock import run_virtually
from flashgraph.sim.profiles import PROFILES
from flashgraph.sim.world import World, rules_of

from .ace_world import AceServer, AceWorld

__all__ = ["Measured", "Point", "measure"]

RULES, LEARN = 100, 0.45
"""More rules and a worse reflector than the world's defaults, so that training does not teach every rule."""


@attrs.frozen
class Point:
    """The playbook at a moment: its true score, and that of the best snapshot."""

    at: float
    calls: int
    trained: int
    score: float
    best: float


@attrs.frozen
class Measured:
    """``trained_by`` is when the last sample's delta was admitted, ``seconds`` when the last snapshot was scored."""

    curve: tuple[Point, ...]
    seconds: float
    trained_by: float
    trained: int
    """Admitted deltas: one for each sample, or batch."""
    samples: int
    calls: int
    use: float
    """Tokens a second, over the server's capacity with every slot busy."""
    in_flight: float
    """Requests at the server, on average."""
    latency: float
    """Seconds from a sample's emission to its delta, on average."""
    lag: float
    """The lag of a delta at its admission, on average."""
    repairs: int
    duplicates: int
    """Additions that were refused because the playbook held them by then."""
    lines: int
    shares: Mapping[str, float]
    """Each role's share of the requested tokens."""

    @property
    def final(self) -> float:
        """The true score of the best snapshot."""
        return self.curve[-1].best

    def after_calls(self, calls: int) -> float:
        """Return the playbook's true score after that many calls."""
        return max((p for p in self.curve if p.calls <= calls), key=lambda p: p.calls).score

    def after_samples(self, samples: int) -> float:
        """Return the playbook's true score after training on that many samples."""
        return next(p.score for p in self.curve if p.trained >= samples)

    def time_to(self, score: float) -> float | None:
        """Return the seconds until the playbook first had this true score."""
        return next((p.at for p in self.curve if p.score >= score), None)


def measure(
    world: int,
    schedule: str,
    *,
    seed: int = 0,
    train: int = 200,
    profile: str = "vllm",
    settings: Mapping[str, Any] | None = None,
    params: Mapping[str, Any] | None = None,
) -> Measured:
    """Train on a world's samples once, on a server whose latencies are drawn from ``seed``."""
    made = AceWorld(World(seed=world, rules=RULES, train=train, learn=LEARN))
    server = AceServer(PROFILES[profile], made, seed)
    curve: list[Point] = []
    known: dict[tuple[tuple[int, str], ...], float] = {}

    def true(artifact: fg.Artifact | None) -> float:
        text = artifact.value["playbook"] if artifact is not None else ""
        rules = tuple(sorted(rules_of(text).items()))
        if rules not in known:
            known[rules] = made.world.true_score(text)
        return known[rules]

    async def watched() -> tuple[fg.Result, Any]:
        async with fg.open_run(
            "ace",
            made.task(),
            models=dict.fromkeys(("generator", "reflector", "curator"), server),
            schedule=schedule,
            settings=settings,
            params={"similarity": "lexical", **(params or {})},
            settle=anyio.wait_all_tasks_blocked,
            budget=fg.Budget(calls=100_000),
        ) as run:
            calls = 0
            async for event in run:
                calls += isinstance(event, ev.CallStarted)
                if isinstance(event, ev.Admitted):
                    playbook, scores = (run.machine.pools[pool].value for pool in ("playbook", "scores"))
                    curve.append(Point(event.at, calls, playbook.trained, true(playbook.best()), true(scores.best())))
            return run.result, run.machine.pools["playbook"].value

    result, playbook = run_virtually(watched)
    return _read_off(result, playbook, tuple(curve), server)


def _read_off(result: fg.Result, playbook: Any, curve: tuple[Point, ...], server: AceServer) -> Measured:
    created = [e for e in result.events if isinstance(e, ev.Created)]
    edge, round_of = {e.item: e.edge for e in created}, {e.item: e.round for e in created}
    emitted = {e.round: e.at for e in result.events if isinstance(e, ev.Emitted)}
    deltas = [e for e in result.events if isinstance(e, ev.Admitted) and edge[e.item] == "curate->playbook"]
    tokens: Counter[str] = Counter()
    for event in result.events:
        if isinstance(event, ev.CallEnded):
            tokens[event.role] += event.completion_tokens
    seconds = result.spent.seconds
    return Measured(
        curve=curve,
        seconds=seconds,
        trained_by=max(e.at for e in deltas),
        trained=playbook.trained,
        samples=sum(e.edge == "select->generate" and e.group is not None for e in created),
        calls=result.spent.calls,
        use=server.engine.tokens / (server.profile.capacity * seconds),
        in_flight=server.engine.busy / seconds,
        latency=mean(e.at - emitted[round_of[e.item]] for e in deltas),
        lag=mean(e.lag for e in deltas),
        repairs=sum(isinstance(e, ev.Repaired) for e in result.events),
        duplicates=sum("duplicate" in refused.why for refused in playbook.refused),
        lines=len(playbook.bullets),
        shares={role: count / tokens.total() for role, count in tokens.items()},
    )
