"""Each example through GEPA in lockstep, with functions for models."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import attrs
import pytest

import flashgraph as fg
from tests.examples.conftest import Load


def improved(task: fg.Task, answers: Mapping[str, str]) -> fg.Result:
    """Return a run in which only an instruction that says BETTER gets the right answers."""

    def knows(messages: Sequence[fg.Message]) -> str:
        better = "BETTER" in messages[0]["content"]
        return answers[messages[-1]["content"]] if better else "no idea"

    models: dict[str, Any] = {"task": knows, "reflection": lambda messages: "```\nBETTER\n```"}
    few = attrs.evolve(task, train=task.train[:3], val=task.val[:2], test=())
    return fg.run("gepa", few, models=models, schedule="lockstep", budget=fg.Budget(proposals=1))


@pytest.mark.parametrize("example", ["formula", "finer", "symptom2disease", "uspto", "lawbench", "hover", "aime"])
def test_gepa_improves_each_example(invented: Path, load: Load, example: str) -> None:
    """Prompts, scores and feedback fit together: the seed scores 0 and the proposal 1."""
    task = load(example)
    result = improved(task, {str(s): s.answer for s in (*task.train, *task.val)})
    assert result.artifacts[0].score == 0
    assert result.best is not None
    assert result.best.evidence is not None
    assert (result.best.evidence.mean, result.best.value) == (1, {"instruction": "BETTER"})


def test_gepa_improves_ifbench(invented: Path, load: Load) -> None:
    """GEPA improves IFBench with a reply that meets both constraints of the invented rows."""
    task = load("ifbench")
    result = improved(task, {str(s): "Hello,Emma" for s in (*task.train, *task.val)})
    assert result.best is not None
    assert result.best.evidence is not None
    assert result.best.evidence.mean == 1


def test_the_harness_task_runs_no_program(invented: Path, load: Load) -> None:
    """The baseline is one model call, and any other program fails instead of being run."""
    task = load("harnesses")
    answers = {str(s): s.answer for s in (*task.train, *task.val)}
    models: dict[str, Any] = {
        "task": lambda messages: answers[messages[-1]["content"]],
        "reflection": lambda messages: "```\nimport os\n```",
    }
    few = attrs.evolve(task, train=task.train[:3], val=task.val[:3], test=())
    result = fg.run("gepa", few, models=models, schedule="lockstep", budget=fg.Budget(proposals=1, evaluations=20))
    assert [artifact.score for artifact in result.artifacts] == [1]
