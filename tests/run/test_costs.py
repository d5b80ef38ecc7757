"""Costs by stage and role: of a result, and of the same run's journal."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import flashgraph as fg
from flashgraph.llm.function import FunctionModel
from flashgraph.observe.runs import head
from flashgraph.run.costs import StageCost
from flashgraph.run.journal.reading import StoredRun


def priced(role: str, text: str) -> FunctionModel:
    return FunctionModel(lambda _: fg.Reply(text, fg.Usage(10, 2)), name=role, price=(0.01, 0.1))


def test_a_judge_and_a_reflection(tmp_path: Path) -> None:
    """A stage that calls two roles has a line for each, and all lines add up to the totals of the run."""

    async def score(sample: Any, output: Any, llm: fg.Llm) -> fg.Score:
        return fg.Score(float((await llm("Is it right?", role="judge")).text == "yes"))

    task: fg.Task[Any, Any] = fg.Task("judged", range(3), range(2), score=score, roles=["judge"])
    answers = {"task": "out", "reflection": "```\nnew\n```", "judge": "no"}
    models = {role: priced(role, text) for role, text in answers.items()}
    folder = tmp_path / "run"
    result = fg.run("gepa", task, models=models, budget=fg.Budget(proposals=1), schedule="lockstep", folder=folder)
    costs = {(c.stage, c.role): c for c in result.costs}
    assert costs["baseline", "judge"] == StageCost("baseline", "judge", 2, 20, 4, costs["baseline", "task"].usd)
    assert costs["propose", "reflection"].calls == 1
    assert sum(c.calls for c in result.costs) == result.spent.calls
    assert abs(sum(c.usd for c in result.costs) - result.spent.usd) < 1e-9
    with StoredRun.open(folder) as run:
        assert run.costs() == result.costs
        lines = head(run)
    assert "baseline (judge): 2 calls, 20 prompt tokens, 4 reply tokens, $0.6000" in lines
