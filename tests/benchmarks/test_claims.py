"""Claims of the README, measured under virtual time: no wall clock is asserted on."""

from __future__ import annotations

import os
from concurrent.futures import ProcessPoolExecutor

import pytest

from .measure import measure
from .policies import faster

WORLDS = 7


@pytest.mark.slow
def test_pipelined_reaches_locksteps_score_in_half_its_time() -> None:
    """Median over seven worlds on the vLLM profile, and a better final score in each."""
    with ProcessPoolExecutor(os.cpu_count()) as pool:
        lockstep = [pool.submit(measure, w, "lockstep", minutes=20) for w in range(WORLDS)]
        pipelined = [pool.submit(measure, w, "pipelined", minutes=20) for w in range(WORLDS)]
        base, ours = [f.result() for f in lockstep], [f.result() for f in pipelined]
    _, ratio = faster(ours, base)
    assert ratio <= 0.5
    assert all(o.final > b.final for o, b in zip(ours, base, strict=True))
