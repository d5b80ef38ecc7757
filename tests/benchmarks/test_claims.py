"""Claims of the README, measured under virtual time."""

from __future__ import annotations

import os
from concurrent.futures import ProcessPoolExecutor

import pytest

from flashgraph.llm.limits import adaptive

from .limits import MINUTES, SERVERS, evolve
from .measure import measure
from .peer import PEERS, measure_peer
from .policies import faster

WORLDS = 7


@pytest.mark.slow
def test_pipelined_reaches_locksteps_score_in_half_its_time() -> None:
    """On the vLLM profile, the median over seven worlds is half of lockstep's time; each final score is better."""
    with ProcessPoolExecutor(os.cpu_count()) as pool:
        lockstep = [pool.submit(measure, w, "lockstep", minutes=20) for w in range(WORLDS)]
        pipelined = [pool.submit(measure, w, "pipelined", minutes=20) for w in range(WORLDS)]
        base, ours = [f.result() for f in lockstep], [f.result() for f in pipelined]
    _, ratio = faster(ours, base)
    assert ratio <= 0.5
    assert all(o.final > b.final for o, b in zip(ours, base, strict=True))


@pytest.mark.slow
@pytest.mark.parametrize("schedule", ["pipelined", "throughput"])
def test_an_api_seldom_turns_an_adaptive_run_away(schedule: str) -> None:
    """In a GEPA run against an API that takes 64 requests at once, at most 1 % of requests get 429 after the warm-up.

    The run makes at least eight times the proposals of the peer's defaults.
    """
    ours = evolve(SERVERS["API, 64 at once"], adaptive(), schedule)
    theirs = measure_peer(0, PEERS["peer, defaults"], minutes=MINUTES, profile="api")
    assert ours.refused <= 0.01
    assert ours.proposals >= 8 * theirs.proposals / MINUTES


@pytest.mark.slow
@pytest.mark.parametrize("rate", ["240 requests/min", "150,000 tokens/min"])
@pytest.mark.parametrize("schedule", ["pipelined", "throughput"])
def test_an_api_that_says_its_rate_turns_nobody_away(rate: str, schedule: str) -> None:
    """If an API reports its rate, at most 1 % of a GEPA run's requests get 429 after the warm-up.

    `throughput` uses most of the rate, except what cancelled requests had reserved; `pipelined` uses as much as it
    needs.
    """
    ours = evolve(SERVERS[f"API, {rate}, and says so"], adaptive(), schedule)
    assert ours.refused <= 0.01
    assert ours.use >= (0.85 if schedule == "throughput" else 0.6)
