"""ACE's parameters: a wrong mode, the ends of batches, and the held-out test."""

from __future__ import annotations

from typing import Any

import anyio
import pytest

import flashgraph as fg
from flashgraph.graph.loading import load_graph
from flashgraph.llm.function import FunctionModel
from flashgraph.run.budget import Ledger
from flashgraph.run.heldout import held_out
from flashgraph.sim import clock
from tests.algorithms.ace_replay import Finished, run_replayed
from tests.algorithms.ace_world import World


def run(world: World, schedule: fg.Schedule | str = "lockstep", **params: Any) -> Finished:
    return clock.run_virtually(lambda: run_replayed(world, schedule, params=params))


def test_a_wrong_mode_is_named_with_its_fix() -> None:
    with pytest.raises(
        fg.DataError, match=r"mode='of-line'; expected one of offline, online\.\nFix: did you mean 'offline'"
    ):
        run(World(0), mode="of-line")


@pytest.mark.parametrize("mode", ["offline", "online"])
@pytest.mark.parametrize("batch", [2, 3, 64])
def test_no_batch_reaches_over_a_snapshot(mode: str, batch: int) -> None:
    """Snapshots come after the same samples, whatever the size of batches."""
    for number in range(4):
        single, together = (run(World(number), mode=mode, epochs=2, batch=size) for size in (1, batch))
        assert sorted(together.scores.steps.values()) == sorted(single.scores.steps.values())
        assert together.playbook.trained < single.playbook.trained


def test_steps_are_counted_in_each_epoch() -> None:
    """Seven samples with a snapshot every three: after 3 and 6 of each epoch, and at the end."""
    world = next(world for number in range(100) if len((world := World(number)).cases("train")) == 7)
    done = run(world, mode="offline", epochs=2, eval_steps=3)
    assert sorted(done.scores.steps.values()) == [3, 6, 10, 13, 14]


def test_the_held_out_test_tries_the_playbook_as_validation_does() -> None:
    """The held-out test makes one call a sample, with the playbook in its prompt, and reads the generator's answer."""
    graph, prompts = load_graph("ace"), list[str]()
    stage = next(s for s in graph.spec.stages if s.name == "validate")
    samples = World(1).cases("val")
    task = fg.Task(
        "t", train=samples, val=samples, test=samples, seed={"playbook": ""}, score=lambda s, o: fg.Score(o == "right")
    )

    def answer(messages: Any) -> str:
        prompts.append(messages[-1]["content"])
        return '{"bullet_ids": [], "final_answer": "right"}'

    async def tested() -> Any:
        given = {"params": graph.spec.classes[""]()}
        model = FunctionModel(answer, name="generator")
        return await held_out(
            task, [{"playbook": "## RULES\nlearned"}], model, Ledger(fg.Budget()), stage=stage, given=given
        )

    (found,) = anyio.run(tested)
    assert found.score == 1.0
    assert len(prompts) == len(samples)
    assert all("learned" in prompt for prompt in prompts)
