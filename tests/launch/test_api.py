"""The public API: run, arun, open_run, results and the errors of a user's mistakes."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, cast

import anyio
import attrs
import pytest

import flashgraph as fg
from flashgraph.api import RunOptions
from flashgraph.launch.opening import Options
from flashgraph.run.events import Admitted, RunEnded
from flashgraph.sim import clock
from flashgraph.testing.recording import Recording


async def attempt(candidate: Mapping[str, str], sample: int, llm: fg.Llm) -> str:
    reply = await llm(
        [{"role": "system", "content": candidate["instruction"]}, {"role": "user", "content": str(sample)}]
    )
    return reply.text


def score(sample: int, output: str) -> fg.Score:
    return fg.Score(float(output == "right"), feedback=f"needs rule-{sample}")


TASK = fg.Task("numbers", train=range(12), val=range(8), test=range(20, 24), attempt=attempt, score=score)


def knows(messages: Sequence[fg.Message]) -> str:
    """Answer right about a sample if the instruction states its rule."""
    return "right" if f"rule-{messages[1]['content']} " in messages[0]["content"] + " " else "wrong"


async def learns(messages: Sequence[fg.Message]) -> str:
    """Answer with every rule that the prompt names."""
    rules = sorted(set(re.findall(r"rule-\d+", messages[-1]["content"])))
    return "```\nFollow " + " ".join(rules) + "\n```"


MODELS: dict[str, Any] = {"task": knows, "reflection": learns}


@pytest.mark.parametrize("schedule", ["lockstep", "pipelined"])
@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_gepa_improves_on_plain_functions(schedule: str, backend: str) -> None:
    """GEPA runs on functions as models, sync and async, on both backends."""
    budget = fg.Budget(proposals=12)
    result = fg.run(
        "gepa", TASK, models=MODELS, schedule=schedule, budget=budget, backend=backend, target_score=math.inf
    )
    assert (result.status, result.reason) == ("budget", "no proposals left")
    assert result.spent.proposals == 12
    assert result.best is not None
    assert result.artifacts[0].value == dict(TASK.seed)
    assert result.best.score is not None
    assert result.best.score > 0.3 > (result.artifacts[0].score or 0)
    assert all(a.at <= b.at for a, b in zip(result.artifacts, result.artifacts[1:], strict=False))
    assert isinstance(result.events[-1], RunEnded)


def test_results_name_versions_parents_and_scores() -> None:
    """A lockstep run has everything that `ResultArtifact` promises."""
    result = fg.run("gepa", TASK, models=MODELS, schedule="lockstep", budget=fg.Budget(proposals=6))
    for number, artifact in enumerate(result.artifacts):
        assert (artifact.id, artifact.version, artifact.lag) == (number, number + 1, 0)
        assert set(artifact.scores) == set(range(8))
        assert artifact.evidence is not None
        assert artifact.evidence.mean == pytest.approx(sum(artifact.scores.values()) / 8)
        assert (artifact.score, artifact.evidence.complete) == (artifact.evidence.estimate, True)
        assert artifact.parents == () if number == 0 else all(p < number for p in artifact.parents)
        assert not artifact.provisional


def test_open_run_steps_through_events_and_can_be_left() -> None:
    """Iterating yields events as they come; leaving the block cancels the run, and its result stays readable."""

    async def leave_early() -> fg.Result:
        async with fg.open_run("gepa", TASK, models=MODELS, budget=fg.Budget(proposals=500)) as run:
            async for event in run:
                if isinstance(event, Admitted) and event.artifact == 2:
                    break
            return run.result

    result = clock.run_virtually(leave_early)
    assert len(result.artifacts) >= 3
    assert result.status == "cancelled"


def test_stop_ends_a_run_cleanly() -> None:
    """`Run.stop` keeps admitted artifacts and ends with status cancelled."""

    async def slow(messages: Sequence[fg.Message]) -> str:
        await anyio.sleep(1)
        return knows(messages)

    async def stopped() -> fg.Result:
        models: dict[str, Any] = {"task": slow, "reflection": learns}
        budget = fg.Budget(proposals=500)
        async with fg.open_run("gepa", TASK, models=models, budget=budget, target_score=math.inf) as run:
            await anyio.sleep(20)
            run.stop("enough")
            return await run.wait()

    result = clock.run_virtually(stopped)
    assert (result.status, result.reason) == ("cancelled", "enough")
    assert result.best is not None


def test_seconds_are_a_hard_limit_on_the_runs_clock() -> None:
    """A run ends at its deadline, whatever is open."""

    async def forever(messages: Sequence[fg.Message]) -> str:
        await anyio.sleep(10_000)
        return "never"

    async def go() -> fg.Result:
        models = {"task": forever, "reflection": forever}
        return await fg.arun("gepa", TASK, models=models, budget=fg.Budget(seconds=60))

    result = clock.run_virtually(go)
    assert (result.status, result.reason) == ("budget", "60 seconds are over")
    assert result.spent.seconds == pytest.approx(60)


def test_a_dead_model_stops_the_run_with_its_results() -> None:
    """A fatal model error ends the run as failed, and the result has what was admitted before."""
    count = 0

    def dies(messages: Sequence[fg.Message]) -> str:
        nonlocal count
        count += 1
        if count > 40:
            raise fg.ModelUnavailable("the server went away. Fix: start it again.")
        return knows(messages)

    result = fg.run("gepa", TASK, models={"task": dies, "reflection": learns}, budget=fg.Budget(proposals=100))
    assert result.status == "failed"
    assert "the server went away" in result.reason
    assert result.artifacts


def test_a_task_that_always_raises_stops_the_run() -> None:
    """A broken attempt is not paid again and again."""

    async def broken(candidate: Mapping[str, str], sample: int, llm: fg.Llm) -> str:
        raise KeyError("question")

    task = attrs.evolve(TASK, attempt=broken)
    result = fg.run("gepa", task, models=MODELS, budget=fg.Budget(proposals=100))
    assert not result.artifacts
    assert result.spent.calls == 0
    assert sum(getattr(e, "how", "") == "failed" for e in result.events) >= len(TASK.val)


RUN: Any = partial(fg.run, models=MODELS, budget=fg.Budget(proposals=1))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: RUN("gepa", TASK, schedule="pipelinde"), "Fix: did you mean 'pipelined'?"),
        (lambda: RUN("gepa", TASK, params={"minibach": 2}), "Fix: did you mean 'minibatch'?"),
        (lambda: RUN("gepa", TASK, settings={"validate.worker": "8"}), "Fix: did you mean 'validate.workers'?"),
        (lambda: RUN("gepa", TASK, settings={"window": "0"}), "expected a whole number from 1"),
        (lambda: RUN("gepa", TASK, params={"minibatch": "3"}), "is a str; expected int"),
        (lambda: RUN("gepo", TASK), "did you mean 'gepa'?"),
        (lambda: fg.run("gepa", TASK, models={"task": knows}), "no model was given for reflection"),
        (lambda: fg.run("gepa", TASK, models={**MODELS, "judge": knows}), "model role 'judge' is not one of"),
        (lambda: fg.run("gepa", TASK, models=MODELS), "the run has no budget"),
        (lambda: RUN("gepa", TASK, budget=fg.Budget(usd=1.0)), "nothing in it counts towards usd=1"),
        (lambda: fg.run("gepa", TASK, models=cast(Any, 7)), "model: found 7, expected a string"),
        (lambda: fg.run("gepa", TASK), "no model was given for reflection, task"),
        (lambda: RUN("gepa", {"train": [1]}), "task: found dict {'train': [1]}, expected fg.Task(...) or the path"),
        (lambda: RUN(7, TASK), "graph: found int 7, expected fg.Graph(...) or the path"),
        (lambda: fg.Budget(proposals=0), "budget: proposals=0; expected a number over 0"),
        (lambda: attrs.evolve(TASK, val=[]), "the val split is empty"),
        (lambda: attrs.evolve(TASK, score=cast(Any, None)), "score is not callable"),
    ],
)
def test_mistakes_are_one_message(call: Any, message: str) -> None:
    """Each mistake is a `FlashgraphError` that says what to do, before a model is called."""
    with pytest.raises(fg.FlashgraphError) as caught:
        call()
    assert message in str(caught.value)


def test_everything_exported_exists() -> None:
    """Every name in `__all__` exists."""
    assert sorted(fg.__all__) == list(fg.__all__)
    assert all(hasattr(fg, name) for name in fg.__all__)


@pytest.mark.parametrize(
    ("wrong", "expected"),
    [
        ({"modles": {}}, "modles={}: a run has no such option; did you mean 'models'?\nFix: choose from models, "),
        ({"bugdet": fg.Budget()}, "did you mean 'budget'?"),
        ({"target": 0.5}, "did you mean 'target_score'?"),
        (
            {"out": "runs/a"},
            "out='runs/a': a run has no such option; the name is folder= in Python\nFix: write folder=.",
        ),
        ({"proposals": 5}, "Fix: write budget=fg.Budget(proposals=...)."),
        ({"minutes": 5}, "Fix: write budget=fg.Budget(seconds=...)."),
        ({"set": "a=1"}, "Fix: write params= (of the graph) or settings= (of the schedule)."),
        ({"zzz": 1}, "zzz=1: a run has no such option; choose from "),
    ],
)
def test_an_unknown_option_is_named_with_the_nearest(wrong: Any, expected: str) -> None:
    """Each way of running names the nearest option, before it reads the graph or the task."""

    async def opens() -> None:
        async with fg.open_run("no such graph", "no such task", **wrong):
            pass

    for way in (
        lambda: fg.run("no such graph", "no such task", **wrong),
        lambda: anyio.run(lambda: fg.arun("no such graph", "no such task", **wrong)),
        lambda: anyio.run(opens),
    ):
        with pytest.raises(fg.DataError) as caught:
            way()
        assert expected in str(caught.value)


def test_options_and_their_types_agree() -> None:
    """The typed options are exactly the options of a run."""
    fields = attrs.fields_dict(Options)
    assert set(fields) == set(RunOptions.__annotations__)
    assert {name for name, field in fields.items() if field.default is attrs.NOTHING} == set()


def test_a_memory_keeps_the_turns_of_a_run_without_a_folder() -> None:
    """The memory's replay has the turns of a run without a folder; a run with a folder takes no memory."""

    async def opens(**options: Any) -> int:
        async with fg.open_run("gepa", TASK, models=MODELS, budget=fg.Budget(calls=20), **options) as run:
            await run.wait()
        return int(run.memory.replay(run.machine.plan, fg.Budget(calls=20), 0))

    assert clock.run_virtually(lambda: opens(memory=Recording, settle=clock.settle)) > 3
    with pytest.raises(fg.DataError, match="memory= and folder=: a run keeps its turns in one place"):
        anyio.run(lambda: opens(memory=Recording, folder="runs/none"))
