"""Profiles learned from journals."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import attrs
import pytest

import flashgraph as fg
from flashgraph.run.journal.reading import StoredRun
from flashgraph.sim.clock import run_virtually, settle
from flashgraph.sim.forecast import Simulation, forecast
from flashgraph.sim.learned import FittedProfiles, learn
from flashgraph.sim.model import SimModel
from flashgraph.sim.profiles import PROFILES, Profile
from flashgraph.sim.scene import Scene
from flashgraph.sim.world import World

WORLD = World(seed=4, train=30, val=20)


def learned_from(profile: Profile, folder: Path, seconds: float = 240) -> FittedProfiles:
    """Return the profiles learned from the journal of a run on a simulated server."""
    model = SimModel(profile, WORLD.answer, seed=4)

    async def run() -> fg.Result:
        models: dict[str, Any] = {"task": model, "reflection": model}
        return await fg.arun(
            "gepa", WORLD.task(), models=models, budget=fg.Budget(seconds=seconds), settle=settle, folder=folder,
            settings={  # a rising and falling load shows its effect
                "focus": 0.5, "validate->frontier.release": "fraction(0.25)", "validate->frontier.late": "amend"
            },
        )  # fmt: skip

    run_virtually(run, "asyncio")
    with StoredRun.open(folder) as stored:
        return learn(stored)


def test_a_servers_numbers_are_found_again(tmp_path: Path) -> None:
    """Step times are within a tenth, prices exact, and the lengths the same."""
    profile = attrs.evolve(PROFILES["vllm"], latency=0.4, price=(2e-6, 8e-6), step_per_request=0.0002)
    found = learned_from(profile, tmp_path / "run", 400)
    fitted = found.profiles["task"]
    assert found.profiles["reflection"] is fitted
    assert fitted.step == pytest.approx(profile.step, rel=0.1)
    assert fitted.step_per_request == pytest.approx(profile.step_per_request, rel=0.1)
    assert fitted.price == pytest.approx(profile.price)
    assert 20 < fitted.slots <= 128
    assert set(fitted.roles) == {"reflection", "task"}
    assert "off by" in found.notes[0]
    replies = fitted.roles["task"].replies
    assert 500 < sum(replies) / len(replies) < 800


def test_a_server_that_does_not_slow_down(tmp_path: Path) -> None:
    """If the load has no effect, the profile has none."""
    fitted = learned_from(PROFILES["gpt-4o-mini"], tmp_path / "run").profiles["task"]
    assert fitted.step == pytest.approx(0.0125, rel=0.02)
    assert fitted.latency == pytest.approx(0.5, rel=0.1)
    assert fitted.step_time(64) == pytest.approx(0.0125, rel=0.02)


@pytest.mark.parametrize("seeds", [2, pytest.param(4, marks=pytest.mark.slow)])
def test_a_forecast_on_a_learned_profile_is_like_the_run(seeds: int, tmp_path: Path) -> None:
    """A forecast on a learned profile has calls within a tenth of those on the server itself.

    It holds over several runs, under the load that was learned from and under twice as much. A single run depends on
    chance: which child passes its trial decides how many samples are validated.
    """
    profile = attrs.evolve(PROFILES["vllm"], step_per_request=0.0002)
    learned = learned_from(profile, tmp_path / "run", seconds=960).profiles["task"]
    calls = {"true": 0, "found": 0}
    for window in ("8", "16"):
        for seed in range(seeds):
            for name, p in (("true", profile), ("found", learned)):
                models = {"task": p, "reflection": p}
                simulation = Simulation("gepa", models, settings={"window": window}, minutes=3, limit=128, seed=seed)
                calls[name] += run_virtually(
                    partial(forecast, simulation, settle, Scene.of_world(WORLD)), "asyncio"
                ).calls
    assert calls["found"] == pytest.approx(calls["true"], rel=0.1)


def test_too_few_calls_are_reported(tmp_path: Path) -> None:
    with pytest.raises(fg.DataError, match="a profile needs 20 or more"):
        learned_from(PROFILES["vllm"], tmp_path / "run", seconds=3)
