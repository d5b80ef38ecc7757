"""A run in which everything fails has failed, even if its playbook was accepted before any attempt."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import attrs
import pytest

import flashgraph as fg
from flashgraph.errors import ContextTooLong, MalformedReply, RequestFailed
from flashgraph.graph.loading import load_graph
from flashgraph.llm.protocol import Message
from tests.algorithms.ace_world import World

Answer = Callable[[Sequence[Message]], str]
WORLD = World(3)
CALLS = fg.Budget(calls=60)


def raising(error: Exception) -> Answer:
    def answer(messages: Sequence[Message]) -> str:
        raise error

    return answer


def run(graph: str, task: fg.Task, schedule: str, answer: Callable[[str], Answer]) -> fg.Result:
    roles = {s.model for s in load_graph(graph).spec.stages if s.model is not None}
    models = {role: answer(role) for role in roles}
    return fg.run(graph, task, models=models, budget=CALLS, schedule=schedule)


def good(role: str) -> Answer:
    return lambda messages: WORLD.reply(role, messages[-1]["content"])


GRAPHS = pytest.mark.parametrize("graph", ["ace", "combee:ace_graph"])
SCHEDULES = pytest.mark.parametrize("schedule", ["lockstep", "pipelined"])


@GRAPHS
@SCHEDULES
@pytest.mark.parametrize("error", [RequestFailed("no answer"), ContextTooLong("long"), MalformedReply("?")])
def test_no_request_is_answered(graph: str, schedule: str, error: Exception) -> None:
    """If no request is answered, the run fails, and names the stage and the reason."""
    result = run(graph, WORLD.task(), schedule, lambda role: raising(error))
    assert result.status == "failed"
    assert "failed" in result.reason
    assert str(error) in result.reason


@GRAPHS
@SCHEDULES
def test_no_answer_can_be_scored(graph: str, schedule: str) -> None:
    """If the task's own score raises each time, the run fails."""

    def score(sample: Any, output: Any) -> fg.Score:
        raise ValueError("cannot judge")

    result = run(graph, attrs.evolve(WORLD.task(), score=score), schedule, good)
    assert result.status == "failed"
    assert "cannot judge" in result.reason


@GRAPHS
@SCHEDULES
def test_some_of_it_fails(graph: str, schedule: str) -> None:
    """A run that learned something has not failed."""
    count = 0

    def sometimes(role: str) -> Answer:
        def answer(messages: Sequence[Message]) -> str:
            nonlocal count
            count += 1
            if count % 3 == 0:
                raise RequestFailed("no answer")
            return good(role)(messages)

        return answer

    assert run(graph, WORLD.task(), schedule, sometimes).status in ("completed", "budget")


@pytest.mark.parametrize("graph", ["gepa", "ace", "combee:ace_graph"])
@SCHEDULES
@pytest.mark.parametrize(
    "reply",
    ["", fg.Reply("half", finish="length"), "I'm sorry, but I cannot help with that."],
    ids=["empty", "cut", "no"],
)
def test_no_reflection_is_usable(graph: str, schedule: str, reply: Any) -> None:
    """If every candidate was scored but no reflection is usable, the run fails, and names the stage and the reason."""

    def answer(role: str) -> Answer:
        reflects = role in ("reflection", "reflector", "curator")
        return (lambda messages: reply) if reflects else lambda messages: "final answer: 1"

    task = fg.Task("t", train=range(6), val=range(6), score=lambda sample, output: fg.Score(0.5, "wrong"))
    result = run(graph, task, schedule, answer)
    assert result.status == "failed"
    assert "reflect" in result.reason or "propose" in result.reason


@attrs.frozen
class Shelf:
    """A pool without scores."""

    artifacts: Any = attrs.field(factory=dict)

    def apply(self, event: fg.PoolEvent[str]) -> Shelf:
        return Shelf({**self.artifacts, event.artifact: fg.Artifact(event.artifact, event.value)})

    def best(self) -> fg.Artifact | None:
        return None

    def best_line(self) -> Shelf:
        return self


def test_a_graph_without_scores_and_models() -> None:
    """In a graph without scores, accepted work counts although some jobs failed; a stage that never works is
    reported."""

    def made(bad: Callable[[int], bool]) -> fg.Result:
        graph = fg.Graph("plain")
        pool = graph.pool("pool", Shelf)

        @graph.source(rounds=4)
        def draw(ctx: fg.Draw[None]) -> int:
            return ctx.emission

        @graph.stage
        def work(number: int) -> str:
            if bad(number):
                raise ValueError("bad number")
            return str(number)

        graph.edge(draw, work)
        graph.edge(work, pool)
        return fg.run(graph, WORLD.task(), models={})

    assert made(lambda number: number == 2).status == "completed"
    assert made(lambda number: True).status == "failed"
