"""GEPA's options while rounds overlap: the invariants hold, and each option has its effect."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import attrs
import pytest

import flashgraph as fg
from flashgraph.run.events import Created, Emitted, Ended
from flashgraph.run.plan import Plan
from flashgraph.sim.clock import run_virtually, settle
from flashgraph.sim.model import SimModel
from flashgraph.sim.profiles import PROFILES
from flashgraph.sim.world import RuleSample, World
from flashgraph.testing.invariants import check_invariants

SMALL = World(seed=3, rules=14, train=30, val=12)
BUDGET = fg.Budget(seconds=400, evaluations=700)


def task_of(world: World, components: int) -> fg.Task[RuleSample, bool]:
    """Return the world as a task with its instruction in several parts, and two objectives."""
    whole = world.task()

    async def attempt(candidate: Mapping[str, str], sample: RuleSample, llm: fg.Llm) -> Any:
        return await whole.attempt({"instruction": " ".join(candidate.values())}, sample, llm)

    def score(sample: RuleSample, output: bool) -> Any:
        return attrs.evolve(
            whole.score(sample, output), objectives={"passed": float(output), "few": 1 / len(sample.needs)}
        )

    seed = {f"part{i}": f"Part {i}." for i in range(components)}
    return attrs.evolve(whole, seed=seed, attempt=attempt, score=score)


def run(
    params: Mapping[str, Any],
    *,
    components: int = 2,
    seed: int = 0,
    backend: str = "trio",
    schedule: str = "pipelined",
    budget: fg.Budget = BUDGET,
    **options: Any,
) -> tuple[fg.Result, Plan]:
    async def opened() -> tuple[fg.Result, Plan]:
        model = SimModel(PROFILES["vllm"], SMALL.answer, seed=seed)
        async with fg.open_run(
            "gepa",
            task_of(SMALL, components),
            models={"task": model, "reflection": model},
            schedule=schedule,
            params=params,
            seed=seed,
            budget=budget,
            settle=settle,
            target_score=math.inf,
            **options,
        ) as going:
            await going.wait()
            return going.result, going.machine.plan

    return run_virtually(opened, backend)


MERGES = {"merge": True, "max_merge_invocations": 20, "components": "round_robin"}
OPTIONS: list[dict[str, Any]] = [
    {"components": "all"},
    MERGES,
    {**MERGES, "frontier": "cartesian"},
    {"frontier": "objective"},
    {"frontier": "hybrid", "selection": "top_k", "top_k": 2},
    {"selection": "best"},
    {"selection": "epsilon_greedy", "epsilon": 0.5},
    {"acceptance": "improvement_or_equal"},
    {"parents": 2, "samples": 3},
    {"prunes": 2},
    {**MERGES, "parents": 3, "frontier": "hybrid", "selection": "top_k", "acceptance": "improvement_or_equal"},
]


@pytest.mark.parametrize("params", OPTIONS, ids=lambda p: "-".join(f"{k}={v}" for k, v in p.items()))
def test_invariants_hold(params: Mapping[str, Any]) -> None:
    """I1 to I10 hold until a budget limit is reached, and candidates are found."""
    result, plan = run(params, seed=len(params))
    assert result.status == "budget", result.reason
    check_invariants(result.events, plan, BUDGET)
    assert len(result.artifacts) > 3
    assert not [e for e in result.events if isinstance(e, Ended) and e.how == "failed"]


def test_the_same_log_on_both_backends() -> None:
    """Both backends give the same events (I14), with every option on."""
    assert run(OPTIONS[-1])[0].events == run(OPTIONS[-1], backend="asyncio")[0].events


def test_crosses_take_each_component_from_a_parent() -> None:
    """Each component of a merge comes from one of its two parents."""
    result, _ = run(MERGES, components=3)
    emitted = [e for e in result.events if isinstance(e, Emitted) and e.source == "merge"]
    texts = {a.id: a.value for a in result.artifacts}
    pairs = [
        (a, texts[a.parents[0]], texts[a.parents[1]])
        for a in result.artifacts
        if len(a.parents) == 2 and all(p in texts for p in a.parents)
    ]
    crosses = [a for a, one, two in pairs if all(a.value[n] in (one[n], two[n]) for n in a.value)]
    assert emitted
    assert crosses


def test_shortened_texts_are_tried_on_validation_samples() -> None:
    """With ``prunes=1`` each shortened text is tried on at most eight samples; without it there is none."""
    budget = fg.Budget(evaluations=1500)
    result, plan = run({"prunes": 1}, seed=1, budget=budget)
    check_invariants(result.events, plan, budget)
    rounds = {e.round for e in result.events if isinstance(e, Emitted) and e.source == "prune"}
    tried = [e for e in result.events if isinstance(e, Created) and e.edge == "prune->trial" and e.index is not None]
    assert {e.round for e in tried} == rounds != set()
    assert max(Counter(e.round for e in tried).values()) <= 8
    assert not [e for e in run({})[0].events if isinstance(e, Emitted) and e.source == "prune"]


def test_a_merge_into_the_best_keeps_what_the_child_did_not_rewrite() -> None:
    """`patch` writes a reflection's lesson into the best text, whose other components stay."""
    result, _ = run({}, components=3)
    texts = {a.id: a.value for a in result.artifacts}
    merged = [a for a in result.artifacts if len(a.parents) == 2 and a.parents[1] in texts]
    assert merged
    for artifact in merged:
        best = texts[artifact.parents[1]]
        assert sum(artifact.value[n] != best[n] for n in best) <= 1


def test_each_of_several_trials_has_its_own_parent() -> None:
    """Of two parents drawn together, a child descends from one, and from the best that it was merged with."""
    result, _ = run({"parents": 2, "samples": 2}, settings={"gate->validate.stale": "accept()"})
    assert len(result.artifacts) > 3
    assert all(len(a.parents) == (1 if a.id else 0) for a in result.artifacts)


def test_a_resumed_run_keeps_its_turns_and_crosses(tmp_path: Path) -> None:
    """Cursors are part of the run: resumed under a larger limit, it equals a run with that limit from the start."""
    going = partial(run, MERGES, components=3, seed=4, schedule="lockstep")
    whole, _ = going(folder=tmp_path / "whole", budget=fg.Budget(evaluations=1200))
    short, _ = going(folder=tmp_path / "short", budget=fg.Budget(evaluations=300))
    resumed, _ = going(folder=tmp_path / "short", budget=fg.Budget(evaluations=1200), resume=True)
    assert len(short.artifacts) < len(whole.artifacts)
    assert [(a.parents, a.value, a.scores) for a in resumed.artifacts] == [
        (a.parents, a.value, a.scores) for a in whole.artifacts
    ]
    assert [e for e in resumed.events if isinstance(e, Emitted) and e.source == "merge"]


@pytest.mark.parametrize("schedule", ["lockstep", "pipelined"])
@pytest.mark.parametrize(
    ("params", "message"),
    [
        (
            {"selection": "epsilon"},
            "parameter selection='epsilon'; expected one of pareto, best, epsilon_greedy, top_k.\n"
            "Fix: did you mean 'epsilon_greedy'?",
        ),
        ({"epsilon": 1.5}, "parameter epsilon=1.5: must be <= 1.\nFix: e.g. epsilon=0.1."),
        (
            {"perfect_score": "none"},
            "parameter perfect_score='none' is a str; expected float or None.\nFix: e.g. perfect_score=None.",
        ),
        ({"parents": 0}, "parameter parents=0: must be >= 1.\nFix: e.g. parents=1."),
        (
            {"samples": 0, "top_k": 0},
            "parameter top_k=0: must be >= 1.\nFix: e.g. top_k=5.",
        ),
    ],
)
def test_a_wrong_value_ends_the_run_before_any_call(params: Mapping[str, Any], message: str, schedule: str) -> None:
    """The error names a wrong value, the expected values and the fix, and no model is called."""
    calls: list[Any] = []

    def model(messages: Any) -> str:
        calls.append(messages)
        return ""

    with pytest.raises(fg.DataError) as caught:
        fg.run(
            "gepa",
            task_of(SMALL, 1),
            models=model,
            params=params,
            schedule=schedule,
            budget=fg.Budget(proposals=3),
        )
    assert (str(caught.value), calls) == (message, [])


def test_a_frontier_of_objectives_needs_objectives() -> None:
    """If a task's score has no objectives, the error says where to add them."""
    task = attrs.evolve(task_of(SMALL, 1), score=lambda sample, output: fg.Score(0.5))
    result = fg.run(
        "gepa",
        task,
        models={"task": lambda m: "", "reflection": lambda m: ""},
        params={"frontier": "hybrid"},
        budget=fg.Budget(proposals=3),
    )
    assert result.status == "failed"
    assert "frontier='hybrid' compares objectives; found none" in result.reason
