"""Every algorithm gets its scores from one place, which rejects those out of bounds, in the task's unit."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import attrs
import numpy
import pytest

import flashgraph as fg
from flashgraph.algorithms.ace import ROUNDS
from flashgraph.llm.protocol import Message
from flashgraph.parts.islands.pool import Elite
from flashgraph.parts.meta_harness.archive import Entry
from flashgraph.run.events import Ended, JobEnded
from tests.algorithms import ace_world, combee_world, islands_world
from tests.parts.meta_harness import worlds as harness_world
from tests.parts.meta_harness.stand_in import StandInSandbox

ODD = (float("nan"), float("inf"), float("-inf"), 100, -5, numpy.float64("nan"), numpy.float32(1.5))


@attrs.frozen
class Case:
    """An algorithm on a small world: the task, the models, and the other options of a run."""

    graph: str
    task: fg.Task
    models: Mapping[str, Callable[[Sequence[Message]], str]]
    options: Mapping[str, Any] = attrs.field(factory=dict)

    def run(self, budget: fg.Budget | None = None, **task: Any) -> fg.Result:
        return fg.run(
            self.graph,
            attrs.evolve(self.task, **task),
            models=self.models,
            schedule="lockstep",
            budget=budget or fg.Budget(proposals=8),
            **self.options,
        )


def reflecting(graph: str) -> Case:
    world = combee_world.World(3)

    def reflect(messages: Sequence[Message]) -> str:
        return world.reflect(messages[-1]["content"])

    models = {"task": world.answer, "reflection": reflect}
    return Case(graph, world.task(), models, {"params": {f"{'gepa.' * (graph != 'gepa')}minibatch": 3}})


def curating(graph: str) -> Case:
    world = ace_world.World(2)
    roles = ("generator", "reflector", "curator")

    def model(role: str) -> Callable[[Sequence[Message]], str]:
        return lambda messages: world.reply(role, messages[-1]["content"])

    return Case(graph, world.task(), {role: model(role) for role in roles})


def islands() -> Case:
    world = islands_world.World.make(25)

    def propose(messages: Sequence[Message]) -> str:
        seen = islands_world.shown(messages[-1]["content"])
        others = tuple((program, "") for program, _ in seen.inspirations)
        return world.reply(attrs.evolve(seen, score="", inspirations=others))

    options = {"params": {**world.params, "rewrite": world.rewrite, "threshold": 0.25}}
    sandbox = {"sandbox": islands_world.StandIn(world)}
    return Case("islands", world.task(), {"proposer": propose}, {**options, "resources": sandbox})


def meta_harness() -> Case:
    world = harness_world.World(6)

    def propose(messages: Sequence[Message]) -> str:
        number = re.search(r"This is iteration (\d+)", messages[0]["content"])
        assert number is not None
        return world.written(int(number[1]), len(messages) // 2 + 1, (harness_world.Fact(0, ""),))

    models = {"proposer": propose, "task": lambda messages: world.reply(messages[-1]["content"])}
    return Case("meta_harness", world.task(), models, {"resources": {"sandbox": StandInSandbox()}})


CASES: dict[str, Callable[[], Case]] = {
    "gepa": lambda: reflecting("gepa"),
    "combee": lambda: reflecting("combee"),
    "ace": lambda: curating("ace"),
    "combee:ace_graph": lambda: curating("combee:ace_graph"),
    "islands": islands,
    "meta_harness": meta_harness,
}


def numbers(result: fg.Result) -> list[float]:
    """Return every score that an artifact holds."""
    found = [score for a in result.artifacts for score in (a.score, *a.scores.values()) if score is not None]
    for value in (a.value for a in result.artifacts):
        if isinstance(value, Elite):
            found += [a.score for a in value.attempts]
        if isinstance(value, Entry):
            found += [p.score for p in value.predictions]
    return found


def texts_of(result: fg.Result) -> str:
    """Return all reasons and feedback that a run recorded."""
    reasons = [e.reason for e in result.events if isinstance(e, JobEnded | Ended)]
    return "\n".join([*reasons, *(str(a.value) for a in result.artifacts)])


@pytest.mark.parametrize("name", CASES)
def test_an_odd_score_is_one_failed_sample(name: str) -> None:
    """A score that is not finite or out of bounds enters no pool; its reason is reported, and the run continues."""
    case = CASES[name]()
    found = case.task.score

    def score(sample: Any, output: Any) -> Any:
        if case.graph == "meta_harness" and sample.split == "train":
            return found(sample, output)  # the right answer, whose feedback all programs learn from
        key = ace_world.digest(str(sample), str(output))
        return fg.Score(ODD[key % len(ODD)]) if key % 3 == 1 else found(sample, output)

    result = case.run(score=score)
    assert result.status in ("budget", "completed"), result.reason
    assert numbers(result)
    assert all(0 <= number <= 1 for number in numbers(result))
    assert "DataError: task" in texts_of(result)


@pytest.mark.parametrize("name", CASES)
def test_scores_are_in_the_tasks_unit(name: str) -> None:
    """Scores from 0 to 64 decide like scores from 0 to 1: the artifacts are the same, with 64 times the scores."""
    case = CASES[name]()
    found = case.task.score

    def score(sample: Any, output: Any) -> Any:
        one = found(sample, output)
        return attrs.evolve(one, value=64 * one.value)

    plain, scaled = case.run(), case.run(score=score, bounds=(0, 64))
    assert len(plain.artifacts) > 2
    assert [a.parents for a in scaled.artifacts] == [a.parents for a in plain.artifacts]
    assert scaled.spent.calls == plain.spent.calls
    assert [a.score for a in scaled.artifacts] == [None if a.score is None else 64 * a.score for a in plain.artifacts]


@pytest.mark.parametrize(
    ("name", "role"), [("gepa", "reflection"), ("ace", "reflector"), ("combee:ace_graph", "reflector")]
)
def test_without_a_greatest_score_nothing_is_perfect(name: str, role: str) -> None:
    """Without bounds, a score over 1 is not perfect, so each proposal still has its reflections."""
    case = CASES[name]()
    found, prompts = case.task.score, list[str]()

    def score(sample: Any, output: Any) -> Any:
        one = found(sample, output)
        return attrs.evolve(one, value=2 + one.value)

    def reflect(messages: Sequence[Message]) -> str:
        prompts.append(messages[-1]["content"])
        return case.models[role](messages)

    again = attrs.evolve(case, models={**case.models, role: reflect})
    result = again.run(fg.Budget(proposals=3), score=score, bounds=(float("-inf"), float("inf")))
    assert result.spent.proposals >= 1
    if role == "reflection":
        assert len(prompts) == result.spent.proposals
    else:
        # A sample that stays wrong is reflected on three times.
        assert {n % ROUNDS for n in Counter(prompt.split("\n")[1] for prompt in prompts).values()} == {0}
