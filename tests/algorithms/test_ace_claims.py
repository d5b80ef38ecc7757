"""Claims about ACE's speed, under virtual time on the simulated server."""

from __future__ import annotations

from statistics import mean

import pytest

from tests.benchmarks.ace_measure import measure


def test_the_published_loop_leaves_the_server_idle() -> None:
    """The published loop uses little of the server: a few samples one after the other, and the same eight at once."""
    lockstep, pipelined = (measure(0, schedule, train=24) for schedule in ("lockstep", "pipelined"))
    assert lockstep.trained == pipelined.trained == 24
    assert lockstep.use < 0.1
    assert lockstep.lag == lockstep.repairs == 0
    assert lockstep.seconds > 2 * pipelined.seconds
    assert pipelined.lag > 0


@pytest.mark.slow
def test_pipelined_trains_five_times_as_fast_and_learns_as_much() -> None:
    """On three worlds the defaults are over five times as fast, with as many calls and about the same true score."""
    lockstep = [measure(world, "lockstep", params={"eval_steps": 50}) for world in range(3)]
    pipelined = [measure(world, "pipelined", params={"eval_steps": 50}) for world in range(3)]
    assert all(a.seconds > 5 * b.seconds for a, b in zip(lockstep, pipelined, strict=True))
    assert all(abs(a.calls / b.calls - 1) < 0.1 for a, b in zip(lockstep, pipelined, strict=True))
    assert mean(m.final for m in pipelined) > mean(m.final for m in lockstep) - 0.05
