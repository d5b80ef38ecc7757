"""The tutorial's algorithm is sound, improves and keeps the invariants; the page has the message of `check`."""

from __future__ import annotations

from pathlib import Path

import pytest

import flashgraph as fg
from flashgraph.graph.loading import load_graph
from flashgraph.sim.world import World
from flashgraph.testing.algorithms import check_algorithm

ROOT = Path(__file__).parents[2]
BEAM = ROOT / "examples" / "beam" / "beam.py"


@pytest.mark.parametrize("seed", [0, pytest.param(1, marks=pytest.mark.slow), pytest.param(2, marks=pytest.mark.slow)])
@pytest.mark.parametrize("schedule", ["lockstep", "pipelined"])
def test_beam_keeps_the_invariants(seed: int, schedule: str) -> None:
    """It keeps the invariants, and improves on generated worlds in which better prompts score better."""
    world = World(seed=seed, train=40, val=30, test=200)
    result = check_algorithm(
        BEAM, world.task(), world.answer, schedule=schedule, seed=seed, budget=fg.Budget(calls=3200)
    )
    assert result.best is not None
    assert world.true_score(result.best.value.text["instruction"]) > world.true_score(world.task().seed["instruction"])


def test_it_is_sound_and_short() -> None:
    """The file is as short and as sound as the tutorial says."""
    assert load_graph(BEAM).check() == ()
    assert len(BEAM.read_text().splitlines()) == 94


def test_the_mistake_that_the_tutorial_shows(tmp_path: Path) -> None:
    """The message on the page is the one from `check`."""
    wrong = tmp_path / "beam.py"
    wrong.write_text(BEAM.read_text().replace("rollout, scatter=Draft.work", "rollout, scatter=Candidate.work"))
    (problem,) = load_graph(wrong).check()
    page = (ROOT / "docs" / "tutorial" / "new-algorithm.md").read_text()
    said = str(problem).replace(str(wrong), "examples/beam/beam.py")
    assert said in page, said
