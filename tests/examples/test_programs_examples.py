"""The program examples: what their scores accept and reject, and runs of the islands graph in the real sandbox."""

from __future__ import annotations

import math
import runpy
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import anyio
import pytest

import flashgraph as fg
from flashgraph.errors import FlashgraphError
from flashgraph.graph.loading import load_task
from flashgraph.llm.function import FunctionModel
from flashgraph.parts.islands.programs import Check
from flashgraph.run.budget import Ledger
from flashgraph.run.heldout import HeldOut, held_out
from flashgraph.sandbox import Sandbox

EXAMPLES = Path(__file__).parents[2] / "examples"


def example(name: str) -> fg.Task:
    return load_task(EXAMPLES / name / "task.py")


def names_of(name: str) -> dict[str, Any]:
    """Return the names that an example's task file defines."""
    path = EXAMPLES / name / "task.py"
    return runpy.run_path(str(path))


@cache
def unconfined() -> str:
    """Return why this machine has no sandbox; empty if it has one."""

    async def probe() -> None:
        async with Sandbox().open():
            pass

    try:
        anyio.run(probe)
    except FlashgraphError as error:
        return str(error).splitlines()[0]
    return ""


needs_confinement = pytest.mark.skipif(bool(unconfined()), reason=unconfined())


# ---- scores ----------------------------------------------------------------------------------------------


def packed(centers: list[Any], radii: list[Any]) -> Any:
    return example("circle_packing").score(Check("pack", {"n": 2}), {"centers": centers, "radii": radii})


def test_a_valid_packing_scores_its_sum() -> None:
    """A valid packing scores its sum over sqrt(2) / 2, the measure of two circles, at most 1; circles may touch."""
    assert packed([[0.25, 0.25], [0.75, 0.75]], [0.25, 0.25]).value == pytest.approx(0.5 / math.sqrt(0.5))
    assert packed([[0.25, 0.5], [0.75, 0.5]], [0.25, 0.25]).value == pytest.approx(0.5 / math.sqrt(0.5))


@pytest.mark.parametrize(
    ("centers", "radii", "reason"),
    [
        ([[0.25, 0.5], [0.75, 0.5]], [0.25, 0.2500001], "overlap by|out of the square"),
        ([[0.3, 0.3], [0.5, 0.5]], [0.2, 0.2], "overlap by"),
        ([[0.1, 0.5], [0.75, 0.5]], [0.2, 0.1], "out of the square"),
        ([[0.5, 0.5], [5.0, 5.0]], [0.5, -4.0], "negative radius"),
        ([[0.5, 0.5], [0.5, 0.5]], [0.5, math.nan], "finite numbers"),
        ([[0.5, 0.5], [0.5, "0.5"]], [0.5, 0.0], "finite numbers"),
        ([[0.5, 0.5], [0.5]], [0.5, 0.0], "finite numbers"),
        ([[0.5, 0.5], 3], [0.5, 0.0], "finite numbers"),
        ([[0.5, 0.5], [0.5, 0.5]], [0.5, True], "finite numbers"),
        ([[0.5, 0.5]], [0.5], "2 centers"),
    ],
)
def test_what_is_no_packing_scores_nothing(centers: list[Any], radii: list[Any], reason: str) -> None:
    """An invalid return value scores 0, and the feedback gives the reason."""
    score = packed(centers, radii)
    assert score.value == 0
    assert any(part in score.feedback for part in reason.split("|"))


@pytest.mark.parametrize("output", [None, 3, [], {}, {"centers": 1, "radii": 2}, "pack", [1.0], [1, 2, 3], [True, 1]])
@pytest.mark.parametrize("name", ["circle_packing", "function_minimum"])
def test_any_value_can_be_scored(name: str, output: Any) -> None:
    task = example(name)
    assert task.score(task.val[0], output).value == 0


def test_the_minimum_is_the_lowest_point_of_the_square() -> None:
    """The minimum scores 1; no grid point of the square is lower, and a point outside scores 0."""
    task = example("function_minimum")
    module = names_of("function_minimum")
    for sample in [*task.train, *task.val, *task.test]:
        angle, waves = sample.arguments["angle"], sample.arguments["waves"]
        u, v = (module["lowest"](part) for part in waves)
        x, y = math.cos(angle) * u - math.sin(angle) * v, math.sin(angle) * u + math.cos(angle) * v
        assert task.score(sample, [x, y]).value == 1.0
        low = module["value_at"](x, y, angle, waves)
        grid = [i / 10 for i in range(-50, 51)]
        assert min(module["value_at"](a, b, angle, waves) for a in grid for b in grid) >= low - 1e-9
        assert task.score(sample, [50.0, 0.0]).value == 0


# ---- runs ------------------------------------------------------------------------------------------------


def edit(search: str, replace: str) -> str:
    return f"<<<<<<< SEARCH\n{search}\n=======\n{replace}\n>>>>>>> REPLACE"


PACKING = [
    edit("    radii = []", "    raise RuntimeError('not yet')"),
    edit("    radix = []", "    radii = []"),
    edit("        radii.append(max(0.0, min(border, nearest / 2)))", "        radii.append(0.5)"),
    edit(
        "        distance, angle = 0.5 * math.sqrt((i + 0.5) / n), i * math.pi * (3 - math.sqrt(5))\n"
        "        centers.append([0.5 + distance * math.cos(angle), 0.5 + distance * math.sin(angle)])",
        "        side = math.ceil(math.sqrt(n))\n"
        "        centers.append([(i % side + 0.5) / side, (i // side + 0.5) / side])",
    ),
]
SEARCH = [
    edit("    for _ in range(budget):", "    for _ in range(budget + 1):"),
    edit("    return search(f, budget, randomness.Random(seed))", "    return [0, 0]"),
    edit(
        "            best, lowest = [x, y], value", "            best, lowest = [x, y], value\n        while True: pass"
    ),
    edit(
        "        x, y = random.uniform(-5, 5), random.uniform(-5, 5)",
        "        spread = 2.5 * random.random() ** 4\n"
        "        x = max(-5.0, min(5.0, best[0] + random.gauss(0, spread)))\n"
        "        y = max(-5.0, min(5.0, best[1] + random.gauss(0, spread)))",
    ),
]
SCRIPTS = {"circle_packing": PACKING, "function_minimum": SEARCH}


async def evolved(name: str, script: Sequence[str]) -> tuple[fg.Result, list[str], tuple[HeldOut, ...]]:
    """Return a lockstep run on one island, the prompts that the model saw, and the held-out test of seed and best."""
    prompts: list[str] = []

    def model(messages: Sequence[fg.Message]) -> str:
        prompts.append(messages[-1]["content"])
        return script[len(prompts) - 1]

    task = example(name)
    async with fg.open_run(
        "islands",
        task,
        models={"proposer": model},
        schedule="lockstep",
        params={"islands": 1, "exploration": 0.0, "exploitation": 1.0, "elites": 1, "seconds": 1.0},
        budget=fg.Budget(proposals=len(script)),
    ) as run:
        result = await run.wait()
        plan = run.machine.plan
        assert plan.graph.tests == "full"
        stage = plan.stages["full"].spec
        assert result.best is not None
        tested = await held_out(
            task,
            [dict(task.seed), dict(result.best.value.text)],
            FunctionModel(model, name="none"),
            Ledger(fg.Budget()),
            stage=stage,
            given=plan.given(stage),
            resources=run.resources,
        )
    return result, prompts, tested


@needs_confinement
@pytest.mark.parametrize("name", SCRIPTS)
def test_programs_evolve_in_the_sandbox(name: str) -> None:
    """An edit is run, judged and admitted; failures appear in the next prompts; the held-out test agrees."""
    result, prompts, (seed, best) = anyio.run(evolved, name, SCRIPTS[name])
    assert result.status == "budget", result.reason
    assert result.best is not None
    first, *_, last = [a for a in result.artifacts if a.score is not None]
    assert (first.id, first.lag) == (0, 0)
    assert last.id == result.best.id
    assert first.score is not None
    assert last.score is not None
    assert last.score > first.score + 0.03
    assert (dict(seed.failures), dict(best.failures)) == ({}, {})
    assert best.score > seed.score
    told = {
        "circle_packing": ["RuntimeError: not yet", "are not in the program", "out of the square"],
        "function_minimum": ["more than 200 evaluations of f", "outside of EVOLVE-BLOCK-START", "while True: pass"],
    }[name]
    for number, reason in enumerate(told, 1):
        assert reason in prompts[number], f"prompt {number} does not tell of {reason!r}"
    assert "This is what a Python program is for:" in prompts[0]
