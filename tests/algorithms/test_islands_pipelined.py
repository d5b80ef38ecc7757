"""While rounds overlap, the invariants hold, scores are honest, and no program evades the cascade."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cache

import anyio
import attrs
import pytest

import flashgraph as fg
from flashgraph.parts.islands.pool import Islands
from flashgraph.run.events import Admitted, Confirmed, Ended
from flashgraph.run.plan import Plan
from flashgraph.sandbox import CandidateFailed
from flashgraph.sim import clock
from flashgraph.testing.invariants import check_invariants
from tests.algorithms.islands_world import SEED, StandIn, World, digest, shown

BUDGET = fg.Budget(proposals=60)


@attrs.frozen
class Finished:
    """A run under virtual time, with its pool and the runs of its stand-in sandbox."""

    result: fg.Result
    plan: Plan
    pool: Islands
    box: StandIn


def seconds(what: str) -> float:
    """Return a long-tailed time: one in eight is ten times as long.

    Times are multiples of 1/64 s, so that sums are exact and ties are ties.
    """
    return (32 + digest(what) % 128) / 64 * (10 if digest(what, "tail") % 8 == 0 else 1)


@cache
def run(number: int, schedule: str = "pipelined", backend: str = "trio") -> Finished:
    world = World.make(number)
    box = StandIn(world, seconds)

    async def model(messages: Sequence[fg.Message]) -> str:
        prompt = messages[-1]["content"]
        await anyio.sleep(3 * seconds(prompt))
        return world.reply(shown(prompt))

    async def main() -> Finished:
        async with fg.open_run(
            "islands",
            world.task(),
            models={"proposer": model},
            schedule=schedule,
            seed=number,
            params={**world.params, "rewrite": world.rewrite},
            settings={"quick.workers": 4, "full.workers": 4},
            budget=BUDGET,
            resources={"sandbox": box},
            settle=clock.settle,
            target_score=math.inf,
        ) as opened:
            result = await opened.wait()
            return Finished(result, opened.machine.plan, opened.machine.pools["islands"].value, box)

    return clock.run_virtually(main, backend=backend)


def share(world: World, code: str, split: str, index: int) -> float:
    """Return a program's true score on a sample."""
    try:
        value = world.ran(code, split, index)
    except CandidateFailed:
        return 0.0
    return 0.0 if value == "junk" else float(value["share"])


def mean(world: World, code: str, split: str) -> float:
    size = len(world.needs[split])
    return sum(share(world, code, split, i) for i in range(size)) / size


@pytest.mark.parametrize("number", range(10))
def test_a_pipelined_run_keeps_the_invariants(number: int) -> None:
    """I1 to I10 hold, and both event loops give the same events (I14)."""
    done = run(number)
    assert done.result.status == "budget", done.result.reason
    check_invariants(done.result.events, done.plan, BUDGET)
    assert run(number, backend="asyncio").result.events == done.result.events


@pytest.mark.parametrize("number", range(10))
def test_scores_and_the_cascade_are_honest(number: int) -> None:
    """A confirmed score is the mean over all costly checks.

    Programs that fail the cheap checks, even on a part of them, never cost the costly ones. Programs that pass them are
    never refused.
    """
    done, world = run(number), World.make(number)
    for artifact in done.pool.artifacts.values():
        assert not artifact.provisional
        assert artifact.score == pytest.approx(mean(world, artifact.value.text["program"], "val"))
    costly = {code for code, split, _ in done.box.runs if split == "val"}
    cheap = {code for code, split, _ in done.box.runs if split == "train"}
    passes = {code for code in cheap if mean(world, code, "train") >= world.params["threshold"]}
    assert costly == passes | {SEED}


def test_overlap_pays_and_is_recorded() -> None:
    """With overlap, the same proposals take less time.

    Stale ones are admitted with their lag, provisional ones are confirmed, and settled checks are cancelled.
    """
    runs = [run(n) for n in range(8)]
    lockstep = [run(n, "lockstep") for n in range(8)]
    assert sum(r.result.spent.seconds for r in runs) < 0.5 * sum(r.result.spent.seconds for r in lockstep)
    events = [e for r in runs for e in r.result.events]
    assert any(isinstance(e, Admitted) and e.lag > 2 and e.score is not None for e in events)
    assert any(isinstance(e, Confirmed) for e in events)
    assert any(isinstance(e, Ended) and e.how == "cancelled" for e in events)
    assert all(a.lag == 0 for r in lockstep for a in r.result.artifacts)
